"""The choice of a round's deadline: the most effective work per second.

The effective work of a round is ``(sum_i p_i * sqrt(min(1, k_i/K_i)))^2``: the power mean, of exponent one half and weighted by
data, of the shares of normal work that clients do. Like any concave utility it prefers some work of everybody to much work of
a few. The square makes it proportional to the work when all clients do the same share; the plain sum of square roots, divided
by time, would call ever shorter rounds ever better wherever transfers are quick.

In a large fleet the rates of deadlines are compared on a sketch: clients at equal distances in the data, ordered by the time of
their normal round. What the deadline must grant (coverage, turns) is found on the whole fleet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from devprof.plan.columns import Floats
from devprof.plan.energy import Market
from devprof.plan.fleet import Fleet

__all__ = ["Deadline", "best_deadline", "choose_deadline", "effective_work", "least_deadline", "sketch"]

_SHARES = np.linspace(0.0, 1.0, 21)
_MOST_CANDIDATES = 128
_TIE = 1e-9
# Clients in a sketch: ten thousand of them are planned in milliseconds, and the rate that is lost is below a thousandth.
_SKETCH = 1024
# A price is found for each deadline, so that fewer have to do.
_ENERGY_SKETCH = 256
_TAG = 1e-9 / 2**64


class Deadline(NamedTuple):
    """A chosen deadline.

    Attributes:
        deadline_s: The deadline.
        best_s: The one with the most effective work per second; less where a turn stretched it.
    """

    deadline_s: float
    best_s: float


def effective_work(fleet: Fleet, deadline_s: Floats) -> Floats:
    """Effective work of a round, from 0 to 1, for each deadline, within the fleet's budget of energy if there is one."""
    steps = fleet.steps_by(deadline_s[:, None])
    if fleet.settings.energy_budget_j is not None:
        return Market.of(fleet, fleet.settings.energy_budget_j).effective_work(steps)
    work: Floats = (np.sqrt(np.minimum(1.0, steps / fleet.normal_steps)) @ fleet.weight) ** 2
    return work


def sketch(fleet: Fleet, size: int = _SKETCH) -> Fleet:
    """A smaller fleet that stands for this one: clients at equal distances in the data, ordered by their normal round.

    Each stands for the same amount of data, and for as many clients like itself as have that much. A fleet of no more than
    ``size`` clients is its own sketch. The order of the clients does not depend on the caller's.
    """
    if fleet.size <= size:
        return fleet.select(fleet.order)
    # Clients whose rounds are equally long are told apart by their tags.
    order = np.argsort(fleet.seconds_at_risk(fleet.normal_steps) * (1 + fleet.tag * _TAG))
    covered = np.cumsum(fleet.data[order])
    each = covered[-1] / size
    chosen = order[np.searchsorted(covered, (np.arange(size) + 0.5) * each)]
    picked = fleet.select(chosen)
    return replace(picked, data=np.ones(size), count=each / picked.data)


def least_deadline(fleet: Fleet) -> float:
    """The first deadline by which clients with ``coverage`` of the data can do their least number of steps."""
    earliest_s = fleet.earliest_s()
    order = np.argsort(earliest_s)
    covered = np.cumsum(fleet.data[order])
    position = int(np.searchsorted(covered, (fleet.settings.coverage - _TIE) * covered[-1]))
    return float(earliest_s[order[min(position, len(order) - 1)]])


def best_deadline(fleet: Fleet, floor_s: float) -> float:
    """The deadline with the most effective work per second of the round, not below ``floor_s``.

    Only moments at which some client completes a share of its work can be best. Among equals the latest is taken: the same
    rate in fewer, larger rounds.

    Args:
        fleet: The clients with a prediction, at least one; of a large fleet its :func:`sketch`.
        floor_s: The least deadline.
    """
    steps = np.maximum(fleet.least_steps, np.ceil(_SHARES[:, None] * fleet.normal_steps))
    steps = np.minimum(steps, np.maximum(fleet.least_steps, fleet.most_steps))
    moments = np.unique(fleet.seconds_at_risk(steps))
    moments = moments[moments > floor_s]
    if moments.size > _MOST_CANDIDATES:
        moments = moments[np.linspace(0, moments.size - 1, _MOST_CANDIDATES).round().astype(np.int64)]
    moments = np.concatenate([[floor_s], moments])
    rate = effective_work(fleet, moments) / (moments + fleet.settings.server_s)
    best = np.flatnonzero(rate >= rate.max() * (1 - _TIE))
    return float(moments[best[-1]])


def choose_deadline(fleet: Fleet) -> Deadline:
    """The best deadline that covers enough data, stretched where a client that was left out for long has its turn.

    A client has its turn when it was left out for ``turn_after_rounds`` rounds, and the deadline is then at least what it needs
    for its fewest useful steps: all who wait and need no more take part in the same long round. One that needs more than
    ``turn_factor`` times the best deadline has none: it would make many rounds slow for little.

    Args:
        fleet: The clients with a prediction, at least one.
    """
    part = sketch(fleet, _SKETCH if fleet.settings.energy_budget_j is None else _ENERGY_SKETCH)
    best_s = best_deadline(part, least_deadline(fleet))
    if fleet.settings.turn_after_rounds is None:
        return Deadline(best_s, best_s)
    waiting = fleet.left_out >= fleet.settings.turn_after_rounds
    if not waiting.any():
        return Deadline(best_s, best_s)
    needed_s = fleet.select(waiting).earliest_s()
    needed_s = needed_s[(needed_s > best_s) & (needed_s <= fleet.settings.turn_factor * best_s)]
    if not needed_s.size:
        return Deadline(best_s, best_s)
    return Deadline(best_deadline(part, float(needed_s.max())), best_s)
