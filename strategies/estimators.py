"""Where a strategy's predictions come from: a fitted cost model, or a table of known numbers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from devprof.errors import UnknownNameError
from devprof.plan.affine import estimate_from_points
from devprof.records import Estimate, Mode

__all__ = ["CostModelEstimator", "MeasuredEstimator", "Predictor"]

_log = logging.getLogger(__name__)


class Predictor(Protocol):
    """What is needed of a cost model, such as :class:`devprof.CostModel`."""

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
        self._unknown: set[str] = set()
        self._kept: dict[tuple[str, int], Estimate] = {}

    def estimate(self, device: str, batch_size: int) -> Estimate | None:
        """The cost model's prediction; ``None``, said once in the log, for a device that it does not know.

        Raises:
            UnknownNameError: If the cost model knows the device but not the model: no device could be planned for.
        """
        if device in self._unknown:
            return None
        key = (device, batch_size)
        if key not in self._kept:
            try:
                self._kept[key] = self._cost_model.predict(
                    device,
                    self._model,
                    self._mode,
                    batch_size,
                    image_size=self._image_size,
                    num_classes=self._num_classes,
                )
            except UnknownNameError as error:
                if error.kind != "device":
                    raise
                self._unknown.add(device)
                _log.warning("%s; its clients are planned for from what they are seen to do", error)
                return None
        return self._kept[key]


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
