"""A meter that another host shares with ``devprof meter serve``, its stamps converted to this host's clock.

The clocks are compared by twenty exchanges when the meter is opened and by a few every five seconds after that, so that their
drift is followed; how far the conversion can be off is known at any time (:attr:`RemoteMeter.clock_error_s`).
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from devprof.meters.base import MeterError, MeterInfo, MeterLostError, Reading, SourceState, now_ns
from devprof.meters.clocks import OffsetEstimate, Ping, map_between, offset_of, refined
from devprof.meters.wire import (
    DEFAULT_PORT,
    FORMAT,
    GREETING,
    LONGEST_REPLY,
    Lines,
    WireError,
    decode_line,
    encode,
    greeting_of,
    info_of,
    readings_of,
    stamp_of,
)

__all__ = ["RemoteMeter", "open_meter", "parse_address", "probe"]

_NAME = "tcp"
_TITLE = "meter of another host"
_SERVE = "devprof meter serve, on the host of the meter"
_CONNECT_S = 5.0
_FIRST_PINGS, _LEAST_PINGS = 20, 3
_NEXT_PINGS = 4
_NEXT_NS = 5_000_000_000
# Longest wait of one reading for the answers to its pings; what comes later is still worth something.
_PATIENCE_NS = 40_000_000
_SILENCE_NS = 10_000_000_000
_PIECE = 1 << 16
# At most so much is taken in by one reading, so that a flood cannot hold it.
_MOST_PIECES = 64
_ADDRESS = re.compile(
    r"(?://)?(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:/\[\]]+))(?::(?P<port>\d{1,5}))?/?", re.ASCII
)


class RemoteMeter:
    """A meter at the other end of a connection.

    Args:
        link: The connection.
        name: The other end, for messages.
        clock: The local clock.

    Raises:
        MeterError: If the other end shares no meter.
    """

    def __init__(self, link: socket.socket, name: str, *, clock: Callable[[], int] = now_ns) -> None:
        self._link: socket.socket | None = link
        self._name = name
        self._clock = clock
        self._lines = Lines(LONGEST_REPLY)
        self._waiting: list[dict[str, Any]] = []
        self._asked: dict[int, int] = {}
        self._pings: list[Ping] = []
        self._asks = 0
        self._end: MeterLostError | None = None
        link.setblocking(False)
        with contextlib.suppress(OSError):
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        shared = self._greet()
        self._first_offset = self._last_offset = self._first_look()
        self._map = map_between(self._first_offset)
        self._next_ns = clock() + _NEXT_NS
        self._error_ns = self._first_offset.error_ns
        self._stamps = (-(1 << 63), -(1 << 63))
        self._zeros: dict[str, float] = {}
        self._domains = {channel.domain for channel in shared.channels}
        known = (
            f"stamps are those of {name}, whose clock was known to within {self.clock_error_s * 1e3:.3g} ms at opening"
        )
        self.info = replace(
            shared,
            source=f"{_NAME}+{shared.source}",
            detail=f"{shared.detail or shared.source}, shared by {name}",
            notes=(*shared.notes, known),
        )

    @property
    def clock_error_s(self) -> float:
        """The most by which a stamp so far can be off, in seconds."""
        return self._error_ns / 1e9

    def read(self) -> Sequence[Reading]:
        """Readings that have arrived; every few seconds it also compares the clocks, for 40 ms at most.

        Raises:
            MeterLostError: If the connection broke, the other end lost its meter, or said something that is not expected.
        """
        self._take()
        if self._end is None and self._clock() >= self._next_ns:
            self._compare()
        waiting, self._waiting = self._waiting, []
        readings: list[Reading] = []
        for message in waiting:
            if "error" in message:
                self._end = MeterLostError(self._said(message), _SERVE)
                break
            try:
                rows = readings_of(message.get("readings"))
            except WireError as error:
                raise self._nonsense(error) from error
            readings += [self._local(reading) for reading in rows if reading.domain in self._domains]
        # What was measured before the end is still given.
        if self._end is not None and not readings:
            raise self._end
        return readings

    def close(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _greet(self) -> MeterInfo:
        """Say who is there, and learn what the other end shares."""
        self._send(greeting_of())
        end_ns = self._clock() + round(_CONNECT_S * 1e9)
        while not self._waiting:
            if not self._take_within(end_ns):
                raise self._end or MeterError(f"{self._name} does not greet as a server of meters does", _SERVE)
        greeting = self._waiting.pop(0)
        if "error" in greeting:
            raise MeterError(self._said(greeting))
        version = greeting.get(GREETING)
        if version != FORMAT:
            reason = f"{self._name} speaks format {version!r} of {GREETING}, this devprof speaks {FORMAT}"
            raise MeterError(reason, "install the same devprof on both hosts")
        try:
            return info_of(greeting.get("info"))
        except WireError as error:
            raise self._nonsense(error) from error

    def _first_look(self) -> OffsetEstimate:
        """The offset of the clocks at opening."""
        pings: list[Ping] = []
        end_ns = self._clock() + round(_CONNECT_S * 1e9)
        for _ in range(_FIRST_PINGS):
            self._ask()
            while self._asked and self._take_within(end_ns):
                pass
            pings += self._pings
            self._pings.clear()
        # What was measured before this is from before the opening.
        self._waiting = [message for message in self._waiting if "error" in message]
        usable = [ping for ping in pings if ping.sane]
        if len(usable) < _LEAST_PINGS:
            reason = f"{self._name} answered {len(usable)} of {_FIRST_PINGS} questions for the time"
            raise self._end or MeterError(reason, _SERVE)
        return offset_of(usable)

    def _compare(self) -> None:
        """Follow the drift of the clocks."""
        now = self._clock()
        self._next_ns = now + _NEXT_NS
        if now - min(self._asked.values(), default=now) > _SILENCE_NS:
            raise self._gone("it does not answer any more")
        # Answers to the last questions that came late: the bound of their offset is wider, but holds.
        for _ in range(_NEXT_PINGS):
            self._ask()
            while self._asked and self._take_within(now + _PATIENCE_NS):
                pass
        pings, self._pings = [ping for ping in self._pings if ping.sane], []
        if pings:
            self._last_offset = refined(self._last_offset, offset_of(pings))
            self._map = map_between(self._first_offset, self._last_offset)

    def _ask(self) -> None:
        self._asks += 1
        question = encode({"ping": self._asks})
        self._asked[self._asks] = self._clock()
        self._send(question)

    def _local(self, reading: Reading) -> Reading:
        """A reading with its stamp converted, never earlier than the one before, and energy since the opening."""
        last_remote_ns, last_ns = self._stamps
        t_ns = self._map.local_ns(reading.t_ns)
        # A new map can put a later stamp before an earlier one that the last map converted.
        moved_ns = max(0, last_ns + (reading.t_ns > last_remote_ns) - t_ns) if reading.t_ns >= last_remote_ns else 0
        self._stamps = max(last_remote_ns, reading.t_ns), max(last_ns, t_ns + moved_ns)
        self._error_ns = max(self._error_ns, self._map.error_ns(reading.t_ns) + moved_ns)
        energy_j = reading.energy_j
        if energy_j is not None:
            energy_j -= self._zeros.setdefault(reading.domain, energy_j)
        return replace(reading, t_ns=t_ns + moved_ns, energy_j=energy_j)

    def _send(self, line: bytes) -> None:
        try:
            self._connected().sendall(line)
        except OSError as error:
            raise self._gone(error) from error

    def _take_within(self, end_ns: int) -> bool:
        """Wait for something to arrive and take it; whether it came in time."""
        left_s = (end_ns - self._clock()) / 1e9
        if left_s <= 0 or self._end is not None:
            return False
        watched = select.poll()
        watched.register(self._connected(), select.POLLIN)
        if not watched.poll(left_s * 1e3):
            return False
        self._take()
        return True

    def _take(self) -> None:
        """Take in what has arrived: answers become exchanges, all else waits. The end of the connection is kept for later."""
        link = self._connected()
        for _ in range(_MOST_PIECES):
            try:
                piece = link.recv(_PIECE)
            except BlockingIOError:
                return
            except OSError as error:
                self._end = self._gone(error)
                return
            arrived_ns = self._clock()
            if not piece:
                self._end = self._gone("it hung up")
                return
            try:
                for line in self._lines.add(piece):
                    self._sort(decode_line(line), arrived_ns)
            except WireError as error:
                raise self._nonsense(error) from error

    def _sort(self, message: dict[str, Any], arrived_ns: int) -> None:
        if "pong" not in message:
            self._waiting.append(message)
            return
        number = message["pong"]
        asked_ns = self._asked.pop(number, None) if isinstance(number, int) else None
        if asked_ns is not None:
            self._pings.append(Ping(asked_ns, stamp_of(message.get("t1")), stamp_of(message.get("t2")), arrived_ns))

    def _connected(self) -> socket.socket:
        if self._link is None:
            raise MeterLostError(f"the connection to {self._name} is closed")
        return self._link

    def _said(self, message: dict[str, Any]) -> str:
        return f"{self._name} says: {str(message['error'])[:300]}"

    def _gone(self, why: object) -> MeterLostError:
        return MeterLostError(f"the connection to {self._name} is lost: {why}", _SERVE)

    def _nonsense(self, error: WireError) -> MeterLostError:
        return MeterLostError(f"{self._name} does not speak as a server of meters does: {error}", _SERVE)


def probe() -> SourceState:
    """A meter of another host is never found, only named."""
    return SourceState(_NAME, _TITLE, readable=True, detail=f"give --meter tcp:HOST:PORT; {_SERVE}")


def parse_address(argument: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``//HOST:PORT``, ``[IPv6]:PORT`` or ``HOST``, which is :data:`DEFAULT_PORT`.

    Raises:
        MeterError: If it is no address.
    """
    match = _ADDRESS.fullmatch(argument)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 1 << 16:
        raise MeterError(f"{argument!r} is no address of a meter", "--meter tcp:HOST:PORT")
    return match["six"] or match["host"], port


def open_meter(argument: str, *, clock: Callable[[], int] = now_ns) -> RemoteMeter:
    """Open the meter that another host shares; takes as long as twenty exchanges.

    Args:
        argument: Its address: ``HOST:PORT``, ``//HOST:PORT`` or ``HOST``.
        clock: The local clock.

    Raises:
        MeterError: If nobody shares a meter there, or another version of devprof does.
    """
    host, port = parse_address(argument)
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        link = socket.create_connection((host, port), timeout=_CONNECT_S)
    except (OSError, UnicodeError) as error:
        raise MeterError(f"no meter at {name}: {error}", _SERVE) from error
    try:
        return RemoteMeter(link, name, clock=clock)
    except BaseException:
        link.close()
        raise
