"""All power sources by the name under which ``--meter`` knows them. Nothing of a driver is imported before it is asked for."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from devprof.errors import UnknownNameError
from devprof.meters.base import Meter, SourceState

__all__ = ["Driver", "choose", "open_meter", "probe_sources", "split_spec"]

_OWN = {
    "ina": "devprof.meters.ina",
    "jtop": "devprof.meters.jtop",
    "rapl": "devprof.meters.rapl",
    "nvml": "devprof.meters.nvml",
    "pmic": "devprof.meters.pmic",
    "hwmon": "devprof.meters.hwmon",
    "battery": "devprof.meters.battery",
}
_OUTSIDE = {
    "tcp": "devprof.meters.remote",
    "scpi": "devprof.meters.scpi",
    "csv": "devprof.meters.csvfile",
    "pipe": "devprof.meters.pipe",
    "lines": "devprof.meters.lines",
    "serial": "devprof.meters.serialline",
    "toml": "devprof.meters.described",
    "shelly": "devprof.meters.shelly",
    "tasmota": "devprof.meters.tasmota",
    "http": "devprof.meters.httpjson",
}
_DRIVERS = _OWN | _OUTSIDE


# A Jetson's sensors see its whole module, GPU included; NVML never answers there.
_AUTO = {"cuda": ("ina", "jtop", "nvml"), "cpu": ("ina", "jtop", "pmic", "rapl")}


class Driver(Protocol):
    """What the module of a power source offers."""

    def probe(self) -> SourceState:
        """Whether the source could be read here; quick, and nothing is started or changed."""

    def open_meter(self, argument: str) -> Meter:
        """Open it.

        Args:
            argument: What followed the name and a colon in ``--meter``; empty where nothing did.

        Raises:
            MeterError: If it cannot be opened.
        """


def split_spec(spec: str) -> tuple[str, str]:
    """Name and argument of a meter as ``--meter`` gives it: ``name`` or ``name:argument``."""
    name, _, argument = spec.partition(":")
    return name.strip(), argument.strip()


def driver(name: str) -> Driver:
    """The driver of a name.

    Raises:
        UnknownNameError: If there is none; the closest are named.
    """
    if name not in _DRIVERS:
        raise UnknownNameError("meter", name, _DRIVERS, f"known are {', '.join(_DRIVERS)}")
    return cast("Driver", importlib.import_module(_DRIVERS[name]))


def open_meter(spec: str) -> Meter:
    """Open the meter that ``--meter`` names.

    Raises:
        MeterError: If it cannot be opened.
        UnknownNameError: If there is no such meter.
    """
    name, argument = split_spec(spec)
    return driver(name).open_meter(argument)


def choose(processor: str) -> list[str]:
    """The meters that ``auto`` would take for a processor and that should work here, the best first.

    Only those that measure a whole device or the processor itself: a battery needs windows of minutes, and what an hwmon chip
    is wired to its name does not say.

    Args:
        processor: ``cpu`` or ``cuda``.
    """
    names = [name for name in _AUTO.get(processor, _AUTO["cpu"]) if name in _DRIVERS]
    return [name for name in names if driver(name).probe().readable]


def probe_sources() -> tuple[tuple[SourceState, ...], tuple[SourceState, ...]]:
    """The state of every source that a device has itself, and of meters outside of it, which have to be named."""
    return tuple(driver(name).probe() for name in _OWN), tuple(driver(name).probe() for name in _OUTSIDE)
