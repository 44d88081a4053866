"""Memory of this process and of the machine, as the Linux kernel counts it.

``ru_maxrss`` is inherited through fork and exec, so a small child of a large parent reports the parent's peak. ``VmHWM`` in
``/proc/self/status`` belongs to the process image, and writing ``5`` to ``/proc/self/clear_refs`` resets it (Linux kernel,
Documentation/filesystems/proc.rst). Counters only rise: a difference says what happened in between.
"""

from __future__ import annotations

import os
from pathlib import Path

from devprof.paths import procfs, read_text

__all__ = [
    "available_memory_bytes",
    "current_rss_bytes",
    "involuntary_switches",
    "major_faults",
    "minor_faults",
    "peak_rss_bytes",
    "pss_bytes",
    "reset_peak_rss",
    "swapped_in_bytes",
    "total_memory_bytes",
    "total_swap_bytes",
]


def _field(path: Path, name: str) -> int | None:
    """The first number behind a name in a file of names and numbers."""
    for line in (read_text(path) or "").splitlines():
        words = line.replace(":", " ", 1).split()
        if len(words) > 1 and words[0] == name and words[1].isdecimal():
            return int(words[1])
    return None


def _kib_field(path: Path, name: str) -> int | None:
    kib = _field(path, name)
    return None if kib is None else kib * 1024


def peak_rss_bytes() -> int | None:
    """The high-water mark of resident memory since start or the last reset; ``None`` where the kernel has none."""
    return _kib_field(procfs("self", "status"), "VmHWM")


def current_rss_bytes() -> int | None:
    """Resident memory now; ``None`` where the kernel does not say."""
    return _kib_field(procfs("self", "status"), "VmRSS")


def pss_bytes() -> int | None:
    """Proportional share now: a page that *n* processes map counts as one *n*-th; ``None`` where the kernel does not say.

    The kernel walks the whole address space for it: for a few moments of a run, not for a loop.
    """
    return _kib_field(procfs("self", "smaps_rollup"), "Pss")


def total_memory_bytes() -> int | None:
    """The machine's memory; ``None`` where the kernel does not say."""
    return _kib_field(procfs("meminfo"), "MemTotal")


def available_memory_bytes() -> int | None:
    """What a program can still get without swapping, by the kernel's estimate; ``None`` where it does not say."""
    return _kib_field(procfs("meminfo"), "MemAvailable")


def total_swap_bytes() -> int | None:
    """The machine's swap space, 0 where it has none; ``None`` where the kernel does not say."""
    return _kib_field(procfs("meminfo"), "SwapTotal")


def swapped_in_bytes() -> int | None:
    """Bytes that the whole machine has read back from swap since it started; ``None`` where the kernel does not count."""
    pages = _field(procfs("vmstat"), "pswpin")
    return None if pages is None else pages * os.sysconf("SC_PAGE_SIZE")


def major_faults() -> int | None:
    """Page faults of this process, all threads, that had to read a file or swap; ``None`` where they are not counted."""
    return _usage("ru_majflt")


def minor_faults() -> int | None:
    """Page faults of this process, all threads, that read nothing: the kernel made, cleared or mapped a page."""
    return _usage("ru_minflt")


def involuntary_switches() -> int | None:
    """How often the scheduler took a CPU from this process, all threads; ``None`` where it is not counted."""
    return _usage("ru_nivcsw")


def _usage(name: str) -> int | None:
    try:
        # Not on every system, and Flower clients import this module everywhere.
        import resource
    except ImportError:
        return None
    return int(getattr(resource.getrusage(resource.RUSAGE_SELF), name))


def reset_peak_rss() -> bool:
    """Set the high-water mark to the present value.

    Returns:
        Whether the kernel did it; if not, the peak includes what came before (import, model building).
    """
    try:
        procfs("self", "clear_refs").write_text("5")
    except OSError:
        return False
    return True
