"""The plan of one round: a deadline, and for each client its steps, batch size and cut-off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from devprof.plan.deadline import best_deadline
from devprof.plan.estimator import StepEstimator
from devprof.plan.fleet import Fleet, Lookup, look_up, transfer_seconds
from devprof.plan.roundtime import steps_per_epoch
from devprof.plan.settings import ClientState, PlannerSettings
from devprof.records import ClientPlan, RoundPlan

__all__ = ["ClientState", "PlannerSettings", "plan_round"]


def plan_round(
    clients: Sequence[ClientState],
    estimator: StepEstimator | None,
    settings: PlannerSettings,
    *,
    payload_bytes: float,
    server_round: int = 1,
) -> RoundPlan:
    """Plan a round.

    Each client trains at the batch size with the most progress per second that its memory and data allow. The deadline,
    counted from sending to the arrival of the reply, is the user's or the one with the most effective work per second
    (:mod:`devprof.plan.deadline`). A client's steps are as many as it does by then with probability ``1 - miss_risk``, at most
    ``max_epochs`` passes; its cut-off is the deadline less its transfers. Then:

    - A client that cannot do ``min_steps`` by the deadline, has no data or too little memory, is left out with the reason.
    - A client without any prediction is a probe: it is asked for ``min_steps`` and its telemetry teaches the next plan.
      It has no part in the choice of the deadline, and ``predicted_s`` is infinite: nothing is known.
    - If no client has a prediction, all do the normal round, without cut-off unless the user set a deadline.

    The order of the clients changes nothing but the order of the result.

    Args:
        clients: The clients that could take part, with unique names.
        estimator: Where step times come from; ``None`` knows nothing. A :class:`~devprof.plan.estimator.BoardEstimator` is
            asked about each client, any other once per device name.
        settings: What the user wants of a round.
        payload_bytes: Size of the model as sent, taken to be the same both ways.
        server_round: The number to write into the plan.

    Returns:
        The plan, one entry per client in the order given. ``predicted_hi_s`` is at the planned risk; without a cut-off,
        ``cutoff_s`` and ``deadline_s`` are infinite.

    Raises:
        ValueError: If client names repeat, the payload is negative, or an estimate is no positive time.
    """
    if len({client.client for client in clients}) != len(clients):
        raise ValueError("client names must be unique within a round")
    if not (math.isfinite(payload_bytes) and payload_bytes >= 0):
        raise ValueError(f"payload_bytes must be at least 0 and finite, got {payload_bytes}")
    # Sums in one order whatever the caller's: a permutation must not even change the last digit.
    ordered = sorted(clients, key=lambda client: client.client)
    lookup = look_up(estimator)
    plans = {client.client: _left_out(client, "no training data", settings) for client in ordered if not client.samples}
    known, unknown = _split(ordered, lookup, settings)
    fleet = Fleet.build(known, lookup, settings, payload_bytes=payload_bytes)
    for client in (client for client, fits in zip(known, fleet.fits, strict=True) if not fits):
        plans[client.client] = _left_out(client, _memory_reason(client, lookup, settings), settings)
    known = [client for client, fits in zip(known, fleet.fits, strict=True) if fits]
    fleet = fleet.select(fleet.fits)
    deadline_s = settings.deadline_s or (best_deadline(fleet) if known else math.inf)
    if known:
        plans |= _planned(known, fleet, deadline_s, payload_bytes)
    for client in unknown:
        plans[client.client] = _without_prediction(client, settings, deadline_s, payload_bytes, alone=not known)
    return RoundPlan(server_round, deadline_s, tuple(plans[client.client] for client in clients))


def _split(
    clients: Sequence[ClientState], lookup: Lookup, settings: PlannerSettings
) -> tuple[list[ClientState], list[ClientState]]:
    known: list[ClientState] = []
    unknown: list[ClientState] = []
    for client in clients:
        if client.samples:
            any_known = any(lookup(client, size) is not None for size in settings.candidates)
            (known if any_known else unknown).append(client)
    return known, unknown


@dataclass(frozen=True, slots=True)
class _Allocation:
    """What one client can do by the deadline, as plain numbers."""

    steps: int
    normal_steps: int
    epoch_steps: int
    batch_size: int
    preferred_batch_size: int
    predicted_s: float
    predicted_hi_s: float


def _planned(
    clients: list[ClientState], fleet: Fleet, deadline_s: float, payload_bytes: float
) -> dict[str, ClientPlan]:
    """The plans of clients with a prediction."""
    plans = {}
    for client, allocation in zip(clients, _allocate(fleet, deadline_s), strict=True):
        if allocation.steps == 0:
            reason = f"needs {allocation.predicted_hi_s:.4g} s for the fewest useful steps, deadline {deadline_s:.4g} s"
            plans[client.client] = _left_out(client, reason, fleet.settings, allocation)
            continue
        plans[client.client] = ClientPlan(
            client=client.client,
            participates=True,
            reason=_cut_reason(allocation, deadline_s),
            local_epochs=-(-allocation.steps // allocation.epoch_steps),
            local_steps=allocation.steps,
            batch_size=allocation.batch_size,
            cutoff_s=deadline_s - transfer_seconds(client, payload_bytes) - client.overhead_s,
            learning_rate_scale=fleet.settings.learning_rate_scale(allocation.batch_size),
            predicted_s=allocation.predicted_s,
            predicted_hi_s=allocation.predicted_hi_s,
        )
    return plans


def _allocate(fleet: Fleet, deadline_s: float) -> list[_Allocation]:
    """Steps and batch size of each client; 0 steps where even the fewest useful ones take too long."""
    preferred = fleet.steps_by(deadline_s)
    earliest_s = fleet.earliest_s()
    # At the fastest batch size no more than the least: steps would fall again when the preferred size becomes possible.
    resort = (preferred == 0) & (earliest_s <= deadline_s)
    late = (preferred == 0) & ~resort
    least = fleet.least_steps
    steps = np.where(preferred > 0, preferred, np.where(resort, least, 0))
    other = preferred == 0
    step_s = np.where(other, fleet.fastest.step_s, fleet.preferred.step_s)
    asked = np.where(late, least, steps)
    hi_s = np.where(other, earliest_s, fleet.seconds_at_risk(steps))
    columns = (
        steps,
        fleet.normal_steps,
        np.where(other, fleet.fastest.epoch_steps, fleet.preferred.epoch_steps),
        np.where(other, fleet.fastest.batch_size, fleet.preferred.batch_size),
        fleet.preferred.batch_size,
        fleet.fixed_s + asked * step_s,
        hi_s,
    )
    return [_Allocation(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _cut_reason(allocation: _Allocation, deadline_s: float) -> str:
    reasons = []
    if allocation.batch_size != allocation.preferred_batch_size:
        reasons.append(f"batch size {allocation.batch_size} in place of {allocation.preferred_batch_size}")
    if allocation.steps < allocation.normal_steps:
        reasons.append(f"{allocation.steps} of {allocation.normal_steps} steps")
    return f"{', '.join(reasons)} to meet the deadline of {deadline_s:.4g} s" if reasons else ""


def _left_out(
    client: ClientState, reason: str, settings: PlannerSettings, allocation: _Allocation | None = None
) -> ClientPlan:
    return ClientPlan(
        client=client.client,
        participates=False,
        reason=reason,
        local_epochs=0,
        local_steps=0,
        batch_size=settings.batch_size if allocation is None else allocation.batch_size,
        cutoff_s=0.0,
        learning_rate_scale=1.0,
        predicted_s=math.inf if allocation is None else allocation.predicted_s,
        predicted_hi_s=math.inf if allocation is None else allocation.predicted_hi_s,
    )


def _memory_reason(client: ClientState, lookup: Lookup, settings: PlannerSettings) -> str:
    found = [estimate for size in settings.candidates if (estimate := lookup(client, size)) is not None]
    least = min((estimate.memory_hi_bytes for estimate in found if estimate.memory_hi_bytes is not None), default=None)
    if least is None or client.memory_limit_bytes is None:
        return "does not fit the memory of its device at any batch size"
    return (
        f"needs up to {least / 2**20:.0f} MiB at the smallest batch size, has {client.memory_limit_bytes / 2**20:.0f}"
    )


def _without_prediction(
    client: ClientState, settings: PlannerSettings, deadline_s: float, payload_bytes: float, *, alone: bool
) -> ClientPlan:
    """The plan of a client that nothing is known of: the normal round where nobody is known, else a probe."""
    epoch_steps = steps_per_epoch(client.samples, settings.batch_size)
    normal = settings.local_epochs * epoch_steps
    steps = normal if alone else min(settings.min_steps, normal)
    cutoff_s = deadline_s - transfer_seconds(client, payload_bytes)
    if cutoff_s <= 0:
        return _left_out(client, f"its transfers alone exceed the deadline of {deadline_s:.4g} s", settings)
    limit = f"cut-off at {cutoff_s:.4g} s" if math.isfinite(cutoff_s) else "without cut-off"
    return ClientPlan(
        client=client.client,
        participates=True,
        reason=f"no prediction for any client: normal round, {limit}" if alone else "no prediction: probing",
        local_epochs=-(-steps // epoch_steps),
        local_steps=steps,
        batch_size=settings.batch_size,
        cutoff_s=cutoff_s,
        learning_rate_scale=1.0,
        predicted_s=math.inf,
        predicted_hi_s=math.inf,
    )
