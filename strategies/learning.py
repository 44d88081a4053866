"""What a client's round teaches the predictions."""

from __future__ import annotations

import logging

from devprof.plan.correction import CorrectedEstimator
from strategies.directory import ClientDirectory
from strategies.telemetry import Telemetry

__all__ = ["observe_round"]

_log = logging.getLogger(__name__)

# No device does a training step faster: such telemetry is broken, whatever else it says.
_LEAST_STEP_S = 1e-6


def observe_round(estimator: CorrectedEstimator, clients: ClientDirectory, node_id: int, telemetry: Telemetry) -> None:
    """Correct the predictions for a client's board and device by its step time and, where it has a meter, its power.

    A round without steps teaches nothing, and neither does a step faster than any device's, which is logged.

    Args:
        estimator: The predictions.
        clients: Who is behind the node.
        node_id: The client's node.
        telemetry: Its validated account of the round.
    """
    if telemetry.steps_done == 0:
        return
    board = clients.name(node_id)
    if telemetry.step_s < _LEAST_STEP_S:
        _log.warning("client %s says %g s per step, which is not learned from", board, telemetry.step_s)
        return
    estimator.observe(
        clients.device(node_id) or telemetry.device,
        telemetry.batch_size,
        telemetry.step_s,
        board=board,
        power_w=_mean_power_w(telemetry),
    )


def _mean_power_w(telemetry: Telemetry) -> float | None:
    """Watts of a client's whole round; its start-up keeps a board as busy as its steps do."""
    if telemetry.energy_j is None or telemetry.energy_j <= 0 or telemetry.total_s <= 0:
        return None
    return telemetry.energy_j / telemetry.total_s
