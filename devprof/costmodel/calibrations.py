"""From a table of operators to calibrated devices, and how far each is to be believed beside its base."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from devprof.costmodel.base import overlap_of
from devprof.costmodel.calibrated import Calibrated, MeasuredStep, fit_calibrated
from devprof.costmodel.families import model_family
from devprof.costmodel.features import Tracer
from devprof.costmodel.interval import Residuals, Widths
from devprof.costmodel.operator_times import TimedOperator
from devprof.costmodel.samples import Configuration, Observation, clean_records
from devprof.costmodel.signature import decode_signature, step_of
from devprof.costmodel.step import StepTracer
from devprof.errors import CostModelError, DevprofError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ASSUMED_WIDTHS",
    "CALIBRATED_BATCH",
    "DeviceOperators",
    "calibrate_device",
    "calibrated_widths",
    "chain_observations",
    "chain_peaks",
    "collect_operators",
    "opinion_weight",
]

_log = logging.getLogger(__name__)

# Operators are timed as steps of this batch size call them; other sizes follow the base.
CALIBRATED_BATCH = 16
# The least half width of the interval of a device that is known by its operators and at most a few probes. On a two-core PC
# 90 % of the steps of twenty models of sixteen families that were not calibrated were within 0.2, and 90 % of the memory
# peaks of 25 models within 0.18.
_LEAST_WIDTH = 0.3
# Each synthetic network is there for a cost that the others hardly show, so left out it is harder than a model: on that PC they
# were off by 0.24 (root mean square) where 93 % of 42 steps of 21 models were within 0.3. Other devices are taken alike.
_WIDTH_OF_SPREAD = 0.3 / 0.24
_ASSUMED = "known by its calibration: half widths of 0.3 are assumed"
ASSUMED_WIDTHS = Widths(_LEAST_WIDTH, _LEAST_WIDTH, _LEAST_WIDTH, _LEAST_WIDTH, _LEAST_WIDTH, _ASSUMED)
# Tracing takes half a second; more measured models than these hardly change seven costs.
_MOST_PROBES = 20


@dataclass(slots=True)
class DeviceOperators:
    """What a calibration found on one device.

    Attributes:
        processor: As in the table.
        timed: Operators timed alone.
        steps: Seconds of whole steps by model, mode and batch size.
        peaks: Peak bytes of their processes, of those that have one.
    """

    processor: str | None = None
    timed: list[TimedOperator] = field(default_factory=list)
    steps: dict[tuple[str, str, int], float] = field(default_factory=dict)
    peaks: dict[tuple[str, str, int], float] = field(default_factory=dict)


def collect_operators(frame: pd.DataFrame) -> dict[str, DeviceOperators]:
    """Sorts the rows of a table of operators by device; failed and impossible rows are left out.

    Args:
        frame: Columns as the fields of :class:`devprof.records.OperatorTime`; ``device``, ``signature``, ``family``,
            ``macs``, ``elements`` and ``seconds`` must be there.

    Raises:
        CostModelError: If one of these columns is missing.
    """
    needed = ("device", "signature", "family", "macs", "elements", "seconds")
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise CostModelError(f"the table of operators has no column {', '.join(missing)}")
    devices: dict[str, DeviceOperators] = defaultdict(DeviceOperators)
    left_out = 0
    for row in clean_records(frame):
        try:
            seconds, macs, elements = (float(row[name]) for name in ("seconds", "macs", "elements"))
            peak = float(row.get("rss_peak_bytes") or 0.0)
            signature = str(row["signature"])
            decode_signature(signature)
            step = step_of(signature)
        except (TypeError, ValueError):
            left_out += 1
            continue
        fine = math.isfinite(seconds) and seconds > 0 and macs >= 0 and elements >= 0
        if row["device"] is None or row.get("status") not in (None, "ok") or not fine:
            left_out += 1
            continue
        device = devices[str(row["device"])]
        device.processor = None if row.get("processor") is None else str(row["processor"])
        if step is None:
            device.timed.append(TimedOperator(signature, str(row["family"]), macs, elements, seconds))
        else:
            device.steps[step] = seconds
            if math.isfinite(peak) and peak > 0:
                device.peaks[step] = peak
    if left_out:
        _log.warning("%d of %d rows of operators have no usable time and are left out", left_out, len(frame))
    return {name: device for name, device in devices.items() if device.timed}


def chain_observations(device: str, operators: DeviceOperators, tracer: Tracer) -> list[Observation]:
    """The seconds of the steps that a calibration ran whole, as observations of the device."""
    return _observed(device, operators, operators.steps, tracer)


def chain_peaks(device: str, operators: DeviceOperators, tracer: Tracer) -> list[Observation]:
    """The memory peaks of the steps that a calibration ran whole, as observations of the device."""
    return _observed(device, operators, operators.peaks, tracer)


def _observed(
    device: str, operators: DeviceOperators, costs: Mapping[tuple[str, str, int], float], tracer: Tracer
) -> list[Observation]:
    return [
        Observation(
            device,
            operators.processor,
            Configuration(model, mode),
            model_family(model),
            size,
            cost,
            tracer(model, mode, None, None),
        )
        for (model, mode, size), cost in costs.items()
    ]


def calibrate_device(
    operators: DeviceOperators, observations: Sequence[Observation], step_tracer: StepTracer
) -> tuple[Calibrated, list[MeasuredStep]]:
    """What a device's operators say, corrected by what was measured whole.

    Args:
        operators: Its calibration.
        observations: Steps of models that were measured on it; of at most twenty, of as many families as there are.
        step_tracer: Finds the operators of a model.

    Returns:
        The device, and the steps that it was fitted to.

    Raises:
        MissingExtraError: If tracing needs a package that is not installed.
    """
    chains = [
        MeasuredStep(model, step_tracer(model, mode, None, None, size), seconds)
        for (model, mode, size), seconds in operators.steps.items()
    ]
    probes = []
    for one in _spread(observations):
        own = one.configuration
        try:
            step = step_tracer(own.model, own.mode, own.image_size, own.num_classes, one.batch_size)
        except DevprofError as error:
            _log.warning("%s is no probe of the calibration: %s", own.model, error)
            continue
        probes.append(MeasuredStep(own.model, step, one.value))
    steps = [*chains, *probes]
    return fit_calibrated(operators.timed, steps, overlap_of(operators.processor)), steps


def _spread(observations: Sequence[Observation]) -> list[Observation]:
    """At most twenty observations, one family after the other."""
    rank: dict[str, int] = defaultdict(int)
    ranked = []
    for one in observations:
        ranked.append((rank[one.family], one))
        rank[one.family] += 1
    return [one for _, one in sorted(ranked, key=lambda pair: pair[0])[:_MOST_PROBES]]


def calibrated_widths(operators: DeviceOperators, calibrated: Calibrated, steps: Sequence[MeasuredStep]) -> Widths:
    """Widths of a device that is known by its operators and at most a few probes, the same for whatever was not measured.

    They come from the measured steps, each network left out in turn: where even those of small synthetic networks are hard to
    tell from their operators, others are, too. Few networks promise nothing narrower than a half width of 0.3.

    Args:
        operators: The device's calibration.
        calibrated: The fit to all of it.
        steps: The measured steps that it was fitted to.
    """
    left_out = _left_out(operators, calibrated, steps, lambda one: one.model)
    squares = [float(np.mean(np.square(values))) for values in left_out.values()]
    width = max(_LEAST_WIDTH, _WIDTH_OF_SPREAD * math.sqrt(float(np.mean(squares)))) if squares else _LEAST_WIDTH
    note = f"known by its operators: half widths of {width:.2f} from what left-out networks are off by, at least {_LEAST_WIDTH}"
    return Widths(width, width, width, width, width, note)


def _left_out(
    operators: DeviceOperators,
    calibrated: Calibrated,
    steps: Sequence[MeasuredStep],
    key: Callable[[MeasuredStep], str],
) -> dict[str, list[float]]:
    """Log of measured over summed of each group of steps, left out in turn; none where there is one group only."""
    found: dict[str, list[float]] = {}
    groups = sorted({key(one) for one in steps})
    for group in groups if len(groups) > 1 else ():
        kept = [one for one in steps if key(one) != group]
        refitted = fit_calibrated(operators.timed, kept, calibrated.overlap, times=calibrated.times)
        found[group] = [math.log(one.seconds / refitted.seconds(one.step)) for one in steps if key(one) == group]
    return found


def opinion_weight(
    operators: DeviceOperators,
    calibrated: Calibrated,
    steps: Sequence[MeasuredStep],
    residuals: Mapping[str, Residuals],
) -> float:
    """How much the sum over operators counts beside the base, for a model of a family never measured.

    Weights are inverse mean squares of the log residuals of left-out families, of the base and of the sum.

    Args:
        operators: The device's calibration.
        calibrated: The fit to all of it; what is left out is fitted again.
        steps: The measured steps that it was fitted to.
        residuals: Those of the base, by mode.
    """
    base = [value for one in residuals.values() for values in one.families.values() for value in values]
    left_out = _left_out(operators, calibrated, steps, lambda one: model_family(one.model))
    if not base or not left_out:
        return 0.5
    sums = [value for values in left_out.values() for value in values]
    square_base, square_sum = float(np.mean(np.square(base))), float(np.mean(np.square(sums)))
    return square_base / (square_base + square_sum)
