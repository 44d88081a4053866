"""The plan of one round for a whole fleet at once, on arrays: a million clients in about a second."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from devprof.plan.columns import Bools, FleetArrays, Floats, Indices, Ints, StepCosts
from devprof.plan.deadline import choose_deadline
from devprof.plan.energy import Market
from devprof.plan.fleet import CHUNK, Barrier, Fleet, outside_seconds
from devprof.plan.reasons import Circumstances, Reason, reason_text
from devprof.plan.settings import PlannerSettings

__all__ = ["FleetPlan", "plan_fleet"]

_BARRED = {
    Barrier.MEMORY: Reason.MEMORY,
    Barrier.ENERGY_UNKNOWN: Reason.ENERGY_UNKNOWN,
    Barrier.ENERGY: Reason.ENERGY,
}


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """A round's plan, one array element per client in the order given; NaN stands for what is not known.

    Attributes:
        deadline_s: The server's deadline, from sending to arrival of the reply; infinite for none.
        participates: Whether the client is asked at all.
        reason: Why its part is what it is: a :class:`~devprof.plan.reasons.Reason`; :meth:`reason_text` is the sentence.
        steps: Optimizer steps to do at the most; 0 where it does not take part.
        epochs: Passes over its data that the steps stand for, rounded up.
        batch_size: Samples per step.
        cutoff_s: The client's own limit, from receipt to the end of training; infinite for none, 0 where it does not take part.
        learning_rate_scale: Factor on the configured learning rate.
        predicted_s: Predicted seconds of its whole part; where it is left out for want of time or joules, those that it would
            need for its fewest useful steps.
        predicted_hi_s: Seconds within which that is done at the planned risk.
        predicted_energy_j: Predicted joules of its steps; NaN where it takes no part, too.
        predicted_energy_hi_j: The same at the upper end of the interval.
        normal_steps: Steps of its normal round.
        preferred_batch_size: The batch size with the most progress per second.
        clients: What was planned for.
        costs: The costs of steps that it was planned with.
        settings: What was wanted of the round.
    """

    deadline_s: float
    participates: Bools
    reason: npt.NDArray[np.uint8]
    steps: Ints
    epochs: Ints
    batch_size: Ints
    cutoff_s: Floats
    learning_rate_scale: Floats
    predicted_s: Floats
    predicted_hi_s: Floats
    predicted_energy_j: Floats
    predicted_energy_hi_j: Floats
    normal_steps: Ints
    preferred_batch_size: Ints
    clients: FleetArrays
    costs: StepCosts
    settings: PlannerSettings

    def reason_text(self, client: int) -> str:
        """Why the part of the client at this index is what it is; empty when it simply does all its work."""
        reason = Reason(int(self.reason[client]))
        if reason is Reason.WHOLE:
            return ""
        row = int(np.asarray(self.clients.device)[client])
        return reason_text(
            reason,
            Circumstances(
                steps=int(self.steps[client]),
                normal_steps=int(self.normal_steps[client]),
                batch_size=int(self.batch_size[client]),
                preferred_batch_size=int(self.preferred_batch_size[client]),
                deadline_s=self.deadline_s,
                needed_s=_known(self.predicted_hi_s[client]),
                cutoff_s=float(self.cutoff_s[client]),
                rounds_left_out=int(np.asarray(self.clients.rounds_left_out)[client]),
                memory_bytes=_least(self.costs.memory_hi_bytes[row]),
                memory_limit_bytes=_known(np.asarray(self.clients.memory_limit_bytes)[client]),
                energy_budget_j=_known(np.asarray(self.clients.energy_budget_j)[client]),
                fleet_budget_j=self.settings.energy_budget_j,
                least_j=_least(self.costs.energy_hi_j[row] * self.settings.min_steps),
            ),
        )


def plan_fleet(clients: FleetArrays, costs: StepCosts, settings: PlannerSettings, *, payload_bytes: float) -> FleetPlan:
    """Plan a round for a fleet given as arrays: what :func:`devprof.plan.planner.plan_round` says, for millions of clients.

    A permutation of the clients permutes the plan and changes nothing else; where equal clients cannot all take part, as many
    of them do as before.

    Args:
        clients: The clients that could take part.
        costs: Costs of a step by device and batch size; its batch sizes are those that are chosen from.
        settings: What the user wants of a round.
        payload_bytes: Size of the model as sent, taken to be the same both ways.

    Raises:
        ValueError: If the payload is negative, batch sizes differ from those of the settings, or a client is impossible.
    """
    if not (math.isfinite(payload_bytes) and payload_bytes >= 0):
        raise ValueError(f"payload_bytes must be at least 0 and finite, got {payload_bytes}")
    if tuple(costs.batch_sizes.tolist()) != settings.candidates:
        raise ValueError(
            f"the table of costs has the batch sizes {costs.batch_sizes.tolist()}, the settings {list(settings.candidates)}"
        )
    clients = clients.checked(costs.step_s.shape[0])
    samples = np.asarray(clients.samples)
    predicted = np.asarray((~np.isnan(costs.step_s)).any(axis=1))[np.asarray(clients.device)]
    known = np.flatnonzero((samples > 0) & predicted)
    fleet = Fleet.build(clients, known, costs, settings, payload_bytes=payload_bytes)
    out = _blank(clients, costs, settings)
    barred = fleet.barrier != Barrier.NONE
    if barred.any():
        codes = np.array([_BARRED.get(barrier, Reason.WHOLE) for barrier in Barrier], dtype=np.uint8)
        out.reason[known[barred]] = codes[fleet.barrier[barred]]
        fleet, known = fleet.select(~barred), known[~barred]
    best_s = deadline_s = settings.deadline_s or math.inf
    if known.size:
        if settings.deadline_s is None:
            deadline_s, best_s = choose_deadline(fleet)
        _plan_known(out, known, fleet, deadline_s, best_s)
    unknown = np.flatnonzero((samples > 0) & ~predicted)
    if unknown.size:
        _plan_unknown(out, unknown, payload_bytes, deadline_s, alone=not known.size)
    return replace(out, deadline_s=deadline_s)


def _blank(clients: FleetArrays, costs: StepCosts, settings: PlannerSettings) -> FleetPlan:
    """A plan in which nobody takes part, for want of data."""
    size = np.asarray(clients.samples).size

    def whole(value: int) -> Ints:
        return np.full(size, value, dtype=np.int64)

    def unknown() -> Floats:
        return np.full(size, np.nan)

    return FleetPlan(
        deadline_s=math.inf,
        participates=np.zeros(size, dtype=np.bool_),
        reason=np.full(size, Reason.NO_DATA, dtype=np.uint8),
        steps=whole(0),
        epochs=whole(0),
        batch_size=whole(settings.batch_size),
        cutoff_s=np.zeros(size),
        learning_rate_scale=np.ones(size),
        predicted_s=unknown(),
        predicted_hi_s=unknown(),
        predicted_energy_j=unknown(),
        predicted_energy_hi_j=unknown(),
        normal_steps=whole(0),
        preferred_batch_size=whole(settings.batch_size),
        clients=clients,
        costs=costs,
        settings=settings,
    )


def _plan_known(out: FleetPlan, known: Indices, fleet: Fleet, deadline_s: float, best_s: float) -> None:
    """Writes the plans of clients with a prediction."""
    starts = range(0, known.size, CHUNK)
    parts = [_timely_steps(fleet.select(slice(at, at + CHUNK)), deadline_s) for at in starts]
    timely, resort = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    steps = timely.copy()
    if fleet.settings.energy_budget_j is not None:
        market = Market.of(fleet, fleet.settings.energy_budget_j, resort=resort)
        steps[fleet.order] = market.select(fleet.order).allot(timely[fleet.order])
    for at in starts:
        part = slice(at, at + CHUNK)
        allocation = _Allocation(steps[part], timely[part], resort[part])
        _write(out, known[part], fleet.select(part), allocation, (deadline_s, best_s))


def _timely_steps(fleet: Fleet, deadline_s: float) -> tuple[Ints, Bools]:
    """Steps of each client by the deadline, 0 where it is late, and who is not at the preferred batch size.

    At the batch size of last resort no more than the fewest useful: steps would fall again when the preferred one becomes
    possible.
    """
    steps = fleet.steps_by(deadline_s)
    resort = steps == 0
    return np.where(resort & (fleet.earliest_s() <= deadline_s), fleet.resort_steps, steps), resort


@dataclass(frozen=True, slots=True)
class _Allocation:
    """Steps of clients, those that time and their own budgets allow, and whose batch size is that of last resort."""

    steps: Ints
    timely: Ints
    resort: Bools


def _write(
    out: FleetPlan,
    at: Indices,
    fleet: Fleet,
    own: _Allocation,
    deadlines_s: tuple[float, float],
) -> None:
    settings, (deadline_s, _) = fleet.settings, deadlines_s
    option = {
        name: np.where(own.resort, getattr(fleet.resort, name), getattr(fleet.preferred, name))
        for name in ("step_s", "batch_size", "epoch_steps", "energy_j", "energy_hi_j")
    }
    taken = own.steps > 0
    # Of those that are left out for want of time or joules, the seconds that the fewest useful steps would take.
    asked = np.where(taken, own.steps, np.where(own.resort, fleet.resort_steps, fleet.least_steps))
    out.participates[at] = taken
    out.steps[at] = own.steps
    out.normal_steps[at] = fleet.normal_steps
    out.batch_size[at] = option["batch_size"]
    out.preferred_batch_size[at] = fleet.preferred.batch_size
    out.epochs[at] = -(-own.steps // option["epoch_steps"])
    out.cutoff_s[at] = np.where(taken, fleet.cutoff_s(deadline_s), 0.0)
    scales = np.array([settings.learning_rate_scale(size) for size in settings.candidates])
    scale = scales[np.searchsorted(settings.candidates, option["batch_size"])]
    out.learning_rate_scale[at] = np.where(taken, scale, 1.0)
    out.predicted_s[at] = fleet.fixed_s + asked * option["step_s"]
    out.predicted_hi_s[at] = np.where(own.resort, fleet.earliest_s(), fleet.seconds_at_risk(asked))
    for name in ("energy_j", "energy_hi_j"):
        getattr(out, f"predicted_{name}")[at] = np.where(taken, own.steps * option[name], np.nan)
    out.reason[at] = _reasons(fleet, own, deadlines_s)


def _reasons(fleet: Fleet, own: _Allocation, deadlines_s: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Why the steps of clients with a prediction are as many as they are."""
    deadline_s, best_s = deadlines_s
    energy = fleet.energy_steps
    bound = np.where(own.resort, energy < fleet.least_steps, energy <= own.steps)
    turn = np.zeros_like(bound)
    if deadline_s > best_s and fleet.settings.turn_after_rounds is not None:
        turn = (fleet.left_out >= fleet.settings.turn_after_rounds) & (fleet.earliest_s() > best_s)
    whole = (own.steps >= fleet.normal_steps) & (fleet.preferred.batch_size == fleet.resort.batch_size)
    whole |= (own.steps >= fleet.normal_steps) & ~own.resort
    return np.select(
        [own.timely == 0, own.steps == 0, turn, whole, own.steps < own.timely, bound],
        [Reason.LATE, Reason.FLEET_ENERGY, Reason.TURN, Reason.WHOLE, Reason.CUT_FLEET_ENERGY, Reason.CUT_ENERGY],
        Reason.CUT_TIME,
    ).astype(np.uint8)


def _plan_unknown(out: FleetPlan, at: Indices, payload_bytes: float, deadline_s: float, *, alone: bool) -> None:
    """Writes the plans of clients that nothing is known of: the normal round where nobody is known, else a probe."""
    settings = out.settings
    own = {name: values.astype(np.float64) for name, values in out.clients.take(at).items()}
    epoch_steps = -(-own["samples"].astype(np.int64) // settings.batch_size)
    normal = settings.local_epochs * epoch_steps
    steps = normal if alone else np.minimum(settings.min_steps, normal)
    cutoff_s = deadline_s - outside_seconds(own, payload_bytes) - settings.risk_quantile * own["fixed_sd_s"]
    budgeted = ~np.isnan(own["energy_budget_j"]) | (settings.energy_budget_j is not None)
    unmetered = budgeted & (not settings.allow_unknown_energy)
    taken = (cutoff_s > 0) & ~unmetered
    out.participates[at] = taken
    out.steps[at] = np.where(taken, steps, 0)
    out.epochs[at] = np.where(taken, -(-steps // epoch_steps), 0)
    out.normal_steps[at] = normal
    out.cutoff_s[at] = np.where(taken, cutoff_s, 0.0)
    out.reason[at] = np.select(
        [unmetered, ~taken], [Reason.ENERGY_UNKNOWN, Reason.TRANSFERS], Reason.NOTHING_KNOWN if alone else Reason.PROBE
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _least(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.min()) if known.size else None
