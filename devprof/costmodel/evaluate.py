"""Honest errors: every number comes from measurements that the fit did not see.

Leave-one-family-out answers for a model that is really new, leave-one-model-out for a sibling of measured ones.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from devprof.costmodel.features import Features
from devprof.costmodel.interval import half_width
from devprof.costmodel.lines import Line, fit_line
from devprof.costmodel.samples import Configuration, Sample

__all__ = [
    "FAMILY_OUT",
    "MODEL_OUT",
    "ErrorReport",
    "Fit",
    "Observation",
    "Regression",
    "by_family",
    "by_model",
    "fit_observations",
    "leave_one_batch_size_out",
    "leave_one_family_out",
    "leave_one_group_out",
    "leave_one_model_out",
    "memory_observations",
    "summarize",
    "time_observations",
]

FAMILY_OUT, MODEL_OUT = "leave-one-family-out", "leave-one-model-out"


class Regression(Protocol):
    """Predicts a cost from features, as a line in the batch size."""

    def line(self, features: Features) -> Line:
        """The cost of a step of a model."""
        ...


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured cost, in seconds or bytes, with what it is learned from."""

    configuration: Configuration
    family: str
    batch_size: int
    value: float
    features: Features


Fit = Callable[[Sequence[Features], Sequence[float], Sequence[float]], Regression]


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """Errors on measurements that were left out of the fit.

    Attributes:
        device: Name of the device.
        mode: ``full`` or ``head``.
        scheme: ``leave-one-family-out`` or ``leave-one-model-out``.
        rows: Measured configurations.
        groups: Families or models, each left out once.
        mape: Mean of |predicted / measured - 1|; ``None`` where nothing could be left out.
        median: Median of the same.
        within_10: Share of configurations predicted within 10 %.
        within_20: Share within 20 %.
        coverage_90: Share inside 90 % intervals made from the residuals of the other groups; ``None`` below three
            groups.
        note: Why there is no number; empty where there is one.
    """

    device: str
    mode: str
    scheme: str
    rows: int
    groups: int
    mape: float | None = None
    median: float | None = None
    within_10: float | None = None
    within_20: float | None = None
    coverage_90: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return asdict(self)


def by_family(observation: Observation) -> str:
    """The group of leave-one-family-out."""
    return observation.family


def by_model(observation: Observation) -> str:
    """The group of leave-one-model-out."""
    return observation.configuration.model


def time_observations(samples: Sequence[Sample]) -> list[Observation]:
    """The seconds per step of the samples."""
    return [Observation(s.configuration, s.family, s.batch_size, s.step_s, s.features) for s in samples]


def memory_observations(samples: Sequence[Sample]) -> list[Observation]:
    """The memory peaks of those samples that have one."""
    return [
        Observation(s.configuration, s.family, s.batch_size, s.rss_peak_bytes, s.features)
        for s in samples
        if s.rss_peak_bytes is not None
    ]


def fit_observations(fit: Fit, observations: Sequence[Observation]) -> Regression:
    """Fits a regression to observations."""
    return fit(
        [one.features for one in observations],
        [one.batch_size for one in observations],
        [one.value for one in observations],
    )


def leave_one_group_out(
    observations: Sequence[Observation], fit: Fit, group: Callable[[Observation], str]
) -> dict[str, list[float]]:
    """Log residuals ``log(measured / predicted)`` by group, each group predicted from all others.

    Returns:
        Nothing where there is only one group: then there is nothing to predict it from.
    """
    members: dict[str, list[Observation]] = defaultdict(list)
    for one in observations:
        members[group(one)].append(one)
    if len(members) < 2:
        return {}
    residuals = {}
    for name, left_out in members.items():
        regression = fit_observations(fit, [one for one in observations if group(one) != name])
        residuals[name] = [math.log(one.value / regression.line(one.features).at(one.batch_size)) for one in left_out]
    return residuals


def leave_one_batch_size_out(observations: Sequence[Observation], fit: Fit, *, between: bool) -> dict[str, list[float]]:
    """Log residuals of each batch size of a configuration, predicted from its other batch sizes, by model.

    Args:
        observations: Measured costs on one device.
        fit: How the base is fitted.
        between: Whether to leave out the sizes that lie between two others (which takes three), or the outer ones: going
            beyond what was measured is another matter than going between.
    """
    members: dict[Configuration, list[Observation]] = defaultdict(list)
    for one in observations:
        members[one.configuration].append(one)
    residuals: dict[str, list[float]] = {}
    for configuration, own in members.items():
        if len(own) < 2:
            continue
        values = []
        for left_out in own:
            rest = [one for one in own if one is not left_out]
            sizes = [one.batch_size for one in rest]
            if (min(sizes) < left_out.batch_size < max(sizes)) is not between:
                continue
            base = fit_observations(fit, [one for one in observations if one is not left_out])
            line = fit_line(base.line(left_out.features), sizes, [one.value for one in rest])
            values.append(math.log(left_out.value / line.at(left_out.batch_size)))
        if values:
            residuals.setdefault(configuration.model, []).extend(values)
    return residuals


def leave_one_family_out(samples: Sequence[Sample], fit: Fit) -> list[ErrorReport]:
    """Errors for families never seen, for each device and mode of the samples."""
    return [
        summarize(*key, FAMILY_OUT, own, leave_one_group_out(own, fit, by_family))
        for key, own in _by_device_and_mode(samples)
    ]


def leave_one_model_out(samples: Sequence[Sample], fit: Fit) -> list[ErrorReport]:
    """Errors for models never seen whose siblings may have been, for each device and mode of the samples."""
    return [
        summarize(*key, MODEL_OUT, own, leave_one_group_out(own, fit, by_model))
        for key, own in _by_device_and_mode(samples)
    ]


def _by_device_and_mode(samples: Sequence[Sample]) -> list[tuple[tuple[str, str], list[Observation]]]:
    groups: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.device, sample.configuration.mode].append(sample)
    return [(key, time_observations(own)) for key, own in groups.items()]


def summarize(
    device: str, mode: str, scheme: str, observations: Sequence[Observation], residuals: Mapping[str, Sequence[float]]
) -> ErrorReport:
    """The errors behind log residuals of left-out groups."""
    if not residuals:
        unit = "family" if scheme == FAMILY_OUT else "model"
        note = f"{device} has one {unit} only in mode {mode}: nothing can be left out; measure models of other families"
        return ErrorReport(device, mode, scheme, len(observations), 1, note=note)
    errors = [abs(math.exp(-value) - 1) for values in residuals.values() for value in values]
    return ErrorReport(
        device,
        mode,
        scheme,
        rows=len(errors),
        groups=len(residuals),
        mape=statistics.fmean(errors),
        median=statistics.median(errors),
        within_10=statistics.fmean(error <= 0.1 for error in errors),
        within_20=statistics.fmean(error <= 0.2 for error in errors),
        coverage_90=_coverage(residuals),
    )


def _coverage(residuals: Mapping[str, Sequence[float]]) -> float | None:
    """Share of residuals inside the interval that the other groups would have given; groups weigh the same."""
    if len(residuals) < 3:
        return None
    shares = []
    for name, values in residuals.items():
        width, _ = half_width({other: own for other, own in residuals.items() if other != name})
        shares.append(statistics.fmean(abs(value) <= width for value in values))
    return statistics.fmean(shares)
