"""Change points: where a series of step times leaves one level for another (heat, a slower clock, a noisy neighbour).

Binary segmentation with a rank test: within a stretch, the split at which the values before and after differ most by the
Mann-Whitney statistic (Pettitt 1979 uses it unscaled, which misses changes near the ends). Ranks make it blind to outliers. The
chance that it guards against is that of independent noise: slow noise that moves the level by more than 5 % for longer than a
few steps is a change, as is a drift, which is found as one or more steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FEWEST_FOR_CHANGES", "change_points"]

_SEGMENT = 5
FEWEST_FOR_CHANGES = 2 * _SEGMENT
# Medians of two levels differ by more than this, relative to the lower one.
_SHIFT = 0.05
# Bound for the chance of a change point in white noise, over all places where it may be (Bonferroni): the smallest at which
# ten to thirteen values that fall into two separate levels are told apart. As neighbouring places share almost all values, the
# chance itself stays under 1 %.
_FALSE_ALARM = 0.0125
# Splitting this often gives up to 255 points and keeps the cost at O(n log n) for any series.
_DEEPEST = 8


def change_points(series: Sequence[float]) -> tuple[int, ...]:
    """Positions at which a new level begins, ascending; none for fewer than ten values.

    A level lasts at least five steps, its median differs by more than 5 % from that of the level beside it, and the
    difference is beyond chance: in white noise, one series in a hundred at most has a change point.

    Args:
        series: Positive step times in order of time.
    """
    import numpy as np

    values = np.asarray(series, dtype=np.float64)
    bounds = [0, *_splits(values), len(values)]
    # Levels that come and go differ little in sum: which splits matter shows only beside the levels that were found in the end.
    while len(bounds) > 2:
        medians = [float(np.median(values[begin:end])) for begin, end in itertools.pairwise(bounds)]
        shifts = [abs(after - before) / min(before, after) for before, after in itertools.pairwise(medians)]
        if min(shifts) > _SHIFT:
            break
        del bounds[shifts.index(min(shifts)) + 1]
    return tuple(bounds[1:-1])


def _splits(values: NDArray[np.float64]) -> list[int]:
    """Where stretches change beyond chance, however little, ascending."""
    found: list[int] = []
    stretches = [(0, len(values), 0)]
    while stretches:
        begin, end, depth = stretches.pop()
        length = _best_split(values[begin:end]) if depth < _DEEPEST else None
        if length is not None:
            split = begin + length
            found.append(split)
            stretches += [(begin, split, depth + 1), (split, end, depth + 1)]
    return sorted(found)


def _best_split(values: NDArray[np.float64]) -> int | None:
    """Where a stretch changes most, if that is beyond chance; O(n log n)."""
    import numpy as np

    count = len(values)
    if count < FEWEST_FOR_CHANGES:
        return None
    before = np.arange(_SEGMENT, count - _SEGMENT + 1)
    rank_sums = np.cumsum(_centred_ranks(values))[before - 1]
    # Ties make the true variance smaller, the test only more careful.
    scores = np.abs(rank_sums) / np.sqrt(before * (count - before) * (count + 1) / 12)
    best = int(np.argmax(scores))
    needed = NormalDist().inv_cdf(1 - _FALSE_ALARM / 2 / len(before))
    return int(before[best]) if scores[best] > needed else None


def _centred_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks, ties sharing their mean, minus the mean rank."""
    import numpy as np

    _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[position]
    return np.asarray(ranks - (len(values) + 1) / 2, dtype=np.float64)
