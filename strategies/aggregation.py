"""How a round's replies are made fit for the inner strategy, and what came of those that are not.

Everything here works on one round: which node a reply comes from, whether it fits the model that was sent, and what goes into
the inner strategy. It knows no plan and keeps nothing for the next round.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import Strategy

from strategies.inner import loss_key
from strategies.messages import ReplyShape, most_common, reply_shape, reweighted, told_metrics, told_weight, weight_key
from strategies.metrics import finite_metrics, is_finite
from strategies.roundlog import message_config
from strategies.screening import ModelScreen, RejectedReplyError, Update, capped_updates, not_finite
from strategies.statistics import MODES, Seen, SplitModel

__all__ = [
    "AggregationSettings",
    "Candidate",
    "Contribution",
    "KeepsRoundLog",
    "Reject",
    "Rejection",
    "SentModel",
    "SentRound",
    "evaluations",
    "same_shape",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AggregationSettings:
    """How far single replies may move the model.

    Attributes:
        batch_norm: What becomes of running statistics, counters and other arrays that are not trained: ``pool`` aggregates
            them by the data that they were measured on; ``local`` keeps batch-norm layers out of the aggregation (FedBN; Li
            et al., ICLR 2021): clients have to keep their own, in ``context.state``, and put them over what they receive;
            ``inner`` leaves all to the inner strategy, as Flower does.
        batch_norm_momentum: Momentum of those layers in PyTorch's sense; 1 for layers that average over all batches.
        max_update_ratio: An update longer than so many times the round's median is scaled down to that; ``None`` for no cap.
        max_claim_ratio: Largest number of examples that counts for a client about whose data nothing else is known, in
            medians of the others'.
    """

    batch_norm: str = "pool"
    batch_norm_momentum: float = 0.1
    max_update_ratio: float | None = 10.0
    max_claim_ratio: float = 3.0

    def __post_init__(self) -> None:
        if self.batch_norm not in MODES:
            raise ValueError(f"batch_norm must be one of {', '.join(MODES)}, got {self.batch_norm!r}")
        if not 0 < self.batch_norm_momentum <= 1:
            raise ValueError(f"batch_norm_momentum must be above 0 and at most 1, got {self.batch_norm_momentum}")
        if self.max_update_ratio is not None and not 1 <= self.max_update_ratio < math.inf:
            raise ValueError(f"max_update_ratio must be at least 1 and finite, or None, got {self.max_update_ratio}")
        if not 1 <= self.max_claim_ratio < math.inf:
            raise ValueError(f"max_claim_ratio must be at least 1 and finite, got {self.max_claim_ratio}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reply with content, the node that it comes from, and the config that was sent to it."""

    node_id: int
    reply: Message
    config: Mapping[str, object]


Reject = Callable[[Candidate, str], None]
"""Told the reply and the reason."""


@runtime_checkable
class KeepsRoundLog(Protocol):
    """A grid that knows when replies came, and writes down what became of them."""

    def waited_s(self, message_id: str) -> float | None:
        """Seconds from when a message of the last train round began to be sent to its reply; ``None`` without a reply."""

    def elapsed_s(self, message_id: str) -> float | None:
        """Seconds from when a message of the last train round was sent to its reply; ``None`` without one in time."""

    def mark_rejected(self, message_id: str, detail: str) -> None:
        """Write into the round log that the reply to a message of the last train round was not used, and why."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A reply that was not used.

    Attributes:
        server_round: Round number from 1.
        node_id: The node that it came from.
        client: That client's stable name.
        detail: Why, with the array or metric.
    """

    server_round: int
    node_id: int
    client: str
    detail: str


class SentRound:
    """The messages of one round, by which replies are told apart.

    Args:
        messages: The messages; their ids are read when replies come, since sending gives them.
    """

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self._messages = list(messages)

    def candidates(self, replies: Iterable[Message]) -> tuple[list[Candidate], list[Message]]:
        """Replies with the nodes that they come from, and error replies.

        A reply belongs to the node that its message went to (on grids without message ids: that it names as its source).
        Replies to messages of other rounds, of nodes that were not asked, and second answers to a message are logged and left
        out.
        """
        by_id = {message.metadata.message_id: message for message in self._messages if message.metadata.message_id}
        by_node = {message.metadata.dst_node_id: message for message in self._messages}
        answered: set[int] = set()
        found: list[Candidate] = []
        errors: list[Message] = []
        for reply in replies:
            if reply.has_error():
                errors.append(reply)
                continue
            source, answers = reply.metadata.src_node_id, reply.metadata.reply_to_message_id
            message = by_id.get(answers) if by_id and answers else by_node.get(source)
            if message is None or id(message) in answered:
                reason = "answers no message of this round" if message is None else "is a second answer to its message"
                _log.warning("a reply of node %d is left out, it %s", source, reason)
                continue
            answered.add(id(message))
            found.append(Candidate(message.metadata.dst_node_id, reply, message_config(message)))
        return found, errors


def same_shape(candidates: Iterable[Candidate], key: str, reject: Reject, *, train: bool = True) -> list[Candidate]:
    """The replies that can be aggregated together: the largest group of one shape, among equals the first.

    Args:
        candidates: Replies with content.
        key: Name of the metric that the strategy weighs by.
        reject: Told of each of the others, with the reason.
        train: Whether replies must have arrays.
    """
    shaped: list[tuple[Candidate, ReplyShape]] = []
    for candidate in candidates:
        try:
            shaped.append((candidate, reply_shape(candidate.reply, key, train=train)))
        except RejectedReplyError as error:
            reject(candidate, str(error))
    common = most_common([shape for _, shape in shaped])
    for candidate, shape in shaped:
        if shape != common:
            reject(candidate, "its records or metrics have other names or lengths than those of most clients")
    return [candidate for candidate, shape in shaped if shape == common]


def evaluations(candidates: Iterable[Candidate], key: str, reject: Reject) -> list[Message]:
    """The replies of an evaluation that fit each other and have a weight, without values that are not finite.

    Args:
        candidates: Replies with content.
        key: Name of the metric that the strategy weighs by.
        reject: Told of each of the others, with the reason.
    """
    fit, weights = [], []
    for candidate in same_shape(candidates, key, reject, train=False):
        if (weight := told_weight(candidate.reply, key)) is None:
            reject(candidate, f"its {key!r} is no positive number")
        else:
            fit.append(candidate.reply)
            weights.append(weight)
    metrics, _ = finite_metrics([told_metrics(reply, key) for reply in fit], weights)
    return [
        reweighted(reply, weight, key, metrics=own) for reply, weight, own in zip(fit, weights, metrics, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Contribution:
    """A reply that goes into the aggregate.

    Attributes:
        client: The client's stable name.
        reply: The reply.
        update: Its arrays, screened.
        weight: Its weight, positive.
        examples: Samples that it trained on; ``None`` if unknown.
        steps: Steps that it did; ``None`` if unknown.
    """

    client: str
    reply: Message
    update: Update
    weight: float
    examples: float | None = None
    steps: float | None = None


class SentModel:
    """The model of one round: what the inner strategy sees of it, what replies are held against, and what becomes of it.

    Args:
        arrays: The whole model, as clients get it.
        inner: The strategy that aggregates.
        settings: How far single replies may move the model.
    """

    def __init__(self, arrays: ArrayRecord, inner: Strategy, settings: AggregationSettings) -> None:
        self.parts = SplitModel(arrays, settings.batch_norm, settings.batch_norm_momentum)
        # Distances cost as much as the rest of the screen together.
        measured = () if settings.max_update_ratio is None else self.parts.shared
        self._screen = ModelScreen(arrays, measured=measured, ignored=self.parts.ignored)
        self._inner = inner
        self._settings = settings

    def screened(self, candidates: Iterable[Candidate], reject: Reject) -> list[tuple[Candidate, Update]]:
        """The replies that fit the model that was sent, and each other; ``reject`` is told of the others."""
        key = weight_key(self._inner)
        passed = []
        for candidate in candidates:
            try:
                reply_shape(candidate.reply, key)
                update = self._screen.update(next(iter(candidate.reply.content.array_records.values())))
                _check_loss(candidate.reply, loss_key(self._inner))
            except RejectedReplyError as error:
                reject(candidate, str(error))
            else:
                passed.append((candidate, update))
        alike = {id(candidate.reply) for candidate in same_shape([one for one, _ in passed], key, reject)}
        return [(candidate, update) for candidate, update in passed if id(candidate.reply) in alike]

    def aggregate(
        self, server_round: int, used: Sequence[Contribution], errors: Sequence[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's aggregate of its part, completed by the pooled statistics.

        Updates are capped, and metrics that are not finite taken out of the average. An aggregate that is not finite is not
        taken, by which Flower keeps the model as it is.

        Args:
            server_round: Round number from 1.
            used: The replies, at least one.
            errors: Error replies, which the strategy logs.
        """
        key = weight_key(self._inner)
        metrics, touched = finite_metrics([told_metrics(one.reply, key) for one in used], [one.weight for one in used])
        if touched:
            _log.warning(
                "round %d: averages of %s leave out values that are not finite", server_round, ", ".join(touched)
            )
        capped = capped_updates([one.update for one in used], self._screen, self._settings.max_update_ratio)
        fit = []
        for one, own, (arrays, factor) in zip(used, metrics, capped, strict=True):
            if factor < 1:
                _log.warning(
                    "round %d: the update of client %s is scaled by %.3g, to %g times the median",
                    server_round,
                    one.client,
                    factor,
                    self._settings.max_update_ratio,
                )
            fit.append(reweighted(one.reply, one.weight, key, arrays=self.parts.shared_part(arrays), metrics=own))
        merged, averaged = self._inner.aggregate_train(server_round, [*fit, *errors])
        if merged is None:
            return None, averaged
        whole = self.parts.restored(merged, [Seen(one.update.arrays, one.examples, one.steps) for one in used])
        if (name := not_finite(whole)) is not None:
            _log.warning(
                "round %d: the aggregate of %s is not finite in %r, the model stays as it is",
                server_round,
                type(self._inner).__name__,
                name,
            )
            return None, averaged
        return whole, averaged


def _check_loss(reply: Message, name: str | None) -> None:
    if name is not None:
        value = told_metrics(reply).get(name)
        if not isinstance(value, (int, float)) or not is_finite(value) or value < 0:
            raise RejectedReplyError(f"the metric {name!r} must be a number from 0: replies are weighed by it")
