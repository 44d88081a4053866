"""The power source ``toml``: a meter that prints rows, described in a file, ``--meter toml:FILE``.

::

    format = 1
    source = "serial:/dev/ttyUSB0@115200"  # or csv:FILE, pipe:PATH, lines:HOST:PORT
    model = "FNIRSI FNB58"                 # in words, for the record
    serial = "0123"
    update_s = 0.04                        # seconds between new values: rows may be more frequent than what they say
    delimiter = ","                        # "tab", "space"; else what the first row has
    decimal = "."                          # "," in some countries
    comment = "#"                          # lines that begin with it are left out
    columns = ["t", "u", "i"]              # names of the columns, where the logger prints no header

    [time]
    clock = "utc"                          # arrival, utc, monotonic or relative; see devprof/meters/rowclock.py
    column = "t"                           # by name, or by position from 1
    unit = "s"                             # ms, us, ns
    zone = "utc"                           # of dates without an offset: utc or local

    [[channels]]                           # more about them in devprof/meters/tables.py
    domain = "usb"
    voltage = "u"                          # the name of its column, or its position from 1
    current = {column = "i", unit = "mA"}
    gain_rel = 0.005

Without ``[[channels]]`` the header says which column is which. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from devprof.meters import csvfile, lines, pipe, serialline
from devprof.meters.base import MeterError, SourceState
from devprof.meters.quantities import Part
from devprof.meters.rowclock import ClockKind
from devprof.meters.rowmeter import Description, LineSource, RowMeter, open_rows
from devprof.meters.rows import TIME_UNITS, RowFormat
from devprof.meters.tables import Table, read_file

__all__ = ["open_meter", "probe", "read_description"]

_KEYS = ("source", "model", "serial", "update_s", "delimiter", "decimal", "comment", "columns", "time", "channels")
_TRANSPORTS: dict[str, Callable[[str], LineSource]] = {
    "csv": csvfile.open_source,
    "pipe": pipe.open_source,
    "lines": lines.open_source,
    "serial": serialline.open_source,
}
_DELIMITERS = {"tab": "\t", "space": " "}
_CLOCKS: tuple[ClockKind, ...] = get_args(ClockKind)


def read_description(path: str) -> tuple[str, Description]:
    """Source and description of a meter out of a file.

    Raises:
        MeterError: If the file cannot be read, or says what makes no sense.
    """
    top = read_file(path, _KEYS)
    time = top.table("time", ("clock", "column", "unit", "zone"))
    clock = _clock(time, default="auto" if top.text("source").startswith("csv:") else "arrival")
    unit_ns = TIME_UNITS[time.text("unit", "s", among=tuple(TIME_UNITS))]
    column = _place(time, "column", "time", float(unit_ns)) if "column" in time and clock != "arrival" else None
    if column is None and ("unit" in time or (clock not in {"arrival", "auto"} and "channels" in top)):
        raise MeterError(f"{time.where}: which column is the time is missing", 'add column = "..."')
    delimiter = top.text("delimiter") if "delimiter" in top else None
    form = RowFormat(
        recipes=top.recipes(_part, update_s=top.number("update_s", 0.0)) if "channels" in top else (),
        time=column,
        wants_time=clock != "arrival",
        delimiter=None if delimiter is None else _DELIMITERS.get(delimiter, delimiter),
        decimal=top.text("decimal", ".", among=(".", ",")),
        comment=top.text("comment", "#"),
        columns=top.texts("columns"),
        update_s=top.number("update_s", 0.0),
    )
    if form.delimiter is not None and (len(form.delimiter) != 1 or form.delimiter == form.decimal):
        raise top.error("delimiter", "must be one character other than the decimal mark, or tab or space")
    detail = " ".join(filter(None, (top.text("model", ""), top.text("serial", ""))))
    return top.text("source"), Description(form, clock, time.text("zone", "utc", among=_ZONES) == "local", detail)


_ZONES = ("utc", "local")


def _clock(time: Table, default: ClockKind) -> ClockKind:
    name = time.text("clock", default, among=_CLOCKS)
    return next(clock for clock in _CLOCKS if clock == name)


def _part(channel: Table, quantity: str) -> Part:
    """A value's column: its name, its position, or a table with one of them and a unit."""
    if not isinstance(channel.raw(quantity), dict):
        return _place(channel, quantity, quantity, 1.0)
    table = channel.table(quantity, ("column", "unit"))
    return _place(table, "column", quantity, table.unit(quantity))


def _place(table: Table, key: str, quantity: str, factor: float) -> Part:
    value = table.raw(key)
    if isinstance(value, int):
        return Part(quantity, "", table.whole(key, 1), factor)
    name = table.text(key)
    if not name:
        raise table.error(key, "must be the name of a column, or its position from 1")
    return Part(quantity, name, 1, factor)


def open_meter(argument: str) -> RowMeter:
    """The meter that a file describes.

    Args:
        argument: The file.

    Raises:
        MeterError: If the file makes no sense, or the meter cannot be opened.
        MissingExtraError: If the meter is on a serial line and pyserial is not installed.
    """
    if not argument:
        raise MeterError("the meter toml needs a file", "give --meter toml:FILE")
    spec, description = read_description(argument)
    name, _, place = spec.partition(":")
    if name not in _TRANSPORTS:
        raise MeterError(f"{argument}: source must begin with one of {', '.join(_TRANSPORTS)}, got {spec!r}")
    return open_rows(_TRANSPORTS[name](place), description)


def probe() -> SourceState:
    """How it is used; nothing is looked for."""
    return SourceState("toml", "a meter that prints rows, described in a file", readable=True, detail=_HOW, remedy=None)


_HOW = "give --meter toml:FILE"
