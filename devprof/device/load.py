"""What the machine's CPUs did, and how much of it was for others than the measured process.

Source: the first line of ``/proc/stat`` (Linux kernel, Documentation/filesystems/proc.rst, "Miscellaneous kernel statistics").
A container that hides the machine's load behind figures of its own (lxcfs) hides it from here, too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from devprof.paths import procfs, read_text

__all__ = ["CpuTimes", "other_cpu_share", "read_cpu_times"]


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU seconds since the machine started, summed over all its CPUs.

    Attributes:
        busy_s: Programs, kernel and interrupts. The time of guests of this machine is in it.
        idle_s: Nothing to do, or waiting for a disk.
        steal_s: A CPU of this virtual machine had work, and the hypervisor ran somebody else.
    """

    busy_s: float
    idle_s: float
    steal_s: float


def read_cpu_times() -> CpuTimes | None:
    """The counters now, in steps of a clock tick (usually 10 ms); ``None`` where the kernel does not tell."""
    words = (read_text(procfs("stat")) or "").partition("\n")[0].split()
    if len(words) < 5 or words[0] != "cpu" or not all(word.isdecimal() for word in words[1:]):
        return None
    # user nice system idle iowait irq softirq steal; guest and guest_nice follow, which user and nice contain already.
    ticks = [int(word) for word in words[1:9]] + [0] * (9 - len(words))
    user, nice, kernel, idle, waiting, interrupts, soft_interrupts, steal = ticks
    per_second = os.sysconf("SC_CLK_TCK")
    busy = user + nice + kernel + interrupts + soft_interrupts
    return CpuTimes(busy / per_second, (idle + waiting) / per_second, steal / per_second)


def other_cpu_share(before: CpuTimes, after: CpuTimes, own_cpu_s: float) -> float | None:
    """Share of the machine's CPU time that went to other programs and to the hypervisor.

    Args:
        before: At the beginning of the window.
        after: At its end.
        own_cpu_s: CPU seconds of the measured process in the window.

    Returns:
        0 to 1 of the time of all CPUs; ``None`` for a window in which the counters did not move.
    """
    taken_s = after.busy_s - before.busy_s + after.steal_s - before.steal_s
    total_s = taken_s + after.idle_s - before.idle_s
    if total_s <= 0.0:
        return None
    return min(1.0, max(0.0, (taken_s - own_cpu_s) / total_s))
