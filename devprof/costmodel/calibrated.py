"""Step times of models that never ran on a device, from its operators, each timed alone (``devprof calibrate``).

The time of a step is a sum over what its operators take alone, products and others, forward and backward apart, each times
a factor near one, and over what they do not show alone: memory that a step has to find anew, the starting of operators
by modules and autograd, and the optimizer. The factors and these costs come from the steps of small synthetic networks that
the calibration ran whole, and from models that were measured, by the same kind of posterior as the base's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devprof.costmodel.operator_times import OperatorTimes, TimedOperator
from devprof.costmodel.operators import PRODUCTS
from devprof.costmodel.solver import Whitener, maximise_posterior, whitening
from devprof.costmodel.step import Operator, Step

__all__ = ["PARTS", "Calibrated", "MeasuredStep", "fit_calibrated"]

Array = npt.NDArray[np.float64]

PARTS: tuple[str, ...] = (
    "forward_products",
    "forward_others",
    "backward_products",
    "backward_others",
    "allocated_bytes",
    "trainable_parameters",
    "operators",
)
_ALONE = 4
# Backward operators are started by autograd's own loop, forward ones by modules in Python.
_BACKWARD_START = 0.3
# Where the factors start. Costs that single operators do not show start from what this device takes for a byte of a
# large elementwise operator and for the smallest operators, in ratios read off one PC; they are almost free.
_FACTORS = (1.0, 1.0, 0.9, 0.9)
_TRAFFIC_PER_BYTE, _TRAFFIC_PER_PARAMETER, _TINY_PER_OPERATOR = 4.0, 100.0, 3.0
_SDS = np.array([0.1] * _ALONE + [1.0] * (len(PARTS) - _ALONE))
_LARGE_ELEMENTS, _TINY_ELEMENTS = 1e6, 1e4
# A measured step around the sum, and what both modes of a model share of it, in log space.
_NOISE_SD, _MODEL_SD = 0.05, 0.1


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """A whole step that was measured on the device."""

    model: str
    step: Step
    seconds: float


@dataclass(frozen=True)
class Calibrated:
    """A device that is known by its operators.

    Attributes:
        times: What single operators take.
        costs: A factor or a cost for each of :data:`PARTS`.
        overlap: How work and the starting of operators overlap, as in the base.
    """

    times: OperatorTimes
    costs: tuple[float, ...]
    overlap: float = 1.0

    def seconds(self, step: Step) -> float:
        """The seconds of a step."""
        return float(np.exp(_log_sums(_parts(step, self.times)[None, :] * np.array(self.costs), self.overlap)[0]))


def _alone(times: OperatorTimes, one: Operator) -> float:
    return times.seconds(one.signature, one.family, one.macs, one.elements)


def _parts(step: Step, times: OperatorTimes) -> Array:
    """What a step consists of, in the order of :data:`PARTS`."""
    parts = np.zeros(len(PARTS))
    starts = 0.0
    for operator, count in step.operators.items():
        place = 2 * operator.backward + (operator.family not in PRODUCTS)
        parts[place] += count * _alone(times, operator)
        starts += count * (_BACKWARD_START if operator.backward else 1.0)
    parts[_ALONE:] = sum(step.storages), step.trainable_parameters, starts
    return parts


def _log_sums(seconds: Array, overlap: float) -> Array:
    works, starts = seconds[:, :-1].sum(axis=1), seconds[:, -1]
    total: Array = np.log(works**overlap + starts**overlap) / overlap
    return total


def fit_calibrated(
    timed: Sequence[TimedOperator],
    steps: Sequence[MeasuredStep],
    overlap: float = 1.0,
    *,
    times: OperatorTimes | None = None,
) -> Calibrated:
    """What a calibration and measured steps say of a device.

    Args:
        timed: Operators that were timed alone; at least one.
        steps: Whole steps that were measured; may be none.
        overlap: As in the base: 1 on a CPU.
        times: What was made of ``timed`` before; made here if ``None``.
    """
    times = OperatorTimes(timed) if times is None else times
    first = _first_costs(timed)
    if not steps:
        return Calibrated(times, tuple(float(cost) for cost in first), overlap)
    works = np.stack([_parts(one.step, times) for one in steps])
    logs = np.log([one.seconds for one in steps])
    models = np.array([one.model for one in steps], dtype=object)
    covariance = _NOISE_SD**2 * np.eye(len(steps)) + _MODEL_SD**2 * (models[:, None] == models[None, :])

    def model(parameters: Array) -> tuple[Array, Callable[[], Array]]:
        seconds = works * (first * np.exp(parameters))
        total = np.exp(overlap * _log_sums(seconds, overlap))

        def slopes() -> Array:
            scaled = seconds.copy()
            scaled[:, :-1] *= (seconds[:, :-1].sum(axis=1) ** (overlap - 1))[:, None]
            scaled[:, -1] **= overlap
            shared: Array = scaled / total[:, None]
            return shared

        return np.log(total) / overlap, slopes

    whiten = Whitener([(np.arange(len(steps)), whitening(covariance))])
    parameters = maximise_posterior(model, logs, whiten, _SDS, np.zeros(len(PARTS)))
    return Calibrated(times, tuple(float(cost) for cost in first * np.exp(parameters)), overlap)


def _first_costs(timed: Sequence[TimedOperator]) -> Array:
    seconds = np.array([one.seconds for one in timed])
    elements = np.array([one.elements for one in timed])
    light = np.array([one.family in ("elementwise", "moved") for one in timed]) & (elements > _LARGE_ELEMENTS)
    chosen = light if light.any() else elements >= np.quantile(elements, 0.9)
    traffic = float(np.median(seconds[chosen] / (4 * elements[chosen])))
    small = elements <= _TINY_ELEMENTS
    tiny = float(np.median(seconds[small]) if small.any() else seconds.min())
    costs = (_TRAFFIC_PER_BYTE * traffic, _TRAFFIC_PER_PARAMETER * traffic, _TINY_PER_OPERATOR * tiny)
    return np.array([*_FACTORS, *costs])
