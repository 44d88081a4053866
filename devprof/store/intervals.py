"""An interval of a step time that is honest about what varies: steps within a process, and processes. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import fmean

__all__ = ["process_interval"]

# 97.5 % quantiles of Student's t for the degrees of freedom of three, four and five processes.
_STUDENT_T = {2: 4.303, 3: 3.182, 4: 2.776}


def process_interval(
    medians: Sequence[float], own: Sequence[tuple[float, float]]
) -> tuple[float | None, float | None, str]:
    """Interval of the median over processes of their median steps, at 95 % where possible.

    The medians of several processes vary by what varies within a process and by what varies between processes, so an interval
    that is made from them alone covers both:

    - six or more: order statistics of the medians, which assume nothing about their distribution (Conover, Practical
      Nonparametric Statistics, 3rd ed., section 3.2): ``order statistics of N processes``;
    - three to five: Student's t of their logarithms: ``t of N processes``;
    - two: from the lowest to the highest end of their own intervals, at no level: ``range of two processes``;
    - one: its own interval, which knows nothing of other processes: ``one process``.

    Args:
        medians: Seconds, positive, one per process.
        own: The processes' own 95 % intervals, of those that have one.

    Returns:
        Low and high in seconds, ``None`` where one or two processes have no interval of their own; and what they stand on.
    """
    count = len(medians)
    if count > 5:
        ordered = sorted(medians)
        left_out = _left_out(count)
        return ordered[left_out], ordered[-1 - left_out], f"order statistics of {count} processes"
    if count > 2:
        logarithms = [math.log(value) for value in medians]
        centre = fmean(logarithms)
        # Not statistics.stdev, whose exact fractions take seconds for the lines of 100,000 runs.
        variance = math.fsum((value - centre) ** 2 for value in logarithms) / (count - 1)
        half = _STUDENT_T[count - 1] * math.sqrt(variance / count)
        return math.exp(centre - half), math.exp(centre + half), f"t of {count} processes"
    basis = "one process" if count == 1 else "range of two processes"
    if len(own) < count:
        return None, None, basis
    return min(low for low, _ in own), max(high for _, high in own), basis


@cache
def _left_out(count: int) -> int:
    """How many values at each end a 95 % interval of the median leaves out.

    That is the largest k with 2 P(Binomial(count, 1/2) <= k) <= 5 %; in whole numbers, because 2 ** -count may underflow.
    """
    k = 0
    at_most_k = term = 1
    while True:
        term = term * (count - k) // (k + 1)
        at_most_k += term
        if 40 * at_most_k > 2**count:
            return k
        k += 1
