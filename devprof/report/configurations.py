"""Runs grouped into configurations: what several processes measured of one thing is one mark of a figure. Pure functions."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from devprof.records import Measurement
from devprof.report.figure import finite

__all__ = ["Configuration", "Setting", "comparable", "configurations", "devices_of"]

# Runs that agree in these measured the same thing.
_SAME = (
    *(
        "device_key",
        "device",
        "processor",
        "power_mode",
        "threads",
        "model",
        "task",
        "mode",
        "batch_size",
        "image_size",
    ),
    *("num_classes", "optimizer", "precision", "memory_format", "data", "source"),
)
# What measured, not who: all other sources are names of people's tables.
_TOOLS = (None, "devprof", "timm benchmark.py", "pyperf")


@dataclass(frozen=True)
class Configuration:
    """One configuration on one device, and every process that ran it.

    Attributes:
        runs: The processes, failed ones included; at least one.
    """

    runs: tuple[Measurement, ...]

    @property
    def first(self) -> Measurement:
        """A run that stands for all where they do not differ."""
        return self.runs[0]

    @property
    def device(self) -> str:
        """The device as figures name it: with its processor, its power mode where it has one, and whose figures they are."""
        name = " · ".join(filter(None, (self.first.device, self.first.processor, self.first.power_mode)))
        return f"{name} (published)" if self.published else name

    @property
    def mode(self) -> str:
        """``full``, ``head`` or ``inference``."""
        return "inference" if self.first.task == "infer" else self.first.mode

    @cached_property
    def failed(self) -> tuple[Measurement, ...]:
        """The processes without a step time."""
        return tuple(run for run in self.runs if not _is_timed(run))

    @cached_property
    def timed(self) -> tuple[Measurement, ...]:
        """The processes whose step time counts: those that swapped only where no other finished."""
        done = tuple(run for run in self.runs if _is_timed(run))
        return tuple(run for run in done if run.latency_valid is not False) or done

    @cached_property
    def step_s(self) -> float | None:
        """Median over the processes of their median step; ``None`` if none finished."""
        return self.median("step_s")

    @property
    def low_s(self) -> float | None:
        """Shortest median of a process; of a single process the 5th percentile of its steps."""
        return self._bound("step_s_p05", min)

    @property
    def high_s(self) -> float | None:
        """Longest median of a process; of a single process the 95th percentile of its steps."""
        return self._bound("step_s_p95", max)

    def _bound(self, percentile: str, choose: Callable[[list[float]], float]) -> float | None:
        if len(self.timed) == 1:
            return self.median(percentile) or self.step_s
        return choose(self.known("step_s")) if self.timed else None

    @cached_property
    def peak_bytes(self) -> float | None:
        """Highest memory of a process, over all that measured it."""
        return max(_known(self.runs, "rss_peak_bytes"), default=None)

    @cached_property
    def baseline_bytes(self) -> float | None:
        """Memory before the model was built, the median over the processes."""
        known = _known(self.runs, "rss_baseline_bytes")
        return statistics.median(known) if known else None

    @cached_property
    def accelerator_bytes(self) -> float | None:
        """Highest peak of the accelerator's own memory."""
        return max(_known(self.runs, "accelerator_peak_bytes"), default=None)

    @property
    def published(self) -> str | None:
        """Who measured it, where that was somebody else."""
        return None if self.first.source in _TOOLS else self.first.source

    @property
    def swapped(self) -> bool:
        """Whether all its step times include reading memory back from swap, and so say little about the model."""
        return bool(self.timed) and all(run.latency_valid is False for run in self.timed)

    @property
    def throttled(self) -> bool:
        """Whether the device was throttled for certain in a process that counts."""
        return any(run.throttled == "confirmed" for run in self.timed)

    @property
    def kind(self) -> str:
        """How a figure draws it: ``measured``, ``published`` or ``swapped``."""
        return "swapped" if self.swapped else "published" if self.published else "measured"

    def known(self, column: str) -> list[float]:
        """The values of a column in the processes that count and know it."""
        return _known(self.timed, column)

    def median(self, column: str) -> float | None:
        """Their median; ``None`` if no process knows the column."""
        known = self.known(column)
        return statistics.median(known) if known else None


def _is_timed(run: Measurement) -> bool:
    step = finite(run.step_s)
    return run.status == "ok" and step is not None and step > 0


def _known(runs: Sequence[Measurement], column: str) -> list[float]:
    found = (finite(getattr(run, column)) for run in runs)
    return [value for value in found if value is not None]


def configurations(runs: Iterable[Measurement]) -> tuple[Configuration, ...]:
    """The configurations of runs, in order of their first appearance."""
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for run in runs:
        groups.setdefault(tuple(getattr(run, name) for name in _SAME), []).append(run)
    return tuple(Configuration(tuple(group)) for group in groups.values())


def devices_of(found: Iterable[Configuration]) -> tuple[str, ...]:
    """The devices in order of first appearance; the order fixes their colours."""
    return tuple(dict.fromkeys(one.device for one in found))


@dataclass(frozen=True, slots=True)
class Setting:
    """What models must have in common to be compared.

    Attributes:
        batch_size: Samples per step.
        image_size: Height and width of the input; ``None`` for models with an input of their own.
    """

    batch_size: int
    image_size: int | None

    def __str__(self) -> str:
        return f"batch {self.batch_size}" + (f", {self.image_size} × {self.image_size}" if self.image_size else "")


def comparable(found: Sequence[Configuration]) -> tuple[Setting | None, tuple[Configuration, ...]]:
    """The timed training configurations of the setting that most of them share; of equals the larger batch and image.

    Returns:
        The setting and its configurations; ``None`` and nothing if none was timed.
    """
    timed = [one for one in found if one.step_s is not None and one.first.task == "train"]
    settings = [Setting(one.first.batch_size, one.first.image_size) for one in timed]
    if not settings:
        return None, ()
    counts = Counter(settings)
    best = max(counts, key=lambda setting: (counts[setting], setting.batch_size, setting.image_size or 0))
    return best, tuple(one for one, setting in zip(timed, settings, strict=True) if setting == best)
