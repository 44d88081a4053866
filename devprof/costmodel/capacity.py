"""From bounds of memory to verdicts: the upper bound at each batch size, and the largest batch size that fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["MOST_SAMPLES", "largest_batches", "monotone_bounds"]

Array = npt.NDArray[np.float64]

# Where the search ends: no step is trained with more samples.
MOST_SAMPLES = 1 << 16
_FIRST_LOOK = 1 << 10


def monotone_bounds(bounds: Array, batch_sizes: Array, measured: Mapping[int, float]) -> Array:
    """Upper bounds of a cost that never falls with the batch size, made to agree with those of measured batch sizes.

    What was measured is known more narrowly than what lies between. A step costs no more than a larger one whose bound is
    known, and no less than a smaller one.

    Args:
        bounds: The bound at each batch size by itself.
        batch_sizes: Samples per step.
        measured: The bound at each measured batch size; at least one.

    Returns:
        The bounds, which never fall with the batch size if those of unmeasured sizes between two measured ones do not.
    """
    sizes = np.array(sorted(measured))
    known = np.maximum.accumulate([measured[int(size)] for size in sizes])
    least = np.concatenate([[0.0], known])[np.searchsorted(sizes, batch_sizes, side="right")]
    most = np.concatenate([known, [np.inf]])[np.searchsorted(sizes, batch_sizes, side="left")]
    agreed: Array = np.minimum(np.maximum(bounds, least), most)
    return agreed


def largest_batches(bounds: Callable[[Array], Array], limits: Any) -> npt.NDArray[np.int64]:
    """The largest batch size whose upper bound is within each limit; 0 where not even one sample is.

    Args:
        bounds: Gives the upper bound at each of several batch sizes; never falling with them.
        limits: Limits in the same unit.

    Returns:
        A batch size for each limit, at most :data:`MOST_SAMPLES`.
    """
    limits = np.asarray(limits, dtype=float)
    end, known = _FIRST_LOOK, bounds(np.arange(1.0, _FIRST_LOOK + 1))
    while end < MOST_SAMPLES and known[-1] <= limits.max(initial=0.0):
        known = np.concatenate([known, bounds(np.arange(end + 1.0, 2 * end + 1))])
        end *= 2
    found: npt.NDArray[np.int64] = np.searchsorted(known, limits, side="right")
    return found
