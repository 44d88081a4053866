"""A cost as a straight line in the batch size, and how measurements of one model correct it.

Time and memory of a training step are close to affine in the batch size: every step pays a fixed part, every sample
its own. Neither part can be negative, so that no line here ever falls or goes below zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from devprof.costmodel.solver import solve_non_negative

__all__ = ["Line", "fit_line"]

# How much the base counts beside two or more measured batch sizes. Relative errors of a few percent (squares of 1e-3)
# outweigh it; without it two noisy points could put the whole cost into one part.
_PRIOR_WEIGHT = 1e-3


@dataclass(frozen=True, slots=True)
class Line:
    """``fixed + per_sample * batch_size``, neither part negative.

    Attributes:
        fixed: What every step costs, in the unit of the line (seconds or bytes).
        per_sample: What each sample adds.
    """

    fixed: float
    per_sample: float

    def at(self, batch_size: float) -> float:
        """The cost of a step of ``batch_size`` samples."""
        return self.fixed + self.per_sample * batch_size

    def scaled(self, factor: float) -> Line:
        """The line with both parts multiplied by a factor."""
        return Line(self.fixed * factor, self.per_sample * factor)


def fit_line(base: Line, batch_sizes: Sequence[float], values: Sequence[float]) -> Line:
    """The line of one model that was measured on the device, starting from what the base predicts for it.

    One batch size scales the base to go through it. Two or more give their own line by non-negative least squares on
    relative errors, with the scaled base as a weak prior.

    Args:
        base: What the base predicts for the model; positive at the measured batch sizes.
        batch_sizes: Samples per step, one for each value.
        values: Measured costs, positive.
    """
    sizes, costs = np.asarray(batch_sizes, dtype=float), np.asarray(values, dtype=float)
    ratio = float(np.exp(np.mean([np.log(cost / base.at(size)) for size, cost in zip(sizes, costs, strict=True)])))
    scaled = base.scaled(ratio)
    if len(np.unique(sizes)) < 2:
        return scaled
    # In units of the mean cost and the mean batch size both parts are of order one.
    unit = np.array([costs.mean(), costs.mean() / sizes.mean()])
    rows = np.column_stack([np.ones_like(sizes), sizes]) * unit / costs[:, None]
    prior = np.sqrt(_PRIOR_WEIGHT)
    matrix = np.vstack([rows, prior * np.eye(2)])
    target = np.concatenate([np.ones(len(costs)), prior * np.array([scaled.fixed, scaled.per_sample]) / unit])
    fixed, per_sample = solve_non_negative(matrix, target) * unit
    return Line(float(fixed), float(per_sample))
