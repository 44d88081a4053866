"""Rows of text with one value per column, as loggers of meters print them: columns by name or position, values in SI.

Which columns mean what is said by a description, or by the names in a header: ``time,voltage_V,current_A`` and the like. A name
that also holds a word which is not known here (``power_factor``, ``ch2_power``) is never taken for a measurement. Where there
are several, power goes before voltage times current, and both before energy, because hand meters count energy in steps of
1 mWh (3.6 J) and more. Pure: text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from devprof.meters.base import Channel, MeterError
from devprof.meters.quantities import QUANTITIES, Part, Recipe, unit_factor

__all__ = ["TIME_UNITS", "Row", "RowError", "RowFormat", "RowParser"]

TIME_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Nanoseconds by unit."""

_NAMES = {
    "time": ("time", "timestamp", "datetime", "date", "ts", "utc", "epoch", "elapsed", "uptime", "unixtime"),
    "power": ("power", "watt", "watts", "apower", "p"),
    "voltage": ("voltage", "volt", "volts", "u"),
    "current": ("current", "amp", "amps", "ampere", "amperes", "i"),
    "energy": ("energy",),
}
_QUANTITY_OF_NAME = {name: quantity for quantity, names in _NAMES.items() for name in names}
# Said beside a name without changing what is measured. Not rms or ac: volts times amperes are no watts there.
_HARMLESS = frozenset(
    (
        "total",
        "unix",
        "active",
        "real",
        "input",
        "dc",
        "bus",
        "vbus",
        "usb",
        "load",
        "device",
        "measured",
        "average",
        "avg",
        "mean",
    )
)
_TIME_WORDS = {"sec": "s", "seconds": "s"}
_WORD = re.compile(r"[A-Za-z0-9µμ]+")
# Stands in no line.
_NO_DELIMITER = "\n"
_STARTS_AS_NUMBER = re.compile(r"[+-]?\.?\d")


class RowError(ValueError):
    """A row cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a row says.

    Attributes:
        time: Its time as text; ``None`` where no column has it.
        values: Watts or joules of each channel, in their order; ``None`` where the meter has no value.
    """

    time: str | None
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How rows are to be read.

    Attributes:
        recipes: The channels; a part's ``place`` is a column's name, or empty where ``field`` is its position. None at all:
            what the header says.
        time: The column of the time, its ``factor`` in nanoseconds; ``None`` where rows are stamped at arrival.
        wants_time: Whether a column of the time is to be looked for in the header.
        delimiter: What stands between cells; blanks for ``" "``; ``None`` for what the first line has: tab, semicolon, comma,
            else blanks.
        decimal: The decimal mark.
        comment: Lines that begin with it are left out; empty for none. A header may stand in such a line.
        columns: Names of the columns, where the logger prints no header.
        update_s: Seconds between new values at the source, where columns are found by the header.
    """

    recipes: tuple[Recipe, ...] = ()
    time: Part | None = None
    wants_time: bool = False
    delimiter: str | None = None
    decimal: str = "."
    comment: str = "#"
    columns: tuple[str, ...] = ()
    update_s: float = 0.0


class RowParser:
    """Reads rows, after it has learned what the columns are: see :attr:`bound`.

    Args:
        form: How rows are to be read.

    Raises:
        MeterError: If the columns named in the format do not hold what is looked for.
    """

    def __init__(self, form: RowFormat) -> None:
        self.form = form
        self._delimiter = form.delimiter
        self._by_position = bool(form.recipes) and not any(part.place for part in self._parts())
        self._places: dict[Part, int] | None = None
        self._names: list[str] = []
        if self._by_position:
            self._places = {part: part.field - 1 for part in self._parts()}
        elif form.columns and not self._learn(list(form.columns)):
            raise MeterError(f"the columns {', '.join(form.columns)} do not hold what is measured", _TELL)

    @property
    def bound(self) -> bool:
        """Whether the columns are known."""
        return self._places is not None

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The channels; empty before the columns are known, if the header is to say them."""
        return self.form.recipes

    def offer(self, line: str) -> bool:
        """Learn the columns from a line; whether that was possible.

        A header tells them. Where the format leaves everything open, so does a row whose cells have units, and a row of a
        single number, which is watts.

        Raises:
            MeterError: If two columns mean the same, so that only a person can choose.
        """
        bare = self._bare(line)
        # A line without delimiters may be the name of a single column, or its value with a unit.
        if self._delimiter is None and self._mark(bare) == " " and _meaning(bare) is not None and self._learn([bare]):
            self._delimiter = _NO_DELIMITER
            return True
        if not self._learn(self._cells(bare)):
            return False
        self._delimiter = self._delimiter or self._mark(bare)
        return True

    def is_row(self, line: str) -> bool:
        """Whether a line has values, which a header has not."""
        return any(_STARTS_AS_NUMBER.match(cell) for cell in self._cells(line.strip()))

    def parse(self, line: str) -> Row | None:
        """The values of a row; ``None`` for a blank line, a comment or a header.

        Raises:
            RowError: If it is none of these.
        """
        text = line.strip()
        if not text:
            return None
        if self.form.comment and text.startswith(self.form.comment):
            self._relearn(text)
            return None
        if self._places is None:
            raise RowError("no header has named the columns so far")
        cells = self._cells(text)
        try:
            row = self._row(cells, self._places)
        except ValueError as error:
            if self._relearn(text) or (self._by_position and not self.is_row(text)):
                return None
            raise RowError(f"{error} in the row {text[:80]!r}") from error
        self._delimiter = self._delimiter or self._mark(text)
        return row

    def _row(self, cells: list[str], places: dict[Part, int]) -> Row:
        if self._names and len(cells) != len(self._names) and not self._end_differs(cells, self._names):
            raise ValueError(f"{len(cells)} cells instead of {len(self._names)}")
        if max(places.values()) >= len(cells):
            raise ValueError(f"only {len(cells)} cells")
        # All parts are looked at first: a damaged cell spoils the row even beside one that has no value.
        read = {part: self._parse(part, cells[place]) for part, place in places.items() if part.quantity != "time"}
        time = self.form.time
        return Row(
            None if time is None else self._with_point(cells[places[time]]),
            tuple(recipe.value(lambda part: read[part]) for recipe in self.form.recipes),
        )

    def _parse(self, part: Part, cell: str) -> float | None:
        return part.parse(self._with_point(cell))

    def _with_point(self, cell: str) -> str:
        return cell.replace(self.form.decimal, ".")

    def _parts(self) -> list[Part]:
        parts = [part for recipe in self.form.recipes for part in recipe.parts]
        return parts if self.form.time is None else [*parts, self.form.time]

    def _bare(self, line: str) -> str:
        """A line without the mark of comments and without the mark that Windows puts before the first one."""
        text = line.strip().removeprefix("\ufeff")
        return text.removeprefix(self.form.comment).strip() if self.form.comment else text

    def _cells(self, text: str) -> list[str]:
        mark = self._delimiter or self._mark(text)
        cells = text.split(None if mark == " " else mark)
        return [cell.strip().strip("\"'").strip() for cell in cells]

    def _mark(self, text: str) -> str:
        return next((mark for mark in "\t;," if mark in text and mark != self.form.decimal), " ")

    @staticmethod
    def _end_differs(cells: list[str], names: list[str]) -> bool:
        """Whether the two differ only by a delimiter at the end of the line."""
        shorter, longer = sorted((cells, names), key=len)
        return len(longer) == len(shorter) + 1 and not longer[-1]

    def _relearn(self, line: str) -> bool:
        """Take a header in the midst of rows, such as that of the next file; other kinds of channels are not accepted."""
        names = self._cells(self._bare(line))
        if self._by_position or any(_STARTS_AS_NUMBER.match(name) for name in names):
            return False
        try:
            return self._learn(names)
        except MeterError:
            return False

    def _learn(self, names: list[str]) -> bool:
        """Bind the columns to their names; whether all that are needed are there."""
        form = self.form
        if not form.recipes:
            form = _detected(names, form)
            if not form.recipes:
                return False
        self.form, before = form, self.form
        wanted = {name.casefold(): place for place, name in reversed(list(enumerate(names)))}
        places = {part: wanted.get(part.place.casefold()) if part.place else part.field - 1 for part in self._parts()}
        found = {part: place for part, place in places.items() if place is not None}
        if len(found) < len(places):
            self.form = before
            return False
        self._places = found
        self._names = names
        return True


_TELL = "describe the columns in a file and give --meter toml:FILE"


def _meaning(cell: str) -> tuple[str, float] | None:
    """Quantity and factor that a column's name, or a value with its unit, stands for; ``None`` if it is not known."""
    row = bool(_STARTS_AS_NUMBER.match(cell))
    quantity: str | None = None
    unit: str | None = None
    for word in _WORD.findall(re.sub(r"^[+-]?[\d.]+(?:[eE][+-]?\d+)?", "", cell) if row else cell):
        small = word.lower()
        if quantity is not None and _QUANTITY_OF_NAME.get(small) == quantity:
            continue
        if small in _QUANTITY_OF_NAME and quantity is None and not row:
            quantity = _QUANTITY_OF_NAME[small]
        elif small not in _HARMLESS or row:
            if unit is not None:
                return None
            unit = word
    if unit is None:
        return None if quantity is None else (quantity, float(TIME_UNITS["s"] if quantity == "time" else 1))
    for name in ("time", *QUANTITIES) if quantity is None else (quantity,):
        factor = TIME_UNITS.get(_TIME_WORDS.get(unit, unit)) if name == "time" else unit_factor(name, unit)
        if factor is not None:
            return name, float(factor)
    return None


def _detected(names: Sequence[str], form: RowFormat) -> RowFormat:
    """A format with the channel and the time that a header names; without channels where it names none."""
    found: dict[str, list[Part]] = {}
    for place, name in enumerate(names, 1):
        meaning = _meaning(name)
        if meaning is not None:
            by_name = "" if _STARTS_AS_NUMBER.match(name) else name
            found.setdefault(meaning[0], []).append(Part(meaning[0], by_name, place, meaning[1]))
    if not found and len(names) == 1 and _STARTS_AS_NUMBER.match(names[0]):
        found["power"] = [Part("power")]
    for kinds in (("power",), ("voltage", "current"), ("energy",)):
        if all(kind in found for kind in kinds):
            twice = [names[part.field - 1] for kind in kinds for part in found[kind] if len(found[kind]) > 1]
            if twice:
                raise MeterError(f"several columns could be meant: {', '.join(twice)}", _TELL)
            channel = Channel("device", "counter" if kinds == ("energy",) else "sensor", update_s=form.update_s)
            recipe = Recipe(channel, tuple(found[kind][0] for kind in kinds))
            times = found.get("time", []) if form.wants_time else []
            return replace(form, recipes=(recipe,), time=times[0] if len(times) == 1 else None)
    return form
