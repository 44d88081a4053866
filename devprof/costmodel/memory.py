"""Peak memory of the training process as a non-negative sum of its known parts.

``rss_peak = process + a * weights + b * optimizer state + c * peak of what the step holds + d * largest storage + e * heap``:
interpreter and framework, parameters and buffers, momentum, activations with gradients and temporaries at their highest
moment, working space of libraries, and gaps in the allocator's heap. Large allocations get pages of their own and leave no
gaps, so the gaps stop growing with the batch when the storages have become large. The framework's part differs between
devices and builds and is learned; the others start from what a training step must hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devprof.costmodel.features import Features
from devprof.costmodel.samples import Observation
from devprof.costmodel.solver import solve_non_negative
from devprof.errors import CostModelError

__all__ = ["MEMORY_COLUMNS", "MemoryModel", "fit_memory", "memory_parts"]

Array = npt.NDArray[np.float64]

MEMORY_COLUMNS: tuple[str, ...] = (
    "process_bytes",
    "weight_bytes",
    "optimizer_bytes",
    "held_bytes",
    "largest_bytes",
    "heap_bytes",
)
_BYTES_PER_PARAMETER = 4.0
# Starting factors. The largest storage counts a little: convolutions and allocators work beside what torch holds. Of a heap, a
# fifth is gaps: between 0.1 and 0.4 errors on left-out families of 55 vision models on a PC are the same.
_FACTORS = np.array([1.0, 1.0, 1.0, 1.0, 0.5, 0.2])
_FACTOR_WEIGHT = 0.03
# The process starts from half of the smallest peak, and almost free: builds of torch differ from 150 MB to gigabytes.
_PROCESS_SHARE, _PROCESS_WEIGHT = 0.5, 1e-3


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Bytes at the peak of a training process on one device.

    Attributes:
        factors: One coefficient for each of :data:`MEMORY_COLUMNS`; the first is in bytes, the others are plain
            factors.
    """

    factors: tuple[float, ...]

    def curve(self, features: Features, batch_sizes: Array) -> Array:
        """The peak bytes at each batch size."""
        # Not a product of matrices: its last bits depend on how many sizes are asked at once, and a verdict on them.
        peaks: Array = (memory_parts(features, batch_sizes) * np.array(self.factors)).sum(axis=1)
        return peaks


def memory_parts(features: Features, batch_sizes: Array) -> Array:
    """What a step holds at each batch size, shape (sizes, columns), columns as in :data:`MEMORY_COLUMNS`."""
    sizes = np.asarray(batch_sizes, dtype=float)
    (batch, per_sample), (largest, growing) = features.batch_bytes, features.largest_bytes
    parts = np.empty((len(sizes), len(MEMORY_COLUMNS)))
    parts[:, 0] = 1.0
    parts[:, 1] = _BYTES_PER_PARAMETER * features.parameters + features.buffer_bytes
    parts[:, 2] = _BYTES_PER_PARAMETER * features.trainable_parameters
    parts[:, 3] = batch + sizes * per_sample + features.peak_bytes(sizes)
    parts[:, 4] = largest + sizes * growing
    parts[:, 5] = features.heap_bytes(sizes)
    return parts


def fit_memory(observations: Sequence[Observation]) -> MemoryModel:
    """Fits the memory model of one device to measured peaks.

    Args:
        observations: Peaks of the training process in bytes, positive.

    Raises:
        CostModelError: If there is none.
        MissingExtraError: If scipy is not installed.
    """
    if not observations:
        raise CostModelError("there is no measured memory peak to fit to: `rss_peak_bytes` is empty in every row")
    rows = np.vstack([memory_parts(one.features, np.array([one.batch_size])) for one in observations])
    peaks = np.array([one.value for one in observations])
    prior = _FACTORS.copy()
    prior[0] = _PROCESS_SHARE * peaks.min()
    weights = np.sqrt([_PROCESS_WEIGHT] + [_FACTOR_WEIGHT] * (len(prior) - 1))
    matrix = np.vstack([rows * prior / peaks[:, None], np.diag(weights)])
    solution = solve_non_negative(matrix, np.concatenate([np.ones(len(peaks)), weights]))
    return MemoryModel(tuple(float(value) for value in solution * prior))
