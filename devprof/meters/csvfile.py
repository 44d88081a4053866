"""The power source ``csv``: a file to which a logger appends rows, ``--meter csv:FILE``.

The file is followed from its present end. If the logger begins another file under the same name, the rest of the old one is
read and then the new one from its start; if it empties the file, reading goes on at the start. Standard library only.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from devprof.meters.base import MeterError, MeterLostError, SourceState
from devprof.meters.rowmeter import Description, LineBuffer, RowMeter, open_rows
from devprof.meters.rows import RowFormat

__all__ = ["FollowedFile", "open_meter", "open_source", "probe"]

_HEAD_BYTES = 1 << 16
_AT_ONCE_BYTES = 1 << 20
_TITLE = "a file of rows that a logger appends to"


class FollowedFile:
    """The lines that are appended to a file; a :class:`~devprof.meters.rowmeter.LineSource`.

    Args:
        path: The file.

    Raises:
        MeterError: If it is no readable file.
    """

    name = "csv"
    midway = False
    silence_s = math.inf

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path
        self._buffer = LineBuffer()
        self._fd: int | None = None
        try:
            # Not blocking, in case it is a pipe: then this would wait for its writer.
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                self.close()
                raise MeterError(f"{path} is not a file", f"for a named pipe give --meter pipe:{path}")
            self._at = self._start_of_last_line(self._fd)
        except OSError as error:
            self.close()
            raise MeterError(f"the rows of a logger cannot be read: {error}", "start the logger first") from error

    def _start_of_last_line(self, fd: int) -> int:
        """The end of the file, or where a line begins that is not complete yet."""
        size = os.fstat(fd).st_size
        last = os.pread(fd, _HEAD_BYTES, max(0, size - _HEAD_BYTES))
        return size - len(last) + max(last.rfind(b"\n"), last.rfind(b"\r")) + 1

    def head(self) -> Sequence[str]:
        """The first lines of the file, complete ones only."""
        if self._fd is None:
            return []
        try:
            return LineBuffer().add(os.pread(self._fd, min(_HEAD_BYTES, self._at), 0))
        except OSError as error:
            raise MeterLostError(f"{self.place} cannot be read any more: {error}") from error

    def lines(self) -> Sequence[str]:
        """Whole lines that are new."""
        if self._fd is None:
            raise MeterLostError(f"{self.place} is closed")
        try:
            found = self._appended(self._fd)
            if self._replaced(self._fd):
                while rest := self._appended(self._fd):
                    found += rest
                found += self._next_file(self._fd)
        except OSError as error:
            raise MeterLostError(f"{self.place} cannot be read any more: {error}") from error
        return found

    def _appended(self, fd: int) -> list[str]:
        if os.fstat(fd).st_size < self._at:
            self._at = 0
            self._buffer.clear()
        data = os.pread(fd, _AT_ONCE_BYTES, self._at)
        self._at += len(data)
        return self._buffer.add(data)

    def _replaced(self, fd: int) -> bool:
        """Whether another file has the name; between two files there may be none for a moment."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return not os.path.samestat(there, os.fstat(fd))

    def _next_file(self, old: int) -> list[str]:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return []
        os.close(old)
        self._at = 0
        self._buffer.clear()
        return self._appended(self._fd)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None


def open_source(argument: str) -> FollowedFile:
    """The lines of a file.

    Raises:
        MeterError: If it is no readable file.
    """
    if not argument:
        raise MeterError("the meter csv needs a file", "give --meter csv:FILE")
    return FollowedFile(Path(argument).expanduser())


def open_meter(argument: str) -> RowMeter:
    """A meter of the rows of a file; the header says which column is which, and rows keep their own time if they have one.

    Args:
        argument: The file.

    Raises:
        MeterError: If it cannot be read or its header does not say enough.
    """
    return open_rows(open_source(argument), Description(RowFormat(wants_time=True), clock="auto"))


def probe() -> SourceState:
    """How it is used; nothing is looked for."""
    return SourceState("csv", _TITLE, readable=True, detail="give --meter csv:FILE", remedy=None)
