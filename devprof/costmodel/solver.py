"""Non-negative least squares, the one solver behind base, memory and lines. scipy is imported when it is asked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from devprof.errors import MissingExtraError

__all__ = ["solve_non_negative"]

Array = npt.NDArray[np.float64]

_MOST_ITERATIONS = 10_000


def solve_non_negative(matrix: Array, target: Array) -> Array:
    """The ``x >= 0`` that minimises ``|matrix @ x - target|`` (Lawson and Hanson, Solving Least Squares Problems, 1974).

    Args:
        matrix: Shape (rows, columns).
        target: Shape (rows,).

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    try:
        from scipy.optimize import nnls
    except ImportError as error:
        raise MissingExtraError("model", "scipy", "fitting a cost model") from error
    solution: Array = nnls(matrix, target, maxiter=_MOST_ITERATIONS)[0]
    return solution
