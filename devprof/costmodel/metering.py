"""What a row of the runs table says of power, and when it says nothing that can be learned from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["LEAST_COVERAGE", "Metered", "join_metered", "read_metered"]

# Less of the window under readings than this, and the mean power is that of another window than the steps.
LEAST_COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class Metered:
    """What a meter said of one configuration at one batch size.

    Attributes:
        power_w: Gross mean watts while it trained.
        energy_per_step_j: Joules per step; power times seconds per step where the table has no figure of its own.
        idle_power_w: Watts of the idle device; ``None`` where they were not measured.
        error_rel: Bound on the relative error of the meter; ``None`` where it is not known.
    """

    power_w: float
    energy_per_step_j: float
    idle_power_w: float | None = None
    error_rel: float | None = None


def read_metered(record: Mapping[str, Any], step_s: float) -> tuple[Metered | None, str]:
    """The power of a row, or ``None`` with the reason why what it says cannot be used.

    A row without any figure of power or energy has no reason: nothing was promised. Where only ``energy_per_step_j`` is
    there, power is energy over step time.

    Args:
        record: A row of the runs table with ``None`` for nulls.
        step_s: Its seconds per step, positive.
    """
    power, energy = record.get("power_w"), record.get("energy_per_step_j")
    if record.get("energy_source") == "none" or (power is None and energy is None):
        return None, ""
    try:
        numbers = {name: _number(record.get(name)) for name in _COLUMNS}
    except (TypeError, ValueError, OverflowError):
        return None, "a number of power or energy is not a number"
    coverage = numbers["power_coverage"]
    if coverage is not None and not coverage >= LEAST_COVERAGE:
        return None, f"power_coverage is below {LEAST_COVERAGE}"
    power, energy = _both(numbers["power_w"], numbers["energy_per_step_j"], step_s)
    if not all(math.isfinite(value) and value > 0 for value in (power, energy)):
        return None, "power_w or energy_per_step_j is not positive"
    idle, error = numbers["idle_power_w"], numbers["energy_error_rel"]
    return (
        Metered(
            power,
            energy,
            idle if idle is not None and math.isfinite(idle) and idle >= 0 else None,
            error if error is not None and math.isfinite(error) and error >= 0 else None,
        ),
        "",
    )


def join_metered(repeats: Sequence[Metered | None]) -> Metered | None:
    """Repeats of one configuration as their medians; ``None`` where no meter spoke."""
    known = [one for one in repeats if one is not None]
    if not known:
        return None
    return Metered(
        statistics.median(one.power_w for one in known),
        statistics.median(one.energy_per_step_j for one in known),
        _median([one.idle_power_w for one in known]),
        _median([one.error_rel for one in known]),
    )


_COLUMNS = ("power_coverage", "power_w", "energy_per_step_j", "idle_power_w", "energy_error_rel")


def _both(power: float | None, energy: float | None, step_s: float) -> tuple[float, float]:
    """Power and energy, of which at least one is there."""
    if power is None:
        assert energy is not None
        return energy / step_s, energy
    return power, power * step_s if energy is None else energy


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
