"""The power source ``scpi``: laboratory meters and supplies, ``--meter scpi:INSTRUMENT@RESOURCE``.

``INSTRUMENT`` names a command set (:mod:`devprof.meters.commandsets`) or is the path of one; ``RESOURCE`` is VISA's name of the
connection, such as ``TCPIP::192.0.2.5::INSTR`` (VXI-11), ``TCPIP::192.0.2.5::5025::SOCKET``,
``USB0::0x0B21::0x0025::C3::INSTR`` or ``ASRL/dev/ttyUSB0::INSTR``.

Needs PyVISA and PyVISA-py, of the extra ``meter``; PyVISA-py needs pyserial and pyusb for serial lines and USB.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from devprof.errors import MissingExtraError
from devprof.meters.base import MeterError, MeterInfo, MeterLostError, Reading, SourceState, now_ns
from devprof.meters.commandsets import CommandSet, RangeQueries, command_set_names, load_command_set
from devprof.meters.polled import PolledMeter
from devprof.meters.quantities import Part, ReadingMaker, Recipe

if TYPE_CHECKING:
    from pyvisa.resources import MessageBasedResource

__all__ = ["Instrument", "ScpiAsker", "open_meter", "probe"]

_OPEN_MS = 3000
_MOST_ERRORS = 20
_TITLE = "a laboratory meter or supply that speaks SCPI"


class Instrument:
    """A connection to an instrument.

    Args:
        resource: VISA's name of it.
        commands: What it is expected to be.

    Raises:
        MissingExtraError: If PyVISA or PyVISA-py is not installed.
        MeterError: If it cannot be reached.
    """

    def __init__(self, resource: str, commands: CommandSet) -> None:
        self.resource = resource
        missing = _missing()
        if missing:
            raise MissingExtraError("meter", missing[0], _TITLE)
        import pyvisa

        try:
            session = pyvisa.ResourceManager("@py").open_resource(resource, open_timeout=_OPEN_MS)
        except Exception as error:
            # pyvisa-py raises plain Exception where a connection fails.
            raise MeterError(
                f"{resource} cannot be opened: {error}", "is it on, in this network, and the name right?"
            ) from error
        if not isinstance(session, pyvisa.resources.MessageBasedResource):
            session.close()
            raise MeterError(f"{resource} is nothing that takes commands", "give its INSTR or SOCKET resource")
        session.timeout = commands.timeout_s * 1000
        session.read_termination = commands.read_termination
        session.write_termination = commands.write_termination
        self._session: MessageBasedResource = session
        self._errors: tuple[type[BaseException], ...] = (pyvisa.errors.Error, OSError, UnicodeError, ValueError)

    def tell(self, command: str) -> None:
        """Send a command.

        Raises:
            MeterLostError: If it cannot be sent.
        """
        try:
            self._session.write(command)
        except self._errors as error:
            raise MeterLostError(f"{self.resource} does not take {command!r}: {error}") from error

    def ask(self, query: str) -> str:
        """The answer to a query. After a missing one the next could be taken for it, so the connection is of no use then.

        Raises:
            MeterLostError: If there is none in time.
        """
        try:
            return self._session.query(query).strip()
        except self._errors as error:
            raise MeterLostError(f"{self.resource} does not answer {query!r}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(*self._errors):
            self._session.close()


class ScpiAsker:
    """Sets up an instrument, and asks it for its values.

    Args:
        instrument: The connection; it is closed if the set-up fails.
        commands: What it is told and asked.

    Attributes:
        identity: Its answer to ``*IDN?``.
        recipes: The channels, with the accuracy that follows from the ranges.

    Raises:
        MeterError: If another instrument answers, or it complains of the set-up.
    """

    def __init__(self, instrument: Instrument, commands: CommandSet) -> None:
        self.rejected = 0
        self._instrument, self._commands = instrument, commands
        self._started = False
        try:
            self.identity = instrument.ask("*IDN?")
            self._check_identity()
            self._set_up()
            offset_w = 0.0 if commands.ranges is None else self._offset_w(commands.ranges)
        except BaseException:
            instrument.close()
            raise
        self.recipes = tuple(_with_offset(recipe, offset_w) for recipe in commands.recipes)
        self._maker = ReadingMaker(recipe.channel for recipe in self.recipes)
        self._queries = tuple(dict.fromkeys(part.place for recipe in self.recipes for part in recipe.parts))

    def _check_identity(self) -> None:
        if not self._commands.identity.fullmatch(self.identity):
            reason = f"{self._instrument.resource} is {self.identity!r}, no {self._commands.title}"
            raise MeterError(reason, _others(self.identity))

    def _set_up(self) -> None:
        """Send the set-up, begin to add up energy, and see whether the instrument complains."""
        # IEEE 488.2, 10.3: empties the queue of errors, so that earlier ones are not taken for ours.
        self._instrument.tell("*CLS")
        for command in self._commands.setup:
            self._instrument.tell(command)
        integrator = self._commands.integrator
        if integrator is not None and not self._instrument.ask(integrator.state).upper().startswith(
            integrator.running.upper()
        ):
            self._started = True
            for command in integrator.start:
                self._instrument.tell(command)
        errors = list(self._complaints()) if self._commands.errors else []
        if errors:
            raise MeterError(
                f"{self.identity} at {self._instrument.resource} did not take its set-up: {'; '.join(errors)}",
                "look at its display for a state in which it cannot be set up, or give a command set of your own",
            )

    def _complaints(self) -> Sequence[str]:
        found: list[str] = []
        while len(found) < _MOST_ERRORS:
            answer = self._instrument.ask(self._commands.errors)
            if answer.lstrip("+-").partition(",")[0].split(" ")[0].strip() in {"0", "00000", ""}:
                break
            found.append(answer)
        return found

    def _offset_w(self, ranges: RangeQueries) -> float:
        volts, amperes = (
            Part(quantity).parse_or_none(self._instrument.ask(query))
            for quantity, query in (("voltage", ranges.voltage), ("current", ranges.current))
        )
        return ranges.offset_rel * (volts or 0.0) * (amperes or 0.0)

    def ask(self) -> list[Reading]:
        """Readings of all channels now; a channel that the instrument has no value of is a break.

        Raises:
            MeterLostError: If it does not answer.
        """
        before = now_ns()
        answers = {query: self._instrument.ask(query).split(",") for query in self._queries}
        t_ns = (before + now_ns()) // 2

        def look(part: Part) -> float | None:
            fields = answers[part.place]
            return part.parse_or_none(fields[part.field - 1]) if part.field <= len(fields) else None

        values = [(recipe.channel, recipe.value(look)) for recipe in self.recipes]
        self.rejected += any(value is None for _, value in values)
        return [self._maker.make(channel, t_ns, value) for channel, value in values]

    def release(self) -> None:
        """Leave the instrument as it was found, as far as it still answers, and close the connection."""
        integrator = self._commands.integrator
        stop = integrator.stop if integrator is not None and self._started else ()
        with contextlib.suppress(MeterLostError):
            for command in (*stop, *self._commands.finish):
                self._instrument.tell(command)
        self._instrument.close()


def _with_offset(recipe: Recipe, offset_w: float) -> Recipe:
    return replace(recipe, channel=replace(recipe.channel, offset_w=recipe.channel.offset_w + offset_w))


def _others(identity: str) -> str:
    fitting = [name for name in command_set_names() if load_command_set(name).identity.fullmatch(identity)]
    if fitting:
        return f"give --meter scpi:{fitting[0]}@RESOURCE"
    return "give its command set as a file: --meter scpi:FILE.toml@RESOURCE"


def open_meter(argument: str) -> PolledMeter:
    """An instrument that speaks SCPI.

    Args:
        argument: ``INSTRUMENT@RESOURCE``; see the module's text.

    Raises:
        MissingExtraError: If PyVISA or PyVISA-py is not installed.
        MeterError: If it cannot be reached, is another instrument, or does not take its set-up.
        UnknownNameError: If there is no such command set.
    """
    name, _, resource = argument.rpartition("@")
    if not name or not resource:
        raise MeterError(f"the meter scpi needs an instrument and its address, got {argument!r}", _how())
    commands = load_command_set(name)
    asker = ScpiAsker(Instrument(resource, commands), commands)
    manual = (f"commands after {commands.manual}",) if commands.manual else ()
    info = MeterInfo(
        source="scpi",
        rule="scpi-sum/1",
        channels=tuple(recipe.channel for recipe in asker.recipes),
        period_s=commands.period_s,
        detail=f"{asker.identity} at {resource}",
        notes=(*commands.notes, *manual),
    )
    # One question may be several queries.
    return PolledMeter(info, asker, patience_s=10 * commands.timeout_s)


def _how() -> str:
    return f"give --meter scpi:INSTRUMENT@RESOURCE; known: {', '.join(command_set_names())}, or a path to a .toml file"


def _missing() -> list[str]:
    return [name for name in ("pyvisa", "pyvisa_py") if importlib.util.find_spec(name) is None]


def probe() -> SourceState:
    """Whether PyVISA is there, and how it is used; nothing is contacted."""
    if missing := _missing():
        detail = f"not installed: {', '.join(missing)}"
        return SourceState("scpi", _TITLE, readable=False, detail=detail, remedy="pip install 'devprof[meter]'")
    return SourceState("scpi", _TITLE, readable=True, detail=_how(), remedy=None)
