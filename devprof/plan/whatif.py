"""What each way to treat slow clients costs: round time, work and joules of a round, side by side, without running one.

All numbers are of a round in which every client takes exactly what was predicted. The four ways bear the names of
``strategies.baselines``, which runs them; the first three know one batch size, and a client whose memory it exceeds has no
part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from devprof.plan.columns import FleetArrays, Floats, StepCosts
from devprof.plan.deadline import least_deadline
from devprof.plan.fleet import Barrier, Fleet
from devprof.plan.fleetplan import FleetPlan, plan_fleet
from devprof.plan.settings import PlannerSettings

__all__ = ["DROP", "PLANNED", "TAU", "WAIT", "Choice", "Question", "compare", "sweep_deadlines", "sweep_epochs"]

WAIT = "wait for all"
DROP = "drop at deadline"
TAU = "one tau per processor"
PLANNED = "planned"

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Question:
    """A fleet and a wish, of which choices are compared.

    Attributes:
        clients: The clients; those that nothing is predicted of are not compared.
        costs: Costs of steps at the batch sizes that the planner may choose from.
        plain_costs: Costs of steps at the configured batch size alone.
        processors: For each client the processor that a cut-off is set for.
        settings: What the user wants of a round.
        payload_bytes: Size of the model as sent.
    """

    clients: FleetArrays
    costs: StepCosts
    plain_costs: StepCosts
    processors: Sequence[str]
    settings: PlannerSettings
    payload_bytes: float

    def plan(self, settings: PlannerSettings | None = None) -> FleetPlan:
        """The planner's answer, with the user's settings or others."""
        return plan_fleet(self.clients, self.costs, settings or self.settings, payload_bytes=self.payload_bytes)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a round costs and brings; shares are of the normal rounds of all clients with data and a prediction.

    Attributes:
        name: What is chosen.
        local_epochs: Passes over its data that a client makes in the normal round.
        deadline_s: The server's deadline; ``None`` where there is none.
        round_s: Seconds until the server has all that it waits for; ``None`` where nobody takes part.
        clients: Clients whose result is used.
        work_share: Share of the work whose result is used, weighted by data; above 1 where passes beyond the normal are made.
        effective_work: From 0 to 1, the power mean of the clients' shares (:mod:`devprof.plan.deadline`).
        lost_share: Share of the work that is done for nothing.
        lost_if_dropped_share: What that would be if clients knew nothing of the deadline, each did its whole normal round, and
            what comes late were dropped.
        epochs_per_hour: Effective passes over the fleet's data in an hour of such rounds.
        energy_j: Joules of all steps, used or not; ``None`` where those of a client that trains are not known.
    """

    name: str
    local_epochs: int
    deadline_s: float | None
    round_s: float | None
    clients: int
    work_share: float
    effective_work: float
    lost_share: float
    lost_if_dropped_share: float
    epochs_per_hour: float | None
    energy_j: float | None


@dataclass(frozen=True, slots=True)
class _Plain:
    """The clients that can train at the configured batch size, each taken to need exactly what was predicted.

    Attributes:
        fleet: These clients.
        weight: Their shares of the data of all clients with a prediction.
        normal_s: Seconds of their normal rounds.
        processors: What their cut-offs are set for.
    """

    fleet: Fleet
    weight: Floats
    normal_s: Floats
    processors: list[str]

    @classmethod
    def of(cls, question: Question, local_epochs: int) -> _Plain:
        # At even risk the margin is nothing; neither budgets nor turns nor other batch sizes are known.
        settings = PlannerSettings(
            local_epochs, question.settings.batch_size, miss_risk=0.5, server_s=question.settings.server_s
        )
        clients = replace(question.clients, energy_budget_j=math.nan).checked(question.plain_costs.step_s.shape[0])
        predicted = np.asarray(~np.isnan(question.plain_costs.step_s[:, 0]))[np.asarray(clients.device)]
        index = np.flatnonzero((np.asarray(clients.samples) > 0) & predicted)
        fleet = Fleet.build(clients, index, question.plain_costs, settings, payload_bytes=question.payload_bytes)
        able = fleet.barrier == Barrier.NONE
        chosen = fleet.select(able)
        names = [question.processors[at] for at in index[able].tolist()]
        return cls(chosen, fleet.weight[able], chosen.seconds_at_risk(chosen.normal_steps), names)

    def lost_at(self, deadline_s: float | None) -> float:
        """Share of the work whose result comes after a deadline."""
        return 0.0 if deadline_s is None else float(self.weight[self.normal_s > deadline_s].sum())

    def choice(self, name: str, steps: Floats, deadline_s: float | None, round_s: Floats) -> Choice:
        """All do ``steps`` and are there after ``round_s``; what comes after the deadline is not used."""
        used = np.full(steps.shape, fill_value=True) if deadline_s is None else round_s <= deadline_s
        share = steps / self.fleet.normal_steps
        last_s = (float(round_s.max()) if used.all() else deadline_s) if used.size else None
        return _choice(
            name,
            self.fleet.settings,
            (self.weight[used], share[used]),
            deadline_s=deadline_s,
            round_s=last_s,
            lost=(float(self.weight[~used] @ share[~used]), self.lost_at(deadline_s)),
            energy_j=_total(steps * self.fleet.preferred.energy_j),
        )


def compare(question: Question) -> list[Choice]:
    """The four ways to treat slow clients; empty if nothing is predicted of any client that has data and memory.

    As ``strategies.baselines`` sets them up: the deadline after which all is dropped is what the median client needs for its
    normal round, and tau is the round of the fastest kind of processor, which has none itself.
    """
    plain = _Plain.of(question, question.settings.local_epochs)
    if not plain.normal_s.size:
        return []
    normal = plain.fleet.normal_steps.astype(np.float64)
    median_s = float(np.sort(plain.normal_s)[plain.normal_s.size // 2])
    names, kind = np.unique(np.array(plain.processors), return_inverse=True)
    slowest = np.zeros(names.size)
    np.maximum.at(slowest, kind, plain.normal_s)
    tau_s = float(slowest.min())
    # A step that is expected to end after tau is not begun, but for the first.
    in_time = np.floor((tau_s - plain.fleet.startup_s) / plain.fleet.preferred.step_s)
    cut = np.where(kind == slowest.argmin(), normal, np.clip(in_time, 1.0, normal))
    tau = plain.choice(TAU, cut, None, plain.fleet.seconds_at_risk(cut))
    return [
        plain.choice(WAIT, normal, None, plain.normal_s),
        plain.choice(DROP, normal, median_s, plain.normal_s),
        replace(tau, lost_if_dropped_share=plain.lost_at(tau.round_s)),
        _planned(question, PLANNED, question.settings, plain),
    ]


def sweep_deadlines(question: Question, count: int = 8) -> list[Choice]:
    """Planned rounds at deadlines from the least that covers enough data to one by which all do their normal rounds.

    Args:
        question: The fleet and the wish; a deadline of the user's is put aside.
        count: Deadlines, at equal ratios.
    """
    plain = _Plain.of(question, question.settings.local_epochs)
    clients = question.clients.checked(question.costs.step_s.shape[0])
    predicted = np.asarray((~np.isnan(question.costs.step_s)).any(axis=1))[np.asarray(clients.device)]
    index = np.flatnonzero((np.asarray(clients.samples) > 0) & predicted)
    fleet = Fleet.build(clients, index, question.costs, question.settings, payload_bytes=question.payload_bytes)
    fleet = fleet.select(fleet.barrier == Barrier.NONE)
    if not fleet.size:
        return []
    least_s = least_deadline(fleet)
    most_s = max(least_s, float(fleet.seconds_at_risk(fleet.normal_steps).max()))
    # Rounding must not take the last step from the slowest.
    moments = np.unique(np.geomspace(least_s, most_s, count)) * (1 + 1e-12)
    return [
        _planned(question, f"deadline {moment:.4g} s", replace(question.settings, deadline_s=moment), plain)
        for moment in moments.tolist()
    ]


def sweep_epochs(question: Question, epochs: Sequence[int]) -> list[Choice]:
    """Planned rounds with other numbers of local epochs; where the user set no deadline, each with its own best one."""
    choices = []
    for count in epochs:
        most = question.settings.max_epochs
        settings = replace(question.settings, local_epochs=count, max_epochs=None if most is None else max(most, count))
        choices.append(
            _planned(question, f"{count} local epoch{'' if count == 1 else 's'}", settings, _Plain.of(question, count))
        )
    return choices


def _planned(question: Question, name: str, settings: PlannerSettings, plain: _Plain) -> Choice:
    plan = question.plan(settings)
    samples = np.asarray(plan.clients.samples, dtype=np.float64)
    # Probes have a part in the plan and none in the comparison: nothing is known of them.
    predicted = np.asarray((~np.isnan(plan.costs.step_s)).any(axis=1))[np.asarray(plan.clients.device)]
    weight = np.where(predicted, samples, 0.0)
    used = plan.participates & predicted
    share = plan.steps[used] / plan.normal_steps[used]
    deadline_s = plan.deadline_s if math.isfinite(plan.deadline_s) else None
    return _choice(
        name,
        settings,
        (weight[used] / weight.sum() if used.any() else weight[used], share),
        deadline_s=deadline_s,
        round_s=float(plan.predicted_s[used].max()) if used.any() else None,
        lost=(0.0, plain.lost_at(deadline_s)),
        energy_j=_total(plan.predicted_energy_j[used]),
    )


def _choice(
    name: str,
    settings: PlannerSettings,
    work: tuple[Floats, Floats],
    *,
    deadline_s: float | None,
    round_s: float | None,
    lost: tuple[float, float],
    energy_j: float | None,
) -> Choice:
    weight, share = work
    effective = float(weight @ np.sqrt(np.minimum(1.0, share))) ** 2
    whole_s = None if round_s is None else round_s + settings.server_s
    return Choice(
        name=name,
        local_epochs=settings.local_epochs,
        deadline_s=deadline_s,
        round_s=round_s,
        clients=weight.size,
        work_share=float(weight @ share),
        effective_work=effective,
        lost_share=lost[0],
        lost_if_dropped_share=lost[1],
        epochs_per_hour=effective * settings.local_epochs / whole_s * _HOUR_S if whole_s else None,
        energy_j=energy_j,
    )


def _total(energy_j: Floats) -> float | None:
    return None if np.isnan(energy_j).any() else float(energy_j.sum())
