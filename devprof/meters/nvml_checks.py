"""Whether an NVIDIA GPU's energy counter can be trusted: pure functions over what was seen of it and of the power sensor.

Drivers exist whose counter stands still or does not agree with their own sensor; a short look at both finds them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

__all__ = ["PROBE_NS", "Trace", "fault_of"]

PROBE_NS = 300_000_000
"""Time of the look: a counter that is renewed every 100 ms shows two whole steps."""

_TOLERANCE = 0.2


@dataclass(slots=True)
class Trace:
    """What a GPU's counter and sensor said.

    Attributes:
        counts: (nanoseconds, millijoules) of the counter, in order of time.
        powers_mw: Milliwatts of the sensor.
        counter_error: Why the counter did not answer, if it ever did not.
        sensor_error: The same of the sensor.
        sensor_code: Number of that error.
    """

    counts: list[tuple[int, int]] = field(default_factory=list)
    powers_mw: list[int] = field(default_factory=list)
    counter_error: str = ""
    sensor_error: str = ""
    sensor_code: int = 0

    def steps(self) -> list[tuple[int, int]]:
        """The counts at which the counter had just changed."""
        return [now for last, now in itertools.pairwise(self.counts) if now[1] != last[1]]

    def longest_step_s(self) -> float:
        """The longest time between two changes; 0 where there were fewer."""
        times = [t_ns for t_ns, _ in self.steps()]
        return max((b - a for a, b in itertools.pairwise(times)), default=0) / 1e9


def fault_of(trace: Trace) -> str | None:
    """Why the counter is not used, as the rest of a sentence that begins with it; ``None`` if it can be.

    Between the first and the last of its steps it must have counted what the sensor saw, give or take a fifth: of the range
    of the sensor's values, because power may change while both are looked at.
    """
    if trace.counter_error:
        return f"cannot be read ({trace.counter_error})"
    if any(b < a for (_, a), (_, b) in itertools.pairwise(trace.counts)):
        return "fell"
    steps = trace.steps()
    if len(steps) < 2:
        return f"did not rise twice within {PROBE_NS / 1e9:g} s"
    if not trace.powers_mw:
        return None
    (first_ns, first_mj), (last_ns, last_mj) = steps[0], steps[-1]
    counted_w = (last_mj - first_mj) / (last_ns - first_ns) * 1e6
    low_w, high_w = min(trace.powers_mw) / 1e3, max(trace.powers_mw) / 1e3
    if not low_w * (1 - _TOLERANCE) <= counted_w <= high_w * (1 + _TOLERANCE):
        return f"counted {counted_w:.3g} W while the sensor saw {low_w:.3g} to {high_w:.3g} W"
    return None
