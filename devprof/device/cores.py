"""The CPU: its model, how many cores of which kind, and their caches.

Sources: ``/proc/cpuinfo`` and Linux kernel, Documentation/ABI/testing/sysfs-devices-system-cpu. Names of Arm cores by part
number are those of the cores' technical reference manuals (register MIDR_EL1).
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections import Counter
from collections.abc import Collection

import psutil

from devprof.device.clocks import policies
from devprof.paths import procfs, read_int, read_text, sysfs
from devprof.units import format_bytes, parse_bytes

__all__ = ["cpu_facts", "largest_cache_bytes", "logical_cores", "physical_cores", "usable_cpus"]

_ARM_PARTS = {
    "0x41:0xd03": "Cortex-A53",
    "0x41:0xd04": "Cortex-A35",
    "0x41:0xd05": "Cortex-A55",
    "0x41:0xd07": "Cortex-A57",
    "0x41:0xd08": "Cortex-A72",
    "0x41:0xd09": "Cortex-A73",
    "0x41:0xd0a": "Cortex-A75",
    "0x41:0xd0b": "Cortex-A76",
    "0x41:0xd0c": "Neoverse-N1",
    "0x41:0xd0d": "Cortex-A77",
    "0x41:0xd40": "Neoverse-V1",
    "0x41:0xd41": "Cortex-A78",
    "0x41:0xd42": "Cortex-A78AE",
    "0x41:0xd49": "Neoverse-N2",
    "0x41:0xd4f": "Neoverse-V2",
    "0x41:0xd83": "Neoverse-V3AE",
    "0x4e:0x003": "Denver 2",
    "0x4e:0x004": "Carmel",
}


def cpu_facts() -> dict[str, str | None]:
    """Facts of the CPU; ``None`` for what the system does not tell."""
    processors = _processors()
    parts = _parts(processors)
    physical, logical = physical_cores(), logical_cores()
    return {
        "cpu": _cpu_name(processors, parts),
        "cpu_parts": ", ".join(f"{count}x {part}" for part, count in parts.items()) or None,
        "cores_physical": None if physical is None else str(physical),
        "cores_logical": None if logical is None else str(logical),
        "cores_online": read_text(sysfs("devices", "system", "cpu", "online")),
        "clusters": _clusters(),
        "caches": _caches(),
        "smt": _switch("smt", "active"),
        "boost": _boost(),
    }


def usable_cpus() -> set[int]:
    """Numbers of the CPUs on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def physical_cores(cpus: Collection[int] | None = None) -> int | None:
    """Physical cores behind some CPUs; hardware threads that share a core count once.

    Args:
        cpus: Numbers of the CPUs; by default all of the machine that are online.
    """
    siblings = {
        threads
        for path in sysfs("devices", "system", "cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
        if (threads := read_text(path)) and (cpus is None or int(path.parts[-3].removeprefix("cpu")) in cpus)
    }
    if siblings:
        return len(siblings)
    # Without a topology in sysfs, what the system says of the whole machine.
    cores = psutil.cpu_count(logical=False)
    return cores if cores is None or cpus is None else min(cores, len(cpus))


def logical_cores() -> int | None:
    """CPUs of the machine that are online, hardware threads counted singly."""
    return _count(read_text(sysfs("devices", "system", "cpu", "online")) or "") or psutil.cpu_count()


def _count(ranges: str) -> int:
    """How many numbers a list such as ``0-3,6`` or ``0 1 2`` has; 0 for what is no such list."""
    count = 0
    for part in ranges.replace(",", " ").split():
        low, _, high = part.partition("-")
        if not low.isdecimal() or not (high or low).isdecimal():
            return 0
        count += int(high or low) - int(low) + 1
    return count


def _processors() -> list[dict[str, str]]:
    """The blocks of ``/proc/cpuinfo``, in their order."""
    blocks = (read_text(procfs("cpuinfo")) or "").split("\n\n")
    fields = ([line.split(":", 1) for line in block.splitlines() if ":" in line] for block in blocks)
    return [{key.strip(): value.strip() for key, value in block} for block in fields if block]


def _parts(processors: list[dict[str, str]]) -> Counter[str]:
    """How many Arm cores of each kind there are, by ``implementer:part``; empty on other machines."""
    named = [block for block in processors if "CPU implementer" in block and "CPU part" in block]
    return Counter(f"{block['CPU implementer']}:{block['CPU part']}" for block in named)


def _cpu_name(processors: list[dict[str, str]], parts: Counter[str]) -> str | None:
    if parts:
        names = [(_ARM_PARTS.get(part, part), count) for part, count in parts.items()]
        return names[0][0] if len(names) == 1 else " + ".join(f"{count}x {name}" for name, count in names)
    # x86 says "model name", RISC-V "uarch"; some kernels name only the board.
    for key in ("model name", "uarch", "Model", "Hardware"):
        for block in processors:
            if block.get(key):
                return block[key]
    return platform.processor() or None


def _clusters() -> str | None:
    """Kinds of cores by their highest frequency, or else by the kernel's capacity where it differs between them."""
    by_frequency: Counter[int] = Counter()
    for policy in policies():
        khz = read_int(policy / "cpuinfo_max_freq")
        if khz:
            by_frequency[khz] += _count(read_text(policy / "related_cpus") or "")
    if by_frequency:
        return ", ".join(f"{count} up to {khz / 1e6:.2f} GHz" for khz, count in sorted(by_frequency.items()))
    capacities = [read_int(path) for path in sysfs("devices", "system", "cpu").glob("cpu[0-9]*/cpu_capacity")]
    by_capacity = Counter(capacity for capacity in capacities if capacity)
    if len(by_capacity) < 2:
        return None
    return ", ".join(f"{count} of capacity {capacity}" for capacity, count in sorted(by_capacity.items()))


def _caches() -> str | None:
    """Caches of the first CPU, such as ``L1d 32 KiB, L1i 32 KiB, L2 512 KiB``."""
    found = []
    for folder in sorted(sysfs("devices", "system", "cpu", "cpu0", "cache").glob("index[0-9]*")):
        level, size = read_text(folder / "level"), read_text(folder / "size")
        letter = {"Data": "d", "Instruction": "i"}.get(read_text(folder / "type") or "", "")
        if level and size:
            found.append(f"L{level}{letter} {_cache_size(size)}")
    return ", ".join(found) or None


def largest_cache_bytes() -> int | None:
    """Size of the largest cache of the first CPU, shared or not; ``None`` where the system does not tell."""
    sizes = []
    for path in sysfs("devices", "system", "cpu", "cpu0", "cache").glob("index[0-9]*/size"):
        with contextlib.suppress(ValueError):
            sizes.append(parse_bytes(read_text(path) or ""))
    return max(sizes, default=None)


def _cache_size(text: str) -> str:
    try:
        return format_bytes(parse_bytes(text))
    except ValueError:
        return text


def _switch(*parts: str) -> str | None:
    value = read_int(sysfs("devices", "system", "cpu", *parts))
    return None if value is None else ("on" if value else "off")


def _boost() -> str | None:
    """Whether clocks above the nominal one are allowed; Intel's driver asks the other way round."""
    no_turbo = _switch("intel_pstate", "no_turbo")
    if no_turbo is not None:
        return "off" if no_turbo == "on" else "on"
    return _switch("cpufreq", "boost")
