r"""Command sets of instruments that speak SCPI, as TOML files that a user can write too.

::

    format = 1
    title = "Maker and series"
    manual = "the manual that the commands are from"
    identity = "MAKER,MODEL[12],.*"      # regular expression that the whole answer to *IDN? must match
    setup = ["FORMAT ASCII"]             # sent once when it is opened
    finish = ["SYSTEM:LOCAL"]            # sent when it is closed
    errors = "SYST:ERR?"                 # asked after the set-up until it answers 0; left out, errors are not looked for
    timeout_s = 1.0
    update_s = 0.1                       # seconds between new values; 0 where each query measures
    period_s = 0.1                       # how often it is asked; update_s, if left out, but no more than 20 times a second
    read_termination = "\n"               # what ends an answer
    write_termination = "\n"              # what ends a command
    notes = ["What people should know."]

    [integrator]                         # where the instrument adds up energy itself
    state = "INTEGRATE:STATE?"
    running = "STAR"                     # how the answer begins while it adds up; then it is left as it is
    start = ["INTEGRATE:RESET", "INTEGRATE:START"]
    stop = ["INTEGRATE:STOP"]            # sent when the meter is closed, if it was started here

    [range]                              # where accuracy is stated as a part of the range
    voltage = "RANGE:VOLTAGE?"
    current = "RANGE:CURRENT?"
    offset_rel = 0.001                   # of volts times amperes

    [[channels]]                         # more about them in devprof/meters/tables.py
    power = {query = "VALUE?", field = 1, unit = "W"}   # field: which of the values that the answer has, by commas

Channels that ask the same are served by one query. Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

from devprof.errors import UnknownNameError
from devprof.meters.base import MAX_RATE_HZ, MeterError
from devprof.meters.quantities import Part, Recipe
from devprof.meters.tables import Table, read_file, read_table

__all__ = ["CommandSet", "Integrator", "RangeQueries", "command_set_names", "load_command_set"]

_KEYS = ("title", "manual", "identity", "setup", "finish", "errors", "timeout_s", "update_s", "period_s")
_MORE_KEYS = ("read_termination", "write_termination", "notes", "integrator", "range", "channels")
_LONGEST_S = 10.0


@dataclass(frozen=True, slots=True)
class Integrator:
    """How an instrument adds up energy itself: a query of its state, the beginning of the answer while it runs, commands."""

    state: str
    running: str
    start: tuple[str, ...]
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RangeQueries:
    """Queries of the present ranges, and the accuracy of the zero as a fraction of volts times amperes."""

    voltage: str
    current: str
    offset_rel: float


@dataclass(frozen=True, slots=True)
class CommandSet:
    """What a series of instruments is told and asked; the module's text explains the fields."""

    name: str
    title: str
    manual: str
    identity: re.Pattern[str]
    setup: tuple[str, ...]
    finish: tuple[str, ...]
    errors: str
    timeout_s: float
    period_s: float
    read_termination: str
    write_termination: str
    notes: tuple[str, ...]
    integrator: Integrator | None
    ranges: RangeQueries | None
    recipes: tuple[Recipe, ...]


def command_set_names() -> tuple[str, ...]:
    """Names of the command sets that come with devprof."""
    folder = resources.files("devprof.meters") / "instruments"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_command_set(name: str) -> CommandSet:
    """A command set by name, or by the path of a TOML file.

    Raises:
        UnknownNameError: If there is no such name; carries the closest ones.
        MeterError: If the file cannot be read, or is no command set; the text names the file and the key.
    """
    keys = (*_KEYS, *_MORE_KEYS)
    if name.endswith(".toml"):
        return _parse(name, read_file(name, keys))
    if name not in command_set_names():
        hint = f"Known are {', '.join(command_set_names())}, or a path to a .toml file."
        raise UnknownNameError("instrument", name, command_set_names(), hint)
    text = (resources.files("devprof.meters") / "instruments" / f"{name}.toml").read_text(encoding="utf-8")
    return _parse(name, read_table(text, f"instruments/{name}.toml", keys))


def _parse(name: str, top: Table) -> CommandSet:
    try:
        identity = re.compile(top.text("identity"), re.IGNORECASE)
    except re.error as error:
        raise MeterError(f"{top.where}: identity is no regular expression: {error}") from error
    timeout_s = top.number("timeout_s", 1.0)
    if not 0 < timeout_s <= _LONGEST_S:
        raise top.error("timeout_s", f"must be above 0 and at most {_LONGEST_S:.0f}")
    update_s = top.number("update_s", 0.0)
    return CommandSet(
        name=name,
        title=top.text("title"),
        manual=top.text("manual", ""),
        identity=identity,
        setup=top.texts("setup"),
        finish=top.texts("finish"),
        errors=top.text("errors", ""),
        timeout_s=timeout_s,
        period_s=max(1 / MAX_RATE_HZ, top.number("period_s", update_s)),
        read_termination=top.text("read_termination", "\n"),
        write_termination=top.text("write_termination", "\n"),
        notes=top.texts("notes"),
        integrator=_integrator(top) if "integrator" in top else None,
        ranges=_ranges(top) if "range" in top else None,
        recipes=top.recipes(_part, update_s=update_s),
    )


def _integrator(top: Table) -> Integrator:
    table = top.table("integrator", ("state", "running", "start", "stop"))
    return Integrator(table.text("state"), table.text("running"), table.texts("start"), table.texts("stop"))


def _ranges(top: Table) -> RangeQueries:
    table = top.table("range", ("voltage", "current", "offset_rel"))
    return RangeQueries(table.text("voltage"), table.text("current"), table.number("offset_rel", 0.0))


def _part(channel: Table, quantity: str) -> Part:
    table = channel.table(quantity, ("query", "field", "unit"))
    return Part(quantity, table.text("query"), table.whole("field", 1), table.unit(quantity))
