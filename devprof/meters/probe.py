"""Which power sources this device has, and why not the others: looked up in sysfs and on ``PATH``, nothing is started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devprof.paths import read_text, sysfs

__all__ = ["SourceState", "probe_sources"]


@dataclass(frozen=True, slots=True)
class SourceState:
    """A power source: whether it could be read here, and what was found or what to do."""

    name: str
    readable: bool
    detail: str


def probe_sources() -> tuple[SourceState, ...]:
    """The state of every known source, in the order in which they would be preferred."""
    checks: dict[str, Callable[[], tuple[bool, str]]] = {
        "ina (Jetson sensors)": _ina,
        "rapl (x86 counters)": _rapl,
        "nvml (NVIDIA GPU)": _nvml,
        "pmic (Raspberry Pi 5)": _pmic,
        "battery": _battery,
    }
    return tuple(SourceState(name, *check()) for name, check in checks.items())


def _ina() -> tuple[bool, str]:
    names = (path for path in sysfs("class", "hwmon").glob("hwmon*/name"))
    found = sorted({text for path in names if (text := read_text(path)) and text.startswith("ina")})
    if found:
        return True, f"found {', '.join(found)}"
    return False, "no INA sensor under class/hwmon"


def _rapl() -> tuple[bool, str]:
    zones = [path for path in sysfs("class", "powercap").glob("intel-rapl:*") if path.name.count(":") == 1]
    if not zones:
        return False, "no powercap tree: not an x86 machine, a virtual machine, or hidden from this container"
    counters = [zone / "energy_uj" for zone in zones]
    if not all(os.access(counter, os.R_OK) for counter in counters):
        return False, f"{counters[0]} is not readable: run as root, or give a group read access by a udev rule"
    return True, f"{len(zones)} package counter(s)"


def _nvml() -> tuple[bool, str]:
    if Path("/dev/nvidiactl").exists():
        return True, "an NVIDIA driver is loaded"
    return False, "no NVIDIA driver (/dev/nvidiactl is absent)"


def _pmic() -> tuple[bool, str]:
    model = read_text(Path("/proc/device-tree/model")) or ""
    if "Raspberry Pi 5" not in model:
        return False, "not a Raspberry Pi 5; older boards cannot measure their current: use an external meter"
    if shutil.which("vcgencmd") is None:
        return False, "vcgencmd is not on PATH: apt install libraspberrypi-bin"
    return True, "vcgencmd pmic_read_adc"


def _battery() -> tuple[bool, str]:
    for kind in sysfs("class", "power_supply").glob("*/type"):
        if read_text(kind) == "Battery":
            status = read_text(kind.parent / "status") or "unknown"
            discharging = status == "Discharging"
            return discharging, f"{kind.parent.name}: {status}" + (
                "" if discharging else "; unplug the charger to measure"
            )
    return False, "no battery"
