"""A quantity as last seen: the centre and the spread of its last few values."""

from __future__ import annotations

import statistics
from collections import deque

__all__ = ["Recent"]

_KEPT = 8
# Of a normal distribution: standard deviation over median absolute deviation.
_MAD_TO_SD = 1.4826
# What few values cannot show: nothing is steadier than this from round to round, relative to its size and in seconds.
_LEAST_RELATIVE_SD = 0.05
_FIRST_RELATIVE_SD = 0.25
_LEAST_SD_S = 0.1


class Recent:
    """Seconds that come anew each round, such as a start-up: the median of the last eight, so one outlier counts little."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=_KEPT)

    def __bool__(self) -> bool:
        return bool(self._values)

    def add(self, seconds: float) -> None:
        """Take in one value."""
        self._values.append(seconds)

    @property
    def centre_s(self) -> float:
        """The median; 0 before anything was seen."""
        return statistics.median(self._values) if self._values else 0.0

    @property
    def sd_s(self) -> float:
        """Standard deviation of the next value; 0 before anything was seen.

        From three values on it is that of the values (by their median absolute deviation), shrunk towards the first guess as
        long as they are few.
        """
        if not self._values:
            return 0.0
        centre_s = self.centre_s
        first_s = max(_LEAST_SD_S, _FIRST_RELATIVE_SD * centre_s)
        count = len(self._values)
        if count < 3:
            return first_s
        seen_s = _MAD_TO_SD * statistics.median(abs(value - centre_s) for value in self._values)
        seen_s = max(seen_s, _LEAST_SD_S, _LEAST_RELATIVE_SD * centre_s)
        share = 2.0 / count
        return (1 - share) * seen_s + share * first_s
