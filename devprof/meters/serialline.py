"""The power source ``serial``: rows that a meter prints on a serial line or a USB port, ``--meter serial:DEVICE[@BAUD]``.

Needs pyserial, of the extra ``meter``.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from devprof.errors import MissingExtraError
from devprof.meters.base import MeterError, MeterLostError, SourceState
from devprof.meters.rowmeter import Description, LineBuffer, RowMeter, open_rows

__all__ = ["SerialLines", "open_meter", "open_source", "probe"]

_BAUD = 115_200
_TITLE = "rows that a meter prints on a serial line"


class SerialLines:
    """The lines of a serial port; a :class:`~devprof.meters.rowmeter.LineSource`.

    Args:
        device: The port, such as ``/dev/ttyUSB0``.
        baud: Its speed, in bits per second.

    Raises:
        MissingExtraError: If pyserial is not installed.
        MeterError: If the port cannot be opened.
    """

    name = "serial"
    midway = True
    # An adapter whose meter was pulled out is silent for ever.
    silence_s = 30.0

    def __init__(self, device: str, baud: int) -> None:
        try:
            import serial  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtraError("meter", "pyserial", "a meter on a serial line") from error
        self.place = f"{device} at {baud} baud"
        self._buffer = LineBuffer()
        self._port: Any = None
        try:
            # Alone, because two readers of one line would each get half of it.
            self._port = serial.Serial(device, baud, timeout=0, exclusive=True)
            self._port.reset_input_buffer()
        except (OSError, ValueError) as error:
            self.close()
            raise MeterError(f"the serial port cannot be opened: {error}", _remedy(error)) from error

    def head(self) -> Sequence[str]:
        """None: what was sent before is gone."""
        return []

    def lines(self) -> Sequence[str]:
        """Whole lines that are new."""
        if self._port is None:
            raise MeterLostError(f"{self.place} is closed")
        try:
            return self._buffer.add(self._port.read(self._port.in_waiting))
        except (OSError, TypeError) as error:
            raise MeterLostError(f"{self.place} is gone: {error}") from error

    def close(self) -> None:
        """Close the port."""
        if self._port is not None:
            with contextlib.suppress(OSError):
                self._port.close()
            self._port = None


def _remedy(error: BaseException) -> str:
    if "Permission denied" in str(error):
        return "sudo usermod -aG dialout $USER, then log in again"
    return "name the port and its speed: --meter serial:/dev/ttyUSB0@115200"


def open_source(argument: str) -> SerialLines:
    """The lines of a serial port.

    Raises:
        MissingExtraError: If pyserial is not installed.
        MeterError: If the port cannot be opened.
    """
    device, at, speed = argument.rpartition("@")
    if not at:
        device, speed = argument, str(_BAUD)
    if not device or not (speed.isascii() and speed.isdigit() and 0 < int(speed[:9]) <= 10_000_000):
        raise MeterError(f"the meter serial needs a port, got {argument!r}", "give --meter serial:/dev/ttyUSB0@115200")
    return SerialLines(device, int(speed))


def open_meter(argument: str) -> RowMeter:
    """A meter of the rows on a serial line, stamped at arrival; a header or the units in the rows say which column is which.

    Args:
        argument: ``DEVICE`` or ``DEVICE@BAUD``; 115200 baud where none is given.

    Raises:
        MissingExtraError: If pyserial is not installed.
        MeterError: If the port cannot be opened, or nothing came that says enough.
    """
    return open_rows(open_source(argument), Description())


def probe() -> SourceState:
    """Whether pyserial is there, and how it is used; no port is touched."""
    how = "give --meter serial:/dev/ttyUSB0@115200"
    if importlib.util.find_spec("serial") is None:
        return SourceState("serial", _TITLE, readable=False, detail="pyserial is not installed", remedy=_INSTALL)
    return SourceState("serial", _TITLE, readable=True, detail=how, remedy=None)


_INSTALL = "pip install 'devprof[meter]'"
