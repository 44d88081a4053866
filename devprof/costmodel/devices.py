"""All predictors of one device, and the fit of all devices of a table."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from devprof.costmodel.base import BaseModel
from devprof.costmodel.evaluate import ErrorReport, error_reports
from devprof.costmodel.fitting import Modes, fit_memory_predictor, fit_time_predictors
from devprof.costmodel.interval import Residuals
from devprof.costmodel.pool import Pool, kin_groups
from devprof.costmodel.predictor import Predictor
from devprof.costmodel.samples import Configuration, Observation, Sample, memory_observations, time_observations
from devprof.costmodel.summary import Coefficient, describe_coefficients
from devprof.errors import MissingExtraError

__all__ = ["DeviceModel", "Fitted", "fit_devices"]


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """The predictors of one device.

    Attributes:
        time: Of seconds per step.
        memory: Of peak bytes; ``None`` where no peak was measured.
        configurations: What was measured.
    """

    time: Predictor
    memory: Predictor | None
    configurations: tuple[Configuration, ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The fit of all devices and what it says of itself.

    Attributes:
        devices: By name, in the order of the samples.
        errors: Errors of step times on what was left out.
        memory_errors: The same of peak memory.
        coefficients: What work costs on each device.
        kin: For each device, the others that it was fitted together with.
        notes: How intervals were found where residuals were too few.
    """

    devices: Mapping[str, DeviceModel]
    errors: tuple[ErrorReport, ...]
    memory_errors: tuple[ErrorReport, ...]
    coefficients: tuple[Coefficient, ...]
    kin: Mapping[str, tuple[str, ...]]
    notes: Mapping[str, str]


def fit_devices(samples: Sequence[Sample]) -> Fitted:
    """Fits every device: kin devices together, each with its own corrections and intervals.

    Args:
        samples: At least one.

    Raises:
        MissingExtraError: If scipy or threadpoolctl is not installed.
    """
    by_device: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_device[sample.device].append(sample)
    pools = kin_groups(time_observations(samples))
    with _single_thread():
        times = {device: found for pool in pools for device, found in fit_time_predictors(pool).items()}
    pool_of = {device: pool for pool in pools for device in pool.devices}
    errors: list[ErrorReport] = []
    memory_errors: list[ErrorReport] = []
    coefficients: list[Coefficient] = []
    notes: dict[str, str] = {}
    devices: dict[str, DeviceModel] = {}
    for device, own in by_device.items():
        time, modes = times[device]
        observations = time_observations(own)
        errors += _reports(device, modes, observations)
        coefficients += _coefficients(device, time, observations)
        notes |= {f"{device}, {mode}": widths.note for mode, widths in time.widths.items()}
        memory = None
        peaks = memory_observations(own)
        if peaks:
            memory, modes = fit_memory_predictor(peaks)
            memory_errors += _reports(device, modes, peaks)
            notes |= {f"{device}, memory, {mode}": widths.note for mode, widths in memory.widths.items()}
        devices[device] = DeviceModel(time, memory, tuple(dict.fromkeys(sample.configuration for sample in own)))
    kin = {device: _others(pool_of[device], device) for device in by_device}
    return Fitted(devices, tuple(errors), tuple(memory_errors), tuple(coefficients), kin, notes)


def _single_thread() -> contextlib.AbstractContextManager[object]:
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


def _coefficients(device: str, time: Predictor, observations: Sequence[Observation]) -> list[Coefficient]:
    assert isinstance(time.regression, BaseModel)
    by_mode: dict[str, list[Observation]] = defaultdict(list)
    for one in observations:
        by_mode[one.configuration.mode].append(one)
    return [row for mode, own in by_mode.items() for row in describe_coefficients(device, mode, time.regression, own)]


def _others(pool: Pool, device: str) -> tuple[str, ...]:
    return tuple(other for other in pool.devices if other != device)
