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
from functools import partial

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from devprof.records import RoundLog
from strategies.aggregation import (
    AggregationSettings,
    Candidate,
    Contribution,
    KeepsRoundLog,
    Rejection,
    SentModel,
    SentRound,
    evaluations,
)
from strategies.directory import ClientDirectory
from strategies.discovery import Discovery
from strategies.grid import DeadlineGrid
from strategies.inner import refuse_unfit
from strategies.messages import ConfigValue, config_key, weight_key, with_config
from strategies.plausibility import Asked, plausible
from strategies.roundlog import message_category
from strategies.screening import Update
from strategies.telemetry import Telemetry, TelemetryError, read_telemetry
from strategies.weights import capped_claims

__all__ = ["AggregationSettings", "Answer", "Assignment", "ComposedStrategy", "finite_or_none"]

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
    """A usable reply with its node, its assignment, and its telemetry where that can be believed.

    Attributes:
        node_id: The node that it comes from.
        reply: The reply.
        assignment: What the node was asked.
        telemetry: Its account, cut to what was asked; ``None`` where it is missing or refused.
        update: Its arrays, which fit the model that was sent.
        bounded: Whether the examples are bounded by what the server knows, and not only by the client's word.
        elapsed_s: Seconds on the server's clock from sending to the reply, where the grid keeps them.
    """

    node_id: int
    reply: Message
    assignment: Assignment
    telemetry: Telemetry | None
    update: Update
    bounded: bool = False
    elapsed_s: float | None = None


class ComposedStrategy(Strategy):
    """Base of strategies that wrap another one.

    Replies are screened before the inner strategy sees them (:mod:`strategies.aggregation`): those that do not fit the model
    that was sent are rejected with the reason, in the log, in :attr:`rejections` and in the round log.

    Args:
        inner: Any strategy of the message API, except those for differential privacy and for boosted trees.
        clients: Who is behind the node ids; ``None`` where that does not matter.
        discovery_s: Seconds to wait in the first round for nodes that the directory does not know to say what they are;
            ``None`` does not ask them.
        name: Name written into the round log; by default the class's.
        aggregation: How far single replies may move the model, and what becomes of batch-norm statistics.
        proximal_mu: Weight of a proximal term (FedProx; Li et al., MLSys 2020), sent as ``proximal-mu`` where neither the
            inner strategy nor the user's config names one; the client has to apply it. ``None`` sends nothing.

    Attributes:
        inner: The wrapped strategy.
        clients: The directory.
        grid: The grid of the last :meth:`start`, for its round log; ``None`` before.
        rejections: The replies that were not used, of all rounds so far.

    Raises:
        ValueError: If the inner strategy cannot be wrapped, or ``proximal_mu`` is negative or not finite.
    """

    def __init__(
        self,
        inner: Strategy,
        *,
        clients: ClientDirectory | None = None,
        discovery_s: float | None = 60.0,
        name: str | None = None,
        aggregation: AggregationSettings | None = None,
        proximal_mu: float | None = None,
    ) -> None:
        super().__init__()
        refuse_unfit(inner)
        if proximal_mu is not None and not 0 <= proximal_mu < math.inf:
            raise ValueError(f"proximal_mu must be at least 0 and finite, or None, got {proximal_mu}")
        self.inner = inner
        self.clients = clients or ClientDirectory()
        asks = clients is not None and discovery_s is not None
        self._discovery = Discovery(self.clients, wait_s=discovery_s or 0.0) if asks else None
        self.name = name or type(self).__name__
        self.aggregation = aggregation or AggregationSettings()
        self.proximal_mu = proximal_mu
        self.grid: DeadlineGrid | None = None
        self.rejections: list[Rejection] = []
        self._assigned: dict[int, Assignment] = {}
        self._sent = SentRound()
        self._evaluated = SentRound()
        self._model: SentModel | None = None
        self._log_keeper: KeepsRoundLog | None = None

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

    def known_samples(self, node_id: int) -> int | None:
        """Size of a client's data as the server knows it by itself, not from the client: what the user said, if anything."""
        return self.clients.known_samples(node_id)

    def client_name(self, node_id: int) -> str:
        """The stable name of a node's client, for the round log: the directory's, by default the node id."""
        return self.clients.name(node_id)

    # What a strategy is ---------------------------------------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """The inner strategy's messages, one object and one config for each client; the caller's config stays as it is."""
        model = SentModel(arrays, self.inner, self.aggregation)
        # Flower's strategies write into the config they are given.
        messages = list(self.inner.configure_train(server_round, model.parts.shared, ConfigRecord(dict(config)), grid))
        nodes = list(dict.fromkeys(message.metadata.dst_node_id for message in messages))
        if self._discovery is not None:
            self._discovery.refresh(grid, nodes, dict(config))
        self._assigned = self.assign(server_round, nodes, arrays.count_bytes()) if nodes else {}
        key = config_key(self.inner)
        defaults: dict[str, ConfigValue] = {} if self.proximal_mu is None else {"proximal-mu": self.proximal_mu}
        sent = [
            with_config(
                message,
                self._assigned[message.metadata.dst_node_id].values,
                key=key,
                defaults=defaults,
                content=model.parts.completed(message.content),
            )
            for message in messages
            if message.metadata.dst_node_id in self._assigned
        ]
        self._model, self._sent = model, SentRound(sent)
        self._log_keeper = grid if isinstance(grid, KeepsRoundLog) else None
        if nodes and not sent:
            _log.warning("round %d: none of the %d sampled clients is asked to train", server_round, len(nodes))
        return sent

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's aggregate of the usable replies at their new weights.

        Metrics are averaged at the same weights. Without a usable reply the result is ``(None, None)``, by which Flower keeps
        the model as it is. From a reply that is rejected nothing is learned.
        """
        answers, errors = self._answers(server_round, replies)
        worked = []
        for answer in answers:
            if answer.telemetry is not None and answer.telemetry.steps_done == 0:
                self._reject(server_round, answer, f"client {self.client_name(answer.node_id)} did no step")
            else:
                worked.append(answer)
        weights = self.weigh(worked)
        used = []
        for answer, weight, examples in zip(worked, weights, self._examples(worked), strict=True):
            if weight is None:
                self._reject(server_round, answer, "it has no weight")
                continue
            steps = answer.telemetry.steps_done if answer.telemetry else None
            name = self.client_name(answer.node_id)
            used.append(Contribution(name, answer.reply, answer.update, weight, examples, steps))
        if not used or self._model is None:
            _log.warning("round %d: no usable reply, the model stays as it is", server_round)
            return None, None
        return self._model.aggregate(server_round, used, errors)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """The inner strategy's messages; the caller's config stays as it is."""
        messages = list(self.inner.configure_evaluate(server_round, arrays, ConfigRecord(dict(config)), grid))
        self._evaluated = SentRound(messages)
        return messages

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The inner strategy's aggregate of the replies that fit each other and have a weight, without values that are none."""
        candidates, errors = self._evaluated.candidates(replies)

        def reject(candidate: Candidate, detail: str) -> None:
            name = self.client_name(candidate.node_id)
            _log.warning("round %d: the evaluation of client %s is not used: %s", server_round, name, detail)

        fit = evaluations(candidates, weight_key(self.inner), reject)
        return self.inner.aggregate_evaluate(server_round, [*fit, *errors])

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
            device_of=lambda node: (self.clients.device(node), self.clients.processor(node)),
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

    def _answers(self, server_round: int, replies: Iterable[Message]) -> tuple[list[Answer], list[Message]]:
        """The usable replies, screened and learned from, and the error replies."""
        candidates, errors = self._sent.candidates(replies)
        if self._model is None:
            return [], errors
        answers = [
            self._answer(server_round, candidate, update)
            for candidate, update in self._model.screened(candidates, partial(self._reject, server_round))
        ]
        self.learn(answers)
        return answers, errors

    def _answer(self, server_round: int, candidate: Candidate, update: Update) -> Answer:
        node_id, reply = candidate.node_id, candidate.reply
        assignment = self._assigned[node_id]
        message_id = reply.metadata.reply_to_message_id
        log = self._log_keeper if message_id else None
        try:
            told = read_telemetry(reply.content, elapsed_s=log.waited_s(message_id) if log else None)
        except TelemetryError as error:
            _log.warning(
                "round %d: telemetry of client %s is not used: %s", server_round, self.client_name(node_id), error
            )
            return Answer(node_id, reply, assignment, None, update)
        credit = plausible(told, Asked.from_config(candidate.config, self.known_samples(node_id)))
        for fault in credit.faults:
            _log.warning("round %d: telemetry of client %s: %s", server_round, self.client_name(node_id), fault)
        elapsed_s = log.elapsed_s(message_id) if log else None
        return Answer(node_id, reply, assignment, credit.telemetry, update, credit.bounded, elapsed_s)

    def _examples(self, answers: Sequence[Answer]) -> list[float | None]:
        """Samples that each client trained on; claims that nothing bounds count for a multiple of the median at the most."""
        told = [max(1, answer.telemetry.examples_done) if answer.telemetry else None for answer in answers]
        bounded = [answer.bounded for answer in answers]
        return capped_claims(told, bounded, max_ratio=self.aggregation.max_claim_ratio)

    def _reject(self, server_round: int, rejected: Candidate | Answer, detail: str) -> None:
        name = self.client_name(rejected.node_id)
        _log.warning("round %d: the reply of client %s is rejected: %s", server_round, name, detail)
        self.rejections.append(Rejection(server_round, rejected.node_id, name, detail))
        message_id = rejected.reply.metadata.reply_to_message_id
        if self._log_keeper is not None and message_id:
            self._log_keeper.mark_rejected(message_id, detail)


def finite_or_none(seconds: float) -> float | None:
    """A time, or ``None`` where it is infinite: no limit, or no prediction."""
    return seconds if math.isfinite(seconds) else None
