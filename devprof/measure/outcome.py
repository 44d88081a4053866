"""What a child's end means. A failed run is a row with a status and a reason, never a gap.

``oom`` is said only with evidence: an allocator's own words, or the kernel's count of out-of-memory kills
(``oom_kill`` in ``/proc/vmstat``) that rose while the child was killed by SIGKILL. Without it, a SIGKILL is ``killed``.
"""

from __future__ import annotations

import signal
from pathlib import Path

from devprof.paths import read_text
from devprof.records import Status

__all__ = ["classify_end", "is_out_of_memory", "oom_kill_count"]

_OUT_OF_MEMORY = (
    "out of memory",
    "outofmemoryerror",
    "can't allocate memory",
    "cannot allocate memory",
    # torch on Jetson boards asks NVML, which Tegra lacks, while it handles an allocation that failed.
    "nvml_success == r internal assert",
    "failed to map segment from shared object",
    "memoryerror",
    "bad_alloc",
    "alloc_failed",
    "nvmapmemalloc",
    "unable to mmap",
    "pthread_create failed",
    "can't start new thread",
)


def is_out_of_memory(text: str) -> bool:
    """Whether an error text is an allocator (of the C library, torch, CUDA, Tegra) saying that memory is out."""
    lowered = text.lower()
    return any(sign in lowered for sign in _OUT_OF_MEMORY)


def oom_kill_count() -> int | None:
    """Out-of-memory kills since boot, of any control group; ``None`` before Linux 4.13."""
    for line in (read_text(Path("/proc/vmstat")) or "").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return None


def classify_end(returncode: int, output: str, *, oom_kills: int | None) -> tuple[Status, str]:
    """Status and reason of a child that ended without delivering a result.

    Args:
        returncode: As :class:`subprocess.Popen` gives it: negative for a signal.
        output: The end of what it printed.
        oom_kills: How many out-of-memory kills the kernel counted meanwhile; ``None`` if it does not count.
    """
    last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "no output")
    if is_out_of_memory(output):
        return "oom", last
    if returncode == -signal.SIGKILL:
        if oom_kills:
            return "oom", "killed by the kernel, out of memory"
        return "killed", "killed by SIGKILL; the kernel counted no out-of-memory kill"
    if returncode < 0:
        return "crashed", f"{_signal_name(-returncode)}: {last}"
    return "crashed", f"the process ended with exit code {returncode}: {last}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
