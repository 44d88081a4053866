"""Where step times come from: the protocols between planning and whatever predicts.

``plan`` does not import the cost model; a cost model, a table or a filter over observations all fit behind these.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from devprof.records import Estimate

__all__ = ["Z90", "BoardEstimator", "StepEstimator"]

Z90 = 1.6448536269514722
"""Standard normal quantile at 95 %: an :class:`~devprof.records.Estimate` spans the central 90 %."""


class StepEstimator(Protocol):
    """Predicts the training step of the federation's model on a device."""

    def estimate(self, device: str, batch_size: int) -> Estimate | None:
        """Seconds per step with a 90 % interval, or ``None`` where nothing is known of this device.

        Args:
            device: Name of the device, as in the measurements.
            batch_size: Samples per step.
        """


@runtime_checkable
class BoardEstimator(Protocol):
    """An estimator that tells boards of the same name apart: one of ten equal boards may be throttling."""

    def estimate(self, device: str, batch_size: int) -> Estimate | None:
        """As :meth:`StepEstimator.estimate`: for a board of this name that nothing particular is known of."""

    def estimate_board(self, board: str, device: str, batch_size: int) -> Estimate | None:
        """The same for one board.

        Args:
            board: The client's stable name.
            device: Name of the device.
            batch_size: Samples per step.
        """
