"""Where a strategy's predictions come from: a fitted cost model, or a table of known numbers."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Protocol

from devprof.plan.affine import estimate_from_points
from devprof.plan.estimator import Z90
from devprof.records import Estimate, Mode

__all__ = ["CostModelEstimator", "MeasuredEstimator", "Predictor"]

_log = logging.getLogger(__name__)


# Boards differ by 20x: a device of which nothing is known is within a factor of five, nine times in ten, at the least.
_LEAST_SPREAD = math.log(5.0) / Z90


class Predictor(Protocol):
    """What is needed of a cost model, such as :class:`devprof.CostModel`."""

    @property
    def devices(self) -> Sequence[str]:
        """The devices that it knows."""

    def predict(
        self,
        device: str,
        model: str,
        mode: Mode,
        batch_size: int,
        *,
        image_size: int | None = None,
        num_classes: int | None = None,
    ) -> Estimate:
        """The cost of a training step; raises ``UnknownNameError`` for a device that the model does not know."""


class CostModelEstimator:
    """A cost model as seen by the planner: one workload, any device and batch size.

    A device that the cost model does not know is taken to be the middle one of those that it knows, give or take what they
    differ by: enough to plan a cautious first round, whose telemetry teaches the next.

    Predictions are kept: a planner asks for the same few devices in every round.

    Args:
        cost_model: The fitted cost model.
        model: Name of the model that the federation trains.
        mode: ``full`` or ``head``.
        image_size: Height and width of the input; ``None`` for the cost model's own choice.
        num_classes: Outputs of the classifier; ``None`` for the model's own number.
    """

    def __init__(
        self,
        cost_model: Predictor,
        model: str,
        mode: Mode = "full",
        image_size: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        self._cost_model = cost_model
        self._model = model
        self._mode: Mode = mode
        self._image_size = image_size
        self._num_classes = num_classes
        self._known = frozenset(cost_model.devices)
        self._unknown: set[str] = set()
        self._kept: dict[tuple[str | None, int], Estimate] = {}

    def estimate(self, device: str, batch_size: int) -> Estimate | None:
        """The cost model's prediction, or the middle of its devices, said once in the log, for one that it does not know.

        Raises:
            UnknownNameError: If the cost model does not know the model: no device could be planned for.
        """
        known = device in self._known
        if not known and device not in self._unknown:
            self._unknown.add(device)
            _log.warning(
                "the cost model does not know the device %r (it knows %s): its clients are planned for as if it were "
                "the middle one, with a wide interval, until their rounds tell",
                device,
                ", ".join(sorted(self._known)),
            )
        key = (device if known else None, batch_size)
        if key not in self._kept:
            self._kept[key] = self._predict(device, batch_size) if known else self._middle(batch_size)
        return self._kept[key]

    def _predict(self, device: str, batch_size: int) -> Estimate:
        return self._cost_model.predict(
            device, self._model, self._mode, batch_size, image_size=self._image_size, num_classes=self._num_classes
        )

    def _middle(self, batch_size: int) -> Estimate:
        """What a step costs on the middle one of the known devices; the interval spans their differences."""
        found = [self._predict(device, batch_size) for device in sorted(self._known)]
        logs = [math.log(estimate.step_s) for estimate in found]
        own = statistics.fmean(math.log(estimate.step_s_hi / estimate.step_s_lo) / (2 * Z90) for estimate in found)
        spread = statistics.stdev(logs) if len(logs) > 1 else 0.0
        centre_s = math.exp(statistics.median(logs))
        factor = math.exp(Z90 * math.hypot(max(spread, _LEAST_SPREAD), own))
        memory = [estimate.memory_bytes for estimate in found if estimate.memory_bytes is not None]
        highest = [estimate.memory_hi_bytes for estimate in found if estimate.memory_hi_bytes is not None]
        # Memory follows the model far more than the device; power does not, so energy stays unknown.
        return Estimate(
            step_s=centre_s,
            step_s_lo=centre_s / factor,
            step_s_hi=centre_s * factor,
            basis="new-device",
            memory_bytes=statistics.median(memory) if memory else None,
            memory_hi_bytes=max(highest) if highest else None,
        )


class MeasuredEstimator:
    """Known step times, by device and batch size; between batch sizes see :func:`~devprof.plan.affine.estimate_from_points`.

    Args:
        step_s: Seconds per step, by device name and then batch size.
        log_sd: Standard deviation of the logarithm of a step time: about its relative error.

    Raises:
        ValueError: If a time is not positive, or a device has none.
    """

    def __init__(self, step_s: Mapping[str, Mapping[int, float]], *, log_sd: float = 0.05) -> None:
        if not 0 <= log_sd < 10:
            raise ValueError(f"log_sd must be at least 0 and below 10, got {log_sd}")
        self._step_s = {device: dict(points) for device, points in step_s.items()}
        self._log_sd = log_sd
        for device, points in self._step_s.items():
            try:
                estimate_from_points(points, 1, log_sd=log_sd)
            except ValueError as error:
                raise ValueError(f"device {device!r}: {error}") from error

    def estimate(self, device: str, batch_size: int) -> Estimate | None:
        """The known or interpolated step time; ``None`` for a device that is not in the table."""
        points = self._step_s.get(device)
        return None if points is None else estimate_from_points(points, batch_size, log_sd=self._log_sd)
