"""What every power source is to the rest of devprof: channels, readings, and one way to open and to read it.

A driver turns whatever its source says into :class:`Reading` objects: watts from a sensor, joules since it was opened from a
counter. It sets the stamp itself, because only it knows the moment of a value, and it never fills a gap: what cannot be known
(a counter that was reset, a rail that vanished) is a break. Whether values are plausible is judged in one place for all
(:mod:`devprof.meters.sieve`), and energy is made of them in one place (:mod:`devprof.meters.energy`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from devprof.errors import DevprofError

__all__ = [
    "MAX_RATE_HZ",
    "Channel",
    "Meter",
    "MeterError",
    "MeterInfo",
    "MeterLostError",
    "Reading",
    "SourceState",
    "WrappingCounter",
    "now_ns",
]

MAX_RATE_HZ = 20.0
"""No meter is read more often unless that is asked for: the looking would be seen in what is measured."""


class MeterError(DevprofError):
    """A meter cannot be opened: what is missing, and where there is one, the command that mends it."""

    def __init__(self, reason: str, remedy: str | None = None) -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(reason if remedy is None else f"{reason}: {remedy}")


class MeterLostError(MeterError):
    """A meter that was open does not answer any more; it may be opened again."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One thing that a meter measures, such as a rail, a zone or the whole device.

    Attributes:
        domain: Its name, as the source has it.
        kind: ``counter`` for cumulative joules, ``sensor`` for watts.
        headline: Whether it is a part of the device's total, which is the sum of all such channels. Others are kept, not added.
        update_s: Seconds between new values at the source; 0 where each reading is new.
        quantum: Smallest step of its values: joules of a counter, watts of a sensor; 0 where it does not matter.
        gain_rel: Accuracy of the gain as its maker states it, as a fraction; ``None`` where none is stated.
        offset_w: Accuracy of the zero as its maker states it, in watts.
        most_w: More power than this is a fault of the meter, not a measurement.
    """

    domain: str
    kind: Literal["counter", "sensor"]
    headline: bool = True
    update_s: float = 0.0
    quantum: float = 0.0
    gain_rel: float | None = None
    offset_w: float = 0.0
    most_w: float = 20_000.0


@dataclass(frozen=True, slots=True)
class MeterInfo:
    """What an open meter is.

    Attributes:
        source: Its short name: the column ``energy_source``.
        rule: The named and versioned rule by which the total is made of channels, such as ``rapl-packages/1``.
        channels: What it measures; domains do not repeat.
        period_s: Seconds between two readings that make sense; the sampler keeps to its own rate besides.
        detail: The instrument in words: model, serial number, address.
        notes: What was decided or is not seen, in sentences for people.
    """

    source: str
    rule: str
    channels: tuple[Channel, ...]
    period_s: float = 1 / MAX_RATE_HZ
    detail: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        domains = [channel.domain for channel in self.channels]
        if len(set(domains)) < len(domains):
            raise ValueError(f"the domains of a meter must differ, got {domains}")
        if not any(channel.headline for channel in self.channels):
            raise ValueError("at least one channel must be a part of the total")


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one channel at one moment.

    Attributes:
        t_ns: The moment, in nanoseconds of the clock of :func:`now_ns`.
        domain: The channel.
        power_w: Watts, of a sensor.
        energy_j: Joules since the meter was opened, of a counter; never falling. Both ``None``: a break, nothing is known
            between the readings before and after it.
    """

    t_ns: int
    domain: str
    power_w: float | None = None
    energy_j: float | None = None


class Meter(Protocol):
    """An open power source. It is made, read and closed in one process and one thread."""

    @property
    def info(self) -> MeterInfo:
        """What it is."""

    def read(self) -> Sequence[Reading]:
        """Everything that is new since the last call, in order of time; quick, and empty where nothing is new.

        Raises:
            MeterLostError: If the source is gone.
        """

    def close(self) -> None:
        """Let go of what it holds; may be called again."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """Whether a source could be read here.

    Attributes:
        name: The name under which ``--meter`` knows it.
        title: What it is, in a few words.
        readable: Whether it works here.
        detail: What was found; else why it does not work.
        remedy: The command or the act that mends it; ``None`` where nothing does.
    """

    name: str
    title: str
    readable: bool
    detail: str
    remedy: str | None = None


def now_ns() -> int:
    """Nanoseconds of the system-wide monotonic clock (``CLOCK_MONOTONIC`` on Linux), the same in all processes."""
    return time.monotonic_ns()


class WrappingCounter:
    """Joules out of a cumulative counter that wraps at its end.

    Read it at least twice per round of the counter: two wraps between two readings look like none.

    Args:
        unit_j: Joules of one count.
        counts: How many values the counter has before it begins again at 0: for RAPL's ``max_energy_range_uj`` that value
            plus 1. ``None`` where it is not known; then a fall is a break.
    """

    def __init__(self, unit_j: float, counts: int | None) -> None:
        self._unit_j = unit_j
        self._counts = counts
        self._last: int | None = None
        self._total = 0

    def add(self, raw: int) -> float | None:
        """Joules counted so far, this value included; ``None``, a break, where what happened in between cannot be known."""
        last, self._last = self._last, raw
        if last is not None:
            step = raw - last
            if step < 0:
                if self._counts is None or not 0 <= raw < self._counts or not 0 <= last < self._counts:
                    return None
                step += self._counts
            self._total += step
        return self._total * self._unit_j

    def lost(self) -> None:
        """Forget the last value, because the counter could not be read: counting goes on from the next one."""
        self._last = None
