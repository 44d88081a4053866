"""RAPL: energy counters of x86 processors (Intel since Sandy Bridge, AMD since Zen), as the kernel's powercap tree shows them.

The total is the sum of the packages, one per socket. ``dram`` lies beside the package, ``core`` and ``uncore`` inside it, and
``psys`` contains it together with parts of the board that differ from model to model: they are kept and never added. On AMD
``core`` is one core of the package. Nothing outside the processor is seen.

Sources: Linux kernel, Documentation/power/powercap/powercap.rst; Intel SDM volume 3, "Platform Specific Power Management
Support" (32-bit counters, updated about every millisecond, in units of 15.3 uJ, 61 uJ, or 1 J for psys of servers).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence

from devprof.meters.base import Channel, Meter, MeterError, MeterInfo, Reading, SourceState, WrappingCounter
from devprof.meters.kernelfile import FileMeter
from devprof.meters.raplzones import Zone, find_mirrors, open_zones
from devprof.paths import procfs, read_text

__all__ = ["RULE", "open_meter", "probe"]

RULE = "rapl-packages/1"
_TITLE = "RAPL counters of an x86 processor"
_UPDATE_S = 0.001
_UJ = 1e-6
# The coarser of the two usual units, for counters of which the kernel does not say where they end.
_USUAL_UNIT_J = 2**-14
# No package takes more, not even for the milliseconds in which supplies allow it; psys contains several.
_MOST_PACKAGE_W = 2_000.0
_MOST_PSYS_W = 20_000.0
# Counters of 65 kJ and more do not go round faster than this at _MOST_PACKAGE_W.
_LONGEST_GAP_S = 10.0


def probe() -> SourceState:
    """Whether all packages can be read here."""
    try:
        zones, _ = open_zones()
    except MeterError as error:
        return SourceState("rapl", _TITLE, readable=False, detail=error.reason, remedy=error.remedy)
    _close(zones)
    return SourceState("rapl", _TITLE, readable=True, detail=", ".join(zone.domain for zone in zones))


def open_meter(argument: str, *, sleep: Callable[[float], None] = time.sleep) -> Meter:
    """Open the counters. With two packages or more it takes 21 ms to find out whether they are really several.

    Args:
        argument: Must be empty.
        sleep: What waits between the readings of that test.

    Raises:
        MeterError: If not all packages can be read, or if there is an argument.
    """
    if argument:
        raise MeterError(f"rapl takes no argument, got {argument!r}", "--meter rapl")
    zones, notes = open_zones()
    try:
        mirrors = find_mirrors([zone for zone in zones if zone.socket is not None], sleep)
    except MeterError:
        _close(zones)
        raise
    _close([zone for zone in zones if zone.domain in mirrors])
    zones = [zone for zone in zones if zone.domain not in mirrors]
    info = MeterInfo(
        source="rapl",
        rule=RULE,
        channels=tuple(_channel(zone) for zone in zones),
        detail=_processor(),
        notes=(*_notes(zones, mirrors), *notes),
    )
    return FileMeter(info, [_Counter(zone) for zone in zones])


def _close(zones: Sequence[Zone]) -> None:
    for zone in zones:
        zone.counter.close()


def _channel(zone: Zone) -> Channel:
    # The kernel's maximum is 2**32 - 1 units of the counter, so it tells the unit; the file itself has whole microjoules.
    unit_j = _USUAL_UNIT_J if zone.range_uj is None else max(zone.range_uj * _UJ / (2**32 - 1), _UJ)
    return Channel(
        zone.domain,
        "counter",
        headline=zone.socket is not None,
        update_s=_UPDATE_S,
        quantum=unit_j,
        most_w=_most_w(zone),
    )


def _most_w(zone: Zone) -> float:
    return _MOST_PSYS_W if zone.domain.startswith("psys") else _MOST_PACKAGE_W


def _notes(zones: Sequence[Zone], mirrors: Mapping[str, str]) -> list[str]:
    packages = " + ".join(zone.domain for zone in zones if zone.socket is not None)
    notes = [
        f"The total is {packages}: no memory modules, graphics cards, disks, screens, fans or losses of the supply."
    ]
    others = ", ".join(zone.domain for zone in zones if zone.socket is None)
    if others:
        notes.append(f"Kept but not added: {others}.")
    notes += [f"{mirror} shows the counter of {kept} and is left out." for mirror, kept in mirrors.items()]
    by_mmio = ", ".join(zone.domain for zone in zones if zone.by_mmio)
    if by_mmio:
        notes.append(f"Read by memory access, because the machine registers are not: {by_mmio}.")
    endless = ", ".join(zone.domain for zone in zones if zone.range_uj is None)
    if endless:
        notes.append(
            f"The kernel does not say where these counters begin again, so each such time is a gap: {endless}."
        )
    return notes


def _processor() -> str:
    match = re.search(r"^model name[ \t]*:[ \t]*(\S.*)$", read_text(procfs("cpuinfo")) or "", re.MULTILINE)
    return match[1].strip() if match else ""


class _Counter:
    """Joules of one zone."""

    def __init__(self, zone: Zone) -> None:
        self.domain = zone.domain
        self._file = zone.counter
        self._joules = WrappingCounter(_UJ, None if zone.range_uj is None else zone.range_uj + 1)
        # After a longer gap the counter may have gone round unseen.
        round_s = 0.0 if zone.range_uj is None else zone.range_uj * _UJ / _most_w(zone)
        self._trusted_ns = int(max(round_s, _LONGEST_GAP_S) * 1e9)
        self._last_ns: int | None = None

    def sample(self) -> Reading | None:
        t_ns, raw = self._file.stamped()
        if raw is None or raw < 0:
            self._joules.lost()
            self._last_ns = None
            return None if self._file.gone else Reading(t_ns, self.domain)
        gap = self._last_ns is not None and t_ns - self._last_ns > self._trusted_ns
        self._last_ns = t_ns
        if gap:
            self._joules.lost()
        energy_j = self._joules.add(raw)
        return Reading(t_ns, self.domain) if gap else Reading(t_ns, self.domain, energy_j=energy_j)

    def close(self) -> None:
        self._file.close()
