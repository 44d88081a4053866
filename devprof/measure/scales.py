"""How much the level of a series moves from one stretch to the next: noise that averages out, and noise that does not.

A machine's speed is not a constant with noise: neighbours, heat and clock states move it over tenths of seconds, seconds and
minutes alike, so a median over twice the time is better known by less than the root of two. The Allan variance (D. W. Allan,
Statistics of Atomic Frequency Standards, Proceedings of the IEEE 54, 1966) tells the two apart: half the mean square of the
difference between the medians of neighbouring blocks falls as one over the length of the blocks where steps are independent
(white noise), and stays where it is where the level wanders alike on every scale (flicker noise, W. J. Riley, Handbook of
Frequency Stability Analysis, NIST Special Publication 1065, 2008).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FEWEST_FOR_SCALES", "half_width"]

# Fewer values have too few scales to tell the two kinds of noise apart.
FEWEST_FOR_SCALES = 60
# Single steps and pairs show outliers and jitter more than the level.
_SHORTEST_BLOCK = 4
_FEWEST_BLOCKS = 4
# What wanders shows at long blocks, of which there are few: one scale alone would be a throw of dice.
_LONGEST_SCALES = 3
# Flicker noise moves the level by the same amount from each octave of time to the next. The interval speaks of the median of
# a run this many times as long: a run of ten seconds against one of three minutes.
_LONGER_RUN = 20.0
# 97.5 % quantiles of Student's t by degrees of freedom: the longest scale decides, its blocks less the two variances sought.
_STUDENT_T = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571}


def half_width(values: NDArray[np.float64]) -> float:
    """Half the 95 % interval of the median, for what the median of a run twenty times as long would be.

    Args:
        values: A series in order of time; under 60 values nothing can be said, and the result is 0.

    Returns:
        Half the width, in the unit of the series. It does not fall below what flicker noise of the size that the longest
        blocks allow would do: on independent values, where a short series cannot exclude it, the result is 2 to 6 times
        what the root of their number would say.
    """
    if len(values) < FEWEST_FOR_SCALES:
        return 0.0
    scales = [scale for scale in _allan_variances(values) if scale[2] > 0]
    if len(scales) < 2:
        return 0.0
    white, flicker = _white_and_flicker(scales)
    variance = white / len(values) + flicker / 2 * math.log2(_LONGER_RUN)
    return _STUDENT_T[min(scales[-1][1] - 2, max(_STUDENT_T))] * math.sqrt(variance)


def _allan_variances(values: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    """(block length, blocks, Allan variance of the blocks' medians) for lengths 4, 8, 16... of four blocks or more."""
    import numpy as np

    rows = []
    length = _SHORTEST_BLOCK
    while (blocks := len(values) // length) >= _FEWEST_BLOCKS:
        medians = np.median(values[: blocks * length].reshape(blocks, length), axis=1)
        rows.append((length, blocks, float(np.mean(np.square(np.diff(medians)))) / 2))
        length *= 2
    return rows


def _white_and_flicker(scales: list[tuple[int, int, float]]) -> tuple[float, float]:
    """Variance of white noise at one step and of flicker noise at any length: ``variance = white / length + flicker``.

    A non-negative least squares fit of relative errors, the scales weighed by their number of blocks.
    """
    import numpy as np

    length, blocks, variance = (np.array(column, dtype=np.float64) for column in zip(*scales, strict=True))
    # Squares of a series in seconds could underflow.
    unit = variance.max()
    share = variance / unit
    weight = np.sqrt(blocks - 1) / share
    columns = np.stack([weight / length, weight], axis=1)
    target = weight * share
    white, flicker = np.linalg.lstsq(columns, target)[0]
    if white < 0:
        white, flicker = 0.0, _through_origin(columns[:, 1], target)
    elif flicker < 0:
        white, flicker = _through_origin(columns[:, 0], target), 0.0
    longest = slice(-_LONGEST_SCALES, None)
    seen = np.average((share - white / length)[longest], weights=(blocks - 1)[longest])
    return float(white * unit), float(max(flicker, seen) * unit)


def _through_origin(column: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    return float(column @ target) / float(column @ column)
