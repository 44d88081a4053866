"""How far the median of a run may be from the median of a much longer one: its 95 % interval.

Successive steps resemble each other, so a run holds less information than its number of steps says. Three estimates are made
and the widest is taken at each end, because an interval that is too narrow is a false promise:

- Order statistics, which assume nothing about the distribution (Conover, Practical Nonparametric Statistics, 3rd ed.,
  section 3.2), at ranks for the effective number of steps: the number of steps over the correlation time of their signs
  around the median. On short dependent series it covers where the bootstrap and Student's t of block medians fall short.
- The spread of block medians over scales of time (:mod:`devprof.measure.scales`), which follows a level that wanders.
- The circular block bootstrap (Politis and Romano 1992) with automatic block length (Politis and White 2004, corrected in
  Patton, Politis and White 2009), which sees the distances between values that ranks do not see.

A run shorter than what moves it (minutes of heat, a frequency state that did not change meanwhile) cannot know of it: then
only repeats show the spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from devprof.measure.scales import half_width
from devprof.measure.series import autocorrelations, correlation_time, side_of_median

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "CiMethod",
    "Interval",
    "block_length",
    "bootstrap_interval",
    "median_interval",
    "order_interval",
    "stop_interval",
]

CiMethod = Literal["bootstrap", "order-statistics"]

_FEWEST_FOR_BOOTSTRAP = 10
# The ends of the interval lie at the 50th resample from each end; in long series, where they are close together anyway, the
# tenth does, so that they take a tenth of a second and not more than the parent of a sweep should.
_MOST_RESAMPLES, _FEWEST_RESAMPLES = 2000, 400
_RESAMPLED_VALUES = 1 << 22
# Values drawn at once: 2 MB, so that the parent of a sweep stays small however long the series is.
_CHUNK_VALUES = 1 << 18


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval of the median.

    Attributes:
        low: Lower end, in the unit of the series.
        high: Upper end.
        method: ``bootstrap`` where the block bootstrap took part, ``order-statistics`` where it could not: with fewer than
            ten values, or more than half of them ties, it only repeats a few values.
    """

    low: float
    high: float
    method: CiMethod


def order_interval(
    ordered: Sequence[float], *, correlation_time: float = 1.0, level: float = 0.95
) -> tuple[float, float]:
    """Distribution-free interval of the median of an ordered, non-empty series.

    With few values no pair of order statistics reaches the level; then the interval is the whole range.

    Args:
        ordered: The values, ascending.
        correlation_time: Number of values that carry the information of one; the variance of a rank grows by it.
        level: Coverage asked for.
    """
    count = len(ordered)
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(count * correlation_time) / 2
    low = max(0, math.floor(count / 2 - half) - 1)
    high = min(count - 1, math.ceil(count / 2 + half))
    return ordered[low], ordered[high]


def stop_interval(series: Sequence[float]) -> tuple[float, float]:
    """The interval of the median without the bootstrap: cheap, for a rule when to stop.

    It is a part of :func:`median_interval`, which therefore is never narrower.

    Args:
        series: Step times in order of time, not empty.
    """
    import numpy as np

    values = np.asarray(series, dtype=np.float64)
    ordered = np.sort(values)
    low, high = order_interval(ordered.tolist(), correlation_time=correlation_time(side_of_median(values)))
    centre, half = float(np.median(ordered)), half_width(values)
    # A median that wanders by more than itself tells nothing about its lower end but that it is not negative.
    return max(0.0, min(low, centre - half)), max(high, centre + half)


def block_length(values: NDArray[np.float64]) -> int:
    """Length of the blocks of the circular bootstrap for the median, at least the cube root of the number of values.

    The rule of Politis and White (2004; constants of Patton, Politis and White 2009) on the signs around the median: find the
    lag after which autocorrelations are noise, then weigh bias against variance with a flat-top window of twice that lag.
    """
    import numpy as np

    count = len(values)
    least = round(math.pow(count, 1 / 3))
    insignificant = max(5, math.ceil(math.sqrt(math.log10(count))))
    lags = min(count - 1, math.ceil(math.sqrt(count)) + insignificant)
    found = autocorrelations(side_of_median(values), lags)
    if found is None:
        return least
    noise = 2 * math.sqrt(math.log10(count) / count)
    large = np.flatnonzero(np.abs(found[1:]) > noise) + 1
    # The first lag after which a whole run of lags is noise.
    gaps = np.diff(large, prepend=0, append=lags + insignificant + 1)
    last = int(np.append(0, large)[np.flatnonzero(gaps > insignificant)[0]])
    if last == 0:
        return least
    reach = min(2 * last, lags)
    lag = np.arange(1, reach + 1)
    window = np.clip(2 * (1 - lag / reach), 0, 1) * found[1 : reach + 1]
    density = 1 + 2 * float(window.sum())
    slope = 2 * float((lag * window).sum())
    if density <= 0:
        return least
    best = math.pow(1.5 * (slope / density) ** 2 * count, 1 / 3)
    most = math.ceil(min(3 * math.sqrt(count), count / 3))
    return max(least, min(most, round(best)))


def bootstrap_interval(
    values: NDArray[np.float64], generator: np.random.Generator, *, resamples: int | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the median over resamples that are put together from blocks of the series, closed to a circle.

    Args:
        values: The series in order of time, two values or more.
        generator: Source of the blocks.
        resamples: How many series to draw; by default 2000, and fewer of series with more than 2000 values.
        level: Coverage asked for.
    """
    import numpy as np

    count, length = len(values), block_length(values)
    if resamples is None:
        resamples = min(_MOST_RESAMPLES, max(_FEWEST_RESAMPLES, _RESAMPLED_VALUES // count))
    windows = np.lib.stride_tricks.sliding_window_view(np.concatenate([values, values[: length - 1]]), length)
    rows = max(1, _CHUNK_VALUES // count)
    medians: list[NDArray[np.float64]] = []
    for begin in range(0, resamples, rows):
        picks = generator.integers(count, size=(min(rows, resamples - begin), math.ceil(count / length)))
        medians.append(np.median(windows[picks].reshape(len(picks), -1)[:, :count], axis=1))
    low, high = np.quantile(np.concatenate(medians), [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def median_interval(series: Sequence[float], *, seed: int = 0) -> Interval:
    """The 95 % interval of the median of a run: at each end the widest of order statistics, scales and block bootstrap.

    Args:
        series: Step times in order of time, not empty.
        seed: Of the bootstrap: the same series and seed give the same interval.
    """
    import numpy as np

    low, high = stop_interval(series)
    values = np.asarray(series, dtype=np.float64)
    if len(values) < _FEWEST_FOR_BOOTSTRAP or 2 * len(np.unique(values)) < len(values):
        return Interval(low, high, "order-statistics")
    resampled_low, resampled_high = bootstrap_interval(values, np.random.default_rng(seed))
    return Interval(min(low, resampled_low), max(high, resampled_high), "bootstrap")
