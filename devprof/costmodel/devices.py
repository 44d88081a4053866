"""All predictors of one device, and the fit of all devices of a table."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from devprof.costmodel.base import BaseModel
from devprof.costmodel.calibrated import Calibrated, MeasuredStep
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

__all__ = ["BESIDE_KIN", "DeviceModel", "Fitted", "fit_devices", "single_thread"]

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
class Fitted:
    """The fit of all devices and what it says of itself.

    Attributes:
        devices: By name, in the order of the samples.
        errors: Errors of step times on what was left out.
        memory_errors: The same of peak memory.
        coefficients: What work costs on each device.
        suspects: Measurements that nothing else of their device agrees with.
        kin: For each device, the others that it was fitted together with.
        notes: How intervals were found where residuals were too few.
        energy_errors: Errors of energy per step, of devices whose power was measured.
        power_errors: The same of mean power.
        left_out: Step times beside what was predicted without them.
    """

    devices: Mapping[str, DeviceModel]
    errors: tuple[ErrorReport, ...]
    memory_errors: tuple[ErrorReport, ...]
    coefficients: tuple[Coefficient, ...]
    suspects: tuple[str, ...]
    kin: Mapping[str, tuple[str, ...]]
    notes: Mapping[str, str]
    energy_errors: tuple[ErrorReport, ...] = ()
    power_errors: tuple[ErrorReport, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def fit_devices(
    samples: Sequence[Sample],
    calibrations: Mapping[str, DeviceOperators],
    tracer: Tracer,
    step_tracer: StepTracer,
) -> Fitted:
    """Fits every device: kin devices together, each with its own corrections and intervals.

    Args:
        samples: What was measured; may be empty where a device was calibrated.
        calibrations: Operators by device.
        tracer: Gives the features of a model.
        step_tracer: Gives the operators of a model.

    Raises:
        MissingExtraError: If scipy or threadpoolctl is not installed.
    """
    by_device, observations = _gather(samples, calibrations, tracer)
    pools = kin_groups(observations)
    with single_thread():
        times = {device: found for pool in pools for device, found in fit_time_predictors(pool).items()}
    pool_of = {device: pool for pool in pools for device in pool.devices}
    errors: list[ErrorReport] = []
    memory_errors: list[ErrorReport] = []
    coefficients: list[Coefficient] = []
    suspects: list[str] = []
    left_out: list[LeftOut] = []
    notes: dict[str, str] = {}
    devices: dict[str, DeviceModel] = {}
    for device, own in by_device.items():
        time, modes = times[device]
        calibrated = None
        if device in calibrations:
            known = calibrate_device(calibrations[device], time_observations(own), step_tracer)
            calibrated = known[0]
            if not is_little(own):
                time = replace(time, opinion_weight=opinion_weight(calibrations[device], *known, modes))
            else:
                time = _little_known(time, calibrations[device], *known, alone=len(pool_of[device].devices) == 1)
        measured = pool_of[device].of(device)
        errors += _reports(device, modes, measured)
        left_out += left_out_rows(measured, modes)
        coefficients += _coefficients(device, time, measured)
        suspects += _suspects(device, time, measured)
        notes |= {f"{device}, {mode}": widths.note for mode, widths in time.widths.items()}
        memory = None
        peaks, few = _memory_peaks(device, own, calibrations.get(device), tracer)
        if peaks:
            memory, modes = fit_memory_predictor(peaks)
            memory = _with_widths(memory, ASSUMED_WIDTHS) if few else memory
            memory_errors += _reports(device, modes, peaks)
            notes |= {f"{device}, memory, {mode}": widths.note for mode, widths in memory.widths.items()}
        devices[device] = DeviceModel(time, memory, tuple(dict.fromkeys(one.configuration for one in own)), calibrated)
    kin = {device: tuple(other for other in pool_of[device].devices if other != device) for device in by_device}
    told = (tuple(errors), tuple(memory_errors), tuple(coefficients), tuple(suspects))
    fitted = Fitted(devices, *told, kin, notes, left_out=tuple(left_out))
    return _with_energy(fitted, by_device, pool_of, times)


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


def _memory_peaks(
    device: str, own: Sequence[Sample], operators: DeviceOperators | None, tracer: Tracer
) -> tuple[list[Observation], bool]:
    """The peaks to learn from, and whether those of a calibration had to join because models have few."""
    peaks = memory_observations(own)
    chains = chain_peaks(device, operators, tracer) if operators is not None and is_little(peaks) else []
    return [*peaks, *chains], bool(chains)


def _with_energy(
    fitted: Fitted,
    by_device: Mapping[str, Sequence[Sample]],
    pool_of: Mapping[str, Pool],
    times: Mapping[str, tuple[Predictor, Modes]],
) -> Fitted:
    """The fit with the energy of those devices whose power was measured.

    Args:
        fitted: The fit of times.
        by_device: What was measured.
        pool_of: The kin of each device.
        times: The residuals of left-out step times of each device, beside its predictor.
    """
    devices, notes = dict(fitted.devices), dict(fitted.notes)
    energy_errors: list[ErrorReport] = []
    power_errors: list[ErrorReport] = []
    for device, own in by_device.items():
        metered = [one for one in own if one.metered is not None]
        if not metered:
            continue
        with single_thread():
            residuals = times[device][1]
            energy = fit_energy_predictor(metered, devices[device].time, pool_of[device].of(device), residuals)
        devices[device] = replace(devices[device], energy=energy.predictor)
        energy_errors += _reports(device, energy.energy_residuals, time_observations(metered))
        power_errors += _reports(device, energy.power_residuals, time_observations(metered))
        widths = energy.predictor.joules.widths
        notes |= {f"{device}, energy, {mode}": one.note for mode, one in widths.items()}
        notes[f"{device}, power"] = energy.predictor.power_widths.note
    return replace(
        fitted, devices=devices, energy_errors=tuple(energy_errors), power_errors=tuple(power_errors), notes=notes
    )


def _little_known(
    time: Predictor, operators: DeviceOperators, calibrated: Calibrated, steps: Sequence[MeasuredStep], *, alone: bool
) -> Predictor:
    """The predictor of a device with at most a few probes, known by its operators and perhaps by kin devices."""
    if not alone:
        return replace(time, opinion_weight=BESIDE_KIN)
    return replace(_with_widths(time, calibrated_widths(operators, calibrated, steps)), opinion_weight=1.0)


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
