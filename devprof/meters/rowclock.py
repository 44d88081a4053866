"""The time of a row on the clock of :func:`devprof.meters.base.now_ns`, whichever clock its logger stamps it with.

=============  ==========================================================================================================
``arrival``    The row says nothing that is used: it is stamped when it comes.
``utc``        Seconds (or ms, us, ns) since 1970, or ISO 8601. Converted through the difference of this machine's two clocks,
               which is looked up at every read: if it jumps, the clock was set or the machine slept, and a break is due.
``monotonic``  This machine's monotonic clock, such as Python's ``time.monotonic()``.
``relative``   Time since the logger began; the first row is taken to be as old as its arrival.
``auto``       ``utc`` where the first row's time is ISO 8601 or a number that is a date after 2001, else ``relative``.
=============  ==========================================================================================================

Standard library only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Literal, get_args

from devprof.meters.base import now_ns
from devprof.meters.rows import RowError

__all__ = ["ClockKind", "RowClock", "parse_iso8601_ns"]

ClockKind = Literal["arrival", "utc", "monotonic", "relative", "auto"]
CLOCK_KINDS: tuple[ClockKind, ...] = get_args(ClockKind)

_NS = 10**9
# Clocks are slewed by at most 500 ppm (adjtimex); what moves faster was set.
_STEP_NS = 10_000_000
_SLEW_PPM = 1000
# A row cannot come before its time. Late it may be, from buffers; but a time zone is at least 15 minutes wide.
_AHEAD_NS = 1 * _NS
_BEHIND_NS = 600 * _NS
_LONGEST_NS = 1 << 62
_NUMBER = re.compile(r"[+-]?(?:\d{1,25}\.?\d{0,25}|\.\d{1,25})(?:[eE][+-]?\d{1,2})?", re.ASCII)
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,12}))?)?\s*(?:([Zz])|([+-]\d\d):?(\d\d)?)?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# A number of this many seconds is a date of September 2001 or later; so is one of as many ms, us or ns.
_DATE_S = 10**9
_DATE_UNITS = ((10**18, 1), (10**15, 10**3), (10**12, 10**6), (_DATE_S, _NS))


def parse_iso8601_ns(text: str, *, local: bool = False) -> int | None:
    """Nanoseconds since 1970 of a date and time in ISO 8601, such as ``2026-01-31T12:00:00.25+01:00``; ``None`` if it is none.

    Args:
        text: The text.
        local: Whether a time without an offset is this machine's local time; else it is UTC.
    """
    match = _ISO.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute = (int(match[number]) for number in range(1, 6))
    try:
        moment = datetime(year, month, day, hour, minute, min(int(match[6] or 0), 59))  # noqa: DTZ001 - the zone follows
        if match[8] or match[9] or not local:
            hours = int(match[9] or 0)
            offset = timedelta(
                hours=hours, minutes=int(match[10] or 0) * (-1 if (match[9] or "").startswith("-") else 1)
            )
            moment = moment.replace(tzinfo=timezone(offset))
        whole_s = (moment.astimezone(timezone.utc) - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError, OSError):
        return None
    # A leap second is the last of its minute and counts on.
    return (whole_s + max(0, int(match[6] or 0) - 59)) * _NS + int((match[7] or "0").ljust(9, "0")[:9])


class RowClock:
    """Gives rows their moment.

    Args:
        kind: Which clock the logger's time is of.
        unit_ns: Nanoseconds of one unit of its time.
        local: Whether ISO 8601 without an offset is local time.
        now: The monotonic clock.
        utc: The clock of the day, in nanoseconds since 1970.
    """

    def __init__(
        self,
        kind: ClockKind = "arrival",
        unit_ns: int = _NS,
        *,
        local: bool = False,
        now: Callable[[], int] = now_ns,
        utc: Callable[[], int] = time.time_ns,
    ) -> None:
        self.kind = kind
        self._unit_ns = unit_ns
        self._local = local
        self._now, self._utc = now, utc
        self._looked_ns, self._offset_ns = self._difference()
        self._start_ns: int | None = None
        self._latest_ns = 0

    def stepped(self) -> bool:
        """Look at the clocks again; whether the time of day was set in between, or the machine slept."""
        if self.kind not in {"utc", "auto"}:
            return False
        looked_ns, offset_ns = self._difference()
        allowed_ns = _STEP_NS + (looked_ns - self._looked_ns) * _SLEW_PPM // 1_000_000
        step = abs(offset_ns - self._offset_ns) > allowed_ns
        self._looked_ns, self._offset_ns = looked_ns, offset_ns
        return step

    def _difference(self) -> tuple[int, int]:
        before, utc, after = self._now(), self._utc(), self._now()
        return after, utc - (before + after) // 2

    def logged_ns(self, text: str) -> int:
        """The time of a row on the logger's own clock: since 1970 if that is ``utc``, which ``auto`` finds out here.

        Raises:
            RowError: If the time cannot be read.
        """
        if self.kind == "auto":
            self._choose(text)
        return self._utc_ns(text) if self.kind == "utc" else self._number_ns(text)

    def stamp(self, text: str | None, arrival_ns: int) -> tuple[int, bool]:
        """The moment of a row, and whether the logger was restarted since the last one.

        Args:
            text: The row's time.
            arrival_ns: When it came.

        Raises:
            RowError: If the time cannot be read or cannot be right.
        """
        if self.kind == "arrival" or text is None:
            return arrival_ns, False
        logged_ns = self.logged_ns(text)
        if self.kind == "relative":
            return self._since_start(logged_ns, arrival_ns)
        t_ns = logged_ns if self.kind == "monotonic" else logged_ns - self._offset_ns
        late_s = (arrival_ns - t_ns) / _NS
        if not -_AHEAD_NS <= arrival_ns - t_ns <= _BEHIND_NS:
            raise RowError(
                f"the row's time {text[:40]!r} is {abs(late_s):.6g} s {'behind' if late_s > 0 else 'ahead of'} its arrival: "
                "another zone, a clock that is off, or a logger that holds rows back"
            )
        return t_ns, False

    def _since_start(self, since_ns: int, arrival_ns: int) -> tuple[int, bool]:
        """A row's moment by the anchor; a logger whose time falls by more than a second, or wanders off, began anew."""
        restarted = False
        if self._start_ns is not None:
            late_ns = arrival_ns - self._start_ns - since_ns
            fell = since_ns < self._latest_ns - _AHEAD_NS
            restarted = fell or not -_AHEAD_NS <= late_ns <= _BEHIND_NS
        if self._start_ns is None or restarted:
            self._start_ns = arrival_ns - since_ns
            self._latest_ns = since_ns
        self._latest_ns = max(self._latest_ns, since_ns)
        return since_ns + self._start_ns, restarted

    def _choose(self, text: str) -> None:
        if parse_iso8601_ns(text) is not None:
            self.kind = "utc"
            return
        value = _number(text)
        units = [unit_ns for least, unit_ns in _DATE_UNITS if value >= least]
        self.kind = "utc" if units else "relative"
        self._unit_ns = units[0] if units else self._unit_ns

    def _utc_ns(self, text: str) -> int:
        parsed = parse_iso8601_ns(text, local=self._local)
        return self._number_ns(text) if parsed is None else parsed

    def _number_ns(self, text: str) -> int:
        value = _number(text) * self._unit_ns
        if abs(value) >= _LONGEST_NS:
            raise RowError(f"the time {text[:40]!r} cannot be right")
        return int(value)


def _number(text: str) -> Decimal:
    """A number, exact: a double holds seconds since 1970 to 0.2 us only, and nanoseconds not at all."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        raise RowError(f"the time {text[:40]!r} cannot be read")
    return Decimal(text)
