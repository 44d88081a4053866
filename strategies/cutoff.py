"""One cut-off for each kind of processor, around any Flower strategy: the rule of the Flower paper.

Clients on a slow processor stop after ``tau`` seconds and return what they have; results are weighed by the examples they
stand for (Beutel et al., "Flower: A friendly federated learning framework", 2020, and Mathur et al., "On-device federated
learning with Flower", 2021).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from flwr.serverapp.strategy import Strategy

from strategies.aggregation import AggregationSettings
from strategies.composed import Answer, Assignment, ComposedStrategy
from strategies.cutoffs import FastestProcessor
from strategies.directory import ClientDirectory
from strategies.messages import ConfigValue, told_weight, weight_key
from strategies.telemetry import Telemetry
from strategies.weights import capped_claims

__all__ = ["CutoffStrategy"]

_log = logging.getLogger(__name__)

_UNKNOWN = ""
_OTHER = "others"


class CutoffStrategy(ComposedStrategy):
    """Cuts each client off after its processor's ``tau``, and weighs partial results by the examples done.

    Args:
        inner: What samples clients and aggregates.
        cutoff_s: Seconds from the arrival of the message to the end of training, by processor; a processor that is not in
            the mapping, or for which the function returns ``None``, has no cut-off. A :class:`FastestProcessor` finds them.
        processor_of: The processor of a node, or the directory that knows it: then nodes are asked what they are, and one that
            does not say gets the longest cut-off until its first reply.
        other_s: Seconds for processors that the mapping does not name; ``None`` for no cut-off.
        local_epochs: Passes to ask for; ``None`` leaves it to the inner strategy's config and the client.
        batch_size: Samples per step to ask for; ``None`` as above.
        transport_allowance_s: Seconds that the server waits beyond the cut-off: both transfers and the scheduling of
            messages have to fit.
        client_name: The stable name of a node's client; by default the directory's, else the node id.
        discovery_s: As in :class:`~strategies.composed.ComposedStrategy`.
        proximal_mu: Weight of a proximal term that clients are told to add to their loss; ``None`` leaves it to the inner
            strategy.
        aggregation: How far single replies may move the model.
        name: Name written into the round log.

    Raises:
        ValueError: If a cut-off in the mapping is negative or not a number, or the inner strategy cannot be wrapped.
    """

    def __init__(
        self,
        inner: Strategy,
        cutoff_s: Mapping[str, float] | Callable[[str], float | None] | FastestProcessor,
        processor_of: Callable[[int], str] | ClientDirectory,
        *,
        other_s: float | None = None,
        local_epochs: int | None = None,
        batch_size: int | None = None,
        transport_allowance_s: float = 30.0,
        client_name: Callable[[int], str] | None = None,
        discovery_s: float | None = 60.0,
        proximal_mu: float | None = None,
        aggregation: AggregationSettings | None = None,
        name: str | None = None,
    ) -> None:
        directory = processor_of if isinstance(processor_of, ClientDirectory) else None
        super().__init__(
            inner,
            clients=directory,
            discovery_s=discovery_s,
            name=name,
            aggregation=aggregation,
            proximal_mu=proximal_mu,
        )
        self._fastest = cutoff_s if isinstance(cutoff_s, FastestProcessor) else None
        if isinstance(cutoff_s, FastestProcessor):
            cutoff_s = {}
        if not callable(cutoff_s):
            for processor, seconds in {**cutoff_s, **({} if other_s is None else {_OTHER: other_s})}.items():
                _check_cutoff(processor, seconds)
        if not 0 <= transport_allowance_s < math.inf:
            raise ValueError(f"transport_allowance_s must be at least 0 and finite, got {transport_allowance_s}")
        self._cutoff_s = cutoff_s if callable(cutoff_s) else partial(_look_up, cutoff_s, other_s)
        self._directory = directory
        self._processor_of = processor_of if callable(processor_of) else self._known_processor
        self._local_epochs = local_epochs
        self._batch_size = batch_size
        self._client_name = client_name or super().client_name
        self.transport_allowance_s = transport_allowance_s
        self._unlimited: set[str] = set()

    def client_name(self, node_id: int) -> str:
        """The name that was given for the node."""
        return self._client_name(node_id)

    def assign(
        self,
        server_round: int,  # noqa: ARG002 - the rule is the same in every round
        node_ids: Sequence[int],
        size_bytes: int,  # noqa: ARG002 - and does not look at transfers
    ) -> dict[int, Assignment]:
        """Each node's cut-off, by its processor; every node is asked."""
        if self._fastest is not None:
            self._cutoff_s = partial(_look_up, self._fastest.cutoffs(node_ids), None)
        return {node: self._assign(self._processor_of(node)) for node in node_ids}

    def learn(self, answers: Sequence[Answer]) -> None:
        """Learn what each client's processor is and, where that decides the cut-offs, how long its round takes."""
        for answer in answers:
            if answer.telemetry is None:
                continue
            if self._fastest is not None:
                told = told_weight(answer.reply, weight_key(self.inner))
                self._fastest.learn(answer.node_id, answer.telemetry, None if told is None else int(told) or None)
            elif self._directory is not None:
                self._directory.learn(answer.node_id, answer.telemetry)

    def late_reply(self, node_id: int, telemetry: Telemetry) -> None:
        """Who is late is what it says all the same."""
        if self._fastest is not None:
            self._fastest.learn(node_id, telemetry, None)
        elif self._directory is not None:
            self._directory.learn(node_id, telemetry)

    def weigh(self, answers: Sequence[Answer]) -> list[float | None]:
        """The examples done; without telemetry what the reply claims, and no weight if it claims nothing.

        Claims that nothing bounds count for a multiple of the others' median at the most.
        """
        told = [
            told_weight(answer.reply, weight_key(self.inner))
            if answer.telemetry is None
            else float(answer.telemetry.examples_done) or None
            for answer in answers
        ]
        bounded = [answer.bounded for answer in answers]
        return capped_claims(told, bounded, max_ratio=self.aggregation.max_claim_ratio)

    def _known_processor(self, node_id: int) -> str:
        return self.clients.processor(node_id) or _UNKNOWN

    def _assign(self, processor: str) -> Assignment:
        cutoff_s = self._cutoff_s(processor)
        if cutoff_s is None and self._fastest is None and processor not in self._unlimited:
            self._unlimited.add(processor)
            _log.warning("no cut-off is set for the processor %r: its clients do all their work", processor)
        values: dict[str, ConfigValue | None] = {"cutoff-s": cutoff_s}
        if self._local_epochs is not None:
            values["local-epochs"] = self._local_epochs
        if self._batch_size is not None:
            values["batch-size"] = self._batch_size
        if cutoff_s is None:
            return Assignment(values)
        _check_cutoff(processor, cutoff_s)
        return Assignment(values, deadline_s=cutoff_s + self.transport_allowance_s)


def _look_up(cutoffs: Mapping[str, float], other_s: float | None, processor: str) -> float | None:
    """A processor's cut-off; one of which nothing is known may be any, and gets the longest."""
    if processor == _UNKNOWN:
        return max([*cutoffs.values(), *([] if other_s is None else [other_s])], default=None)
    return cutoffs.get(processor, other_s)


def _check_cutoff(processor: str, seconds: float) -> None:
    if not 0 <= seconds < math.inf:
        raise ValueError(f"the cut-off for the processor {processor!r} must be at least 0 and finite, got {seconds}")
