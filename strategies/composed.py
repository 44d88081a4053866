"""What strategies have in common that wrap another one: one config per client, deadlines, and an aggregation that goes on.

The inner strategy samples the clients, builds the messages and aggregates; a composed strategy says for each client how much
to do and by when, and what its reply weighs. It holds the inner strategy and derives from nothing but Flower's interface.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from devprof.records import RoundLog
from strategies.grid import DeadlineGrid
from strategies.messages import (
    ConfigValue,
    config_key,
    reweighted,
    split_replies,
    weight_key,
    with_config,
)
from strategies.roundlog import message_category
from strategies.telemetry import Telemetry, TelemetryError, read_telemetry

__all__ = ["Answer", "Assignment", "ComposedStrategy", "finite_or_none"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one client is told in one round.

    Attributes:
        values: What is written into its config; ``None`` removes a key.
        deadline_s: Seconds that the server waits for its reply; ``None`` for no limit of its own.
        predicted_s: Seconds that its part is predicted to take; ``None`` without a prediction.
    """

    values: Mapping[str, ConfigValue | None]
    deadline_s: float | None = None
    predicted_s: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A usable reply with its node, its assignment, and its telemetry where that can be believed."""

    node_id: int
    reply: Message
    assignment: Assignment
    telemetry: Telemetry | None


class ComposedStrategy(Strategy):
    """Base of strategies that wrap another one.

    Args:
        inner: Any strategy of the message API, except those for differential privacy.
        name: Name written into the round log; by default the class's.

    Attributes:
        inner: The wrapped strategy.
        grid: The grid of the last :meth:`start`, for its round log; ``None`` before.

    Raises:
        ValueError: If the inner strategy is one of Flower's for differential privacy.
    """

    def __init__(self, inner: Strategy, *, name: str | None = None) -> None:
        super().__init__()
        _refuse_private(inner)
        self.inner = inner
        self.name = name or type(self).__name__
        self.grid: DeadlineGrid | None = None
        self._assigned: dict[int, Assignment] = {}
        self._sent: list[Message] = []

    # What a strategy on top decides ---------------------------------------------------------------------------------

    @abstractmethod
    def assign(self, server_round: int, node_ids: Sequence[int], size_bytes: int) -> dict[int, Assignment]:
        """Say what each of the sampled nodes is to do; a node that is missing in the result is not asked.

        Args:
            server_round: Round number from 1.
            node_ids: The nodes that the inner strategy sampled, without repeats.
            size_bytes: Size of the model as it travels.
        """

    @abstractmethod
    def weigh(self, answers: Sequence[Answer]) -> list[float | None]:
        """The weight of each answer, positive; ``None`` leaves an answer out. All answers with telemetry did some work."""

    def learn(self, answers: Sequence[Answer]) -> None:
        """Learn from a round's answers, those without any work included; by default nothing is learned."""

    def late_reply(self, node_id: int, telemetry: Telemetry) -> None:
        """Learn from a reply that came too late to be used; by default nothing is learned."""

    def client_name(self, node_id: int) -> str:
        """The stable name of a node's client, for the round log; by default the node id."""
        return str(node_id)

    # What a strategy is ---------------------------------------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """The inner strategy's messages, one object and one config for each client; the caller's config stays as it is."""
        # Flower's strategies write into the config they are given.
        messages = list(self.inner.configure_train(server_round, arrays, ConfigRecord(dict(config)), grid))
        nodes = list(dict.fromkeys(message.metadata.dst_node_id for message in messages))
        self._assigned = self.assign(server_round, nodes, arrays.count_bytes()) if nodes else {}
        key = config_key(self.inner)
        self._sent = [
            with_config(message, self._assigned[message.metadata.dst_node_id].values, key=key)
            for message in messages
            if message.metadata.dst_node_id in self._assigned
        ]
        if nodes and not self._sent:
            _log.warning("round %d: none of the %d sampled clients is asked to train", server_round, len(nodes))
        return list(self._sent)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's aggregate of the usable replies at their new weights.

        Metrics are averaged at the same weights. Without a usable reply the result is ``(None, None)``, by which Flower keeps
        the model as it is.
        """
        key = weight_key(self.inner)
        usable, errors = split_replies(replies, key)
        answers = [answer for reply in usable if (answer := self._answer(server_round, reply)) is not None]
        self.learn(answers)
        worked = [answer for answer in answers if answer.telemetry is None or answer.telemetry.steps_done > 0]
        for answer in (answer for answer in answers if answer not in worked):
            _log.warning("round %d: client %s did no step, its reply is left out", server_round, self._name(answer))
        weights = self.weigh(worked)
        weighted = [
            reweighted(answer.reply, weight, key)
            for answer, weight in zip(worked, weights, strict=True)
            if weight is not None
        ]
        if not weighted:
            _log.warning("round %d: no usable reply, the model stays as it is", server_round)
            return None, None
        return self.inner.aggregate_train(server_round, [*weighted, *errors])

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """The inner strategy's messages; the caller's config stays as it is."""
        return list(self.inner.configure_evaluate(server_round, arrays, ConfigRecord(dict(config)), grid))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The inner strategy's aggregate."""
        return self.inner.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log the inner strategy's summary under this one's name."""
        _log.info("%s around %s", self.name, type(self.inner).__name__)
        self.inner.summary()

    def start(  # noqa: PLR0917 - the signature is Flower's
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """As ``Strategy.start``, on a grid that keeps this strategy's deadlines.

        A :class:`~strategies.grid.DeadlineGrid` is used as it is; any other grid is wrapped by :meth:`deadline_grid`.
        """
        self.grid = grid if isinstance(grid, DeadlineGrid) else self.deadline_grid(grid)
        try:
            return super().start(
                self.grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, evaluate_fn
            )
        finally:
            # Also when a run ends early: what came late belongs into the log.
            self.grid.harvest_late()

    # Deadlines ------------------------------------------------------------------------------------------------------

    def deadline_grid(self, grid: Grid) -> DeadlineGrid:
        """A grid that keeps this strategy's deadlines, for when another strategy wraps this one and its ``start`` is lost."""
        needed = [
            getattr(self.inner, name, 0) for name in ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes")
        ]
        return DeadlineGrid(
            grid,
            deadline=self.deadline_for,
            predicted=self.predicted_for,
            strategy=self.name,
            min_nodes=max(0, *needed),
            client_name=self.client_name,
            on_late=self.late_reply,
        )

    def deadline_for(self, message: Message) -> float | None:
        """Seconds from sending that the server waits for the reply to a message of the present round."""
        assignment = self._assignment(message)
        return None if assignment is None else assignment.deadline_s

    def predicted_for(self, message: Message) -> float | None:
        """Seconds that a client's part of the present round is predicted to take."""
        assignment = self._assignment(message)
        return None if assignment is None else assignment.predicted_s

    @property
    def round_logs(self) -> list[RoundLog]:
        """What was planned and what happened, one row for each client and round of the last :meth:`start`."""
        return [] if self.grid is None else self.grid.round_logs

    def _assignment(self, message: Message) -> Assignment | None:
        if message_category(message) != "train":
            return None
        return self._assigned.get(message.metadata.dst_node_id)

    # Replies --------------------------------------------------------------------------------------------------------

    def _answer(self, server_round: int, reply: Message) -> Answer | None:
        node_id = self._node_of(reply)
        assignment = None if node_id is None else self._assigned.get(node_id)
        if node_id is None or assignment is None:
            _log.warning(
                "round %d: a reply of node %d is left out, it answers no message of this round",
                server_round,
                reply.metadata.src_node_id,
            )
            return None
        try:
            telemetry = read_telemetry(reply.content)
        except TelemetryError as error:
            _log.warning(
                "round %d: telemetry of client %s is not used: %s", server_round, self.client_name(node_id), error
            )
            telemetry = None
        return Answer(node_id, reply, assignment, telemetry)

    def _node_of(self, reply: Message) -> int | None:
        """The node that a reply comes from: by the message it answers, else (on grids without message ids) by its source."""
        nodes = {m.metadata.message_id: m.metadata.dst_node_id for m in self._sent if m.metadata.message_id}
        if nodes and reply.metadata.reply_to_message_id:
            return nodes.get(reply.metadata.reply_to_message_id)
        return reply.metadata.src_node_id

    def _name(self, answer: Answer) -> str:
        return self.client_name(answer.node_id)


def finite_or_none(seconds: float) -> float | None:
    """A time, or ``None`` where it is infinite: no limit, or no prediction."""
    return seconds if math.isfinite(seconds) else None


def _refuse_private(inner: Strategy) -> None:
    for base in type(inner).__mro__:
        if base.__module__.startswith("flwr.") and base.__name__.startswith("DifferentialPrivacy"):
            raise ValueError(
                f"{type(inner).__name__} cannot be wrapped: its noise is scaled to equal weights of a fixed number of clients, "
                "which deadlines and unequal work break, so the stated privacy would not hold. Use it without cut-off."
            )
