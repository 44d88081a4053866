"""The choice of a round's deadline: the most effective work per second.

The effective work of a round is ``(sum_i p_i * sqrt(min(1, k_i/K_i)))^2``: the power mean, of exponent one half and weighted by
data, of the shares of normal work that clients do. Like any concave utility it prefers some work of everybody to much work of
a few. The square makes it proportional to the work when all clients do the same share; the plain sum of square roots, divided
by time, would call ever shorter rounds ever better wherever transfers are quick.
"""

from __future__ import annotations

import numpy as np

from devprof.plan.fleet import Fleet, Floats

__all__ = ["best_deadline", "effective_work", "least_deadline"]

_SHARES = np.linspace(0.0, 1.0, 21)
_MOST_CANDIDATES = 128
_TIE = 1e-9


def effective_work(fleet: Fleet, deadline_s: Floats) -> Floats:
    """Effective work of a round, from 0 to 1, for each deadline."""
    share = np.minimum(1.0, fleet.steps_by(deadline_s[:, None]) / fleet.normal_steps)
    work: Floats = (np.sqrt(share) @ fleet.weight) ** 2
    return work


def least_deadline(fleet: Fleet) -> float:
    """The first deadline by which clients with ``coverage`` of the data can do their least number of steps."""
    earliest_s = fleet.earliest_s()
    order = np.argsort(earliest_s, kind="stable")
    covered = np.cumsum(fleet.weight[order])
    position = int(np.searchsorted(covered, fleet.settings.coverage * covered[-1] - _TIE))
    return float(earliest_s[order[min(position, len(order) - 1)]])


def best_deadline(fleet: Fleet) -> float:
    """The deadline with the most effective work per second of the round, not below :func:`least_deadline`.

    Only moments at which some client completes a share of its work can be best. Among equals the latest is taken: the same
    rate in fewer, larger rounds.

    Args:
        fleet: The clients with a prediction, at least one.
    """
    floor_s = least_deadline(fleet)
    steps = np.maximum(fleet.least_steps, np.ceil(_SHARES[:, None] * fleet.normal_steps))
    moments = np.unique(fleet.seconds_at_risk(steps))
    moments = moments[moments > floor_s]
    if moments.size > _MOST_CANDIDATES:
        moments = moments[np.linspace(0, moments.size - 1, _MOST_CANDIDATES).round().astype(np.int64)]
    moments = np.concatenate([[floor_s], moments])
    rate = effective_work(fleet, moments) / (moments + fleet.settings.server_s)
    best = np.flatnonzero(rate >= rate.max() * (1 - _TIE))
    return float(moments[best[-1]])
