"""Why a client is left out or cut down: a code per client, and the sentence that goes with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Circumstances", "Reason", "reason_text"]


class Reason(IntEnum):
    """Why a client's part is what it is; those from ``NO_DATA`` on leave it out."""

    WHOLE = 0
    CUT_TIME = 1
    CUT_ENERGY = 2
    CUT_FLEET_ENERGY = 3
    TURN = 4
    PROBE = 5
    NOTHING_KNOWN = 6
    NO_DATA = 16
    MEMORY = 17
    LATE = 18
    TRANSFERS = 19
    ENERGY_UNKNOWN = 20
    ENERGY = 21
    FLEET_ENERGY = 22


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a reason's sentence speaks of; ``None`` for what is not known or does not matter.

    Attributes:
        steps: Steps of the plan.
        normal_steps: Steps of the normal round.
        batch_size: Samples per step.
        preferred_batch_size: The batch size with the most progress per second.
        deadline_s: The round's deadline.
        needed_s: Seconds that the fewest useful steps take at the planned risk.
        cutoff_s: The client's own limit; infinite for none.
        rounds_left_out: Rounds in a row that it was left out.
        memory_bytes: Upper bound of the memory of the smallest batch.
        memory_limit_bytes: Memory that the client may use.
        energy_budget_j: The client's own budget.
        fleet_budget_j: The budget of all.
        least_j: Joules of the fewest useful steps at the upper end, at the batch size where they are least.
    """

    steps: int = 0
    normal_steps: int = 0
    batch_size: int = 0
    preferred_batch_size: int = 0
    deadline_s: float = 0.0
    needed_s: float | None = None
    cutoff_s: float = 0.0
    rounds_left_out: int = 0
    memory_bytes: float | None = None
    memory_limit_bytes: float | None = None
    energy_budget_j: float | None = None
    fleet_budget_j: float | None = None
    least_j: float | None = None


def reason_text(reason: Reason, told: Circumstances) -> str:
    """The sentence; empty for a client that does its whole normal round."""
    return _TEXTS[reason](told)


def _cut(told: Circumstances, why: str) -> str:
    parts = []
    if told.batch_size != told.preferred_batch_size:
        parts.append(f"batch size {told.batch_size} in place of {told.preferred_batch_size}")
    if told.steps < told.normal_steps or not parts:
        parts.append(f"{told.steps} of {told.normal_steps} steps")
    return f"{', '.join(parts)} {why}"


def _memory(told: Circumstances) -> str:
    if told.memory_bytes is None or told.memory_limit_bytes is None:
        return "does not fit the memory of its device at any batch size"
    least, limit = told.memory_bytes / 2**20, told.memory_limit_bytes / 2**20
    return f"needs up to {least:.0f} MiB at the smallest batch size, has {limit:.0f}"


def _nothing_known(told: Circumstances) -> str:
    limit = f"cut-off at {told.cutoff_s:.4g} s" if math.isfinite(told.cutoff_s) else "without cut-off"
    return f"no prediction for any client: normal round, {limit}"


def _energy(told: Circumstances) -> str:
    needed = "more" if told.least_j is None else f"up to {told.least_j:.4g} J"
    return f"needs {needed} for the fewest useful steps, energy budget {told.energy_budget_j:.4g} J"


_TEXTS: dict[Reason, Callable[[Circumstances], str]] = {
    Reason.WHOLE: lambda _: "",
    Reason.CUT_TIME: lambda told: _cut(told, f"to meet the deadline of {told.deadline_s:.4g} s"),
    Reason.CUT_ENERGY: lambda told: _cut(told, f"to stay within its energy budget of {told.energy_budget_j:.4g} J"),
    Reason.CUT_FLEET_ENERGY: lambda told: _cut(told, f"to keep the fleet within {told.fleet_budget_j:.4g} J"),
    Reason.TURN: lambda told: _cut(
        told, f"in its turn after {told.rounds_left_out} rounds left out, deadline {told.deadline_s:.4g} s"
    ),
    Reason.PROBE: lambda _: "no prediction: probing",
    Reason.NOTHING_KNOWN: _nothing_known,
    Reason.NO_DATA: lambda _: "no training data",
    Reason.MEMORY: _memory,
    Reason.LATE: lambda told: (
        f"needs {told.needed_s:.4g} s for the fewest useful steps, deadline {told.deadline_s:.4g} s"
    ),
    Reason.TRANSFERS: lambda told: f"its transfers alone exceed the deadline of {told.deadline_s:.4g} s",
    Reason.ENERGY_UNKNOWN: lambda _: "its energy per step is not known, so no energy budget can be kept",
    Reason.ENERGY: _energy,
    Reason.FLEET_ENERGY: lambda told: (
        f"the fleet's energy budget of {told.fleet_budget_j:.4g} J is spent better on others"
    ),
}
