"""The age of this process: what its interpreter and its imports have cost before the first line of ours ran."""

from __future__ import annotations

import os
import time

from devprof.paths import procfs, read_text

__all__ = ["process_age_s"]

# Fields of /proc/self/stat after the name in parentheses: the third (state) comes first (proc_pid_stat(5)).
_START_TIME = 22 - 3


def process_age_s() -> float | None:
    """Seconds since this process was started, to the kernel's clock tick (mostly 10 ms); ``None`` where it does not say."""
    stat = read_text(procfs("self", "stat"))
    # A process may be called anything, parentheses and spaces included: the last one ends the name.
    fields = (stat or "").rpartition(")")[2].split()
    if len(fields) <= _START_TIME or not fields[_START_TIME].isdecimal() or not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    started_s = int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_s)
