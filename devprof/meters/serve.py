"""Shares a meter with devprof on other hosts: the one loop behind ``devprof meter serve``.

One thread reads the meter on its own schedule and never waits for a client: what a client does not take in time is dropped
with the client. Nothing that arrives is run; the only question is for the time. There is no password: whoever reaches the port
can read the power, so it should be open to the measured hosts only.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from devprof.meters.base import MAX_RATE_HZ, Meter, MeterError, MeterLostError, now_ns
from devprof.meters.wire import (
    DEFAULT_PORT,
    FORMAT,
    GREETING,
    LONGEST_QUESTION,
    Lines,
    WireError,
    decode_line,
    encode,
    encode_readings,
    greeting_of,
)

__all__ = ["MeterServer", "serve"]

_LOG = logging.getLogger(__name__)
_MOST_CLIENTS = 16
_PIECE = 4096
# What waits for one client: at 20 readings a second of a dozen channels, about ten seconds.
_MOST_PENDING = 256 << 10


@dataclass(slots=True, eq=False)
class _Client:
    """A connection, what it began to say, and what waits to be sent to it."""

    link: socket.socket
    name: str
    lines: Lines = field(default_factory=lambda: Lines(LONGEST_QUESTION))
    pending: bytearray = field(default_factory=bytearray)
    greeted: bool = False


class _DropError(Exception):
    """A client must go; the text says why."""


class MeterServer:
    """A meter and the clients that listen to it. It belongs to the thread that made it.

    Args:
        meter: The open meter; the caller closes it.
        host: Address to listen on; an empty one means all.
        port: Port to listen on; 0 takes a free one.
        clock: The clock of the meter's stamps.

    Raises:
        MeterError: If the address cannot be used.
    """

    def __init__(
        self, meter: Meter, host: str = "", port: int = DEFAULT_PORT, *, clock: Callable[[], int] = now_ns
    ) -> None:
        self._meter = meter
        self._clock = clock
        self._period_ns = round(max(meter.info.period_s, 1 / MAX_RATE_HZ) * 1e9)
        self._due_ns = now_ns()
        self._clients: set[_Client] = set()
        self._greeting = greeting_of(meter.info)
        self._selector = selectors.DefaultSelector()
        self._listener = _listener(host, port)
        self._selector.register(self._listener, selectors.EVENT_READ)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which it listens."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def step(self, timeout_s: float = 1.0) -> None:
        """One turn: answer who asks, and read the meter if it is time.

        Args:
            timeout_s: How long to wait at most, if nothing happens and the meter is not due.

        Raises:
            MeterLostError: If the meter is lost; the clients have been told.
        """
        until_due_s = (self._due_ns - now_ns()) / 1e9
        for key, events in self._selector.select(max(0.0, min(timeout_s, until_due_s))):
            if key.fileobj is self._listener:
                self._accept()
            elif key.data in self._clients:
                self._attend(key.data, events)
        if now_ns() >= self._due_ns:
            self._sample()

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Go on until a condition holds, which is asked at least once a second.

        Raises:
            MeterLostError: If the meter is lost.
        """
        while not until():
            self.step()

    def close(self) -> None:
        """Hang up; may be called again."""
        for client in tuple(self._clients):
            self._hang_up(client)
        self._selector.close()
        self._listener.close()

    def _sample(self) -> None:
        # From now, not from when it was due: a meter is not read faster to catch up.
        self._due_ns = now_ns() + self._period_ns
        try:
            readings = self._meter.read()
        except MeterLostError as error:
            self._send(encode({"error": f"the meter was lost: {error}"}), self._clients)
            raise
        for line in encode_readings(readings):
            self._send(line, [client for client in self._clients if client.greeted])

    def _accept(self) -> None:
        try:
            link, address = self._listener.accept()
        except OSError:
            # It hung up before it was let in.
            return
        client = _Client(link, f"{address[0]}:{address[1]}")
        link.setblocking(False)
        with contextlib.suppress(OSError):
            # The answer to a ping must not wait for more to send.
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(link, selectors.EVENT_READ, client)
        self._clients.add(client)
        if len(self._clients) > _MOST_CLIENTS:
            self._drop(client, f"{_MOST_CLIENTS} clients are connected already")

    def _attend(self, client: _Client, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                piece = client.link.recv(_PIECE)
                received_ns = self._clock()
                if not piece:
                    self._hang_up(client)
                    return
                for line in client.lines.add(piece):
                    self._answer(client, line, received_ns)
            self._flush(client)
        except (_DropError, WireError) as error:
            self._drop(client, str(error))
        except BlockingIOError:
            pass
        except OSError as error:
            _LOG.info("client %s is gone: %s", client.name, error)
            self._hang_up(client)

    def _answer(self, client: _Client, line: bytes, received_ns: int) -> None:
        match decode_line(line):
            case {"devprof-meter": int() as version} if not client.greeted:
                if version != FORMAT:
                    raise _DropError(
                        f"this server speaks format {FORMAT} of {GREETING}, not {version}: install the same devprof"
                    )
                client.greeted = True
                client.pending += self._greeting
            case {"ping": int() as number} if client.greeted:
                client.pending += encode({"pong": number, "t1": received_ns, "t2": self._clock()})
            case _:
                raise _DropError("a message that is not expected")

    def _send(self, line: bytes, clients: Iterable[_Client]) -> None:
        for client in tuple(clients):
            client.pending += line
            try:
                self._flush(client)
            except OSError as error:
                _LOG.info("client %s is gone: %s", client.name, error)
                self._hang_up(client)
            except _DropError as error:
                self._drop(client, str(error))

    def _flush(self, client: _Client) -> None:
        """Send what the connection takes now, and come back for the rest when it takes more."""
        if client.pending:
            with contextlib.suppress(BlockingIOError):
                del client.pending[: client.link.send(client.pending)]
        if len(client.pending) > _MOST_PENDING:
            raise _DropError("it does not take what it is sent")
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.pending else 0)
        self._selector.modify(client.link, events, client)

    def _drop(self, client: _Client, reason: str) -> None:
        _LOG.warning("client %s is dropped: %s", client.name, reason)
        # A client in the middle of a line would take this for the rest of it.
        if not client.pending:
            with contextlib.suppress(OSError):
                client.link.send(encode({"error": reason}))
        self._hang_up(client)

    def _hang_up(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._selector.unregister(client.link)
            client.link.close()


def serve(
    meter: Meter,
    host: str = "",
    port: int = DEFAULT_PORT,
    *,
    until: Callable[[], bool] = lambda: False,
    ready: Callable[[str, int], None] = lambda _host, _port: None,
    clock: Callable[[], int] = now_ns,
) -> None:
    """Share a meter until a condition holds.

    Args:
        meter: The open meter; the caller closes it.
        host: Address to listen on; an empty one means all.
        port: Port to listen on; 0 takes a free one.
        until: Ends it; asked at least once a second.
        ready: Told the address when clients can connect.
        clock: The clock of the meter's stamps.

    Raises:
        MeterError: If the address cannot be used.
        MeterLostError: If the meter is lost.
    """
    server = MeterServer(meter, host, port, clock=clock)
    try:
        ready(*server.address)
        server.run(until)
    finally:
        server.close()


def _listener(host: str, port: int) -> socket.socket:
    families = [socket.AF_INET6] if ":" in host else [socket.AF_INET]
    if not host and socket.has_dualstack_ipv6():
        # All addresses of both families; where IPv6 is switched off, those of IPv4.
        families.insert(0, socket.AF_INET6)
    for family in families:
        both = not host and family == socket.AF_INET6
        try:
            listener = socket.create_server((host, port), family=family, backlog=_MOST_CLIENTS, dualstack_ipv6=both)
        except (OSError, OverflowError) as error:
            failure = error
            continue
        listener.setblocking(False)
        return listener
    remedy = "another --port" if getattr(failure, "errno", None) == errno.EADDRINUSE else None
    raise MeterError(f"cannot listen on {host or '*'}:{port}: {failure}", remedy) from failure
