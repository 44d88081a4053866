"""An external meter whose logger prints rows: lines from a file, a pipe, a socket or a serial port become readings.

Rows without a usable time of their own are stamped at arrival, which is known to lie between two looks: where several came
since the last look, they are spread evenly over the time in between. Standard library only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from devprof.meters.base import MeterError, MeterInfo, MeterLostError, Reading, now_ns
from devprof.meters.quantities import ReadingMaker
from devprof.meters.rowclock import ClockKind, RowClock
from devprof.meters.rows import Row, RowError, RowFormat, RowParser

__all__ = ["Description", "LineBuffer", "LineSource", "RowMeter", "open_rows"]

HEADER_WAIT_S = 5.0
_LOOK_S = 0.02
_LONGEST_LINE = 1 << 16
_REJECTED_IN_A_ROW = 20


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a meter before its rows are.

    Attributes:
        form: How its rows are to be read.
        clock: Which clock its rows are stamped with.
        local: Whether dates without an offset are local time.
        detail: Maker, model, serial number.
    """

    form: RowFormat = field(default_factory=RowFormat)
    clock: ClockKind = "arrival"
    local: bool = False
    detail: str = ""


class LineSource(Protocol):
    """Where lines come from, without waiting.

    Attributes:
        name: The transport: ``csv``, ``pipe``, ``lines`` or ``serial``.
        place: The file, the port, the address.
        midway: Whether the first line may be the end of one that began earlier.
        silence_s: Seconds without a byte after which the other end counts as gone.
    """

    name: str
    place: str
    midway: bool
    silence_s: float

    def head(self) -> Sequence[str]:
        """Lines that were there before: a file's first ones; else none."""

    def lines(self) -> Sequence[str]:
        """Whole lines that are new.

        Raises:
            MeterLostError: If the source ended; what came before is given first.
        """

    def close(self) -> None:
        """Let go of it; may be called again."""


class LineBuffer:
    """Cuts a stream of bytes into lines, which end with CR, LF or both; of a line too long for a row it gives the beginning."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip = False

    def add(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes; blank ones are left out."""
        *whole, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if whole and self._skip:
            whole[0], self._skip = b"", False
        if len(self._rest) > _LONGEST_LINE:
            whole += [] if self._skip else [self._rest[:80] + b"..."]
            self._rest, self._skip = b"", True
        return [text for line in whole if (text := line.decode(errors="replace")).strip()]

    def clear(self) -> None:
        """Forget a line that is not complete."""
        self._rest, self._skip = b"", False


class RowMeter:
    """See :func:`open_rows`.

    Attributes:
        rejected: Rows that could not be read so far.
        last_rejected: Why the last of them could not.
    """

    def __init__(
        self,
        source: LineSource,
        description: Description,
        parser: RowParser,
        pending: Sequence[str] | None,
        *,
        clock: Callable[[], int],
        utc: Callable[[], int],
    ) -> None:
        self.rejected = 0
        self.last_rejected = ""
        self._source = source
        self._parser = parser
        self._pending = list(pending or ())
        self._first_is_doubtful = source.midway and pending is None
        self._now = clock
        time_column = parser.form.time
        if time_column is None and description.clock not in {"arrival", "auto"}:
            raise MeterError(f"{source.place} has no column that is the time", "name it: [time] column = ...")
        kind: ClockKind = "arrival" if time_column is None else description.clock
        self._clock = RowClock(
            kind, int(time_column.factor) if time_column else 1, local=description.local, now=clock, utc=utc
        )
        self._channels = [recipe.channel for recipe in parser.recipes]
        self._maker = ReadingMaker(self._channels)
        self._looked_ns = self._heard_ns = clock()
        self._streak = 0
        self.info = MeterInfo(
            source=source.name,
            rule="rows-sum/1",
            channels=tuple(self._channels),
            detail=", ".join(filter(None, (description.detail, source.place))),
            notes=(_columns_in_words(parser), _CLOCK_NOTES[kind]),
        )

    def read(self) -> list[Reading]:
        """Readings of the rows that are new; a row in which the meter has no value is a break.

        Raises:
            MeterLostError: If the source ended, was silent for too long, or twenty rows in a row could not be read.
        """
        lines = [*self._pending, *self._source.lines()]
        self._pending = []
        before, now = self._looked_ns, self._now()
        self._looked_ns = now
        if lines:
            self._heard_ns = now
        elif now - self._heard_ns > self._source.silence_s * 1e9:
            raise MeterLostError(f"{self.info.detail} has been silent for {self._source.silence_s:.0f} s")
        if lines and self._first_is_doubtful:
            # A header is worth having even so.
            self._first_is_doubtful = False
            first = lines.pop(0)
            if not self._parser.is_row(first):
                self._read_row(first)
        rows = [row for line in lines if (row := self._read_row(line)) is not None]
        if rows and self._clock.stepped():
            self._reject("the clock was set, so the time of rows written before cannot be told", len(rows))
            return [self._maker.make(channel, now, None) for channel in self._channels]
        readings: list[Reading] = []
        for number, row in enumerate(rows, 1):
            readings += self._readings(row, before + (now - before) * number // len(rows))
        if self._streak >= _REJECTED_IN_A_ROW:
            raise MeterLostError(
                f"{self.info.detail}: {self._streak} rows in a row could not be read; the last: {self.last_rejected}",
                "give the columns, the clock or the speed of the line in a file: --meter toml:FILE",
            )
        return readings

    def _read_row(self, line: str) -> Row | None:
        try:
            return self._parser.parse(line)
        except RowError as error:
            self._reject(str(error))
            return None

    def _readings(self, row: Row, arrival_ns: int) -> list[Reading]:
        try:
            t_ns, restarted = self._clock.stamp(row.time, arrival_ns)
        except RowError as error:
            self._reject(str(error))
            return []
        self._streak = 0
        breaks = [self._maker.make(channel, t_ns, None) for channel in self._channels] if restarted else []
        values = zip(self._channels, row.values, strict=True)
        return breaks + [self._maker.make(channel, t_ns, value) for channel, value in values]

    def _reject(self, why: str, count: int = 1) -> None:
        self.rejected += count
        self.last_rejected = why
        self._streak += count

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def open_rows(
    source: LineSource,
    description: Description,
    *,
    clock: Callable[[], int] = now_ns,
    utc: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> RowMeter:
    """A meter of the rows of a source, which is closed if that fails.

    Where the description does not say which column is which, this waits for the logger's header.

    Args:
        source: Where the rows come from.
        description: What is known of the meter.
        clock: The monotonic clock.
        utc: The clock of the day, in nanoseconds since 1970.
        sleep: How to wait.

    Raises:
        MeterError: If no header came, or it does not say which column is which.
    """
    try:
        parser = RowParser(description.form)
        pending = None if parser.bound else _learn(parser, source, clock, sleep)
        return RowMeter(source, description, parser, pending, clock=clock, utc=utc)
    except BaseException:
        source.close()
        raise


def _learn(
    parser: RowParser, source: LineSource, clock: Callable[[], int], sleep: Callable[[float], None]
) -> list[str]:
    """Wait until the columns are known; the rows that came with what told them."""
    head = source.head()
    last = ""
    for line in head:
        last = line
        if parser.offer(line):
            return []
    deadline = clock() + int(HEADER_WAIT_S * 1e9)
    first = source.midway
    while not head and clock() < deadline:
        lines = list(source.lines())
        for number, line in enumerate(lines):
            last = line
            doubtful, first = first, False
            if (not doubtful or not parser.is_row(line)) and parser.offer(line):
                return lines[number + (not parser.is_row(line)) :]
        sleep(_LOOK_S)
    if not last:
        raise MeterError(f"nothing came from {source.place} in {HEADER_WAIT_S:.0f} s", "start its logger first")
    raise MeterError(
        f"{source.place} does not say which column is the power: {last[:80]!r}",
        "name the columns in a file and give --meter toml:FILE",
    )


def _columns_in_words(parser: RowParser) -> str:
    sums = (
        f"{recipe.channel.domain} = {' * '.join(part.place or f'column {part.field}' for part in recipe.parts)}"
        for recipe in parser.recipes
    )
    return f"columns: {'; '.join(sums)}"


_CLOCK_NOTES: dict[ClockKind, str] = {
    "arrival": "rows are stamped when they arrive: a logger that holds back its output shifts and bunches them",
    "utc": "rows carry the time of day of the logger's machine: keep both clocks on NTP",
    "monotonic": "rows carry the monotonic clock of this machine",
    "relative": "rows carry the time since the logger began; the first row was taken to be as old as its arrival",
    "auto": "rows carry a time: of day where it is a date, else since the logger began",
}
