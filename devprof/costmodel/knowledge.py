"""All that a cost model knows, and how it is learned from tables of runs and operators."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from devprof.costmodel.adapt import Adaptation
from devprof.costmodel.calibrations import DeviceOperators
from devprof.costmodel.conditions import Conditions, find_conditions
from devprof.costmodel.dataused import describe_data
from devprof.costmodel.devices import DeviceModel, fit_devices
from devprof.costmodel.features import Features, Tracer
from devprof.costmodel.limits import limits_of
from devprof.costmodel.newdevice import new_device_errors
from devprof.costmodel.samples import Configuration, clean_records, collect_samples
from devprof.costmodel.step import StepTracer
from devprof.costmodel.summary import CostReport, nothing_left
from devprof.errors import CostModelError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Knowledge", "learn"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a cost model answers from.

    Attributes:
        devices: The predictors of each device.
        features: The work of every configuration that was measured.
        report: What it was made from, and how wrong it is.
        conditions: What is known of each device beside its steps.
        adaptations: What observed rounds correct, by device; it grows.
    """

    devices: Mapping[str, DeviceModel]
    features: Mapping[Configuration, Features]
    report: CostReport
    conditions: Mapping[str, Conditions] = field(default_factory=dict)
    adaptations: dict[str, Adaptation] = field(default_factory=dict)


def learn(
    frame: pd.DataFrame, calibrations: Mapping[str, DeviceOperators], tracer: Tracer, step_tracer: StepTracer
) -> Knowledge:
    """What tables say.

    Args:
        frame: One row per run; see :meth:`devprof.costmodel.model.CostModel.fit`.
        calibrations: Operators by device.
        tracer: Gives the features of a model.
        step_tracer: Gives the operators of a model.

    Raises:
        CostModelError: If nothing is left to learn from; the text lists why.
        MissingExtraError: If a needed package is not installed.
    """
    collected = collect_samples(frame, tracer)
    if not collected.samples and not calibrations:
        raise CostModelError(nothing_left(collected))
    fitted = fit_devices(collected.samples, calibrations, tracer, step_tracer)
    every = list(fitted.values())
    report = CostReport(
        total_rows=collected.total_rows,
        used_rows=sum(sample.rows for sample in collected.samples),
        rejected=collected.rejected,
        dropped_models=collected.dropped_models,
        errors=_joined(one.errors for one in every),
        memory_errors=_joined(one.memory_errors for one in every),
        energy_errors=_joined(one.energy_errors for one in every),
        power_errors=_joined(one.power_errors for one in every),
        coefficients=_joined(one.coefficients for one in every),
        suspects=_joined(one.suspects for one in every),
        kin={device: one.kin for device, one in fitted.items()},
        interval_notes={name: note for one in every for name, note in one.notes.items() if note},
        power_rejected=collected.power_rejected,
        data=describe_data(
            clean_records(frame.iloc[list(collected.used)]),
            {device: len(one.timed) for device, one in calibrations.items() if device in fitted},
        ),
        new_device=new_device_errors(collected.samples, calibrations, tracer, step_tracer),
        left_out=_joined(one.left_out for one in every),
        made_by=importlib.metadata.version("devprof"),
    )
    features = {sample.configuration: sample.features for sample in collected.samples}
    conditions = find_conditions(collected.rows, collected.settings)
    devices = {device: one.model for device, one in fitted.items()}
    return Knowledge(devices, features, replace(report, not_for=limits_of(report)), conditions)


def _joined(parts: Iterable[Sequence[T]]) -> tuple[T, ...]:
    return tuple(chain.from_iterable(parts))
