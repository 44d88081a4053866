"""The power of a log as a curve: how much a stretch of it is like a pattern of load and idle, and where exactly its edges are.

Times are seconds from the log's first value, and for the run from the begin of its first pattern, so that no digits are lost.
numpy is imported inside functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from devprof.meters.clocks import OffsetEstimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["LogWave", "NoEdgesError", "Part", "Pattern"]

# Parts of a step of the coarse search; its result only has to lead to the right edges.
_STEPS_PER_PART = 40
_MOST_STEPS = 4_000_000
_ROUNDS = 4
_LONGEST_GAP = 3.0
_FEWEST_EDGES = 4
_SHARE_OF_EDGES = 0.75


class NoEdgesError(Exception):
    """The edges of a pattern cannot be told; the text says why. Never leaves the alignment."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of time in which a run worked, or did nothing; in nanoseconds of its clock."""

    begin_ns: int
    end_ns: int
    loaded: bool


@dataclass(frozen=True, slots=True)
class Pattern:
    """Parts that follow one another without a gap, loaded and idle in turn."""

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        for before, after in pairwise(self.parts):
            if before.end_ns != after.begin_ns or before.loaded == after.loaded:
                raise ValueError(f"parts must be loaded and idle in turn, without a gap: {before} {after}")
        if any(part.end_ns <= part.begin_ns for part in self.parts) or len(self.parts) < 2:
            raise ValueError("a pattern needs two parts, each of which takes time")

    @property
    def begin_ns(self) -> int:
        """Where it begins."""
        return self.parts[0].begin_ns

    @property
    def first_edge_ns(self) -> int:
        """Where the power changes first."""
        return self.parts[1].begin_ns

    @property
    def end_ns(self) -> int:
        """Where it ends."""
        return self.parts[-1].end_ns

    @property
    def part_s(self) -> float:
        """Its shortest part."""
        return min(part.end_ns - part.begin_ns for part in self.parts) / 1e9


@dataclass(frozen=True, slots=True)
class _Edge:
    """Where the power changes: seconds, whether it rises, and the half of the shorter part beside it."""

    at_s: float
    rising: bool
    half_s: float


class LogWave:
    """The power of a log by time, linear between its values.

    Args:
        t_ns: Stamps, rising; two at least.
        watts: Power at these moments.
        update_s: How old a value may be at its stamp.
        pattern: The first pattern that will be looked for: its begin is the zero of the run's time.

    Attributes:
        period_s: The middle one of the times between values.
        step_s: Step of the coarse search.
        length_s: From the first value to the last.
    """

    def __init__(self, t_ns: Sequence[int], watts: Sequence[float], update_s: float, pattern: Pattern) -> None:
        import numpy as np

        self._log_zero_ns, self._run_zero_ns = t_ns[0], pattern.begin_ns
        self._update_s = update_s
        self._t = (np.asarray(t_ns, dtype=np.int64) - t_ns[0]) / 1e9
        # Far from zero the squares would lose digits.
        self._p = np.asarray(watts, dtype=np.float64) - float(np.median(watts))
        gaps = np.diff(self._t)
        self._slopes = np.diff(self._p) / gaps
        self._joules = np.concatenate([[0.0], np.cumsum((self._p[1:] + self._p[:-1]) / 2 * gaps)])
        self.period_s = float(np.median(gaps))
        self.length_s = float(self._t[-1])
        self.step_s = max(pattern.part_s / _STEPS_PER_PART, self.length_s / _MOST_STEPS)
        squares = (self._p[1:] ** 2 + self._p[1:] * self._p[:-1] + self._p[:-1] ** 2) / 3 * gaps
        grid = np.arange(0.0, self.length_s, self.step_s)
        self._grid_joules = self._integral(grid)
        # Exact, as the sums above are: else the spread of a flat stretch would be too small, and its likeness above 1.
        place, since = self._place(grid)
        p, slope = self._p[place], self._slopes[place]
        self._grid_squares = np.concatenate([[0.0], np.cumsum(squares)])[place] + since * (
            p**2 + p * slope * since + (slope * since) ** 2 / 3
        )

    @property
    def first_ns(self) -> int:
        """The logger's clock at the first value."""
        return self._log_zero_ns

    def likeness(self, pattern: Pattern) -> Floats:
        """The correlation of the log with a pattern that begins at each step: -1 to 1, minus infinity where the log ends."""
        import numpy as np

        edges = [round((part.begin_ns - pattern.begin_ns) / 1e9 / self.step_s) for part in pattern.parts]
        edges.append(round((pattern.end_ns - pattern.begin_ns) / 1e9 / self.step_s))
        signs = [1.0 if part.loaded else -1.0 for part in pattern.parts]
        length = edges[-1]
        found = np.full(len(self._grid_joules), -np.inf)
        places = len(found) - length
        if places <= 0:
            return found
        mean = sum(sign * (end - begin) for sign, (begin, end) in zip(signs, pairwise(edges), strict=True)) / length
        covariance = np.zeros(places)
        for sign, (begin, end) in zip(signs, pairwise(edges), strict=True):
            covariance += (sign - mean) * (
                self._grid_joules[end : end + places] - self._grid_joules[begin : begin + places]
            )
        span_s = length * self.step_s
        power = (self._grid_joules[length:] - self._grid_joules[:places]) / span_s
        variance = (self._grid_squares[length:] - self._grid_squares[:places]) / span_s - power**2
        spread = np.sqrt(np.maximum(variance, 0.0) * (1 - mean**2))
        flat = spread <= 1e-9 * (1.0 + np.abs(power))
        found[:places] = np.where(flat, -1.0, covariance / span_s / np.where(flat, 1.0, spread))
        return found

    def locate(self, pattern: Pattern, offset_s: float) -> OffsetEstimate:
        """The offset of the logger's clock by the edges of a pattern.

        Args:
            pattern: The pattern.
            offset_s: About where it lies: time in the log less time in the run.

        Raises:
            NoEdgesError: If too few of its edges can be told.
        """
        import numpy as np

        edges = self._edges(pattern)
        near_s = max(pattern.part_s / 4, 1.5 * self.period_s)
        found: Floats = np.zeros(0)
        used = edges
        for number in range(_ROUNDS):
            # The first look is wide, because the offset is not known well; noise far from an edge only does harm.
            reaches = [edge.half_s if number == 0 else min(edge.half_s, near_s) for edge in edges]
            gaps = [self._gap_s(edge.at_s + offset_s, reach) for edge, reach in zip(edges, reaches, strict=True)]
            seen = [
                gap <= min(_LONGEST_GAP * self.period_s, 1.8 * edge.half_s)
                for edge, gap in zip(edges, gaps, strict=True)
            ]
            if sum(seen) < max(_FEWEST_EDGES, _SHARE_OF_EDGES * len(edges)):
                raise NoEdgesError(f"the log has values around {sum(seen)} of its {len(edges)} edges only")
            low, high = self._levels(pattern, offset_s)
            moved = [self._moved(edge, offset_s, reach, low, high) for edge, reach in zip(edges, reaches, strict=True)]
            found = np.array([one for one, usable in zip(moved, seen, strict=True) if usable])
            used = [edge for edge, usable in zip(edges, seen, strict=True) if usable]
            offset_s = float(found.mean())
        scatter_s = float(np.abs(found - offset_s).max())
        if scatter_s > pattern.part_s / 4 + self.period_s / 2:
            raise NoEdgesError(f"its edges lie up to {scatter_s:.2g} s away from those of the pattern")
        between_s = max(self._gap_s(edge.at_s + offset_s, min(edge.half_s, self.period_s)) for edge in used)
        error_s = between_s / 2 + self._update_s + scatter_s
        at_s = sum(edge.at_s for edge in used) / len(used)
        return OffsetEstimate(
            self._run_zero_ns + round(at_s * 1e9),
            self._log_zero_ns - self._run_zero_ns + round(offset_s * 1e9),
            math.ceil(error_s * 1e9) + 1,
        )

    def _edges(self, pattern: Pattern) -> list[_Edge]:
        return [
            _Edge(
                (after.begin_ns - self._run_zero_ns) / 1e9,
                after.loaded,
                min(before.end_ns - before.begin_ns, after.end_ns - after.begin_ns) / 2e9,
            )
            for before, after in pairwise(pattern.parts)
        ]

    def _levels(self, pattern: Pattern, offset_s: float) -> tuple[float, float]:
        """Power while idle and under load, away from the edges."""
        import numpy as np

        levels = []
        for loaded in (False, True):
            inside = np.zeros(len(self._t), dtype=np.bool_)
            for part in pattern.parts:
                if part.loaded == loaded:
                    begin, end = (
                        (moment - self._run_zero_ns) / 1e9 + offset_s for moment in (part.begin_ns, part.end_ns)
                    )
                    first, last = np.searchsorted(self._t, (begin + (end - begin) / 4, end - (end - begin) / 4))
                    inside[first:last] = True
            if not inside.any():
                raise NoEdgesError("the log has too few values in it")
            levels.append(float(np.median(self._p[inside])))
        if levels[1] <= levels[0]:
            raise NoEdgesError("the load draws no more power than the pauses")
        return levels[0], levels[1]

    def _moved(self, edge: _Edge, offset_s: float, reach_s: float, low: float, high: float) -> float:
        """The offset at which a jump between two levels has the area that lies under the power around an edge."""
        import numpy as np

        at_s = edge.at_s + offset_s
        before, after = self._integral(np.array([at_s - reach_s, at_s + reach_s]))
        high_s = (float(after - before) - 2 * reach_s * low) / (high - low)
        jump_s = reach_s - high_s if edge.rising else high_s - reach_s
        return offset_s + jump_s

    def _gap_s(self, at_s: float, reach_s: float) -> float:
        """The longest time between values around a moment; infinite where the log does not reach."""
        import numpy as np

        if at_s - reach_s < 0.0 or at_s + reach_s > self.length_s:
            return math.inf
        first = int(np.searchsorted(self._t, at_s - reach_s, side="right")) - 1
        last = int(np.searchsorted(self._t, at_s + reach_s, side="left"))
        return float(np.diff(self._t[first : last + 1]).max())

    def _integral(self, moments: Floats) -> Floats:
        """Joules from the first value to each moment."""
        place, since = self._place(moments)
        joules: Floats = self._joules[place] + self._p[place] * since + self._slopes[place] * since**2 / 2
        return joules

    def _place(self, moments: Floats) -> tuple[NDArray[np.int64], Floats]:
        """The value before each moment, and the time since."""
        import numpy as np

        inside = np.clip(moments, 0.0, self.length_s)
        place = np.clip(np.searchsorted(self._t, inside, side="right") - 1, 0, len(self._slopes) - 1)
        return place, inside - self._t[place]
