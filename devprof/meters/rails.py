"""Which power rails make a board's total: one named and versioned rule per board, never a guess from parts of names.

A rule fits if the device tree names its chip and if all its rails are there, by their exact labels. Measured totals depend on
these rules, so a rule that changes gets a new version.

Source: NVIDIA Jetson Linux Developer Guide, "Platform Power and Performance", the tables of power monitors and their channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devprof.meters.base import MeterError

__all__ = ["RULES", "THOR", "RailRule", "choose_rule", "given_rule"]

THOR = "nvidia,tegra264"

_MODULE = "the total is what the module takes in: its carrier board, fan and USB devices are not in it"
_SUM = "the total is a sum of the module's rails: rails without a sensor and the carrier board are not in it"
_HIDDEN = "the device tree is not visible here, so the rails alone decided how the total is made"


@dataclass(frozen=True, slots=True)
class RailRule:
    """How a total is made of rails.

    Attributes:
        name: Its name and version.
        chip: The device tree's name of the chip on which it holds; empty where any will do.
        rails: The labels of the rails that are added.
        notes: What the total does not see, in sentences for people.
    """

    name: str
    chip: str
    rails: tuple[str, ...]
    notes: tuple[str, ...] = (_MODULE,)


RULES = (
    RailRule("jetson-nano/1", "nvidia,tegra210", ("POM_5V_IN",)),
    RailRule("jetson-tx1/1", "nvidia,tegra210", ("VDD_IN",)),
    RailRule("jetson-tx2/1", "nvidia,tegra186", ("VDD_IN",)),
    RailRule("jetson-xavier-nx/1", "nvidia,tegra194", ("VDD_IN",)),
    RailRule("jetson-agx-xavier/1", "nvidia,tegra194", ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), (_SUM,)),
    RailRule("jetson-orin-nx-nano/1", "nvidia,tegra234", ("VDD_IN",)),
    RailRule(
        "jetson-agx-orin/1",
        "nvidia,tegra234",
        ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
        (_SUM, "VDDQ_VDD2_1V8AO is kept but not added: whether VIN_SYS_5V0 feeds it is not documented"),
    ),
    RailRule("jetson-thor/1", THOR, ("VIN",), ("the total is what the board takes in at its power input",)),
)
"""The rules by board."""

_INPUTS = ("VIN", "VDD_IN", "POM_5V_IN")
_ONE_INPUT = "jetson-one-input/1"


def choose_rule(labels: Sequence[str], compatible: Sequence[str]) -> RailRule:
    """The rule of a board.

    Where no rule fits, but exactly one of the labels that mean a power input is there, that rail is the total. In containers
    the device tree is often hidden; then a sum is made only if the rails fit one rule and none of them is an input.

    Args:
        labels: The labels of the rails that are there.
        compatible: The board's names as :func:`devprof.machine.compatible` has them; empty where they are not known.

    Raises:
        MeterError: If these rails do not say what the total is; the rails are named.
    """
    inputs = [label for label in _INPUTS if labels.count(label) == 1]
    fitting = [rule for rule in RULES if all(labels.count(label) == 1 for label in rule.rails)]
    if compatible:
        fitting = [rule for rule in fitting if rule.chip in compatible]
    else:
        fitting = [] if inputs else [RailRule(rule.name, "", rule.rails, (*rule.notes, _HIDDEN)) for rule in fitting]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and len(inputs) == 1:
        note = (
            f"no rule is known for this board; {inputs[0]} is the only power input among its rails, so it is the total"
        )
        return RailRule(_ONE_INPUT, "", (inputs[0],), (note,))
    board = compatible[0] if compatible else "a board whose device tree is not visible here"
    raise MeterError(
        f"which of the rails {', '.join(sorted(labels))} make the total of {board} is not known",
        "name them: --meter ina:RAIL or --meter ina:RAIL+RAIL",
    )


def given_rule(text: str, labels: Sequence[str]) -> RailRule:
    """The rule that a user gives: labels joined by ``+``.

    Raises:
        MeterError: If a label is not there, or is there or given twice.
    """
    rails = tuple(label.strip() for label in text.split("+"))
    for label in rails:
        if labels.count(label) != 1 or rails.count(label) != 1:
            raise MeterError(
                f"the rail {label!r} cannot be a part of the total",
                f"name each of these at most once: {', '.join(sorted(labels))}",
            )
    return RailRule(f"given-rails/1:{'+'.join(rails)}", "", rails, ("the rails of the total were named by the user",))
