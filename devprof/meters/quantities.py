"""What external meters say, in SI: units by name, numbers as instruments write them, and channels made of such values.

A meter that is described by a file, a header or a command set gives watts, volts and amperes, or energy. A :class:`Recipe` says
where in its answer they stand; a :class:`ReadingMaker` makes readings of them. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from devprof.meters.base import Channel, Reading, WrappingCounter

__all__ = ["QUANTITIES", "Part", "ReadingMaker", "Recipe", "finite", "unit_factor"]

QUANTITIES: dict[str, dict[str, float]] = {
    "power": {"W": 1.0, "mW": 1e-3, "uW": 1e-6, "kW": 1e3},
    "voltage": {"V": 1.0, "mV": 1e-3, "uV": 1e-6},
    "current": {"A": 1.0, "mA": 1e-3, "uA": 1e-6},
    "energy": {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "kJ": 1e3, "Ws": 1.0, "mWs": 1e-3}
    | {"Wmin": 60.0, "Wh": 3600.0, "mWh": 3.6, "uWh": 3.6e-3, "kWh": 3.6e6},
}
"""Factors to watts, volts, amperes and joules by unit; the first of each is the SI unit."""

# SCPI-99, volume 1, 7.2.1: not a number is sent as 9.91E37, infinity as 9.9E37.
_SCPI_NO_NUMBER = 9.9e37
_NUMBER = re.compile(r"([+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][+-]?\d{1,3})?)\s*([A-Za-zµμ]{0,4})", re.ASCII)
# What meters print where they have no value: not a number, out of range, overload, not available.
_NO_VALUE = re.compile(
    r"[+-]?(?:nan|inf|infinity)|ol|ovld?|over|overload|null|none|n/?a|err|error|[-*]*", re.IGNORECASE
)
_COUNT_J = 1e-9


def unit_factor(quantity: str, unit: str) -> float | None:
    """Factor from a unit to the SI unit of a quantity; ``None`` if it is no unit of it.

    Case is free, but for a capital M, which would mean mega: no logger of small devices has a use for it, and ``MW`` for
    ``mW`` is more likely a slip than a power plant.
    """
    units = QUANTITIES[quantity]
    unit = unit.replace("µ", "u").replace("μ", "u")
    if unit in units:
        return units[unit]
    return None if "M" in unit else {name.lower(): factor for name, factor in units.items()}.get(unit.lower())


def finite(value: object) -> float | None:
    """A number that can be a measurement; ``None`` for text, booleans, what is not finite, and SCPI's marks for no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and abs(number) < _SCPI_NO_NUMBER else None


@dataclass(frozen=True, slots=True)
class Part:
    """One value in what a meter says.

    Attributes:
        quantity: ``power``, ``voltage``, ``current`` or ``energy``.
        place: Where it stands: a column's name, a JSON pointer, a query; empty where only ``field`` says it.
        field: Its position from 1: a column, or a field of a reply.
        factor: From its unit to the SI unit.
    """

    quantity: str
    place: str = ""
    field: int = 1
    factor: float = 1.0

    def parse(self, text: str) -> float | None:
        """Its value in SI out of text, which may carry a unit of its own such as ``5.04V``; ``None`` where the meter has none.

        Raises:
            ValueError: If the text is neither a number nor a mark for none.
        """
        text = text.strip()
        if _NO_VALUE.fullmatch(text):
            return None
        match = _NUMBER.fullmatch(text)
        factor = self.factor if match and not match[2] else unit_factor(self.quantity, match[2]) if match else None
        if match is None or factor is None:
            raise ValueError(f"{text[:40]!r} is no {self.quantity}")
        number = finite(float(match[1]))
        return None if number is None else finite(number * factor)

    def parse_or_none(self, text: str) -> float | None:
        """Like :meth:`parse`, and ``None`` also for text that makes no sense."""
        try:
            return self.parse(text)
        except ValueError:
            return None

    def scale(self, value: object) -> float | None:
        """A number in SI; ``None`` if it is none."""
        number = finite(value)
        return None if number is None else finite(number * self.factor)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the value of a channel is made: the product of its parts, which are power, or voltage and current, or energy."""

    channel: Channel
    parts: tuple[Part, ...]

    def value(self, look: Callable[[Part], float | None]) -> float | None:
        """The channel's watts or joules; ``None`` if a part of it is missing.

        Args:
            look: Gives the value of a part.
        """
        product = 1.0
        for part in self.parts:
            value = look(part)
            if value is None:
                return None
            product *= value
        return finite(product)


class ReadingMaker:
    """Makes readings out of watts, and out of an energy count wherever it began; a count that falls was reset: a break.

    Args:
        channels: The channels of the meter.
    """

    def __init__(self, channels: Iterable[Channel]) -> None:
        self._counters = {one.domain: WrappingCounter(_COUNT_J, None) for one in channels if one.kind == "counter"}

    def make(self, channel: Channel, t_ns: int, value: float | None) -> Reading:
        """The reading of a channel at a moment; a break where the value is ``None``."""
        counter = self._counters.get(channel.domain)
        if counter is None:
            return Reading(t_ns, channel.domain, power_w=value)
        if value is None:
            counter.lost()
            return Reading(t_ns, channel.domain)
        return Reading(t_ns, channel.domain, energy_j=counter.add(round(value / _COUNT_J)))
