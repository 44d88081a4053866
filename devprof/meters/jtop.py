"""Power rails of a Jetson through the service of jetson-stats (``jtop``), for where the kernel's files are out of reach.

Where they can be read, :mod:`devprof.meters.ina` is finer: ten values per second instead of two, with the moment of each. The
total follows the same rules (:mod:`devprof.meters.rails`); the service's own total is used only if it is measured, because
otherwise it is the sum of all rails, those below another rail and USB ports included. Its averages are never used: they are the
mean of the last value and the average before.

Source: documentation of jetson-stats, ``jtop.power`` (milliwatts, millivolts, milliamperes).
"""

from __future__ import annotations

import importlib.util
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from devprof.machine import compatible
from devprof.meters.base import Channel, MeterError, MeterInfo, MeterLostError, Reading, SourceState, now_ns
from devprof.meters.ina_rails import Rail, find_rails, rail_channel
from devprof.meters.jtop_link import INSTALL, Link, Sample, explain, is_passing, load
from devprof.meters.rails import RailRule, choose_rule
from devprof.paths import sysfs, system

__all__ = ["NAME", "TITLE", "JtopMeter", "open_meter", "probe"]

NAME = "jtop"
TITLE = "power rails of a Jetson through its jtop service"

# Twice per second is what the author of jetson-stats calls safe; each sample makes the service read the whole board.
_INTERVAL_S = 0.5
_OPEN_S = 10.0
_OPEN_PAUSE_S = 0.1
# So many intervals without a sample are lost coverage.
_LATE_INTERVALS = 3
# The service forgets clients that were silent for three seconds, and then sends nothing more: they must come anew.
_RENEW_S = 4.0
_RETRY_S = 1.0
_PATIENCE_S = 30.0
_MILLIWATT = 1e-3


def probe() -> SourceState:
    """Whether the client is installed and the service's socket may be opened. The client is not started."""
    socket = _socket("")
    detail, remedy = "", None
    if importlib.util.find_spec("jtop") is None:
        detail, remedy = "the client of jetson-stats is not installed", INSTALL
    elif not socket.exists():
        error = explain(FileNotFoundError(), socket)
        detail, remedy = error.reason, error.remedy
    elif not os.access(socket, os.R_OK | os.W_OK):
        error = explain(PermissionError(), socket)
        detail, remedy = error.reason, error.remedy
    if detail:
        return SourceState(NAME, TITLE, readable=False, detail=detail, remedy=remedy)
    return SourceState(NAME, TITLE, readable=True, detail=f"the socket of a jtop service at {socket}")


def open_meter(argument: str) -> JtopMeter:
    """Connect to the service; takes at most ten seconds.

    Args:
        argument: The path of its socket; empty for ``/run/jtop.sock``.

    Raises:
        MeterError: If the client is not installed, the service does not answer or refuses, or it sees no power rails.
    """
    return JtopMeter(_socket(argument))


def _socket(argument: str) -> Path:
    return Path(argument) if argument else system("run", "jtop.sock")


class JtopMeter:
    """The rails that the service knows, each a channel in watts. Must run in a process that is not measured itself.

    A service that goes away or stands still makes a break; it is looked for again in the background.

    Args:
        socket: The service's socket.
        clock_ns: What time it is, on the clock of :func:`devprof.meters.base.now_ns`.
        patience_s: After so long without a sample the meter is lost.

    Raises:
        MeterError: If the service cannot be used.
    """

    def __init__(self, socket: Path, clock_ns: Callable[[], int] = now_ns, patience_s: float = _PATIENCE_S) -> None:
        self._socket = socket
        self._clock_ns = clock_ns
        self._patience_s = patience_s
        self._module = load()
        self._link = _connected(self._module, socket)
        try:
            self._info = _info(self._link, socket, str(self._module.__version__))
        except MeterError:
            self._link.close()
            raise
        self._last_ns = self._tried_ns = clock_ns()
        self._broken = False
        self._reason: Exception = TimeoutError("it stands still")

    @property
    def info(self) -> MeterInfo:
        """What it is."""
        return self._info

    def read(self) -> list[Reading]:
        """What came in since the last call; one break per channel when samples stop coming.

        Raises:
            MeterLostError: If there was no sample for half a minute.
        """
        now = self._clock_ns()
        readings = [reading for sample in self._link.take() for reading in self._readings(sample)]
        if readings:
            self._last_ns, self._broken = now, False
            return readings
        silent_s = (now - self._last_ns) / 1e9
        late_s = _LATE_INTERVALS * self._link.interval_s
        failure = self._link.failure()
        if failure:
            self._reason = failure
        self._renew(now, _RETRY_S if failure else max(_RENEW_S, late_s))
        if silent_s > self._patience_s:
            error = explain(self._reason, self._socket)
            raise MeterLostError(error.reason, error.remedy)
        if self._broken or not (failure or silent_s > late_s):
            return []
        self._broken = True
        return [Reading(now, channel.domain) for channel in self._info.channels]

    def close(self) -> None:
        """Leave the service."""
        self._link.close()

    def _renew(self, now: int, after_s: float) -> None:
        """Connect anew, in the background, if for so long there was neither a sample nor a try."""
        if now - max(self._last_ns, self._tried_ns) >= after_s * 1e9:
            self._link.close()
            self._link = Link(self._module, self._socket, _INTERVAL_S)
            self._tried_ns = now

    def _readings(self, sample: Sample) -> list[Reading]:
        entries = _entries(sample.power)
        domains = (channel.domain for channel in self._info.channels)
        return [Reading(sample.t_ns, domain, power_w=_watts(entries.get(domain))) for domain in domains]


def _connected(module: ModuleType, socket: Path) -> Link:
    """A link that has settled well; while the service is only busy, it is tried again."""
    deadline_ns = now_ns() + int(_OPEN_S * 1e9)
    while True:
        link = Link(module, socket, _INTERVAL_S)
        settled = link.settled((deadline_ns - now_ns()) / 1e9)
        error = link.failure() if settled else TimeoutError("it does not answer")
        if error is None:
            return link
        link.close()
        if not is_passing(error) or now_ns() > deadline_ns:
            raise explain(error, socket) from error
        time.sleep(_OPEN_PAUSE_S)


def _info(link: Link, socket: Path, version: str) -> MeterInfo:
    supplies = {folder.name for folder in sysfs("class", "power_supply").glob("*")}
    entries = {name: entry for name, entry in _entries(link.first).items() if name not in supplies}
    if not any(_watts(entry) is not None for entry in entries.values()):
        raise MeterError(
            f"the jtop service at {socket} sees no power rails", "it must run on a Jetson with its sensors"
        )
    rule = _rule(entries, link)
    sensors = {rail.label: rail for rail in find_rails()}
    channels = tuple(
        _channel(name, entry, sensors.get(name), headline=name in rule.rails, update_s=link.interval_s)
        for name, entry in sorted(entries.items())
    )
    notes = [*rule.notes, "values bear the moment they came in, at most one interval after the service read them"]
    if not set(rule.rails) <= set(sensors):
        notes.append("the kernel's files of the sensors are not visible here, so their accuracy is not known")
    if not math.isclose(link.interval_s, _INTERVAL_S):
        notes.append(f"another client has set the interval of the jtop service to {link.interval_s:g} s")
    return MeterInfo(
        NAME,
        rule.name,
        channels,
        period_s=link.interval_s,
        detail=f"jetson-stats {version} at {socket}, a sample every {link.interval_s:g} s",
        notes=tuple(notes),
    )


def _rule(entries: Mapping[str, Mapping[str, Any]], link: Link) -> RailRule:
    """The rule of the board on which the service runs; in a container only the service knows its chip."""
    chip = str(link.hardware.get("SoC"))
    names = compatible() or ((f"nvidia,{chip}",) if chip.startswith("tegra") else ())
    try:
        return choose_rule(list(entries), names)
    except MeterError:
        total = _measured_total(link.first)
        if total is None:
            raise
        return RailRule(
            "jtop-total/1", "", (total,), (f"the total is what the jtop service measures as its total, {total}",)
        )


def _measured_total(power: Mapping[str, Any]) -> str | None:
    """What to call the service's total if a sensor of its own measures it; ``None`` if it is a sum of rails."""
    total = power.get("tot")
    if not isinstance(total, Mapping) or "volt" not in total or "curr" not in total:
        return None
    return str(total.get("name") or "total")


def _entries(power: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the service says of each rail of the board; the rail that it takes for the total is among them again.

    Batteries and USB ports, which it lists as rails, have a charging status or say that they are no INA.
    """
    rails = power.get("rail")
    entries = {
        str(name): entry
        for name, entry in (rails.items() if isinstance(rails, Mapping) else ())
        if isinstance(entry, Mapping) and "status" not in entry and str(entry.get("type", "INA")).startswith("INA")
    }
    total = _measured_total(power)
    return entries | {total: power["tot"]} if total else entries


def _watts(entry: Mapping[str, Any] | None) -> float | None:
    """Watts of a rail; ``None`` if it is gone, switched off, or has no number."""
    if entry is None or entry.get("online") is False:
        return None
    milliwatts = entry.get("power")
    if isinstance(milliwatts, bool) or not isinstance(milliwatts, int | float) or not abs(milliwatts) < 1e12:
        return None
    return milliwatts * 1e-3


def _channel(name: str, entry: Mapping[str, Any], rail: Rail | None, *, headline: bool, update_s: float) -> Channel:
    """A rail as a channel. The service cuts power to whole milliwatts; step and accuracy of the sensor the kernel knows."""
    if rail is None:
        return Channel(name, "sensor", headline, update_s=update_s, quantum=_MILLIWATT)
    millivolts = entry.get("volt")
    voltage_v = millivolts * 1e-3 if isinstance(millivolts, int) and 0 < millivolts < 10**5 else 0.0
    channel = rail_channel(rail, voltage_v, headline=headline, update_s=update_s)
    return replace(channel, quantum=max(channel.quantum, _MILLIWATT))
