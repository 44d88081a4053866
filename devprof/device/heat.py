"""Temperatures, and the trip points from which the kernel slows a device down.

Source: Linux kernel, Documentation/driver-api/thermal/sysfs-api.rst (millidegrees Celsius).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from devprof.paths import read_int, read_text, sysfs

__all__ = ["Zone", "read_zones", "temperature_c"]


@dataclass(frozen=True, slots=True)
class Zone:
    """A thermal zone.

    Attributes:
        name: Its type, such as ``cpu-thermal``; several zones may share one.
        temperature_c: Its temperature now.
        passive_c: The lowest temperature from which the kernel slows the device to cool it; ``None`` where it has none.
    """

    name: str
    temperature_c: float
    passive_c: float | None


def read_zones() -> tuple[Zone, ...]:
    """All zones that can be read now, in the kernel's order.

    A zone that is switched off refuses to be read or reports a value far below zero; it is left out.
    """
    folders = sorted(sysfs("class", "thermal").glob("thermal_zone*"), key=lambda path: (len(path.name), path.name))
    return tuple(zone for folder in folders if (zone := _read_zone(folder)))


def temperature_c() -> float | None:
    """The hottest zone in degrees Celsius; ``None`` without a zone."""
    return max((zone.temperature_c for zone in read_zones()), default=None)


def _read_zone(folder: Path) -> Zone | None:
    milli = read_int(folder / "temp")
    if milli is None or not -40_000 < milli < 150_000:
        return None
    return Zone(read_text(folder / "type") or folder.name, milli / 1000.0, _passive_trip_c(folder))


def _passive_trip_c(folder: Path) -> float | None:
    kinds = (path for path in folder.glob("trip_point_*_type") if read_text(path) == "passive")
    trips = (read_int(path.with_name(path.name.removesuffix("type") + "temp")) for path in kinds)
    # A trip that nobody has set stands at 0 or below absolute zero.
    return min((milli / 1000.0 for milli in trips if milli and milli > 0), default=None)
