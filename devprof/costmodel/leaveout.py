"""What a fit would say without some of its rows, from the fit to all of them.

Near its maximum the posterior is a normal one, from which rows can be taken in closed form. With slopes ``J`` of the
logarithms, precision ``P`` of the errors, prior precision ``L``, ``A = J'PJ + L`` and ``B = PJ``, leaving out rows ``o`` leaves
``A - B_o' P_oo^-1 B_o`` (their errors hang together with those of others, so what these say of them goes, too), which the
formula of Woodbury inverts. With this curvature and the true gradient, a few steps of Newton's method end where a new fit
would, and hundreds of groups take about as long as one fit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from devprof.costmodel.pool import FittedPool
from devprof.costmodel.solver import huber_loss, huber_weights

__all__ = ["LeaveOut"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# Logarithms of left-out rows that move less than this in a step have settled; they do after two or three.
_SETTLED = 2e-3
_MOST_STEPS = 20
_SHORTEST = 0.01


class LeaveOut:
    """Leaves rows of a fit out without fitting anew.

    Args:
        fitted: A fit to all observations of its pool.
    """

    def __init__(self, fitted: FittedPool) -> None:
        self._fitted, pool = fitted, fitted.pool
        self._rows = np.arange(len(pool.observations))
        self._whiten = pool.whitener(self._rows)
        self._weights = huber_weights(self._whiten(fitted.residuals))
        slopes = pool.slopes(fitted.parameters, self._rows)
        self._weighed = self._weigh(slopes)
        self._inverse = np.linalg.inv(slopes.T @ self._weighed + np.diag(pool.sds**-2))

    def without(self, out: Rows) -> FittedPool:
        """The fit to all observations but some.

        Where the steps do not settle, which takes rows that the fit hangs on, it is fitted in earnest.
        """
        pool, kept = self._fitted.pool, np.setdiff1d(self._rows, out)
        whiten, solve = pool.whitener(kept), self._curvature(out)
        precision = pool.sds**-2

        def at(parameters: Array) -> tuple[Array, float]:
            with np.errstate(over="ignore", invalid="ignore"):  # a wild step costs infinity or nan, and is shortened
                left = whiten(pool.measured[kept] - pool.logs(parameters, kept))
            return left, huber_loss(left) + float(precision @ parameters**2)

        parameters, before = self._fitted.parameters, self._fitted.base_logs(out)
        left, cost = at(parameters)
        for _ in range(_MOST_STEPS):
            pulled = pool.pulled(parameters, kept, whiten.undo(huber_weights(left) * left))
            step = solve(pulled - precision * parameters)
            new, length = at(parameters + step), 1.0
            while not new[1] <= cost and length > _SHORTEST:
                length /= 4
                new = at(parameters + length * step)
            if not new[1] <= cost:
                break
            parameters, (left, cost) = parameters + length * step, new
            after = pool.logs(parameters, out)
            if np.abs(after - before).max() < _SETTLED * length:
                return pool.at(parameters, kept, whiten)
            before = after
        return pool.without(out, self._fitted)

    def _weigh(self, values: Array) -> Array:
        """The precision of the errors times values."""
        return self._whiten.undo(self._weights[:, None] * self._whiten(values))

    def _curvature(self, out: Rows) -> Callable[[Array], Array]:
        """Solves with the curvature of the posterior without some rows."""
        ones = np.zeros((len(self._rows), len(out)))
        ones[out, np.arange(len(out))] = 1.0
        lost = self._weighed[out]
        carried = self._inverse @ lost.T
        gained = carried @ np.linalg.inv(self._weigh(ones)[out] - lost @ carried)

        def solve(values: Array) -> Array:
            near = self._inverse @ values
            solved: Array = near + gained @ (lost @ near)
            return solved

        return solve
