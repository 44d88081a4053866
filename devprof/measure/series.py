"""What the order of a series of step times says: dependence between neighbours, and whether warm-up is over.

Numbers go in, numbers come out; numpy is imported inside functions because the command line loads this package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "autocorrelations",
    "correlation_time",
    "first_run_effect",
    "lag_one_autocorrelation",
    "side_of_median",
    "warm_up_done",
]

# Fewer neighbours than this say nothing about dependence.
_FEWEST = 10
_RECENT_STEPS = 10
_FEWEST_RECENT = 5
# Drift over ten steps, relative to the median, that counts as none; and the most that may hide in noise.
_FLAT = 0.01
_HIDDEN = 0.05
_NORMAL_95 = 1.959964


def side_of_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """-1, 0 or 1 for each value below, at or above the median.

    The sample median depends on its values through these signs alone, so their dependence is what its error needs, and a single
    huge outlier weighs no more than any other step.
    """
    import numpy as np

    return np.sign(values - np.median(values))


def autocorrelations(values: NDArray[np.float64], lags: int) -> NDArray[np.float64] | None:
    """Autocorrelations for the lags 0 to ``lags``, in O(n log n); ``None`` for values that do not vary."""
    import numpy as np

    if np.ptp(values) == 0:
        return None
    centred = values - values.mean()
    # Squares of tiny numbers would vanish.
    centred /= np.abs(centred).max()
    length = 1 << (2 * len(centred) - 1).bit_length()
    spectrum = np.fft.rfft(centred, length)
    products = np.fft.irfft(spectrum * spectrum.conj(), length)[: lags + 1]
    return np.asarray(products / products[0], dtype=np.float64)


def lag_one_autocorrelation(values: NDArray[np.float64]) -> float | None:
    """Correlation of each value with its successor; ``None`` under 10 values or where they do not vary."""
    found = autocorrelations(values, 1) if len(values) >= _FEWEST else None
    return None if found is None else float(found[1])


def correlation_time(values: NDArray[np.float64]) -> float:
    """How many values carry the information of one independent value: 1 for white noise, at most a quarter of them.

    It is one plus twice the sum of the autocorrelations, summed as Geyer's initial monotone sequence ("Practical Markov chain
    Monte Carlo", Statistical Science 7(4), 1992): lags in pairs, as long as a pair's sum is positive, none above the one
    before. Centring the values by their own mean hides a share of about time / n, which is added back.
    """
    import numpy as np

    count = len(values)
    if count < _FEWEST:
        return 1.0
    found = autocorrelations(values, 2 * (count // 4) + 1)
    if found is None:
        return 1.0
    pairs = found[0::2] + found[1::2]
    ends = np.flatnonzero(pairs <= 0)
    positive = pairs[: ends[0]] if len(ends) else pairs
    time = max(1.0, 2 * float(np.minimum.accumulate(positive).sum()) - 1)
    return min(count / 4, time / max(0.25, 1 - time / count)) if time > 1 else 1.0


def first_run_effect(warmup: Sequence[float]) -> float | None:
    """The first step of a warm-up over the median of its last five; ``None`` for fewer than two steps.

    Allocation, kernel selection and cold caches make it larger than one.
    """
    if len(warmup) < 2:
        return None
    return warmup[0] / median(warmup[1:][-5:])


def warm_up_done(times: Sequence[float]) -> bool:
    """Whether the last ten steps of a warm-up no longer drift; ``False`` for fewer than five.

    They do not drift where the Theil-Sen slope (Theil 1950, Sen 1968: the median of all pairwise slopes, blind to single
    outliers) stays within 1 % of the median per ten steps. Where step times scatter so much that ten of them cannot tell
    1 %, a slope within 5 % is accepted if the 95 % interval that Sen derives from Kendall's statistic contains zero.

    Args:
        times: Positive step times in order of time, in any unit.
    """
    recent = times[-_RECENT_STEPS:]
    count = len(recent)
    if count < _FEWEST_RECENT:
        return False
    slopes = [(recent[j] - recent[i]) / (j - i) for i in range(count) for j in range(i + 1, count)]
    drift = abs(median(slopes)) * _RECENT_STEPS / median(recent)
    if drift <= _FLAT:
        return True
    kendall = sum((slope > 0) - (slope < 0) for slope in slopes)
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return drift <= _HIDDEN and abs(kendall) <= _NORMAL_95 * spread
