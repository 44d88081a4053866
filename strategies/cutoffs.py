"""A tau that nobody has to know: the round time of the fastest processor, predicted or observed.

The Flower paper sets tau by hand to the GPU's round time, so that CPU clients end when GPU clients do. Here the round times of
all kinds of processors are predicted from the cost model, corrected by what clients report; without a cost model the first
round, without cut-off, tells.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable

from devprof.plan.correction import CorrectedEstimator
from devprof.plan.estimator import StepEstimator
from devprof.plan.roundtime import steps_per_epoch
from devprof.plan.settings import PlannerSettings
from strategies.directory import ClientDirectory
from strategies.learning import observe_round
from strategies.telemetry import Telemetry

__all__ = ["FastestProcessor"]

_log = logging.getLogger(__name__)


class FastestProcessor:
    """Cut-offs by processor: every kind but the fastest is cut off when the fastest is done with its normal round.

    A kind's round time is the median of its clients', from receipt of the message to the end of training.

    Args:
        settings: The normal round: passes and batch size.
        clients: Who is behind the node ids.
        estimator: Predicts step times; ``None`` starts from nothing and learns.
    """

    def __init__(
        self, settings: PlannerSettings, clients: ClientDirectory, estimator: StepEstimator | None = None
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._estimator = estimator if isinstance(estimator, CorrectedEstimator) else CorrectedEstimator(estimator)

    def learn(self, node_id: int, telemetry: Telemetry, samples: int | None) -> None:
        """Learn from one client's round.

        Args:
            node_id: The client's node.
            telemetry: Its validated account.
            samples: Size of its data, where that follows from its reply.
        """
        self._clients.learn(node_id, telemetry, samples=None if self._clients.state(node_id) else samples)
        observe_round(self._estimator, self._clients, node_id, telemetry)

    def cutoffs(self, node_ids: Iterable[int]) -> dict[str, float]:
        """Tau in seconds by processor; empty as long as fewer than two kinds of processors can be predicted."""
        rounds: dict[str, list[float]] = {}
        for node in node_ids:
            found = self._normal_round(node)
            if found is not None:
                processor, seconds = found
                rounds.setdefault(processor, []).append(seconds)
        if len(rounds) < 2:
            return {}
        typical = {processor: statistics.median(times) for processor, times in sorted(rounds.items())}
        fastest = min(typical, key=lambda processor: typical[processor])
        _log.info("tau is %.4g s, a round of the processor %r", typical[fastest], fastest)
        return {processor: typical[fastest] for processor in typical if processor != fastest}

    def _normal_round(self, node_id: int) -> tuple[str, float] | None:
        state = self._clients.state(node_id)
        if state is None or not state.samples:
            return None
        size = self._settings.batch_size
        estimate = self._estimator.estimate_board(state.client, state.device, size)
        if estimate is None:
            return None
        steps = self._settings.local_epochs * steps_per_epoch(state.samples, size)
        return state.processor, state.startup_s + steps * estimate.step_s
