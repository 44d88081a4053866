"""How a device is right now: what changes from minute to minute and belongs to a run, not to the device's identity."""

from __future__ import annotations

from devprof.paths import read_text, sysfs

__all__ = ["governor", "temperature_c"]


def temperature_c() -> float | None:
    """The hottest thermal zone in degrees Celsius (kernel: Documentation/driver-api/thermal/sysfs-api.rst, millidegrees).

    Zones that are switched off report values far below zero and are left out; ``None`` without a zone.
    """
    readings = []
    for path in sysfs("class", "thermal").glob("thermal_zone*/temp"):
        text = read_text(path)
        try:
            value = int(text or "") / 1000.0
        except ValueError:
            continue
        if -40.0 < value < 150.0:
            readings.append(value)
    return max(readings, default=None)


def governor() -> str | None:
    """The frequency governor of the first core, such as ``schedutil``; ``None`` where frequency is not managed here."""
    return read_text(sysfs("devices", "system", "cpu", "cpu0", "cpufreq", "scaling_governor"))
