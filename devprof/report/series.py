"""Configurations that differ in the batch size only, and the phases of their steps. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from devprof.records import Measurement, StepTime
from devprof.report.configurations import Configuration, configurations
from devprof.report.figure import finite
from devprof.report.runs import labels_of

__all__ = ["FEWEST_SIZES", "PHASES", "PhaseTime", "Series", "phase_runs", "phase_series", "phase_times", "series_of"]

FEWEST_SIZES = 3
"""Batch sizes from which on a line shows how something grows."""

PHASES = ("forward", "backward", "optimizer", "data")
"""The phases of a step; ``data`` is waiting for the next batch."""


@dataclass(frozen=True, slots=True)
class Series:
    """One model in one mode on one device at several batch sizes.

    Attributes:
        label: Its name among the others: the model, and where they differ its settings, mode and device.
        mode: What is trained.
        members: The configurations in ascending order of the batch size, failed ones included.
    """

    label: str
    mode: str
    members: tuple[Configuration, ...]


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """How long a phase of a configuration's steps takes.

    Attributes:
        phase: One of :data:`PHASES`.
        median_s: Median over the steps of all processes.
        low_s: 5th percentile over these steps; ``None`` where raw steps are not known.
        high_s: 95th percentile.
        steps: Number of raw steps; 0 where only the processes' medians are known.
    """

    phase: str
    median_s: float
    low_s: float | None
    high_s: float | None
    steps: int


def series_of(found: Sequence[Configuration], known: Callable[[Configuration], bool]) -> tuple[Series, ...]:
    """The series with at least :data:`FEWEST_SIZES` batch sizes of which ``known`` holds."""
    groups: dict[tuple[str, str, str], list[Configuration]] = {}
    for one, label in zip(found, labels_of(found), strict=True):
        groups.setdefault((label, one.mode, one.device), []).append(one)
    enough = {
        key: group
        for key, group in groups.items()
        if len({one.first.batch_size for one in group if known(one)}) >= FEWEST_SIZES
    }
    several = [len({key[position] for key in enough}) > 1 for position in range(3)]
    return tuple(
        Series(
            " · ".join([key[0], *(part for part, shown in zip(key[1:], several[1:], strict=True) if shown)]),
            key[1],
            tuple(sorted(group, key=lambda one: one.first.batch_size)),
        )
        for key, group in enough.items()
    )


def _has_phases(one: Configuration) -> bool:
    return one.median("forward_s") is not None


def phase_series(found: Sequence[Configuration]) -> tuple[Series, ...]:
    """The training series whose phases were measured at enough batch sizes."""
    return series_of([one for one in found if one.first.task == "train"], _has_phases)


def phase_runs(runs: Iterable[Measurement]) -> frozenset[str]:
    """The runs whose raw steps of kind ``phases`` a report draws; the steps of others need not be read."""
    return frozenset(
        run.run_id for series in phase_series(configurations(runs)) for one in series.members for run in one.timed
    )


def phase_times(one: Configuration, steps: Mapping[str, Sequence[StepTime]]) -> list[PhaseTime]:
    """The phases of a configuration, from its raw steps, or else from the medians of its processes.

    Args:
        one: The configuration.
        steps: Raw steps of kind ``phases`` by run.
    """
    raw = [step for run in one.timed for step in steps.get(run.run_id, ())]
    found: list[PhaseTime] = []
    for phase in PHASES:
        times = [value / 1e9 for step in raw if (value := getattr(step, f"{phase}_ns")) is not None]
        median = statistics.median(times) if times else finite(one.median(f"{phase}_s"))
        if median is not None:
            # Twentieths, with linear interpolation between the two nearest values.
            cuts = statistics.quantiles(times, n=20, method="inclusive") if len(times) > 1 else [None]
            found.append(PhaseTime(phase, median, cuts[0], cuts[-1], len(times)))
    return found
