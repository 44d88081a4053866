"""How much of the machine a process may use: as a record, and as the control groups around this process say.

A container, a systemd unit or ``devprof emulate`` makes a large machine small without a trace in ``/proc/meminfo`` or in the
number of processors. Standard library only; the functions never raise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devprof.device.cgroup import Group, own_group
from devprof.paths import read_text
from devprof.units import format_bytes

__all__ = [
    "MIN_CPUS",
    "MIN_MEMORY_BYTES",
    "Limits",
    "cpu_limit",
    "memory_limit_bytes",
    "oom_kills_here",
    "oom_kills_in",
]

# A quota is at least 1 ms, and no period need be longer than the kernel's usual 100 ms.
MIN_CPUS = 0.01
# No program starts with less; a smaller number is a size whose unit was forgotten.
MIN_MEMORY_BYTES = 1 << 20
# Version 1 writes "no limit" as the largest whole number of pages, which depends on the page size.
_UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a process may use; ``None`` leaves a resource as it is.

    Attributes:
        cpus: Processor time per wall-clock time, at least 0.01: 0.5 is half a processor, 2 are two.
        memory_bytes: Resident memory with page cache, at least 1 MiB; nothing is swapped out beyond it.
        cores: Processors on which threads may run, at least 1.

    Raises:
        ValueError: If a limit is out of its range.
    """

    cpus: float | None = None
    memory_bytes: int | None = None
    cores: int | None = None

    def __post_init__(self) -> None:
        if self.cpus is not None and not MIN_CPUS <= self.cpus < math.inf:
            raise ValueError(f"cpus is {self.cpus}; it must be a number of at least {MIN_CPUS}")
        if self.memory_bytes is not None and self.memory_bytes < MIN_MEMORY_BYTES:
            least = format_bytes(MIN_MEMORY_BYTES)
            raise ValueError(
                f"memory is {self.memory_bytes} bytes; it must be at least {least}. Give a unit, as in 512M"
            )
        if self.cores is not None and self.cores < 1:
            raise ValueError(f"cores is {self.cores}; it must be at least 1")


def cpu_limit() -> float | None:
    """Processors' worth of time that this process may use: the tightest quota of its control group and those above it.

    Returns:
        Processor time per wall-clock time, such as 0.5; ``None`` without a quota.
    """
    return _tightest("cpu", lambda version, folder: _cpu_max(folder) if version == 2 else _cfs_quota(folder))


def memory_limit_bytes() -> int | None:
    """Memory that this process may use: the tightest limit of its control group and those above it; ``None`` without one."""
    limit = _tightest(
        "memory",
        lambda version, folder: _number(
            read_text(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        ),
    )
    return None if limit is None or limit >= _UNLIMITED_BYTES else int(limit)


def oom_kills_here() -> int | None:
    """Processes of this process's control group that the kernel killed for want of memory; ``None`` if it does not count.

    The count only rises: a difference says what happened in between. Under version 2 it includes the groups below.
    """
    group = own_group("memory")
    return None if group is None else oom_kills_in(group)


def oom_kills_in(group: Group) -> int | None:
    """Like :func:`oom_kills_here`, for any group with a memory controller."""
    name = "memory.events" if group.version == 2 else "memory.oom_control"
    for line in (read_text(group.folder / name) or "").splitlines():
        key, _, count = line.partition(" ")
        if key == "oom_kill":
            number = _number(count)
            return None if number is None else int(number)
    return None


def _tightest(controller: str, limit_of: Callable[[int, Path], float | None]) -> float | None:
    group = own_group(controller)
    if group is None:
        return None
    limits = (limit_of(group.version, folder) for folder in group.line)
    return min((limit for limit in limits if limit is not None), default=None)


def _cpu_max(folder: Path) -> float | None:
    quota, _, period = (read_text(folder / "cpu.max") or "").partition(" ")
    return _ratio(quota, period)


def _cfs_quota(folder: Path) -> float | None:
    return _ratio(read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us"))


def _ratio(quota: str | None, period: str | None) -> float | None:
    quota_us, period_us = _number(quota), _number(period)
    # Version 1 says -1 and version 2 says "max" where there is no quota.
    return quota_us / period_us if quota_us and period_us else None


def _number(text: str | None) -> int | None:
    """A count as the kernel writes it; ``None`` for a word such as ``max`` and for a negative one."""
    return int(text) if text and text.isdecimal() and text.isascii() else None
