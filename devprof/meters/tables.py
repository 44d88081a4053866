"""Reading the TOML files that describe external meters: every key is checked, and an error names file, place and key.

What all kinds of such files share, the channels, is read here::

    [[channels]]
    domain = "usb"                     # its name; needed where there are several
    power = { unit = "mW", ... }       # or voltage and current, or energy; the unit is W, V, A, J unless another is given
    headline = true                    # whether it is a part of the total
    update_s = 0.04                    # seconds between new values, where the file as a whole does not say
    quantum = 0.001                    # smallest step: watts, of energy joules
    gain_rel = 0.01                    # accuracy as the maker states it: 1 % of the value ...
    offset_w = 0.005                   # ... plus 5 mW
    most_w = 100.0                     # more than this is a fault

Standard library only (``tomli`` before Python 3.11).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from devprof.errors import closest
from devprof.meters.base import Channel, MeterError
from devprof.meters.quantities import QUANTITIES, Part, Recipe, unit_factor

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["FORMAT", "Table", "read_file", "read_table"]

FORMAT = 1
"""Version of these files, which they give as ``format``. 1: the first."""

_LARGEST = 1e12
_COUNTER_PARTS = ("energy",)
_SENSOR_PARTS = (("power",), ("voltage", "current"))
_CHANNEL_KEYS = ("domain", "headline", "update_s", "quantum", "gain_rel", "offset_w", "most_w", *QUANTITIES)

PartReader = Callable[["Table", str], Part]


class Table:
    """A table of a file: reads its keys, and says what is wrong with them.

    Args:
        table: What was read.
        where: File and place, for messages.
        known: The keys that it may have.

    Raises:
        MeterError: If it is no table, or has another key; so do all methods that find a value of the wrong kind.
    """

    def __init__(self, table: object, where: str, known: tuple[str, ...]) -> None:
        if not isinstance(table, Mapping):
            raise MeterError(f"{where} must be a table, got {table!r}")
        self._table: Mapping[str, Any] = table
        self.where = where
        for key in table:
            if key not in known:
                near = closest(key, known)
                raise MeterError(
                    f"{where}: unknown key {key!r}",
                    f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}",
                )

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def error(self, key: str, rule: str) -> MeterError:
        """What is wrong with a key's value."""
        return MeterError(f"{self.where}: {key} {rule}, got {self._table.get(key)!r}")

    def text(self, key: str, default: str | None = None, *, among: tuple[str, ...] = ()) -> str:
        """A text; without a default it must be there; with ``among`` it is one of these."""
        value = self._table.get(key, default)
        if value is None:
            raise MeterError(f"{self.where}: {key} is missing", f'add {key} = "..."')
        if not isinstance(value, str) or (among and value not in among):
            raise self.error(key, f"must be one of {', '.join(among)}" if among else "must be a text in quotes")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, empty where it is absent."""
        value = self._table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.error(key, "must be a list of texts")
        return tuple(value)

    def whole(self, key: str, default: int) -> int:
        """A whole number from 1 to 1000."""
        value = self._table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
            raise self.error(key, "must be a whole number from 1 to 1000")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """``true`` or ``false``."""
        value = self._table.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def number(self, key: str, default: float) -> float:
        """A number of at least 0."""
        value = self._optional(key)
        return default if value is None else value

    def _optional(self, key: str) -> float | None:
        value = self._table.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST:
            raise self.error(key, "must be a number of at least 0")
        return float(value)

    def table(self, key: str, known: tuple[str, ...]) -> Table:
        """The table of a key; an empty one where it is absent."""
        return Table(self._table.get(key, {}), f"{self.where}, [{key}]", known)

    def raw(self, key: str) -> object:
        """The value of a key as it is, ``None`` where it is absent."""
        return self._table.get(key)

    def unit(self, quantity: str) -> float:
        """The factor of the table's ``unit`` to the SI unit of a quantity, which is also the default."""
        unit = self.text("unit", next(iter(QUANTITIES[quantity])))
        factor = unit_factor(quantity, unit)
        if factor is None:
            raise self.error("unit", f"must be a unit of {quantity}: {', '.join(QUANTITIES[quantity])}")
        return factor

    def recipes(self, part: PartReader, *, update_s: float) -> tuple[Recipe, ...]:
        """The channels of the file, as a list ``[[channels]]``.

        Args:
            part: Reads the value of ``power``, ``voltage``, ``current`` or ``energy`` in a channel's table.
            update_s: Seconds between new values where a channel does not say.
        """
        tables = self._table.get("channels")
        if not isinstance(tables, list) or not tables:
            raise MeterError(
                f"{self.where} has no channels", "add [[channels]] with power, voltage and current, or energy"
            )
        found = tuple(
            Table(table, f"{self.where}, [[channels]] number {number}", _CHANNEL_KEYS)._recipe(part, update_s)  # noqa: SLF001
            for number, table in enumerate(tables, 1)
        )
        domains = [one.channel.domain for one in found]
        if len(set(domains)) < len(domains):
            raise MeterError(f"{self.where}: two channels have the same domain", "give each a domain of its own")
        if not any(one.channel.headline for one in found):
            raise MeterError(f"{self.where}: no channel is a part of the total", "set headline = true for one")
        return found

    def _recipe(self, part: PartReader, update_s: float) -> Recipe:
        given = tuple(name for name in QUANTITIES if name in self)
        if given != _COUNTER_PARTS and given not in _SENSOR_PARTS:
            rule = "give either power, or voltage and current, or energy; further values are channels of their own"
            raise MeterError(f"{self.where} has {' and '.join(given) or 'no value'}", rule)
        kind: Literal["counter", "sensor"] = "counter" if given == _COUNTER_PARTS else "sensor"
        channel = Channel(
            domain=self.text("domain", "device"),
            kind=kind,
            headline=self.flag("headline", default=True),
            update_s=self.number("update_s", update_s),
            quantum=self.number("quantum", 0.0),
            gain_rel=self._optional("gain_rel"),
            offset_w=self.number("offset_w", 0.0),
            most_w=self.number("most_w", 20_000.0),
        )
        return Recipe(channel, tuple(part(self, name) for name in given))


def read_table(text: str, where: str, known: tuple[str, ...]) -> Table:
    """The table of a TOML text.

    Args:
        text: The text.
        where: What it is, for messages.
        known: The keys that it may have besides ``format``.

    Raises:
        MeterError: If it is no TOML, has other keys, or is of another version.
    """
    try:
        top = Table(tomllib.loads(text), where, ("format", *known))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MeterError(f"{where} cannot be read as TOML: {error}") from error
    if top.raw("format") != FORMAT:
        raise MeterError(
            f"{where}: format must be {FORMAT}, got {top.raw('format')!r}", f"add format = {FORMAT} on top"
        )
    return top


def read_file(path: str, known: tuple[str, ...]) -> Table:
    """The table of a TOML file; see :func:`read_table`.

    Raises:
        MeterError: If there is no such file, besides.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise MeterError(f"the description of a meter {path} cannot be read: {error}") from error
    return read_table(text, path, known)
