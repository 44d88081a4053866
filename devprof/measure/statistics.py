"""From raw step times to robust figures. Nothing is dropped: outliers are counted, and the median does not follow them.

The estimates themselves are in modules of their own: ``interval`` (of the median), ``changes`` (of the level), ``series``
(dependence, warm-up).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from devprof.measure.changes import FEWEST_FOR_CHANGES, change_points
from devprof.measure.interval import CiMethod, median_interval
from devprof.measure.series import lag_one_autocorrelation

__all__ = [
    "StepStatistics",
    "quantile",
    "summarize",
]

# Beyond this many robust standard deviations a step is an outlier (Iglewicz and Hoaglin, 1993).
_OUTLIER_SCORE = 3.5
# The median absolute deviation of a normal distribution times this is its standard deviation.
_MAD_TO_STD = 1.4826


@dataclass(frozen=True, slots=True)
class StepStatistics:
    """Figures of a series of step times, in the unit of the series.

    Attributes:
        median: The centre.
        mean: For comparison with tools that report means.
        std: Sample standard deviation; ``None`` for a single step.
        mad: Median absolute deviation from the median, not scaled.
        minimum: The fastest step.
        p05: 5th percentile.
        p25: 25th percentile.
        p75: 75th percentile.
        p95: 95th percentile.
        p99: 99th percentile.
        ci_low: Lower end of the 95 % interval of the median.
        ci_high: Upper end of it.
        ci_method: How the interval was made; see :class:`~devprof.measure.interval.Interval`.
        outliers: Steps beyond 3.5 robust standard deviations (1.4826 ``mad``) from the median; 0 if ``mad`` is 0.
        autocorrelation: Of neighbouring steps, in order of time, outliers put at the median so that a single one does not hide
            how its neighbours go together; ``None`` under 10 steps or where they do not vary.
        change_points: Positions at which a new level begins.
        steady: Whether there is no change point; ``None`` for fewer than 10 steps.
    """

    median: float
    mean: float
    std: float | None
    mad: float
    minimum: float
    p05: float
    p25: float
    p75: float
    p95: float
    p99: float
    ci_low: float
    ci_high: float
    ci_method: CiMethod
    outliers: int
    autocorrelation: float | None
    change_points: tuple[int, ...]
    steady: bool | None

    @property
    def iqr(self) -> float:
        """Interquartile range."""
        return self.p75 - self.p25

    @property
    def cv(self) -> float | None:
        """Coefficient of variation: standard deviation over mean."""
        return None if self.std is None else self.std / self.mean

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


def summarize(series: Sequence[float], *, seed: int = 0) -> StepStatistics:
    """The figures of a series of positive step times in order of time.

    Args:
        series: Step times, in any unit.
        seed: Of the bootstrap behind the interval: the same series and seed give the same figures.

    Raises:
        ValueError: If the series is empty or holds a value that is not positive and finite.
    """
    if not series or not all(0 < value < math.inf for value in series):
        raise ValueError("a series of step times must be non-empty, and its values positive and finite")
    import numpy as np

    values = np.asarray(series, dtype=np.float64)
    ordered = sorted(float(value) for value in series)
    centre = median(ordered)
    deviations = np.abs(values - centre)
    mad = float(np.median(deviations))
    far = deviations > _OUTLIER_SCORE * _MAD_TO_STD * mad if mad > 0 else np.zeros(len(values), dtype=np.bool_)
    interval = median_interval(series, seed=seed)
    changes = change_points(series)
    return StepStatistics(
        median=centre,
        mean=fmean(ordered),
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        mad=mad,
        minimum=ordered[0],
        p05=quantile(ordered, 0.05),
        p25=quantile(ordered, 0.25),
        p75=quantile(ordered, 0.75),
        p95=quantile(ordered, 0.95),
        p99=quantile(ordered, 0.99),
        ci_low=interval.low,
        ci_high=interval.high,
        ci_method=interval.method,
        outliers=int(far.sum()),
        autocorrelation=lag_one_autocorrelation(np.where(far, centre, values)),
        change_points=changes,
        steady=None if len(values) < FEWEST_FOR_CHANGES else not changes,
    )
