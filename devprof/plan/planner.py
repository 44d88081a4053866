"""The plan of one round: a deadline, and for each client its steps, batch size and cut-off."""

from __future__ import annotations

import math
from collections.abc import Sequence

from devprof.plan.columns import FleetArrays, StepCosts
from devprof.plan.estimator import BoardEstimator, StepEstimator
from devprof.plan.fleetplan import FleetPlan, plan_fleet
from devprof.plan.settings import ClientState, PlannerSettings
from devprof.records import ClientPlan, Estimate, RoundPlan

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
    ``max_epochs`` passes, and at most what its energy budget allows at the upper end of the interval of energy; its cut-off is
    the deadline less its transfers and overhead, with the margin of those. Then:

    - A client that cannot do ``min_steps`` by the deadline or within its energy budget, has no data or too little memory, is
      left out with the reason. One that was left out for want of time for ``turn_after_rounds`` rounds stretches a chosen
      deadline to what it needs (:func:`devprof.plan.deadline.choose_deadline`).
    - Where the fleet has an energy budget, steps are shared out for the most effective work (:mod:`devprof.plan.energy`).
    - A client without any prediction is a probe: it is asked for ``min_steps`` and its telemetry teaches the next plan.
      It has no part in the choice of the deadline, and ``predicted_s`` is ``None``: nothing is known.
    - If no client has a prediction, all do the normal round, without cut-off unless the user set a deadline.
    - A client whose energy is not known is left out where its own budget or the fleet's would have to be kept, unless
      ``allow_unknown_energy``.

    The order of the clients changes nothing but the order of the result. It is a front end of
    :func:`devprof.plan.fleetplan.plan_fleet`, which plans for millions.

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
    # Clients that are alike in all but their names are told apart by these, whatever the caller's order.
    ordered = sorted(clients, key=lambda client: client.client)
    costs, devices = _table(ordered, estimator, settings)
    plan = plan_fleet(_columns(ordered, devices), costs, settings, payload_bytes=payload_bytes)
    plans = dict(zip((client.client for client in ordered), _entries(ordered, plan), strict=True))
    return RoundPlan(server_round, plan.deadline_s, tuple(plans[client.client] for client in clients))


def _table(
    clients: Sequence[ClientState], estimator: StepEstimator | None, settings: PlannerSettings
) -> tuple[StepCosts, list[int]]:
    """The costs by device (or board) and batch size, each asked for once, and each client's row."""
    boards = isinstance(estimator, BoardEstimator)
    rows: dict[tuple[str, str], int] = {}
    keys = [(client.client if boards else "", client.device) for client in clients]
    # Devices are numbered in one order whatever that of the clients; nobody is asked about a client without data.
    asked = sorted({key for key, client in zip(keys, clients, strict=True) if client.samples})
    estimates: list[list[Estimate | None]] = [[None] * len(settings.candidates)]
    for key in asked:
        rows[key] = len(estimates)
        estimates.append([_ask(estimator, *key, size) for size in settings.candidates])
    return StepCosts.of(estimates, settings.candidates), [rows.get(key, 0) for key in keys]


def _ask(estimator: StepEstimator | None, board: str, device: str, batch_size: int) -> Estimate | None:
    if estimator is None:
        return None
    if isinstance(estimator, BoardEstimator):
        found = estimator.estimate_board(board, device, batch_size)
    else:
        found = estimator.estimate(device, batch_size)
    if found is not None and not (0 < found.step_s <= found.step_s_hi < math.inf):
        raise ValueError(
            f"the estimate for {device!r} at batch size {batch_size} is no step time with an upper bound: "
            f"step_s {found.step_s}, step_s_hi {found.step_s_hi}"
        )
    return found


def _columns(clients: Sequence[ClientState], devices: list[int]) -> FleetArrays:
    def limits(name: str) -> list[float]:
        return [math.nan if (value := getattr(client, name)) is None else value for client in clients]

    return FleetArrays(
        samples=[client.samples for client in clients],
        device=devices,
        up_mbps=[client.link.up_mbps for client in clients],
        down_mbps=[client.link.down_mbps for client in clients],
        latency_s=[client.link.latency_s for client in clients],
        startup_s=[client.startup_s for client in clients],
        overhead_s=[client.overhead_s for client in clients],
        fixed_sd_s=[client.fixed_sd_s for client in clients],
        memory_limit_bytes=limits("memory_limit_bytes"),
        energy_budget_j=limits("energy_budget_j"),
        rounds_left_out=[client.rounds_left_out for client in clients],
    )


def _entries(clients: Sequence[ClientState], plan: FleetPlan) -> list[ClientPlan]:
    """The arrays of a plan as records."""
    names = ("participates", "reason", "epochs", "steps", "batch_size", "cutoff_s", "learning_rate_scale")
    predictions = ("predicted_s", "predicted_hi_s", "predicted_energy_j", "predicted_energy_hi_j")
    columns = [getattr(plan, name).tolist() for name in names]
    columns += [
        [None if math.isnan(value) else value for value in getattr(plan, name).tolist()] for name in predictions
    ]
    return [
        ClientPlan(client.client, participates, plan.reason_text(at) if reason else "", *rest)
        for at, (client, participates, reason, *rest) in enumerate(zip(clients, *columns, strict=True))
    ]
