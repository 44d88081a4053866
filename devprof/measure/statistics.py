"""From raw step times to robust figures. Standard library only: the child uses it too.

The centre is the median; its interval comes from order statistics, which assumes nothing about the distribution (Conover,
Practical Nonparametric Statistics, 3rd ed., section 3.2: ranks from the binomial distribution with p = 1/2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median

__all__ = ["StepStatistics", "is_steady", "median_interval", "quantile", "summarize"]

# Two halves of a run whose medians differ by more than this are not one steady state.
_STEADY_SHIFT = 0.05


@dataclass(frozen=True, slots=True)
class StepStatistics:
    """Figures of a series of step times, in the unit of the series.

    Attributes:
        median: The centre.
        mean: For comparison with tools that report means.
        p05: 5th percentile.
        p95: 95th percentile.
        mad: Median absolute deviation from the median, not scaled.
        ci_low: Lower end of the 95 % interval of the median.
        ci_high: Upper end of it.
        steady: Whether the two halves of the series agree; ``None`` for fewer than 8 steps.
    """

    median: float
    mean: float
    p05: float
    p95: float
    mad: float
    ci_low: float
    ci_high: float
    steady: bool | None

    @property
    def ci_half_width_rel(self) -> float:
        """Half the interval's width over the median."""
        return (self.ci_high - self.ci_low) / 2 / self.median


def quantile(ordered: Sequence[float], q: float) -> float:
    """Quantile of an ordered, non-empty series by linear interpolation (definition 7 of Hyndman and Fan, 1996)."""
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median_interval(ordered: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Distribution-free interval of the median of an ordered, non-empty series.

    With few values no pair of order statistics reaches the level; then the interval is the whole range.
    """
    count = len(ordered)
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(count) / 2
    low = max(0, math.floor(count / 2 - half) - 1)
    high = min(count - 1, math.ceil(count / 2 + half))
    return ordered[low], ordered[high]


def is_steady(series: Sequence[float]) -> bool | None:
    """Whether the medians of both halves of a series, in its order of time, agree within 5 %; ``None`` under 8 values."""
    if len(series) < 8:
        return None
    middle = len(series) // 2
    first, second = median(series[:middle]), median(series[middle:])
    return abs(second - first) <= _STEADY_SHIFT * min(first, second)


def summarize(series: Sequence[float]) -> StepStatistics:
    """The figures of a series of positive step times in order of time.

    Raises:
        ValueError: If the series is empty or holds a value that is not positive.
    """
    if not series or min(series) <= 0:
        raise ValueError("a series of step times must be non-empty and positive")
    ordered = sorted(series)
    centre = median(ordered)
    low, high = median_interval(ordered)
    return StepStatistics(
        median=centre,
        mean=fmean(ordered),
        p05=quantile(ordered, 0.05),
        p95=quantile(ordered, 0.95),
        mad=median(abs(value - centre) for value in ordered),
        ci_low=low,
        ci_high=high,
        steady=is_steady(series),
    )
