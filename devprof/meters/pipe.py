"""The power source ``pipe``: rows from a named pipe, into which any command may print, ``--meter pipe:PATH``.

::

    mkfifo /tmp/watts
    stdbuf -oL my-logger > /tmp/watts &
    devprof measure resnet18 --meter pipe:/tmp/watts

The writer must keep the pipe open; when it closes it, the meter counts as lost. Standard library only.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import stat
from collections.abc import Sequence
from pathlib import Path

from devprof.meters.base import MeterError, MeterLostError, SourceState
from devprof.meters.rowmeter import Description, LineBuffer, RowMeter, open_rows

__all__ = ["NamedPipe", "open_meter", "open_source", "probe"]

_AT_ONCE_BYTES = 1 << 20
_TITLE = "rows that a logger prints into a named pipe"


class NamedPipe:
    """The lines of a named pipe; a :class:`~devprof.meters.rowmeter.LineSource`.

    Args:
        path: The pipe.

    Raises:
        MeterError: If there is none.
    """

    name = "pipe"
    midway = True
    silence_s = math.inf

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._buffer = LineBuffer()
        self._fd: int | None = None
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            kind = os.fstat(self._fd).st_mode
        except OSError as error:
            raise MeterError(f"the pipe cannot be read: {error}", f"make it with: mkfifo {path}") from error
        if not stat.S_ISFIFO(kind):
            self.close()
            raise MeterError(f"{path} is not a pipe", f"for a file give --meter csv:{path}")
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def head(self) -> Sequence[str]:
        """None: what was printed before is gone."""
        return []

    def lines(self) -> Sequence[str]:
        """Whole lines that are new."""
        if self._fd is None:
            raise MeterLostError(f"{self.place} is closed")
        # Linux reports a hang-up only after a writer has come and gone, while reading gives nothing in both cases.
        events = dict(self._poll.poll(0)).get(self._fd, 0)
        if events & select.POLLIN:
            try:
                return self._buffer.add(os.read(self._fd, _AT_ONCE_BYTES))
            except BlockingIOError:
                return []
            except OSError as error:
                raise MeterLostError(f"{self.place} cannot be read any more: {error}") from error
        if events:
            raise MeterLostError(f"whoever wrote into {self.place} has closed it")
        return []

    def close(self) -> None:
        """Close the pipe."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None


def open_source(argument: str) -> NamedPipe:
    """The lines of a named pipe.

    Raises:
        MeterError: If there is none.
    """
    if not argument:
        raise MeterError("the meter pipe needs a path", "give --meter pipe:PATH")
    return NamedPipe(Path(argument).expanduser())


def open_meter(argument: str) -> RowMeter:
    """A meter of the rows in a pipe, stamped at arrival; a header or the units in the rows say which column is which.

    Args:
        argument: The pipe.

    Raises:
        MeterError: If there is none, or nothing came that says enough.
    """
    return open_rows(open_source(argument), Description())


def probe() -> SourceState:
    """How it is used; nothing is looked for."""
    return SourceState(
        "pipe", _TITLE, readable=True, detail="give --meter pipe:PATH, made with mkfifo PATH", remedy=None
    )
