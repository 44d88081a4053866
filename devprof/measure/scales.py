"""How much the level of a series moves from one stretch to the next: its spread over scales of time.

A machine's speed is not a constant with noise: neighbours, heat and clock states move it over tenths of seconds, seconds and
minutes alike, so a median over twice the time is better known by less than the root of two. The aggregated variance method
(J. Beran, Statistics for Long-Memory Processes, 1994, section 4.4) reads from the series itself by how much less: it compares
the spread of the medians of blocks of 1, 2, 4... steps, and goes on along that line to the length of the whole series.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FEWEST_FOR_SCALES", "half_width"]

# Fewer values have too few scales to draw a line through.
FEWEST_FOR_SCALES = 60
_FEWEST_BLOCKS = 6
# Single steps and pairs show outliers and jitter more than the level.
_SHORTEST_BLOCK = 4
# The spread falls with the root of the length where values are independent, and hardly at all where level shifts rule.
_STEEPEST, _FLATTEST = -0.5, -0.05
# 97.5 % quantiles of Student's t for the degrees of freedom of 6 to 11 blocks, of which the longest scale has one number.
_STUDENT_T = {6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262, 11: 2.228}


def half_width(values: NDArray[np.float64]) -> float:
    """Half the 95 % interval of the median, from how the spread of block medians falls with the length of the blocks.

    Args:
        values: A series in order of time; under 60 values nothing can be said, and the result is 0.

    Returns:
        Half the width, in the unit of the series.
    """
    if len(values) < FEWEST_FOR_SCALES:
        return 0.0
    found = [row for row in _spreads(values) if row[2] > 0]
    if len(found) < 2:
        return 0.0
    length, blocks, spread = found[-1]
    level, slope = _line(found)
    fitted = math.exp(level + slope * math.log(length))
    slope = min(max(slope, _STEEPEST), _FLATTEST)
    whole = max(spread, fitted) * math.pow(len(values) / length, slope)
    return _STUDENT_T[min(blocks, max(_STUDENT_T))] * whole


def _spreads(values: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    """(block length, blocks, standard deviation of the blocks' medians) for lengths 4, 8, 16... of six blocks or more."""
    import numpy as np

    rows = []
    length = _SHORTEST_BLOCK
    while (blocks := len(values) // length) >= _FEWEST_BLOCKS:
        medians = np.median(values[: blocks * length].reshape(blocks, length), axis=1)
        rows.append((length, blocks, float(medians.std(ddof=1))))
        length *= 2
    return rows


def _line(rows: list[tuple[int, int, float]]) -> tuple[float, float]:
    """Intercept and slope of log spread over log length, scales weighed by their number of blocks."""
    import numpy as np

    length, blocks, spread = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    slope, level = np.polyfit(np.log(length), np.log(spread), 1, w=np.sqrt(blocks))
    return float(level), float(slope)
