"""Where a run lies in the log of a meter whose clock nobody compared with the run's: found by the pattern that the run showed.

The run paused and worked in turn, at moments that are known on its own clock. In the log the same wave of power is looked for
by normalised cross-correlation: before the run and after it, at the distance at which it was shown. Then each edge is found
below the sampling period: the area under the power around it says when the power changed, if it changed at once. The mean over
the edges of a pattern is its offset. Its bound is half the distance of the values around an edge (where all edges fall between
two values in the same way, their mean does not show it), the age that values may have, and the largest deviation of an edge
from the mean. Between the patterns the clocks go as :mod:`devprof.meters.clocks` has it.

A meter that averages or filters delays the pattern and the run alike; so its delay is a part of the offset. Pure: samples in,
offset out. numpy is imported inside functions.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from devprof.meters.base import MeterError
from devprof.meters.clocks import MAX_DRIFT, ClockMap, OffsetEstimate, map_between
from devprof.meters.wave import LogWave, NoEdgesError, Pattern

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AlignError", "Alignment", "Samples", "align"]

SEARCH_S = 3600.0
"""A clock of the day may be off by so much, because of a time zone or because nobody set it."""

_NS = 10**9
# Below this likeness (1 is a perfect square wave) something else moved the power more than the run did.
_LEAST_LIKENESS = 0.7
# A second place that is as good as this against the best is as likely. A pattern against itself, one load later, is 0.6.
_AS_GOOD = 0.85
_MOST_PLACES = 30
# A logger's clock of the day that is kept by NTP; MLPerf Power accepts 0.4 s.
_SYNCHRONISED_NS = 2 * _NS
_NEAR_S = 5.0
# Of the pattern's parts: each must be seen by a value at least.
_LONGEST_PERIOD = 0.75
# Loops that sleep between rows are slower than their period says.
_WORST_RATE = 0.03
_SHARE = 0.01


class AlignError(MeterError):
    """A run was not found in a log, or not well enough: the reason, and what to do."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Power by a logger's clock.

    Attributes:
        t_ns: Stamps, rising.
        watts: Power at these moments.
        update_s: How old a value may be at its stamp.
    """

    t_ns: Sequence[int]
    watts: Sequence[float]
    update_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where a run lies in a log.

    Attributes:
        clock: From the logger's clock (the remote one) to the run's.
        likeness: Correlation of the power with the pattern, 1 at best.
        error_s: Bound of the error at the edges of the run's window.
        drift: Seconds that the logger's clock gains in a second; ``None`` with one pattern only.
        notes: What had to be decided, in sentences.
    """

    clock: ClockMap
    likeness: float
    error_s: float
    drift: float | None
    notes: tuple[str, ...] = ()

    def remote_ns(self, local_ns: int) -> int:
        """The logger's clock at a moment of the run's."""
        last = self.clock.after
        return local_ns + last.offset_ns + round((local_ns - last.at_ns) * self.clock.drift)


def align(
    samples: Samples,
    patterns: Sequence[Pattern],
    window_ns: tuple[int, int],
    *,
    expected_ns: int | None = None,
    near_ns: int | None = None,
) -> Alignment:
    """Find a run in a log.

    Args:
        samples: The log.
        patterns: What the run showed, on its own clock: one pattern, or one before and one after the window.
        window_ns: The window whose energy is wanted, on the run's clock.
        expected_ns: Logger's clock minus the run's, if both clocks of the day are right: it is believed to an hour.
        near_ns: About where the power changes first in the first pattern, on the logger's clock; goes before ``expected_ns``.

    Raises:
        AlignError: If the pattern is not found, is found more than once, has too large a bound, or the log ends too early.
    """
    wave = _wave(samples, patterns)
    search = _Search(wave, tuple(patterns))
    places = search.places(_domain(wave, patterns[0], expected_ns, near_ns))
    if not places:
        raise search.not_found()
    found, reasons = [], []
    for place in places:
        try:
            found.append((search.estimates(place), place))
        except NoEdgesError as error:
            reasons.append(str(error))
    if not found:
        raise AlignError(f"the pattern is {places[0].at_s:.1f} s into the log, but {reasons[0]}", _AGAIN)
    # Patterns of another run lie at another distance, but for what clocks can differ.
    (estimates, place), notes = _only([one for one in found if _drift_is_possible(one[0])] or found, expected_ns)
    if not _drift_is_possible(estimates):
        raise _wrong_rate(estimates, wave.period_s)
    clock = map_between(*estimates)
    alignment = Alignment(clock, place.likeness, 0.0, clock.drift if len(estimates) > 1 else None, notes)
    _check_cover(samples, alignment, window_ns)
    error_s = max(clock.error_ns(alignment.remote_ns(edge_ns)) for edge_ns in window_ns) / _NS
    window_s = (window_ns[1] - window_ns[0]) / _NS
    if error_s > _SHARE * window_s:
        raise AlignError(
            f"the run is found in the log to ±{error_s:.2g} s only, over 1 % of its window of {window_s:.3g} s",
            f"measure it with --min-time {math.ceil(error_s / _SHARE)}s, or let the logger write more often",
        )
    return replace(alignment, error_s=error_s)


def _wave(samples: Samples, patterns: Sequence[Pattern]) -> LogWave:
    part_s = min(pattern.part_s for pattern in patterns)
    wave = LogWave(samples.t_ns, samples.watts, samples.update_s, patterns[0])
    value_s = max(wave.period_s, samples.update_s)
    if value_s > _LONGEST_PERIOD * part_s:
        raise AlignError(
            f"the log has a new value every {value_s:.3g} s, and the pattern changes every {part_s:.3g} s",
            "let the logger write at least one value a second",
        )
    needed_s = (patterns[-1].end_ns - patterns[0].begin_ns) / _NS
    if wave.length_s < needed_s:
        raise AlignError(f"the log is {wave.length_s:.1f} s long, the run with its patterns {needed_s:.1f} s", _COVER)
    return wave


def _domain(wave: LogWave, first: Pattern, expected_ns: int | None, near_ns: int | None) -> tuple[float, float]:
    """Where in the log the first edge may be, in seconds."""
    if near_ns is not None:
        at_s, reach_s = (near_ns - wave.first_ns) / _NS, _NEAR_S
    elif expected_ns is not None:
        at_s, reach_s = (first.first_edge_ns + expected_ns - wave.first_ns) / _NS, SEARCH_S
    else:
        return -math.inf, math.inf
    if at_s + reach_s < 0 or at_s - reach_s > wave.length_s:
        away = f"ends {at_s - wave.length_s:.0f} s before" if at_s > 0 else f"begins {-at_s:.0f} s after"
        raise AlignError(f"by its clock the log {away} the run's first pattern", _COVER)
    return at_s - reach_s, at_s + reach_s


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a run may lie in a log.

    Attributes:
        step: The step of the search at which its first pattern begins.
        at_s: The first edge, in seconds from the log's first value.
        likeness: Mean of the patterns' correlations.
    """

    step: int
    at_s: float
    likeness: float


class _Search:
    """The coarse search."""

    def __init__(self, wave: LogWave, patterns: tuple[Pattern, ...]) -> None:
        self._wave = wave
        self._patterns = patterns
        self._each = [wave.likeness(pattern) for pattern in patterns]
        self._best: _Place | None = None

    def places(self, domain_s: tuple[float, float]) -> list[_Place]:
        """Where all patterns lie at their distances, the best first, and all that are about as good."""
        self._domain_s = domain_s
        return self._places(MAX_DRIFT)

    def not_found(self) -> AlignError:
        """Why there is no such place."""
        for place in self._places(_WORST_RATE):
            with contextlib.suppress(NoEdgesError):
                estimates = self.estimates(place, _WORST_RATE)
                if not _drift_is_possible(estimates):
                    return _wrong_rate(estimates, self._wave.period_s)
        said = "" if self._best is None else f"; the likest place, {self._best.at_s:.1f} s into it, is so by "
        said += "" if self._best is None else f"{self._best.likeness:.2f} of 1"
        return AlignError(f"the pattern of the run is not in the log{said}", _COVER)

    def estimates(self, place: _Place, rate: float = MAX_DRIFT) -> list[OffsetEstimate]:
        """The offsets by the patterns at a place.

        Raises:
            NoEdgesError: If the edges of one cannot be told.
        """
        found = []
        for pattern, each in zip(self._patterns, self._each, strict=True):
            distance_s = (pattern.begin_ns - self._patterns[0].begin_ns) / _NS
            low, high = self._around(place.step, distance_s, rate)
            step = low + int(each[low:high].argmax())
            found.append(self._wave.locate(pattern, step * self._wave.step_s - distance_s))
        return found

    def _around(self, step: int, distance_s: float, rate: float) -> tuple[int, int]:
        """Steps at which a pattern may begin that lies at a distance from the first one."""
        if distance_s == 0:
            return step, step + 1
        middle = step + round(distance_s / self._wave.step_s)
        reach = self._reach(distance_s, rate)
        return max(0, middle - reach), middle + reach + 1

    def _reach(self, distance_s: float, rate: float) -> int:
        return math.ceil((rate * distance_s + self._patterns[0].part_s / 4) / self._wave.step_s)

    def _places(self, rate: float) -> list[_Place]:
        import numpy as np

        score = self._each[0].copy()
        for pattern, each in zip(self._patterns[1:], self._each[1:], strict=True):
            distance_s = (pattern.begin_ns - self._patterns[0].begin_ns) / _NS
            score += _highest_around(each, round(distance_s / self._wave.step_s), self._reach(distance_s, rate))
        score /= len(self._each)
        lead_s = (self._patterns[0].first_edge_ns - self._patterns[0].begin_ns) / _NS
        at_s = np.arange(len(score)) * self._wave.step_s + lead_s
        score[(at_s < self._domain_s[0]) | (at_s > self._domain_s[1])] = -np.inf
        # One load further is another place.
        apart = math.floor(0.9 * self._patterns[0].part_s / self._wave.step_s)
        places: list[_Place] = []
        while len(places) < _MOST_PLACES:
            step = int(score.argmax())
            likeness = float(score[step])
            if not places and math.isfinite(likeness):
                self._best = _Place(step, float(at_s[step]), likeness)
            if likeness < max(_LEAST_LIKENESS, _AS_GOOD * places[0].likeness if places else 0.0):
                break
            places.append(_Place(step, float(at_s[step]), likeness))
            score[max(0, step - apart) : step + apart + 1] = -np.inf
        return places


def _highest_around(values: NDArray[np.float64], shift: int, reach: int) -> NDArray[np.float64]:
    """By place, the highest value of those that lie ``shift`` places further, or up to ``reach`` beside that."""
    import numpy as np

    found = np.full(len(values), -np.inf)
    for distance in range(shift - reach, shift + reach + 1):
        if 0 <= distance < len(values):
            np.maximum(found[: len(values) - distance], values[distance:], out=found[: len(values) - distance])
    return found


def _drift_is_possible(estimates: Sequence[OffsetEstimate]) -> bool:
    first, last = estimates[0], estimates[-1]
    most_ns = MAX_DRIFT * (last.at_ns - first.at_ns) + first.error_ns + last.error_ns
    return abs(last.offset_ns - first.offset_ns) <= most_ns


def _wrong_rate(estimates: Sequence[OffsetEstimate], period_s: float) -> AlignError:
    first, last = estimates[0], estimates[-1]
    rate = (last.offset_ns - first.offset_ns) / (last.at_ns - first.at_ns)
    return AlignError(
        f"the log's clock runs {abs(rate):.2%} {'fast' if rate > 0 else 'slow'} against the run's, more than clocks do",
        f"if its rows have no time of their own, give --period {period_s / (1 + rate) * 1e3:.6g}ms",
    )


def _only(
    found: Sequence[tuple[list[OffsetEstimate], _Place]], expected_ns: int | None
) -> tuple[tuple[list[OffsetEstimate], _Place], tuple[str, ...]]:
    """The one place that is left, or the only one at which both clocks of the day agree."""
    if len(found) == 1:
        return found[0], ()
    agreed = [
        one for one in found if expected_ns is not None and abs(one[0][0].offset_ns - expected_ns) <= _SYNCHRONISED_NS
    ]
    if len(agreed) == 1:
        note = (
            f"the pattern is at {len(found)} places of the log; taken is the one at which both clocks of the day agree"
        )
        return agreed[0], (note,)
    where = ", ".join(f"{place.at_s:.1f} s" for _, place in sorted(found, key=lambda one: one[1].at_s))
    raise AlignError(
        f"the pattern is at {len(found)} places of the log: {where} after its first row",
        "say which one is this run's, such as --at 12.5s",
    )


def _check_cover(samples: Samples, alignment: Alignment, window_ns: tuple[int, int]) -> None:
    begin_s = (samples.t_ns[0] - alignment.remote_ns(window_ns[0])) / _NS
    end_s = (alignment.remote_ns(window_ns[1]) - samples.t_ns[-1]) / _NS
    if begin_s > 0 or end_s > 0:
        lack = f"begins {begin_s:.1f} s after the begin" if begin_s > 0 else f"ends {end_s:.1f} s before the end"
        raise AlignError(f"the log does not cover the run's window: it {lack} of it", _COVER)


_COVER = "let the logger run from before the command until after its end"
_AGAIN = "measure again, with nothing else on the meter and a logger that writes without gaps"
