"""A whole file of rows that a logger wrote on its own, read after the fact: its values on its own clock.

Standard library only.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import BinaryIO, Literal

from devprof.meters.base import MAX_RATE_HZ, Channel, MeterError, MeterInfo, Reading
from devprof.meters.clocks import ClockMap
from devprof.meters.quantities import ReadingMaker
from devprof.meters.rowclock import RowClock
from devprof.meters.rowmeter import Description, LineBuffer
from devprof.meters.rows import Row, RowError, RowFormat, RowParser

__all__ = ["LOG_DESCRIPTION", "Log", "LogClock", "read_log"]

LogClock = Literal["utc", "relative", "rows"]
LOG_DESCRIPTION = Description(RowFormat(wants_time=True), clock="auto")
"""A log of which nothing is known but its header."""

_CHUNK_BYTES = 1 << 20
_HEADER_LINES = 1000
_FEWEST_ROWS = 10
# A logger that was started again begins at 0; what lies between cannot be known and is taken to be this long.
_FELL_NS = 10**9
_PAUSE_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Log:
    """What a logger wrote.

    Attributes:
        place: The file's name.
        channels: What it measured.
        clock: What its stamps are: ``utc`` (nanoseconds since 1970), ``relative`` (to something), ``rows`` (the number of the
            row by a period that was given).
        t_ns: Stamps of the rows, rising.
        values: Watts, or joules of a counter, of each channel by row; ``None`` where the meter had no value.
        detail: Maker and model, as described.
        left_out: Rows whose stamp is not later than that of the row before.
        unreadable: Rows that could not be read.
        last_unreadable: Why the last of them could not.
        restarts: How often the logger was started again.
    """

    place: str
    channels: tuple[Channel, ...]
    clock: LogClock
    t_ns: Sequence[int]
    values: Sequence[tuple[float | None, ...]]
    detail: str = ""
    left_out: int = 0
    unreadable: int = 0
    last_unreadable: str = ""
    restarts: int = 0

    @property
    def period_s(self) -> float:
        """The middle one of the times between rows."""
        return median(b - a for a, b in pairwise(self.t_ns)) / 1e9

    @property
    def update_s(self) -> float:
        """How old a value of the total may be when its row is written, as described."""
        return max(channel.update_s for channel in self.channels if channel.headline)

    @property
    def info(self) -> MeterInfo:
        """The log as a meter."""
        return MeterInfo(
            "csv",
            "rows-sum/1",
            self.channels,
            period_s=max(self.period_s, 1 / MAX_RATE_HZ),
            detail=", ".join(filter(None, (self.detail, self.place))),
        )

    def total(self) -> tuple[list[int], list[float]]:
        """Stamps and watts of the whole device, where they are known and can be true.

        A counter's power is that between two rows, in the middle between them; beside sensors, counters are left out.
        """
        sensors, counters = self._places("sensor"), self._places("counter")
        if sensors:
            watts = [self._watts(sensors, row) for row in self.values]
            return _known(zip(self.t_ns, watts, strict=True))
        spans = [(b - a) / 1e9 for a, b in pairwise(self.t_ns)]
        rises = (
            tuple(None if b is None or a is None else (b - a) / span_s for a, b in zip(before, after, strict=True))
            for span_s, (before, after) in zip(spans, pairwise(self.values), strict=True)
        )
        middles = [(a + b) // 2 for a, b in pairwise(self.t_ns)]
        return _known(zip(middles, (self._watts(counters, rise) for rise in rises), strict=True))

    def _places(self, kind: str) -> list[int]:
        return [place for place, one in enumerate(self.channels) if one.headline and one.kind == kind]

    def _watts(self, places: Sequence[int], row: Sequence[float | None]) -> float | None:
        total = 0.0
        for place in places:
            value, channel = row[place], self.channels[place]
            if value is None or not -(channel.quantum + channel.offset_w) <= value <= channel.most_w:
                return None
            total += value
        return total

    def readings(self, clock: ClockMap, span_ns: tuple[int, int]) -> list[Reading]:
        """Readings of a span of time on the local clock, and of the rows next to it.

        Args:
            clock: From the logger's clock to the local one.
            span_ns: Begin and end on the local clock.
        """
        first = max(0, bisect_left(self.t_ns, span_ns[0], key=clock.local_ns) - 1)
        last = bisect_right(self.t_ns, span_ns[1], key=clock.local_ns) + 1
        maker = ReadingMaker(self.channels)
        return [
            maker.make(channel, clock.local_ns(t_ns), value)
            for t_ns, row in zip(self.t_ns[first:last], self.values[first:last], strict=True)
            for channel, value in zip(self.channels, row, strict=True)
        ]


def _known(pairs: Iterable[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    known = [(t_ns, watts) for t_ns, watts in pairs if watts is not None]
    return [t_ns for t_ns, _ in known], [watts for _, watts in known]


def read_log(path: Path, description: Description = LOG_DESCRIPTION, *, period_s: float | None = None) -> Log:
    """Read a logger's file.

    Args:
        path: The file.
        description: What is known of it.
        period_s: Seconds from row to row, for a logger that prints no time; goes before a time that it prints.

    Raises:
        MeterError: If it cannot be read, does not say which column is which, or has no time and none is given.
    """
    parser = RowParser(description.form)
    rows = _Rows(parser, description, period_s, path)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(file)):
                if parser.bound or _learned(parser, line, number, path):
                    rows.add(line)
    except OSError as error:
        raise MeterError(f"the log {path} cannot be read: {error.strerror or error}") from error
    if len(rows.t_ns) < _FEWEST_ROWS:
        why = f"; the last one: {rows.last_unreadable}" if rows.unreadable else ""
        raise MeterError(f"the log {path} has {len(rows.t_ns)} rows that can be read{why}", _TELL)
    channels = tuple(recipe.channel for recipe in parser.recipes)
    return Log(
        path.name,
        channels,
        rows.kind,
        rows.t_ns,
        rows.values,
        detail=description.detail,
        left_out=rows.left_out,
        unreadable=rows.unreadable,
        last_unreadable=rows.last_unreadable,
        restarts=rows.restarts,
    )


def _lines(file: BinaryIO) -> Iterator[str]:
    buffer = LineBuffer()
    while data := file.read(_CHUNK_BYTES):
        yield from buffer.add(data)
    # The last row may have no end.
    yield from buffer.add(b"\n")


def _learned(parser: RowParser, line: str, number: int, path: Path) -> bool:
    """Whether a line tells which column is which, and is a row besides."""
    if parser.offer(line):
        return parser.is_row(line)
    if number >= _HEADER_LINES:
        raise MeterError(f"the log {path} does not say which column is the power", _TELL)
    return False


class _Rows:
    """Gathers rows."""

    def __init__(self, parser: RowParser, description: Description, period_s: float | None, path: Path) -> None:
        self._parser = parser
        self._description = description
        self._period_ns = None if period_s is None else period_s * 1e9
        self._path = path
        self._clock: RowClock | None = None
        self._number = 0
        self._shift_ns = 0
        self.kind: LogClock = "rows"
        self.t_ns: list[int] = []
        self.values: list[tuple[float | None, ...]] = []
        self.left_out = self.unreadable = self.restarts = 0
        self.last_unreadable = ""

    def add(self, line: str) -> None:
        """A line after the header."""
        try:
            row = self._parser.parse(line)
            if row is None:
                return
            t_ns = self._stamp(row)
        except RowError as error:
            # It took its time all the same.
            self._number += 1
            self.unreadable += 1
            self.last_unreadable = str(error)
            return
        self._number += 1
        if self.t_ns and t_ns <= self.t_ns[-1]:
            self.left_out += 1
            return
        self.t_ns.append(t_ns)
        self.values.append(row.values)

    def _stamp(self, row: Row) -> int:
        if self._period_ns is not None:
            return round(self._number * self._period_ns)
        if self._clock is None:
            self._clock = self._row_clock()
        t_ns = self._clock.logged_ns(row.time or "") + self._shift_ns
        self.kind = "utc" if self._clock.kind == "utc" else "relative"
        if self.kind == "relative" and self.t_ns and t_ns < self.t_ns[-1] - _FELL_NS:
            self.restarts += 1
            self._shift_ns += self.t_ns[-1] - t_ns + _PAUSE_NS
            t_ns = self.t_ns[-1] + _PAUSE_NS
        return t_ns

    def _row_clock(self) -> RowClock:
        time = self._parser.form.time
        if time is None:
            raise MeterError(
                f"the rows of the log {self._path} have no time",
                "say how many seconds lie between them, such as --period 10ms, or describe the columns with --columns",
            )
        kind = self._description.clock
        return RowClock("auto" if kind == "arrival" else kind, int(time.factor), local=self._description.local)


_TELL = "describe the columns in a file and give --columns FILE.toml"
