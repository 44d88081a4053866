"""Meters whose values are small files of the kernel: files that stay open, and one way to read a handful of them.

A file of sysfs makes its text anew at each read from its start, so one ``pread`` on an open descriptor is a whole reading
(Linux kernel, Documentation/filesystems/sysfs.rst). The descriptor of a device that is gone fails for ever, even if the device
comes back under the same path: then the file is opened again.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from devprof.meters.base import MeterInfo, MeterLostError, Reading, now_ns

__all__ = ["FileMeter", "KernelFile", "Source", "whole_number"]

# The longest whole number that a kernel file has is 2**64 - 1: 20 digits. More would only make arithmetic slow.
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)


def whole_number(text: str) -> int | None:
    """The number in a kernel file's text; ``None`` if the text is anything else."""
    text = text.strip("\x00 \t\r\n")
    return int(text) if _NUMBER.fullmatch(text) else None


class KernelFile:
    """A small file of the kernel that is read again and again. It is opened at the first reading.

    Attributes:
        gone: Whether the last reading failed because there is no such file, or none that may be opened.
        error: What the last failure said.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gone = False
        self.error: OSError | None = None
        self._fd: int | None = None

    def text(self) -> str | None:
        """The text now; ``None`` if it cannot be read, and :attr:`gone` and :attr:`error` say why."""
        self.gone, self.error = False, None
        for _ in range(2):
            try:
                if self._fd is None:
                    # O_NONBLOCK keeps a pipe in place of the file from blocking; files of sysfs do not mind.
                    self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
            except OSError as error:
                self.gone, self.error = True, error
                return None
            try:
                data = os.pread(self._fd, 4096, 0)
                # Outside sysfs, as in copies of its tree, a file that was removed or replaced keeps its last text.
                if os.fstat(self._fd).st_nlink:
                    return data.decode("ascii", errors="replace")
            except OSError as error:
                self.error = error
            self.close()
        return None

    def number(self) -> int | None:
        """The whole number now; ``None`` if it cannot be read or if the text is no number."""
        text = self.text()
        return None if text is None else whole_number(text)

    def stamped(self) -> tuple[int, int | None]:
        """The middle of the time that reading took, and the number."""
        before = now_ns()
        value = self.number()
        return (before + now_ns()) // 2, value

    @property
    def forbidden(self) -> bool:
        """Whether the last failure was one of permission."""
        return self.error is not None and self.error.errno in (errno.EACCES, errno.EPERM)

    @property
    def trouble(self) -> str:
        """Why the last reading failed, in words."""
        return "its text is no number" if self.error is None else (self.error.strerror or str(self.error))

    def close(self) -> None:
        """Let go of the descriptor; the next reading opens the file again."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)


class Source(Protocol):
    """What one channel is read from."""

    @property
    def domain(self) -> str:
        """Name of the channel."""

    def sample(self) -> Reading | None:
        """Its reading now, a break if its value cannot be known, ``None`` if what it reads is gone."""

    def close(self) -> None:
        """Close its files."""


class FileMeter:
    """A :class:`devprof.meters.base.Meter` that reads one source per channel at each call.

    A channel that cannot be read yields one break, and goes on when it can be read again. Sources that are all gone are
    :class:`MeterLostError`; reading may be tried again after it.
    """

    def __init__(self, info: MeterInfo, sources: Sequence[Source]) -> None:
        self._info = info
        self._sources = tuple(sources)
        self._broken: set[str] = set()
        # Breaks that an exception kept from being handed out, with their time.
        self._owed: dict[str, int] = {}

    @property
    def info(self) -> MeterInfo:
        """What it is."""
        return self._info

    def read(self) -> Sequence[Reading]:
        """The present value of every channel.

        Raises:
            MeterLostError: If every source is gone, or if the meter was closed.
        """
        found = [(source.domain, source.sample()) for source in self._sources]
        if all(reading is None for _, reading in found):
            t_ns = now_ns()
            for domain, _ in found:
                self._owed.setdefault(domain, t_ns)
            what = "is gone" if found else "was closed"
            raise MeterLostError(f"what the meter {self._info.source!r} reads {what}", "open it again")
        readings: list[Reading] = []
        for domain, reading in found:
            readings += self._said(reading or Reading(now_ns(), domain))
        return sorted(readings, key=lambda reading: reading.t_ns)

    def _said(self, reading: Reading) -> list[Reading]:
        """What to hand out for a channel: breaks once, also those of calls that raised."""
        domain, owed = reading.domain, self._owed.pop(reading.domain, None)
        known = reading.power_w is not None or reading.energy_j is not None
        told = domain in self._broken
        if known:
            self._broken.discard(domain)
            return [reading] if told or owed is None else [Reading(owed, domain), reading]
        self._broken.add(domain)
        return [] if told else [Reading(reading.t_ns if owed is None else owed, domain)]

    def close(self) -> None:
        """Close all files; may be called again."""
        for source in self._sources:
            source.close()
        self._sources = ()
