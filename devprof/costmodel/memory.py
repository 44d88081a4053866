"""Peak memory of the training process as a non-negative sum of its known parts.

``rss_peak = process + a * parameters + b * trainable + B * (c * saved + d * largest)``: interpreter and framework,
weights, gradients with optimizer state, activations kept for the backward pass, and temporaries. The framework's part
differs between devices and builds and is learned; the others start from what a training step must hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devprof.costmodel.features import Features
from devprof.costmodel.lines import Line
from devprof.costmodel.solver import solve_non_negative
from devprof.errors import CostModelError

__all__ = ["MEMORY_COLUMNS", "MemoryModel", "fit_memory", "memory_parts"]

Array = npt.NDArray[np.float64]

MEMORY_COLUMNS: tuple[str, ...] = (
    "process_bytes",
    "parameter_bytes",
    "trainable_bytes",
    "saved_bytes",
    "largest_bytes",
)
_BYTES_PER_PARAMETER = 4.0
# Starting factors: weights once, gradient and momentum, each saved activation once, and the largest result of an
# operator twice, because its operands or its gradient stand beside it.
_FACTORS = np.array([1.0, 1.0, 2.0, 1.0, 2.0])
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

    def line(self, features: Features) -> Line:
        """The peak bytes of a model as a line in the batch size."""
        factors = np.array(self.factors)
        fixed = memory_parts(features, 0) @ factors
        return Line(float(fixed), float((memory_parts(features, 1) - memory_parts(features, 0)) @ factors))


def memory_parts(features: Features, batch_size: float) -> Array:
    """What a step holds, in the order of :data:`MEMORY_COLUMNS`."""
    return np.array(
        [
            1.0,
            _BYTES_PER_PARAMETER * features.parameters,
            _BYTES_PER_PARAMETER * features.trainable_parameters,
            features.saved_constant_bytes + batch_size * features.saved_per_sample_bytes,
            features.largest_constant_bytes + batch_size * features.largest_per_sample_bytes,
        ]
    )


def fit_memory(features: Sequence[Features], batch_sizes: Sequence[float], peak_bytes: Sequence[float]) -> MemoryModel:
    """Fits the memory model of one device to measured peaks.

    Args:
        features: The features of each measured configuration.
        batch_sizes: Samples per step of each.
        peak_bytes: Measured peak of the training process of each, positive.

    Raises:
        CostModelError: If there is no row.
        MissingExtraError: If scipy is not installed.
    """
    if not len(peak_bytes):
        raise CostModelError("there is no measured memory peak to fit to: `rss_peak_bytes` is empty in every row")
    rows = np.stack([memory_parts(one, size) for one, size in zip(features, batch_sizes, strict=True)])
    peaks = np.asarray(peak_bytes, dtype=float)
    prior = _FACTORS.copy()
    prior[0] = _PROCESS_SHARE * peaks.min()
    weights = np.sqrt([_PROCESS_WEIGHT] + [_FACTOR_WEIGHT] * (len(prior) - 1))
    matrix = np.vstack([rows * prior / peaks[:, None], np.diag(weights)])
    solution = solve_non_negative(matrix, np.concatenate([np.ones(len(peaks)), weights]))
    return MemoryModel(tuple(float(value) for value in solution * prior))
