"""The solvers behind base, memory and corrections. scipy is imported when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from devprof.errors import MissingExtraError

__all__ = ["Whitener", "huber_loss", "huber_weights", "maximise_posterior", "solve_non_negative", "whitening"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_MOST_ITERATIONS = 10_000
# Whitened residuals beyond this many standard deviations count by their size, no longer by its square.
_HUBER = 3.0
_MOST_STEPS = 50
# A gain of this in the logarithm of the posterior changes no prediction by a tenth of a percent.
_LEAST_GAIN = 1e-2
_MOST_DAMPING = 1e6


def _scipy(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"scipy.{module}")
    except ImportError as error:
        raise MissingExtraError("model", "scipy", "fitting a cost model") from error


def solve_non_negative(matrix: Array, target: Array) -> Array:
    """The ``x >= 0`` that minimises ``|matrix @ x - target|`` (Lawson and Hanson, Solving Least Squares Problems, 1974).

    Args:
        matrix: Shape (rows, columns).
        target: Shape (rows,).

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    solution: Array = _scipy("optimize").nnls(matrix, target, maxiter=_MOST_ITERATIONS)[0]
    return solution


def whitening(covariance: Array) -> Array:
    """The inverse of the Cholesky factor of a positive definite covariance."""
    inverse: Array = np.linalg.inv(np.linalg.cholesky(covariance))
    return inverse


class Whitener:
    """Makes correlated errors independent.

    Errors hang together in blocks only, so a thousand rows cost little more than the largest of their blocks does.

    Args:
        blocks: Places of the rows of each block, and what :func:`whitening` makes of their covariance. Every row is in one
            block.
    """

    def __init__(self, blocks: Iterable[tuple[Rows, Array]]) -> None:
        self._blocks = list(blocks)

    def __call__(self, values: Array) -> Array:
        """Values of shape (rows,) or (rows, n) in units in which errors are independent with variance 1."""
        whitened = np.empty_like(values)
        for rows, inverse in self._blocks:
            whitened[rows] = inverse @ values[rows]
        return whitened

    def undo(self, values: Array) -> Array:
        """The inverse of the covariance applied to what was whitened."""
        restored = np.empty_like(values)
        for rows, inverse in self._blocks:
            restored[rows] = inverse.T @ values[rows]
        return restored


def huber_loss(whitened: Array) -> float:
    """What :func:`maximise_posterior` takes whitened residuals to cost."""
    return 2 * _HUBER**2 * float(np.sum(np.sqrt(1 + (whitened / _HUBER) ** 2) - 1))


def huber_weights(whitened: Array) -> Array:
    """How much each whitened residual counts in :func:`maximise_posterior`, between 0 and 1."""
    weights: Array = 1 / np.sqrt(1 + (whitened / _HUBER) ** 2)
    return weights


@dataclass(frozen=True, slots=True)
class _Point:
    cost: float
    residuals: Array
    jacobian: Callable[[], Array]


def _solve(rows: Array, diagonal: Array, target: Array) -> Array:
    """The ``x`` with ``(rows' rows + diag(diagonal)) x = target``, by way of the smaller of both sides (Woodbury)."""
    if rows.shape[0] >= rows.shape[1]:
        direct: Array = np.linalg.solve(rows.T @ rows + np.diag(diagonal), target).astype(np.float64, copy=False)
        return direct
    scaled = rows / diagonal
    inner = np.linalg.solve(np.eye(len(rows)) + scaled @ rows.T, scaled @ target)
    indirect: Array = target / diagonal - scaled.T @ inner
    return indirect


def maximise_posterior(
    model: Callable[[Array], tuple[Array, Callable[[], Array]]],
    target: Array,
    whiten: Whitener,
    sds: Array,
    first: Array,
) -> Array:
    """The most probable parameters of a non-linear model with normal priors and correlated, heavy-tailed errors.

    Gauss-Newton with Marquardt's damping on the whitened residuals, whose loss is the smooth one of Huber
    (``2 d^2 (sqrt(1 + (r / d)^2) - 1)``).

    Args:
        model: From parameters to predictions of shape (rows,) and to what gives their derivatives, shape (rows,
            parameters).
        target: What the predictions are compared with.
        whiten: The errors' whitener.
        sds: Standard deviation of each parameter around 0.
        first: Parameters to start from.
    """
    precision = sds**-2

    def at(parameters: Array) -> _Point:
        predicted, jacobian = model(parameters)
        residuals = whiten(target - predicted)
        return _Point(huber_loss(residuals) + float(precision @ parameters**2), residuals, jacobian)

    parameters, point, damping = first, at(first), 0.0
    for _ in range(_MOST_STEPS):
        weights = np.sqrt(huber_weights(point.residuals))
        slopes = weights[:, None] * whiten(point.jacobian())
        gradient = slopes.T @ (weights * point.residuals) - precision * parameters
        steepness = (slopes**2).sum(axis=0) + precision
        while True:
            step = _solve(slopes, precision + damping * steepness, gradient)
            new = at(parameters + step)
            if new.cost <= point.cost:
                break
            damping = max(4 * damping, 1e-3)
            if damping > _MOST_DAMPING:
                return parameters
        gain = point.cost - new.cost
        parameters, point, damping = parameters + step, new, damping / 4 if damping > 1e-3 else 0.0
        if gain < _LEAST_GAIN:
            break
    return parameters
