"""The steps of a fleet within an energy budget for all of it: the most effective work for the joules.

Maximised is ``sum_i p_i * sqrt(k_i / K_i)`` subject to ``sum_i e_i * k_i <= J``, with each ``k_i`` 0 or from the fewest useful
steps to what time and the client's own budget allow. At a price per joule each client decides alone (Lagrange): without
limits it takes ``(p_i / (2 * price * e_i * sqrt(K_i)))^2`` steps; where that is less than the fewest useful ones, it takes
those as long as they are worth their price, which holds down to a quarter of them, and else none. Where the budget binds,
nobody goes beyond the normal round: it would count nothing.

The price is the lowest that keeps the budget, on a grid that does not depend on the budget; what is left then goes to those
who would do more at the next lower price, whoever was left out longest first. So more budget
never means fewer steps for anyone, and of equal clients that cannot all take part each has its turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from devprof.plan.columns import Bools, Floats, Indices, Ints
from devprof.plan.fleet import Fleet

__all__ = ["Market"]

# Prices per factor of two: neighbours differ by 0.004 %, and at the least by what one client more takes.
_GRID = 1 << 14


@dataclass(frozen=True, slots=True)
class Market:
    """Clients that share a budget.

    Attributes:
        weight: Share of the data.
        normal: Steps of the normal round.
        least: The fewest useful steps.
        energy_j: Joules per step of all the clients that an element stands for, at the upper end; 0 where it is not known.
        left_out: Rounds in a row that a client was left out.
        budget_j: Joules for all.
    """

    weight: Floats
    normal: Ints
    least: Ints
    energy_j: Floats
    left_out: Ints
    budget_j: float

    @classmethod
    def of(cls, fleet: Fleet, budget_j: float, *, resort: Bools | None = None) -> Market:
        """The market of a fleet.

        Args:
            fleet: The clients.
            budget_j: Joules for all of them.
            resort: Where it is true, clients train at their batch size of last resort, else at the preferred one.
        """
        energy_j, least = fleet.preferred.energy_hi_j, fleet.least_steps
        if resort is not None:
            energy_j = np.where(resort, fleet.resort.energy_hi_j, energy_j)
            least = np.where(resort, fleet.resort_steps, least)
        return cls(
            fleet.weight, fleet.normal_steps, least, fleet.count * np.nan_to_num(energy_j), fleet.left_out, budget_j
        )

    def select(self, order: Indices) -> Market:
        """The same clients in another order."""
        names = ("weight", "normal", "least", "energy_j", "left_out")
        return replace(self, **{name: getattr(self, name)[order] for name in names})

    def effective_work(self, most: Ints) -> Floats:
        """Effective work within the budget, for each row of steps that time allows; between two prices in proportion."""
        useful = self._useful(most)
        worth = self._worth
        more, fewer = (self._steps_at(price, useful, worth) for price in self._prices(useful, worth))
        upper, lower = (np.sqrt(np.minimum(1.0, steps / self.normal)) @ self.weight for steps in (more, fewer))
        cost_upper, cost_lower = more @ self.energy_j, fewer @ self.energy_j
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(cost_upper > cost_lower, (self.budget_j - cost_lower) / (cost_upper - cost_lower), 1.0)
        work: Floats = (lower + np.clip(share, 0.0, 1.0) * (upper - lower)) ** 2
        return work

    def allot(self, most: Ints) -> Ints:
        """The steps of each client, at the most those that time allows."""
        if most @ self.energy_j <= self.budget_j:
            return most
        useful = self._useful(most)[None, :]
        worth = self._worth
        more, steps = (self._steps_at(price, useful, worth)[0] for price in self._prices(useful, worth))
        gaining = np.flatnonzero(more > steps)
        gaining = gaining[np.argsort(-self.left_out[gaining], kind="stable")]
        extra = np.cumsum((more - steps)[gaining] * self.energy_j[gaining])
        taken = gaining[: int(np.searchsorted(extra, self.budget_j - steps @ self.energy_j, side="right"))]
        steps[taken] = more[taken]
        allotted: Ints = steps.astype(np.int64)
        return allotted

    def _useful(self, most: Ints) -> Floats:
        """Without what goes beyond the normal round, which is worth no joules of others."""
        useful: Floats = np.minimum(most, np.maximum(self.normal, self.least)).astype(np.float64)
        return useful

    @property
    def _worth(self) -> Floats:
        """Steps that each client would take at a price of 1, without limits."""
        with np.errstate(divide="ignore"):
            worth: Floats = (self.weight / (2 * self.energy_j)) ** 2 / self.normal
        return worth

    def _steps_at(self, price: Ints, most: Floats, worth: Floats) -> Floats:
        """Steps of each client at prices given by their place on the grid, one row each."""
        with np.errstate(over="ignore"):
            wanted = worth * np.exp2(-2 * price / _GRID)[:, None]
        steps = np.floor(wanted)
        np.minimum(steps, most, out=steps)
        few = steps < self.least
        if few.any():
            # Those that could do the fewest useful steps, and find them worth their price.
            least = np.broadcast_to(self.least, few.shape)[few]
            steps[few] = np.where((4 * wanted[few] >= least) & (most[few] >= least), least, 0.0)
        return steps

    def _prices(self, most: Floats, worth: Floats) -> tuple[Ints, Ints]:
        """For each row the place of the lowest price within the budget and the one before; equal where all is affordable."""
        free = most @ self.energy_j <= self.budget_j
        priced = self.energy_j > 0
        if free.all():
            cheapest = np.full(free.size, -1000 * _GRID, dtype=np.int64)
            return cheapest, cheapest
        base = np.log2(self.weight[priced] / (2 * self.energy_j[priced])) - 0.5 * np.log2(self.normal[priced])
        longest = np.maximum(1, most.max(axis=0))[priced]
        cheapest = np.full(free.size, math.floor((base - 0.5 * np.log2(longest)).min() * _GRID) - 1, dtype=np.int64)
        dearest = math.ceil((base + 1 - 0.5 * np.log2(self.least[priced])).max() * _GRID) + 1
        low, high = cheapest, np.where(free, cheapest + 1, dearest)
        while (high - low > 1).any():
            middle = (low + high) // 2
            kept = self._steps_at(middle, most, worth) @ self.energy_j <= self.budget_j
            low, high = np.where(kept, low, middle), np.where(kept, middle, high)
        return np.where(free, cheapest, low), np.where(free, cheapest, high)
