"""The battery of a machine: what it gives while nothing charges it is what the whole machine takes, screen and radio included.

A value counts only while the machine runs from its battery: a battery says ``Discharging``, none is being charged, and no
charger is online (a weak charger and the battery can feed a machine together). Everything else is a break.

The kernel does not say when a value is new. Batteries make one each 1 to 30 s, and a value that comes again may be a new one:
so each reading counts as what the battery says at that moment, and 30 s, the longest, is stated as the time between new ones.

Sources: Linux kernel, Documentation/ABI/testing/sysfs-class-power (microwatts, microvolts, microamperes, microwatt-hours,
microampere-hours; the sign of a discharging current is negative there, but positive with many drivers); Smart Battery Data
Specification 1.1 (capacity in 10 mWh or 1 mAh).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from devprof.meters.base import Channel, Meter, MeterError, MeterInfo, Reading, SourceState
from devprof.meters.kernelfile import FileMeter, KernelFile
from devprof.paths import read_int, read_text, sysfs

__all__ = ["RULE", "open_meter", "probe"]

RULE = "battery-sum/1"
_TITLE = "battery of the machine"
_UNPLUG = "unplug the charger"
_PERIOD_S = 1.0
_LONGEST_UPDATE_S = 30.0
_MOST_W = 500.0
_MICRO = 1e-6
_SECONDS_PER_HOUR = 3600
_RATES = (("power_now",), ("voltage_now", "current_now"))
_LEVELS = (("energy_now",), ("charge_now", "voltage_now"))
_CHARGER = re.compile(r"Mains|Wireless|BrickID|USB.*", re.ASCII)


def probe() -> SourceState:
    """Whether the machine runs from a battery that says what it gives."""
    try:
        power = _open_supplies()
    except MeterError as error:
        return SourceState("battery", _TITLE, readable=False, detail=error.reason, remedy=error.remedy)
    power.close()
    return SourceState("battery", _TITLE, readable=True, detail=", ".join(folder.name for folder in power.batteries))


def open_meter(argument: str) -> Meter:
    """Open all batteries of the machine. Those of its mice and keyboards are not the machine's.

    Args:
        argument: Must be empty.

    Raises:
        MeterError: If there is no battery, if the machine does not run from it, or if one does not say what it gives.
    """
    if argument:
        raise MeterError(f"battery takes no argument, got {argument!r}", "--meter battery")
    power = _open_supplies()
    channels: list[Channel] = []
    sources: list[_Rate | _Gauge] = []
    ways: list[str] = []
    for folder in power.batteries:
        rate, level = _way(folder, _RATES), _way(folder, _LEVELS)
        if rate:
            sources.append(_Rate(folder, rate, power))
            channels.append(_channel(folder.name, folder, rate))
        if level:
            domain = f"{folder.name}/gauge" if rate else folder.name
            sources.append(_Gauge(domain, folder, level, power))
            channels.append(_channel(domain, folder, level))
        ways.append(f"{folder.name} by {' x '.join(rate or level)}")
    notes = [
        "The total is all that the machine takes, screen, disks and radio included; losses inside the battery are not in it.",
        f"New values come each 1 to {_LONGEST_UPDATE_S:g} s, and nothing says when: measure for 5 minutes or more.",
    ]
    kept = [channel.domain for channel in channels if not channel.headline]
    if kept:
        notes.append(f"Kept but not added, because it is the same energy by the remaining charge: {', '.join(kept)}.")
    info = MeterInfo("battery", RULE, tuple(channels), _PERIOD_S, ", ".join(ways), tuple(notes))
    return FileMeter(info, sources)


def _open_supplies() -> _Supplies:
    """The batteries and chargers, in a state in which measuring makes sense.

    Raises:
        MeterError: If they are not, or if there is no battery.
    """
    batteries: list[Path] = []
    chargers: list[Path] = []
    for folder in sorted(sysfs("class", "power_supply").glob("*")):
        kind = read_text(folder / "type") or ""
        if read_text(folder / "scope") == "Device":
            continue
        if kind == "Battery" and read_int(folder / "present") != 0:
            batteries.append(folder)
        elif _CHARGER.fullmatch(kind):
            chargers.append(folder)
    if not batteries:
        raise MeterError("this machine has no battery")
    mute = [folder.name for folder in batteries if not (_way(folder, _RATES) or _way(folder, _LEVELS))]
    if mute:
        raise MeterError(f"{', '.join(mute)} says neither power, current nor charge, so the total is not known")
    power = _Supplies(batteries, chargers)
    obstacle = power.obstacle()
    if obstacle is not None:
        power.close()
        raise MeterError(obstacle, _UNPLUG)
    return power


def _way(folder: Path, ways: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The first way whose files have numbers; one that says 0 only if no other says more."""
    readable = {way: values for way in ways if None not in (values := [read_int(folder / name) for name in way])}
    return next((way for way, values in readable.items() if all(values)), next(iter(readable), ()))


def _channel(domain: str, folder: Path, way: tuple[str, ...]) -> Channel:
    volts = abs(read_int(folder / "voltage_now") or 0) * _MICRO
    # ACPI counts whole milliwatts and milliamperes; Smart Batteries keep their charge in 10 mWh or 1 mAh.
    quantum = {
        "power_now": 1e-3,
        "voltage_now": 1e-3 * volts,
        "energy_now": 10e-3 * _SECONDS_PER_HOUR,
        "charge_now": 1e-3 * _SECONDS_PER_HOUR * volts,
    }[way[0]]
    return Channel(
        domain,
        "sensor" if way in _RATES else "counter",
        headline=domain == folder.name,
        update_s=_LONGEST_UPDATE_S,
        quantum=quantum,
        most_w=_MOST_W,
    )


class _Supplies:
    """What feeds the machine now."""

    def __init__(self, batteries: Sequence[Path], chargers: Sequence[Path]) -> None:
        self.batteries = tuple(batteries)
        self._status = {folder.name: KernelFile(folder / "status") for folder in batteries}
        self._online = {folder.name: KernelFile(folder / "online") for folder in chargers}

    def obstacle(self) -> str | None:
        """Why the batteries do not tell what the machine takes now; ``None`` where they do."""
        online = [name for name, file in self._online.items() if (file.number() or 0) > 0]
        if online:
            return f"the charger {', '.join(online)} is online"
        states = {name: (file.text() or "unknown").strip() for name, file in self._status.items()}
        if "Charging" in states.values() or "Discharging" not in states.values():
            return ", ".join(f"{name} is in the state {state!r}" for name, state in states.items())
        return None

    def discharging(self, name: str) -> bool | None:
        """Whether a battery is the one that gives; ``None`` if it is gone."""
        file = self._status[name]
        text = file.text()
        return None if file.gone else text is not None and text.strip() == "Discharging"

    def close(self) -> None:
        for file in (*self._status.values(), *self._online.values()):
            file.close()


class _Rate:
    """Watts that a battery gives."""

    def __init__(self, folder: Path, way: tuple[str, ...], power: _Supplies) -> None:
        self.domain = folder.name
        self._files = [KernelFile(folder / name) for name in way]
        self._power = power

    def sample(self) -> Reading | None:
        gives = self._power.discharging(self.domain)
        if gives is None:
            return None
        watts, stamps = 1.0, []
        for file in self._files:
            t_ns, raw = file.stamped()
            if raw is None:
                return None if file.gone else Reading(t_ns, self.domain)
            watts *= abs(raw) * _MICRO
            stamps.append(t_ns)
        t_ns = sum(stamps) // len(stamps)
        # A second battery at rest gives nothing, and says so; if it says anything else it is not known which way it goes.
        known = self._power.obstacle() is None and (gives or watts == 0)
        return Reading(t_ns, self.domain, power_w=watts if known else None)

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._power.close()


class _Gauge:
    """Joules by which the charge of a battery fell."""

    def __init__(self, domain: str, folder: Path, way: tuple[str, ...], power: _Supplies) -> None:
        self.domain = domain
        self._battery = folder.name
        self._files = [KernelFile(folder / name) for name in way]
        self._power = power
        self._last: tuple[int, float] | None = None
        self._joules = 0.0

    def sample(self) -> Reading | None:
        gives = self._power.discharging(self._battery)
        read = [file.stamped() for file in self._files]
        t_ns = sum(stamp for stamp, _ in read) // len(read)
        level, *voltage = [raw for _, raw in read]
        volts = 1.0 if not voltage else None if voltage[0] is None else voltage[0] * _MICRO
        last, self._last = self._last, None
        if gives is None or any(file.gone for file in self._files):
            return None
        if level is None or volts is None or self._power.obstacle() is not None:
            return Reading(t_ns, self.domain)
        self._last = level, volts
        if last is not None:
            fallen = last[0] - level
            # It rose although nothing charges it: the gauge corrected itself.
            if fallen < 0:
                return Reading(t_ns, self.domain)
            self._joules += fallen * _MICRO * _SECONDS_PER_HOUR * (last[1] + volts) / 2
        return Reading(t_ns, self.domain, energy_j=self._joules)

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._power.close()
