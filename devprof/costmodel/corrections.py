"""How measurements of a model on a device correct what the base predicts for it.

A cost over the batch size has a fixed part, which every step pays, and a part that grows. A correction multiplies each by a
factor of its own, neither negative: so a corrected cost never falls with the batch size, and keeps the form of the base
between and beyond the measured sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devprof.costmodel.solver import solve_non_negative

__all__ = ["Correction", "fit_correction"]

Array = npt.NDArray[np.float64]

# How much the base counts beside two or more measured batch sizes. Relative errors of a few percent (squares of 1e-3)
# outweigh it; without it two noisy points could put the whole cost into one part.
_PRIOR_WEIGHT = 1e-3


@dataclass(frozen=True, slots=True)
class Correction:
    """Factors on the fixed and on the growing part of a cost, neither negative."""

    fixed: float = 1.0
    growing: float = 1.0

    def apply(self, fixed: float, values: Array) -> Array:
        """The corrected cost.

        Args:
            fixed: What the base predicts for batch size 0.
            values: What it predicts for the batch sizes in question.
        """
        return self.fixed * fixed + self.growing * (values - fixed)


def fit_correction(fixed: float, bases: Sequence[float] | Array, values: Sequence[float] | Array) -> Correction:
    """The correction of one model that was measured on the device.

    One batch size scales the base to go through it. Two or more determine both factors by non-negative least squares on
    relative errors, with the scaled base as a weak prior.

    Args:
        fixed: What the base predicts for batch size 0.
        bases: What it predicts at each measured batch size, positive.
        values: What was measured there, positive.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    predicted, costs = np.asarray(bases, dtype=float), np.asarray(values, dtype=float)
    ratio = float(np.exp(np.mean(np.log(costs / predicted))))
    if len(np.unique(predicted)) < 2:
        return Correction(ratio, ratio)
    # In units of the mean cost both parts are of order one, whatever the base says of their shares.
    grown = predicted - fixed
    unit = np.array([costs.mean() / part if part > 0 else ratio for part in (fixed, grown.mean())])
    rows = np.column_stack([np.full_like(predicted, fixed), grown]) * unit / costs[:, None]
    prior = np.sqrt(_PRIOR_WEIGHT)
    matrix = np.vstack([rows, prior * np.eye(2)])
    factors = solve_non_negative(matrix, np.concatenate([np.ones(len(costs)), prior * ratio / unit])) * unit
    return Correction(float(factors[0]), float(factors[1]))
