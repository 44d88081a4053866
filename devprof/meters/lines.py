"""The power source ``lines``: rows that a logger on another machine sends over TCP, ``--meter lines:HOST:PORT``.

Any server that sends text works: a logger of its own, or a serial port that ``ser2net`` or ``socat`` relays. Standard library
only.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from devprof.meters.base import MeterError, MeterLostError, SourceState
from devprof.meters.rowmeter import Description, LineBuffer, RowMeter, open_rows

__all__ = ["TcpLines", "open_meter", "open_source", "probe"]

_CONNECT_S = 3.0
_AT_ONCE_BYTES = 1 << 16
_MOST_READS = 16
_TITLE = "rows that a logger sends over TCP"


class TcpLines:
    """The lines that a server sends; a :class:`~devprof.meters.rowmeter.LineSource`.

    Args:
        host: Its name or address.
        port: Its port.

    Raises:
        MeterError: If it cannot be reached.
    """

    name = "lines"
    midway = True
    # A machine that was switched off never says so.
    silence_s = 30.0

    def __init__(self, host: str, port: int) -> None:
        self.place = f"{host}:{port}"
        self._buffer = LineBuffer()
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.create_connection((host, port), timeout=_CONNECT_S)
        except (OSError, UnicodeError) as error:
            raise MeterError(f"{self.place} cannot be reached: {error}", "start the logger's server first") from error
        self._socket.setblocking(False)

    def head(self) -> Sequence[str]:
        """None: what was sent before is gone."""
        return []

    def lines(self) -> Sequence[str]:
        """Whole lines that are new."""
        if self._socket is None:
            raise MeterLostError(f"the connection to {self.place} is closed")
        found: list[str] = []
        for _ in range(_MOST_READS):
            try:
                data = self._socket.recv(_AT_ONCE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                return found or self._lost(str(error))
            if not data:
                return found or self._lost("it closed the connection")
            found += self._buffer.add(data)
        return found

    def _lost(self, why: str) -> list[str]:
        raise MeterLostError(f"{self.place} is gone: {why}")

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


def open_source(argument: str) -> TcpLines:
    """The lines of a server.

    Raises:
        MeterError: If the argument is not HOST:PORT, or nothing answers there.
    """
    host, _, port = argument.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
        raise MeterError(f"the meter lines needs an address, got {argument!r}", "give --meter lines:HOST:PORT")
    return TcpLines(host.removeprefix("[").removesuffix("]"), int(port))


def open_meter(argument: str) -> RowMeter:
    """A meter of the rows of a server, stamped at arrival; a header or the units in the rows say which column is which.

    Args:
        argument: ``HOST:PORT``; an IPv6 address in square brackets.

    Raises:
        MeterError: If it cannot be reached, or nothing came that says enough.
    """
    return open_rows(open_source(argument), Description())


def probe() -> SourceState:
    """How it is used; nothing is contacted."""
    return SourceState("lines", _TITLE, readable=True, detail="give --meter lines:HOST:PORT", remedy=None)
