"""Rounds planned from predictions, around any Flower strategy."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flwr.serverapp.strategy import Strategy

from devprof.plan.correction import CorrectedEstimator
from devprof.plan.estimator import StepEstimator
from devprof.plan.planner import plan_round
from devprof.plan.settings import ClientState, PlannerSettings
from devprof.records import ClientPlan, RoundPlan
from strategies.aggregation import AggregationSettings
from strategies.composed import Answer, Assignment, ComposedStrategy, finite_or_none
from strategies.directory import ClientDirectory
from strategies.learning import observe_round
from strategies.messages import told_weight, weight_key
from strategies.telemetry import Telemetry
from strategies.weights import capped_claims, check_tempering, effective_steps, tempered_weights

__all__ = ["PlannedStrategy"]

_log = logging.getLogger(__name__)

# Beyond a deadline the server waits for what was seen to vary, and a little for the looks it takes at its mail.
_GRACE_SDS = 3.0
_GRACE_S = 1.0


class PlannedStrategy(ComposedStrategy):
    """Plans each round: a deadline, and for each client as many steps as it can do by then, at the best batch size.

    Before a round :func:`devprof.plan.planner.plan_round` plans for the clients that the inner strategy sampled, and each
    gets a config of its own (``local-steps local-epochs batch-size cutoff-s learning-rate-scale``); who could do nothing
    useful by the deadline is not asked. After it, telemetry corrects the predictions for the next, late replies included,
    and replies are weighed by data and, tempered, against the work they lack (:mod:`strategies.weights`); strategies that
    ignore weights, such as FedMedian, go on ignoring them.

    Before the first round each node that the directory does not know is asked what it is (:mod:`strategies.discovery`). A
    client of which too little is known even then gets a round of ``local_epochs`` passes without a limit on steps (cut off at
    the deadline where the others have one), and is planned for once its reply says what it is. Until then it is in no
    :class:`RoundPlan`.

    The time of a round that neither start-up, training nor planned transfers explain is scheduling and transport (2 to 6 s with
    Flower 1.41). It is learned for each client, planned for, and predicted with the rest. The server waits for a reply until
    the deadline, and then for one step of that client and a grace: a step that was begun is ended, and its work would be lost
    for a moment.

    Args:
        inner: What samples clients and aggregates.
        settings: What a round should be.
        estimator: Where predictions come from; it is wrapped in a :class:`CorrectedEstimator` unless it is one. ``None``
            starts from nothing and learns.
        clients: Who is behind the node ids.
        gamma: How far weights are normalised by work: 0 not at all (averaging by data), 1 entirely (FedNova).
        max_ratio: Largest factor by which work may change a weight.
        momentum: That of the clients' SGD: with it, more steps move a model more than in proportion.
        proximal_mu: Weight of a proximal term that clients are told to add to their loss; ``None`` leaves it to the inner
            strategy.
        aggregation: How far single replies may move the model.
        transport_allowance_s: Seconds that the server waits beyond the deadline for a client whose overhead was not seen yet,
            and the most that it waits for any.
        discovery_s: Seconds to wait in the first round for the nodes to say what they are; ``None`` does not ask them.
        forget_after_rounds: Rounds in a row that a client is left out before what was seen of it is forgotten: a board that
            has cooled down, or once reported nonsense, gets another chance if its first prediction allows.
        name: Name written into the round log.

    Attributes:
        plans: The plans of all rounds so far.
        estimator: The corrected predictions.
        clients: The directory.

    Raises:
        ValueError: If an argument is out of range, or the inner strategy cannot be wrapped.
    """

    def __init__(
        self,
        inner: Strategy,
        settings: PlannerSettings,
        estimator: StepEstimator | None,
        clients: ClientDirectory,
        *,
        gamma: float = 0.5,
        max_ratio: float = 5.0,
        momentum: float = 0.0,
        proximal_mu: float | None = None,
        aggregation: AggregationSettings | None = None,
        transport_allowance_s: float = 10.0,
        discovery_s: float | None = 60.0,
        forget_after_rounds: int = 10,
        name: str | None = None,
    ) -> None:
        super().__init__(
            inner,
            clients=clients,
            discovery_s=discovery_s,
            name=name,
            aggregation=aggregation,
            proximal_mu=proximal_mu,
        )
        check_tempering(gamma, max_ratio)
        if not 0 <= transport_allowance_s < math.inf:
            raise ValueError(f"transport_allowance_s must be at least 0 and finite, got {transport_allowance_s}")
        if forget_after_rounds < 1:
            raise ValueError(f"forget_after_rounds must be at least 1, got {forget_after_rounds}")
        self.settings = settings
        self.estimator = estimator if isinstance(estimator, CorrectedEstimator) else CorrectedEstimator(estimator)
        self.gamma = gamma
        self.max_ratio = max_ratio
        # Checked here, used when work is weighed.
        effective_steps(1, momentum=momentum)
        self.momentum = momentum
        self.transport_allowance_s = transport_allowance_s
        self.plans: list[RoundPlan] = []
        self.forget_after_rounds = forget_after_rounds
        self._left_out: dict[str, int] = {}
        self._size_bytes = 0
        self._round: dict[int, tuple[ClientState, ClientPlan]] = {}

    def assign(self, server_round: int, node_ids: Sequence[int], size_bytes: int) -> dict[int, Assignment]:
        """Plan the round, and say what each node is to do; nodes that are left out are logged with the reason."""
        # Flower samples in random order; plans are easier to compare in one.
        found = {node: state for node in sorted(node_ids) if (state := self.clients.state(node)) is not None}
        sizes = self._believed([float(state.samples) for state in found.values()], list(found))
        states = {
            node: replace(state, samples=int(size), rounds_left_out=self._left_out.get(state.client, 0))
            for (node, state), size in zip(found.items(), sizes, strict=True)
        }
        plan = plan_round(
            list(states.values()),
            self.estimator,
            self.settings,
            payload_bytes=size_bytes,
            server_round=server_round,
        )
        self.plans.append(plan)
        self._size_bytes = size_bytes
        self._round = {
            node: (state, own)
            for (node, state), own in zip(states.items(), plan.clients, strict=True)
            if own.participates
        }
        self._note_left_out(states, plan)
        asked = {node: self._planned(node, state, own, plan.deadline_s) for node, (state, own) in self._round.items()}
        asked |= {node: self._unplanned(plan.deadline_s) for node in node_ids if node not in states}
        return asked

    def learn(self, answers: Sequence[Answer]) -> None:
        """Correct predictions, start-up times and the directory by what clients did."""
        for answer in answers:
            if answer.telemetry is not None:
                told = told_weight(answer.reply, weight_key(self.inner))
                overhead_s = self._overhead_s(answer.node_id, answer.telemetry, answer.elapsed_s)
                self._learn(answer.node_id, answer.telemetry, told, overhead_s)

    def late_reply(self, node_id: int, telemetry: Telemetry) -> None:
        """Learn how long the work took, which is true although it came too late."""
        self._learn(node_id, telemetry, None)

    def weigh(self, answers: Sequence[Answer]) -> list[float | None]:
        """Weights by data, tempered by work; without telemetry the planned steps count as done."""
        samples = self._believed([self._samples(answer) for answer in answers], [a.node_id for a in answers])
        work = [self._work(answer) for answer in answers]
        return list(tempered_weights(samples, work, gamma=self.gamma, max_ratio=self.max_ratio))

    # The way out ----------------------------------------------------------------------------------------------------

    def _planned(self, node_id: int, state: ClientState, plan: ClientPlan, deadline_s: float) -> Assignment:
        estimate = self.estimator.estimate_board(state.client, state.device, plan.batch_size)
        last_step_s = 0.0 if estimate is None else estimate.step_s_hi
        return Assignment(
            values={
                "local-steps": plan.local_steps,
                "local-epochs": plan.local_epochs,
                "batch-size": plan.batch_size,
                "cutoff-s": finite_or_none(plan.cutoff_s),
                "learning-rate-scale": plan.learning_rate_scale,
            },
            deadline_s=finite_or_none(deadline_s + last_step_s + self._grace_s(node_id, state)),
            predicted_s=plan.predicted_s,
        )

    def _grace_s(self, node_id: int, state: ClientState) -> float:
        """Seconds beyond the deadline for what varies outside of the client's own cut-off."""
        if not self.clients.timed(node_id):
            return self.transport_allowance_s
        return min(self.transport_allowance_s, _GRACE_SDS * state.fixed_sd_s + _GRACE_S)

    def _unplanned(self, deadline_s: float) -> Assignment:
        return Assignment(
            values={
                # No limit on steps: the whole passes that it makes say how much data it has.
                "local-steps": None,
                "local-epochs": self.settings.local_epochs,
                "batch-size": self.settings.batch_size,
                "cutoff-s": finite_or_none(deadline_s),
                "learning-rate-scale": 1.0,
            },
            deadline_s=finite_or_none(deadline_s + self.transport_allowance_s),
        )

    def _note_left_out(self, states: Mapping[int, ClientState], plan: RoundPlan) -> None:
        for (node_id, state), own in zip(states.items(), plan.clients, strict=True):
            if own.participates:
                self._left_out.pop(own.client, None)
                continue
            rounds = self._left_out.get(own.client, 0) + 1
            # Said aloud once, not in every round that follows.
            level = logging.WARNING if rounds == 1 else logging.INFO
            _log.log(level, "round %d: client %s is left out: %s", plan.server_round, own.client, own.reason)
            self._left_out[own.client] = rounds
            if rounds % self.forget_after_rounds == 0:
                self.clients.forget(node_id)
                self.estimator.forget(state.client, state.device)

    # The way back ---------------------------------------------------------------------------------------------------

    def _overhead_s(self, node_id: int, telemetry: Telemetry, elapsed_s: float | None) -> float | None:
        """Seconds of a round that neither its start-up, its training nor its planned transfers explain."""
        if elapsed_s is None:
            return None
        state = self.clients.state(node_id)
        size = self._size_bytes
        planned_s = 0.0 if state is None else state.link.download_s(size) + state.link.upload_s(size)
        return max(0.0, elapsed_s - telemetry.startup_s - telemetry.train_s - planned_s)

    def _learn(self, node_id: int, telemetry: Telemetry, told: float | None, overhead_s: float | None = None) -> None:
        samples = None if self.clients.state(node_id) else self._discovered_samples(telemetry, told)
        self.clients.learn(node_id, telemetry, samples=samples, overhead_s=overhead_s)
        observe_round(self.estimator, self.clients, node_id, telemetry)

    def _discovered_samples(self, telemetry: Telemetry, told: float | None) -> int | None:
        """The data of a client on its first round: whole passes tell exactly, else it is what the reply claims."""
        if not telemetry.cut and telemetry.examples_done >= self.settings.local_epochs:
            return telemetry.examples_done // self.settings.local_epochs
        return int(told) if told is not None and told >= 1 and told == int(told) else None

    def _believed(self, samples: Sequence[float], nodes: Sequence[int]) -> list[float]:
        """Sizes of data, those that only the clients themselves vouch for cut to a multiple of the others' median."""
        vouched = [self.known_samples(node) is not None for node in nodes]
        capped = capped_claims([size or None for size in samples], vouched, max_ratio=self.aggregation.max_claim_ratio)
        return [size or 0.0 for size in capped]

    def _samples(self, answer: Answer) -> float:
        state = self.clients.state(answer.node_id)
        if state is not None:
            return float(state.samples)
        told = told_weight(answer.reply, weight_key(self.inner))
        if told is not None:
            return told
        return 1.0 if answer.telemetry is None else float(max(1, answer.telemetry.examples_done))

    def _work(self, answer: Answer) -> float | None:
        _, plan = self._round.get(answer.node_id, (None, None))
        scale = 1.0 if plan is None else plan.learning_rate_scale
        if answer.telemetry is not None:
            return self._effective(answer.telemetry.steps_done) * scale
        return None if plan is None else self._effective(plan.local_steps) * scale

    def _effective(self, steps: int) -> float:
        return effective_steps(steps, momentum=self.momentum)
