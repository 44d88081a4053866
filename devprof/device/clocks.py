"""Clock frequencies, their present caps, and the counters of throttling, as the kernel keeps them.

Sources: Linux kernel, Documentation/admin-guide/pm/cpufreq.rst (kilohertz) and Documentation/ABI/testing/sysfs-class-devfreq
(hertz). ``/proc/cpuinfo`` has a figure "cpu MHz" even where frequency is not managed, as in virtual machines; there it is
what the clock was calibrated to, so it is not used.
"""

from __future__ import annotations

import re
from pathlib import Path

from devprof.device.tools import vcgencmd_frequency_hz
from devprof.machine import ask, is_raspberry_pi
from devprof.paths import read_int, read_text, sysfs

__all__ = [
    "cluster_caps_hz",
    "cluster_frequencies_hz",
    "cpu_frequency_hz",
    "governor",
    "gpu_caps_hz",
    "gpu_frequency_hz",
    "nominal_frequency_hz",
    "policies",
    "throttle_counts",
]

# Names of GPU nodes: Jetson's chips (57000000.gpu, 17000000.ga10b, gpu-gpc-0) and others that speak devfreq (fb000000.gpu).
_GPU_NODE = re.compile(r"(?:.*\.)?(?:gpu|g[kmpva]\d+[ab])(?:-gpc-\d+)?", re.ASCII)

Named = tuple[tuple[str, float], ...]


def policies() -> list[Path]:
    """The folders of the cpufreq policies, one per group of CPUs that share a clock, in the order of their first CPU."""
    found = sysfs("devices", "system", "cpu", "cpufreq").glob("policy*")
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _frequencies(file: str) -> Named:
    readings = ((path.name, read_int(path / file)) for path in policies())
    return tuple((name, khz * 1e3) for name, khz in readings if khz and khz > 0)


def cluster_frequencies_hz() -> Named:
    """(policy, present frequency) of every cpufreq policy; empty where frequency is not managed."""
    return _frequencies("scaling_cur_freq")


def cluster_caps_hz() -> Named:
    """(policy, highest frequency allowed now): heat lowers it, and so does the user."""
    return _frequencies("scaling_max_freq")


def nominal_frequency_hz() -> float | None:
    """The frequency that the fastest cores promise without turbo; ``None`` where neither driver nor firmware says.

    What lies above it depends on load and temperature by design. Intel's driver says it by policy, ACPI's CPPC by CPU, in
    megahertz (Linux kernel, Documentation/admin-guide/acpi/cppc_sysfs.rst).
    """
    by_policy = [hz for _, hz in _frequencies("base_frequency")]
    by_cpu = (
        read_int(path) or 0 for path in sysfs("devices", "system", "cpu").glob("cpu[0-9]*/acpi_cppc/nominal_freq")
    )
    return max(by_policy or (mhz * 1e6 for mhz in by_cpu if mhz > 0), default=None)


def cpu_frequency_hz(clusters: Named) -> float | None:
    """The frequency of the fastest cluster; ``None`` where nothing honest can be read.

    On a Raspberry Pi the firmware throttles behind the kernel's back, and the kernel's figure does not show it: there it is
    ``vcgencmd measure_clock arm`` or nothing.

    Args:
        clusters: What :func:`cluster_frequencies_hz` said.
    """
    measured = vcgencmd_frequency_hz(ask("vcgencmd", "measure_clock", "arm") or "")
    if measured is not None or is_raspberry_pi():
        return measured
    return max((hz for _, hz in clusters), default=None)


def governor() -> str | None:
    """The frequency governor, such as ``schedutil``; ``None`` where frequency is not managed here.

    Clusters with different governors are named in their order: ``schedutil+performance``.
    """
    names = (read_text(path / "scaling_governor") for path in policies())
    return "+".join(dict.fromkeys(name for name in names if name)) or None


def _gpu_nodes() -> list[Path]:
    return sorted(path for path in sysfs("class", "devfreq").glob("*") if _GPU_NODE.fullmatch(path.name))


def gpu_frequency_hz() -> float | None:
    """The present frequency of the board's own GPU (Jetson and others with devfreq); ``None`` without one."""
    readings = (read_int(node / "cur_freq") for node in _gpu_nodes())
    return max((float(hz) for hz in readings if hz and hz > 0), default=None)


def gpu_caps_hz() -> Named:
    """(device, highest frequency allowed now) of the board's own GPU; empty without one."""
    readings = ((node.name, read_int(node / "max_freq")) for node in _gpu_nodes())
    return tuple((name, float(hz)) for name, hz in readings if hz and hz > 0)


def throttle_counts() -> tuple[tuple[str, int], ...]:
    """How often hardware throttled since the machine started, by counter; empty where nothing counts.

    ``core`` and ``package`` are x86's thermal_throttle counters, added over the CPUs (siblings repeat their core's count, so
    only a rise has a meaning); ``oc1``, ``oc2``... are the over-current events of Jetson boards.
    """
    totals: dict[str, int] = {}
    for kind in ("core", "package"):
        for path in sysfs("devices", "system", "cpu").glob(f"cpu[0-9]*/thermal_throttle/{kind}_throttle_count"):
            totals[kind] = totals.get(kind, 0) + (read_int(path) or 0)
    for path in sorted(sysfs("class", "hwmon").glob("hwmon*/oc*_event_cnt")):
        name = path.name.removesuffix("_event_cnt")
        totals[name] = totals.get(name, 0) + (read_int(path) or 0)
    return tuple(totals.items())
