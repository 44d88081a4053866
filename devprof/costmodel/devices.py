"""All predictors of one device, and the fit of all devices of a table."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from devprof.costmodel.base import BaseModel
from devprof.costmodel.calibrated import Calibrated
from devprof.costmodel.calibrations import (
    ASSUMED_WIDTHS,
    DeviceOperators,
    calibrate_device,
    calibrated_widths,
    chain_observations,
    chain_peaks,
    opinion_weight,
)
from devprof.costmodel.energy import EnergyPredictor
from devprof.costmodel.energy_fitting import fit_energy_predictor
from devprof.costmodel.evaluate import ErrorReport, error_reports
from devprof.costmodel.features import Tracer
from devprof.costmodel.fitting import Modes, fit_memory_predictor, fit_time_predictors
from devprof.costmodel.heldout import is_little
from devprof.costmodel.interval import Residuals, Widths
from devprof.costmodel.leftout import LeftOut, left_out_rows
from devprof.costmodel.pool import Pool, kin_groups
from devprof.costmodel.predictor import Predictor
from devprof.costmodel.samples import Configuration, Observation, Sample, memory_observations, time_observations
from devprof.costmodel.step import StepTracer
from devprof.costmodel.summary import Coefficient, describe_coefficients
from devprof.errors import MissingExtraError
from devprof.records import MODES
from devprof.units import format_seconds

__all__ = ["BESIDE_KIN", "DeviceModel", "FittedDevice", "fit_devices", "single_thread"]

_log = logging.getLogger(__name__)

# A device with few probes, known by its operators and by kin devices: each says as much as the other.
BESIDE_KIN = 0.5
# No model is a hundred times as slow as its counted work says; a row in milliseconds is.
_ABSURD = 100.0


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """The predictors of one device.

    Attributes:
        time: Of seconds per step.
        memory: Of peak bytes; ``None`` where no peak was measured, neither of models nor in a calibration.
        configurations: What was measured.
        calibrated: What its operators say; ``None`` where none was timed.
        energy: Of joules per step; ``None`` where no power was measured.
    """

    time: Predictor
    memory: Predictor | None
    configurations: tuple[Configuration, ...]
    calibrated: Calibrated | None = None
    energy: EnergyPredictor | None = None


@dataclass(frozen=True, slots=True)
class FittedDevice:
    """The fit of one device and what it says of itself.

    Attributes:
        model: Its predictors.
        kin: The devices that it was fitted together with.
        errors: Errors of step times on what was left out.
        memory_errors: The same of peak memory; empty where none was measured.
        energy_errors: The same of energy per step; empty where no power was measured.
        power_errors: The same of mean power.
        coefficients: What work costs.
        suspects: Measurements that nothing else of the device agrees with.
        left_out: Step times beside what was predicted without them.
        notes: How intervals were found where residuals were too few.
    """

    model: DeviceModel
    kin: tuple[str, ...]
    errors: Sequence[ErrorReport]
    memory_errors: Sequence[ErrorReport]
    energy_errors: Sequence[ErrorReport]
    power_errors: Sequence[ErrorReport]
    coefficients: Sequence[Coefficient]
    suspects: Sequence[str]
    left_out: Sequence[LeftOut]
    notes: Mapping[str, str]


def fit_devices(
    samples: Sequence[Sample],
    calibrations: Mapping[str, DeviceOperators],
    tracer: Tracer,
    step_tracer: StepTracer,
) -> dict[str, FittedDevice]:
    """Fits every device: kin devices together, each with its own corrections and intervals.

    Args:
        samples: What was measured; may be empty where a device was calibrated.
        calibrations: Operators by device.
        tracer: Gives the features of a model.
        step_tracer: Gives the operators of a model.

    Returns:
        The devices in the order of the samples, without those that ran no model and whose calibration has no whole step.

    Raises:
        CostModelError: If that leaves none.
        MissingExtraError: If scipy or threadpoolctl is not installed.
    """
    by_device, observations = _gather(samples, calibrations, tracer)
    found: dict[str, FittedDevice] = {}
    with single_thread():
        for pool in kin_groups(observations):
            for device, timed in fit_time_predictors(pool).items():
                calibration = (calibrations[device], tracer, step_tracer) if device in calibrations else None
                found[device] = _fit_device(device, pool, by_device[device], timed, calibration)
    for device in by_device.keys() - found.keys():
        _log.warning("%s is left out: its calibration has no whole step; run `devprof calibrate` there again", device)
    return {device: found[device] for device in by_device if device in found}


def _fit_device(
    device: str,
    pool: Pool,
    own: Sequence[Sample],
    timed: tuple[Predictor, Modes],
    calibration: tuple[DeviceOperators, Tracer, StepTracer] | None,
) -> FittedDevice:
    """One device from its samples, its times with their residuals, and its calibration."""
    (time, modes), measured = timed, pool.of(device)
    kin = tuple(other for other in pool.devices if other != device)
    calibrated, peaks, few = None, memory_observations(own), False
    if calibration is not None:
        operators, tracer, step_tracer = calibration
        time, calibrated = _beside_operators(timed, own, operators, step_tracer, alone=not kin)
        if is_little(peaks):
            chains = chain_peaks(device, operators, tracer)
            peaks, few = [*peaks, *chains], bool(chains)
    notes = {f"{device}, {mode}": widths.note for mode, widths in time.widths.items()}
    memory, memory_modes = fit_memory_predictor(peaks) if peaks else (None, {})
    if memory is not None:
        memory = _with_widths(memory, ASSUMED_WIDTHS) if few else memory
        notes |= {f"{device}, memory, {mode}": widths.note for mode, widths in memory.widths.items()}
    metered = [one for one in own if one.metered is not None]
    energy = fit_energy_predictor(metered, time, measured, modes) if metered else None
    if energy is not None:
        notes |= {f"{device}, energy, {mode}": one.note for mode, one in energy.predictor.joules.widths.items()}
        notes[f"{device}, power"] = energy.predictor.power_widths.note
    powered = time_observations(metered)
    return FittedDevice(
        model=DeviceModel(
            time,
            memory,
            tuple(dict.fromkeys(one.configuration for one in own)),
            calibrated,
            None if energy is None else energy.predictor,
        ),
        kin=kin,
        errors=_reports(device, modes, measured),
        memory_errors=_reports(device, memory_modes, peaks),
        energy_errors=[] if energy is None else _reports(device, energy.energy_residuals, powered),
        power_errors=[] if energy is None else _reports(device, energy.power_residuals, powered),
        coefficients=_coefficients(device, time, measured),
        suspects=_suspects(device, time, measured),
        left_out=left_out_rows(measured, modes),
        notes=notes,
    )


def _gather(
    samples: Sequence[Sample], calibrations: Mapping[str, DeviceOperators], tracer: Tracer
) -> tuple[dict[str, list[Sample]], list[Observation]]:
    """Samples by device, calibrated devices included, and what step times are learned from."""
    by_device: dict[str, list[Sample]] = {}
    for sample in samples:
        by_device.setdefault(sample.device, []).append(sample)
    observations = time_observations(samples)
    for device, operators in calibrations.items():
        # A device that was measured well needs no synthetic networks among its models.
        if is_little(by_device.setdefault(device, [])):
            observations += chain_observations(device, operators, tracer)
    return by_device, observations


def _beside_operators(
    timed: tuple[Predictor, Modes],
    own: Sequence[Sample],
    operators: DeviceOperators,
    step_tracer: StepTracer,
    *,
    alone: bool,
) -> tuple[Predictor, Calibrated]:
    """The predictor of the times of a calibrated device beside the sum over its operators, and that sum."""
    time, modes = timed
    calibrated, steps = calibrate_device(operators, time_observations(own), step_tracer)
    if not is_little(own):
        return replace(time, opinion_weight=opinion_weight(operators, calibrated, steps, modes)), calibrated
    if not alone:
        return replace(time, opinion_weight=BESIDE_KIN), calibrated
    time = _with_widths(time, calibrated_widths(operators, calibrated, steps))
    return replace(time, opinion_weight=1.0), calibrated


def _with_widths(predictor: Predictor, widths: Widths) -> Predictor:
    """A predictor whose few residuals, of small synthetic networks, say little of models."""
    by_mode: dict[str, Widths] = dict.fromkeys(MODES, widths)
    return replace(predictor, probed=True, widths=by_mode, other_widths=by_mode)


def single_thread() -> contextlib.AbstractContextManager[object]:
    """One thread for linear algebra: threads that wait for each other took ten times as long on a busy machine."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtraError("model", "threadpoolctl", "fitting a cost model") from error
    limits: contextlib.AbstractContextManager[object] = threadpool_limits(1)
    return limits


def _reports(device: str, modes: Modes, observations: Iterable[Observation]) -> list[ErrorReport]:
    rows = Counter(one.configuration.mode for one in observations)
    return [
        report
        for mode, count in rows.items()
        for report in error_reports(device, mode, modes.get(mode, Residuals()), count)
    ]


def _suspects(device: str, time: Predictor, observations: Sequence[Observation]) -> list[str]:
    """Measurements that are a hundred times what the others say, or a hundredth: most likely in another unit."""
    found = []
    for one in observations:
        own = one.configuration
        expected = float(time.regression.curve(one.features, np.array([one.batch_size]))[0])
        if max(one.value / expected, expected / one.value) > _ABSURD:
            measured, others = format_seconds(one.value), format_seconds(expected)
            what = f"{own.model} {own.mode} batch {one.batch_size} on {device}"
            found.append(f"{what}: measured {measured}, the other rows say about {others}; is the unit the same?")
    return found


def _coefficients(device: str, time: Predictor, observations: Sequence[Observation]) -> list[Coefficient]:
    assert isinstance(time.regression, BaseModel)
    by_mode: dict[str, list[Observation]] = defaultdict(list)
    for one in observations:
        by_mode[one.configuration.mode].append(one)
    return [row for mode, own in by_mode.items() for row in describe_coefficients(device, mode, time.regression, own)]
