"""The costs of a fleet's clients as arrays, and the steps that each can do by a deadline.

With ``k`` steps of mean time ``t``, a relative noise ``v`` per step, a standard deviation ``s`` of the prediction itself and
one of ``f`` of all that is not a step, a round takes ``fixed + k*t`` with variance ``k*(v*t)^2 + (k*s)^2 + f^2``: noise
averages out over steps, a wrong prediction does not. A client is promised no more steps than it does in time with
probability ``1 - miss_risk``, and no more than its energy budget allows at the upper end of the interval of energy.

A partial last batch is priced as a full one. Training time is then an upper bound, too long by ``(1 - t(r)/t(B)) / m`` with
``r`` samples in the last of ``m`` batches of a pass: less than one step per pass, nothing where the batch size divides the
data. It is not priced apart because corrections are learned from the mean step of a round, which has its partial batches in it:
from a client's second round on, its predictions are right for them on average, and would count them twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from devprof.plan.columns import Bools, FleetArrays, Floats, Indices, Ints, StepCosts, tags
from devprof.plan.settings import PlannerSettings

__all__ = ["CHUNK", "Barrier", "Fleet", "Option", "outside_seconds"]

CHUNK = 1 << 15
"""Clients that are treated at once: temporaries of so many stay in the processor's cache."""

_ROUNDING = 1e-9


class Barrier(IntEnum):
    """What keeps a client from taking part whatever the deadline."""

    NONE = 0
    MEMORY = 1
    ENERGY_UNKNOWN = 2
    ENERGY = 3


@dataclass(frozen=True, slots=True)
class Option:
    """Training at one batch size, one value per client; energy is NaN where it is not known."""

    step_s: Floats
    step_sd_s: Floats
    batch_size: Ints
    epoch_steps: Ints
    energy_j: Floats
    energy_hi_j: Floats


@dataclass(frozen=True, slots=True)
class Fleet:
    """Clients with a prediction, one array element each. Build it with :meth:`build`.

    Attributes:
        data: How much data a client stands for; only ratios matter.
        count: How many clients it stands for: 1, but in a sketch of a large fleet.
        outside_s: Transfers and overhead: what is not the client's own part.
        startup_s: Seconds from receipt to the first step.
        fixed_sd_s: Standard deviation of the two together.
        budget_j: Joules that its steps may take; infinite for no limit.
        left_out: Rounds in a row that it was left out.
        preferred: Training at the batch size with the most progress per second.
        resort: Training at the batch size that reaches the least useful number of steps soonest within the energy budget: for
            a client that cannot do so at the preferred size.
        tag: A hash of its values, by which clients are ordered where sums must not depend on the caller's order.
        barrier: A :class:`Barrier`; the other arrays mean nothing where there is one.
        settings: What the user wants of a round.
    """

    data: Floats
    count: Floats
    outside_s: Floats
    startup_s: Floats
    fixed_sd_s: Floats
    budget_j: Floats
    left_out: Ints
    tag: npt.NDArray[np.uint64]
    preferred: Option
    resort: Option
    barrier: npt.NDArray[np.uint8]
    settings: PlannerSettings

    @classmethod
    def build(
        cls,
        clients: FleetArrays,
        index: Indices,
        costs: StepCosts,
        settings: PlannerSettings,
        *,
        payload_bytes: float,
    ) -> Fleet:
        """The fleet of some clients, in the order of ``index``; each must have samples and a step time at some batch size."""
        starts = range(0, max(1, index.size), CHUNK)
        parts = [_build(clients.take(index[at : at + CHUNK]), costs, settings, payload_bytes) for at in starts]
        return parts[0] if len(parts) == 1 else _join(parts)

    def select(self, chosen: Bools | Indices | slice) -> Fleet:
        """The fleet of the chosen clients."""
        columns: dict[str, Any] = {
            one.name: _pick(getattr(self, one.name), chosen) for one in fields(self) if one.name != "settings"
        }
        return Fleet(**columns, settings=self.settings)

    @property
    def size(self) -> int:
        """How many array elements there are."""
        return int(self.data.size)

    @property
    def order(self) -> Indices:
        """Places of the clients by their tags; those that are alike in everything keep the order in which they were given."""
        return np.argsort(self.tag, kind="stable")

    @property
    def weight(self) -> Floats:
        """Share of the fleet's data."""
        weight: Floats = self.data / self.data.sum()
        return weight

    @property
    def fixed_s(self) -> Floats:
        """Seconds of a client's round that do not depend on its steps."""
        return self.outside_s + self.startup_s

    @property
    def normal_steps(self) -> Ints:
        """Steps of the normal round."""
        return self.settings.local_epochs * self.preferred.epoch_steps

    @property
    def energy_steps(self) -> Floats:
        """Steps at the preferred batch size that the client's own energy budget allows; infinite without one."""
        energy_j = np.where(np.isnan(self.preferred.energy_hi_j), 0.0, self.preferred.energy_hi_j)
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.floor(self.budget_j / energy_j + _ROUNDING)
        return np.where(energy_j > 0, steps, np.inf)

    @property
    def most_steps(self) -> Floats:
        """Steps that no client exceeds, for want of data or energy; possibly less than the least useful number."""
        return np.minimum(self.settings.most_epochs * self.preferred.epoch_steps, self.energy_steps)

    @property
    def least_steps(self) -> Ints:
        """Steps below which a client is not asked."""
        return np.minimum(self.settings.min_steps, self.settings.most_epochs * self.preferred.epoch_steps)

    @property
    def resort_steps(self) -> Ints:
        """Steps of a client at its batch size of last resort: the fewest useful ones."""
        return np.minimum(self.settings.min_steps, self.settings.most_epochs * self.resort.epoch_steps)

    def seconds_at_risk(self, steps: Floats | Ints) -> Floats:
        """Seconds within which ``steps`` at the preferred batch size are done with probability ``1 - miss_risk``."""
        option = self.preferred
        return self.fixed_s + _at_risk(steps, option.step_s, option.step_sd_s, self.fixed_sd_s, self.settings)

    def earliest_s(self) -> Floats:
        """The first deadline by which each client can do its least number of steps, at any allowed batch size."""
        option, steps = self.resort, self.resort_steps
        return self.fixed_s + _at_risk(steps, option.step_s, option.step_sd_s, self.fixed_sd_s, self.settings)

    def cutoff_s(self, deadline_s: float) -> Floats:
        """The clients' own limits: the deadline less what is outside of their part, with the margin of that alone.

        A client that trains until then is still in time with probability ``1 - miss_risk``, whatever held it up; and planned
        steps end before it when all goes as predicted, because their margin is never smaller. A client that is slower than
        predicted loses a few steps by it, where coming too late would lose them all.
        """
        return deadline_s - self.outside_s - self.settings.risk_quantile * self.fixed_sd_s

    def steps_by(self, deadline_s: Floats | float) -> Ints:
        """Steps of each client by a deadline (last axis) at the preferred batch size; 0 where the least is not reached.

        More time never means fewer steps, and a larger energy budget neither.
        """
        quantile = self.settings.risk_quantile
        t, s = self.preferred.step_s, self.preferred.step_sd_s
        margin = quantile * self.fixed_sd_s
        left = np.maximum(np.asarray(deadline_s) - self.fixed_s, 0.0)
        free = np.maximum(left - margin, 0.0) * (left + margin)
        noise = (quantile * self.settings.step_noise * t) ** 2
        # k*t + z*sqrt(k*(v*t)^2 + (k*s)^2 + f^2) = left is quadratic in k; the discriminant is written without differences,
        # and the root in the form that holds where the quadratic term vanishes, so that no digits are lost.
        half = 2 * left * t + noise
        root = 4 * left * t * noise
        root += noise**2 + (2 * t * margin) ** 2
        root += (2 * quantile * s) ** 2 * free
        np.sqrt(root, out=root)
        root += half
        root += np.finfo(float).tiny
        steps = np.floor(2 * free / root + _ROUNDING)
        steps = np.minimum(steps, self.most_steps)
        return np.where(steps >= self.least_steps, steps, 0).astype(np.int64)


def outside_seconds(columns: Mapping[str, Floats], payload_bytes: float) -> Floats:
    """Seconds of clients' rounds that are not their own part: both transfers, and overhead."""
    seconds_per_mbps = payload_bytes * 8e-6
    transfers_s = (
        2 * columns["latency_s"] + seconds_per_mbps / columns["down_mbps"] + seconds_per_mbps / columns["up_mbps"]
    )
    return transfers_s + columns["overhead_s"]


def _build(
    columns: dict[str, npt.NDArray[np.generic]], costs: StepCosts, settings: PlannerSettings, payload_bytes: float
) -> Fleet:
    samples = columns["samples"].astype(np.int64)
    number = {name: values.astype(np.float64, copy=False) for name, values in columns.items()}
    cost = costs.of_devices(columns["device"].astype(np.intp))
    sizes, row = costs.batch_sizes, np.arange(samples.size)
    epoch_steps = -(-samples[:, None] // sizes)
    fits, metered = _affordable(number, cost, settings)
    affordable = fits & metered
    # A batch beyond the data is the data; too few steps in the whole round waste the client.
    enough = (sizes <= samples[:, None]) & (settings.local_epochs * epoch_steps >= settings.min_steps)
    sensible = affordable & enough
    smallest = np.zeros_like(affordable)
    smallest[row, affordable.argmax(axis=1)] = True
    allowed = np.where(sensible.any(axis=1, keepdims=True), sensible, smallest & affordable)
    progress = sizes / (sizes + settings.critical_batch_size) / cost["step_s"]
    preferred = np.where(allowed, progress, -1.0).argmax(axis=1)
    least = np.minimum(settings.min_steps, settings.most_epochs * epoch_steps)
    budget_j = np.where(np.isnan(number["energy_budget_j"]), np.inf, number["energy_budget_j"])
    possible = allowed & ~(least * cost["energy_hi_j"] > budget_j[:, None] * (1 + _ROUNDING))
    fixed_sd_s = number["fixed_sd_s"]
    soonest = _at_risk(least, cost["step_s"], cost["step_sd_s"], fixed_sd_s[:, None], settings)
    resort = np.where(possible, soonest, np.inf).argmin(axis=1)

    def option(choice: Indices) -> Option:
        names = ("step_s", "step_sd_s", "energy_j", "energy_hi_j")
        step_s, step_sd_s, energy_j, energy_hi_j = (cost[name][row, choice] for name in names)
        return Option(step_s, step_sd_s, sizes[choice], epoch_steps[row, choice], energy_j, energy_hi_j)

    barrier = np.select(
        [~fits.any(axis=1), ~affordable.any(axis=1), ~possible.any(axis=1)],
        [Barrier.MEMORY, Barrier.ENERGY_UNKNOWN, Barrier.ENERGY],
        Barrier.NONE,
    ).astype(np.uint8)
    return Fleet(
        data=samples.astype(np.float64),
        count=np.ones(samples.size),
        outside_s=outside_seconds(number, payload_bytes),
        startup_s=number["startup_s"],
        fixed_sd_s=fixed_sd_s,
        budget_j=budget_j,
        left_out=columns["rounds_left_out"].astype(np.int64),
        tag=tags(columns),
        preferred=option(preferred),
        resort=option(resort),
        barrier=barrier,
        settings=settings,
    )


def _affordable(
    number: Mapping[str, Floats], cost: Mapping[str, Floats], settings: PlannerSettings
) -> tuple[Bools, Bools]:
    """Clients by batch sizes: whether the memory suffices, and whether a budget of energy can be held against anything.

    Memory of which nothing is known is taken to suffice. Energy of which nothing is known keeps no budget, unless the user
    allows that.
    """
    fits = (cost["fits"] > 0) & ~np.isnan(cost["step_s"])
    fits &= ~(cost["memory_hi_bytes"] > number["memory_limit_bytes"][:, None])
    if settings.allow_unknown_energy:
        return fits, np.ones_like(fits)
    budgeted = ~np.isnan(number["energy_budget_j"]) | (settings.energy_budget_j is not None)
    return fits, ~(np.isnan(cost["energy_hi_j"]) & budgeted[:, None])


def _at_risk(
    steps: Floats | Ints, step_s: Floats, step_sd_s: Floats, fixed_sd_s: Floats, settings: PlannerSettings
) -> Floats:
    variance = steps * (settings.step_noise * step_s) ** 2 + (steps * step_sd_s) ** 2 + fixed_sd_s**2
    seconds: Floats = steps * step_s + settings.risk_quantile * np.sqrt(variance)
    return seconds


def _pick(value: npt.NDArray[np.generic] | Option, chosen: Bools | Indices | slice) -> npt.NDArray[np.generic] | Option:
    if isinstance(value, Option):
        return Option(*(getattr(value, one.name)[chosen] for one in fields(Option)))
    return value[chosen]


def _join(parts: Sequence[Fleet]) -> Fleet:
    def option(name: str) -> Option:
        options = [getattr(part, name) for part in parts]
        return Option(*(np.concatenate([getattr(one, field.name) for one in options]) for field in fields(Option)))

    joined: dict[str, Any] = {"preferred": option("preferred"), "resort": option("resort")}
    for name in (one.name for one in fields(Fleet) if one.name not in ("preferred", "resort", "settings")):
        joined[name] = np.concatenate([getattr(part, name) for part in parts])
    return Fleet(**joined, settings=parts[0].settings)
