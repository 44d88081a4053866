"""The zones of the powercap tree: which there are, which counter of each is read, and why there are none.

Sources: Linux kernel, Documentation/power/powercap/powercap.rst and Documentation/ABI/testing/sysfs-class-powercap. A zone is
known by its ``name`` file alone: its number is no socket (``psys`` is a zone beside the packages).
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from devprof.meters.base import MeterError
from devprof.meters.kernelfile import KernelFile
from devprof.paths import procfs, read_int, read_text, sysfs, system

__all__ = ["UDEV_RULES", "Zone", "find_mirrors", "open_zones", "why_none"]

UDEV_RULES = (
    'SUBSYSTEM=="powercap", ACTION=="add", KERNEL=="intel-rapl*:*", '
    'RUN+="/bin/chgrp powercap %S%p/energy_uj", RUN+="/bin/chmod 0440 %S%p/energy_uj"'
)
"""A line for ``/etc/udev/rules.d/99-powercap.rules`` that lets the group ``powercap`` read the counters after each start."""

_ZONE = re.compile(r"(intel-rapl|intel-rapl-mmio)(:[0-9]{1,4})(:[0-9]{1,4})?", re.ASCII)
_PACKAGE = re.compile(r"package-([0-9]{1,4})(-die-[0-9]{1,4})?", re.ASCII)
_MSR = "intel-rapl"
_DEPTH = 3
_X86 = ("x86_64", "amd64", "i386", "i486", "i586", "i686")
_CONTAINER = "start it with the host's tree: --volume /sys:/host/sys:ro --env DEVPROF_SYSFS=/host/sys"
# 21 ms for the test of mirrors. Counters move every millisecond or so, and copies of one may do it at different moments.
_ROUNDS = 8
_PAUSE_S = 0.003


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone with an energy counter.

    Attributes:
        domain: ``package-0``, ``psys``, or with the name of the zone around it ``package-0/dram``.
        number: Its folder's name, such as ``intel-rapl:0:1``.
        counter: Its file ``energy_uj``.
        range_uj: The highest value of the counter; ``None`` where the kernel does not say.
    """

    domain: str
    number: str
    counter: KernelFile
    range_uj: int | None

    @property
    def socket(self) -> int | None:
        """Number of the socket of a package; ``None`` if it is another zone."""
        match = _PACKAGE.fullmatch(self.domain.partition("@")[0])
        return int(match[1]) if match else None

    @property
    def by_mmio(self) -> bool:
        """Whether it is of the tree that reads the counters by memory access instead of by machine registers."""
        return not self.number.startswith(f"{_MSR}:")


def open_zones() -> tuple[list[Zone], list[str]]:
    """The zones to read, packages first, with their counters open, and notes on those left out.

    The tree of machine registers is preferred; the one by memory access repeats packages, and is read only for what the first
    lacks or cannot read.

    Raises:
        MeterError: If there is no package, if one cannot be read, or if a socket has none: no total without all of them.
    """
    zones: list[Zone] = []
    notes: list[str] = []
    failed: list[Zone] = []
    for domain, candidates in _candidates().items():
        found = [
            Zone(domain, folder.name, KernelFile(folder / "energy_uj"), _range_uj(folder)) for folder in candidates
        ]
        read = next((zone for zone in found if zone.counter.number() is not None), None)
        for zone in found:
            if zone is not read:
                zone.counter.close()
        if read is not None:
            zones.append(read)
        elif found[0].socket is not None:
            failed.append(found[0])
        else:
            notes.append(f"{domain} is left out, it cannot be read: {found[0].counter.trouble}.")
    try:
        _check(zones, failed)
    except MeterError:
        for zone in zones:
            zone.counter.close()
        raise
    return sorted(zones, key=lambda zone: zone.socket is None), notes


def _folders(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Folders of zones: side by side as links in ``class/powercap``, and one inside the other as the devices are."""
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return
    for path in inside:
        if path.name.startswith(_MSR) and path.is_dir():
            if _ZONE.fullmatch(path.name):
                yield path
            if depth > 1:
                yield from _folders(path, depth - 1)


def _candidates() -> dict[str, list[Path]]:
    """By domain the folders that show it, one per tree, that of machine registers first."""
    folders = {path.name: path for path in reversed(list(_folders(sysfs("class", "powercap"))))}
    names = {number: name for number, path in folders.items() if (name := read_text(path / "name"))}
    found: dict[str, list[Path]] = {}
    seen: set[tuple[str, str]] = set()
    for number in sorted(names, key=_order):
        match = _ZONE.fullmatch(number)
        assert match is not None
        around = names.get(number.rpartition(":")[0]) if match[3] else None
        domain = names[number] if around is None else f"{around}/{names[number]}"
        # Two zones of one name in one tree are two things, not two views of one.
        if (match[1], domain) in seen:
            domain += f"@{number}"
        seen.add((match[1], domain))
        found.setdefault(domain, []).append(folders[number])
    return found


def _order(number: str) -> tuple[str, list[int]]:
    tree, *indices = number.split(":")
    return tree, [int(index) for index in indices]


def _range_uj(folder: Path) -> int | None:
    highest = read_int(folder / "max_energy_range_uj")
    return highest if highest is not None and 0 < highest < 1 << 64 else None


def _check(zones: Sequence[Zone], failed: Sequence[Zone]) -> None:
    """Whether all packages can be read.

    Raises:
        MeterError: If not.
    """
    if failed:
        counter = failed[0].counter
        if counter.forbidden:
            raise MeterError(f"{counter.path} may not be read: only root may, unless a group is let", _let_group())
        names = ", ".join(zone.domain for zone in failed)
        raise MeterError(
            f"{names} cannot be read ({counter.path}: {counter.trouble}), and there is no total without it",
            "ask the kernel why: sudo dmesg | grep -i rapl",
        )
    sockets = {zone.socket for zone in zones if zone.socket is not None}
    if not sockets:
        raise why_none()
    present = {
        read_int(path) for path in sysfs("devices", "system", "cpu").glob("cpu[0-9]*/topology/physical_package_id")
    } - {None}
    if len(sockets) < len(present):
        raise MeterError(
            f"the machine has {len(present)} sockets, but powercap has a package zone for {len(sockets)} of them only",
            "ask the kernel why: sudo dmesg | grep -i rapl",
        )


def _let_group() -> str:
    """How to let a group read; the counters are root's since Linux 5.10 because they reveal secrets (CVE-2020-8694)."""
    files = sysfs("class", "powercap", f"{_MSR}*:*", "energy_uj")
    return (
        f"until the next start: sudo sh -c 'chgrp \"$SUDO_GID\" {files} && chmod g+r {files}'. "
        'For good: sudo groupadd -f powercap && sudo usermod -aG powercap "$USER", '
        f"put this line into /etc/udev/rules.d/99-powercap.rules: {UDEV_RULES} , then "
        "sudo udevadm control --reload && sudo udevadm trigger --action=add --subsystem-match=powercap, and log in anew"
    )


def why_none() -> MeterError:
    """Why there is no package zone, and what mends it."""
    root = sysfs("class", "powercap")
    try:
        entries = [path for path in root.iterdir() if path.name.startswith(_MSR)]
    except OSError:
        entries = []
    if not entries and platform.machine().lower() not in _X86:
        return MeterError("RAPL is a feature of x86 processors, and this is none")
    if any(read_text(path / "name") for path in entries):
        return MeterError(f"{root} has no package zone, only parts or the whole board", "use another meter")
    # Container runtimes cover /sys/devices/virtual/powercap: what is left are links to nowhere.
    if any(not path.exists() for path in entries):
        return MeterError(f"this container hides what {root} points to", _CONTAINER)
    if re.search(r"^flags\s*:.*\bhypervisor\b", read_text(procfs("cpuinfo")) or "", re.MULTILINE):
        return MeterError(
            f"no RAPL zones under {root}: this is a virtual machine, to which its host hands no counters",
            "measure on the host",
        )
    if system(".dockerenv").exists() or system("run", ".containerenv").exists():
        return MeterError(f"no RAPL zones under {root} in this container", _CONTAINER)
    return MeterError(f"no RAPL zones under {root}", "sudo modprobe intel_rapl_msr")


def find_mirrors(packages: Sequence[Zone], sleep: Callable[[float], None]) -> dict[str, str]:
    """Packages that show the counter of another one, each with the one to keep.

    The dies of a socket of AMD's first two Zen generations all show the counter of the socket. Two counters are one if they
    are not zero, move, and each value of the second lies between those of the first just before and just after it. By chance
    the counters of two sockets of 100 W are that near to each other once in some 100,000 openings.

    Raises:
        MeterError: If counters are equal and do not move: then nothing tells one from two.
    """
    if len(packages) < 2:
        return {}
    rounds: list[list[int | None]] = []
    for turn in range(_ROUNDS):
        if turn:
            sleep(_PAUSE_S)
        rounds.append([zone.counter.number() for zone in packages])
    series = {zone.domain: [values[place] for values in rounds] for place, zone in enumerate(packages)}
    ranges = {zone.domain: zone.range_uj for zone in packages}
    kept: list[str] = []
    mirrors: dict[str, str] = {}
    for domain, values in series.items():
        for first in kept:
            if _stuck_together(series[first], values):
                raise MeterError(
                    f"the counters of {first} and {domain} are equal and do not move: they may be one or two",
                    "try again while the machine is busy",
                )
            if _same(series[first], values, ranges[first]):
                mirrors[domain] = first
                break
        else:
            kept.append(domain)
    return mirrors


def _stuck_together(first: Sequence[int | None], second: Sequence[int | None]) -> bool:
    return len({*first, *second}) == 1 and first[0] not in (None, 0)


def _same(first: Sequence[int | None], second: Sequence[int | None], range_uj: int | None) -> bool:
    known = [value for value in first if value is not None]
    other = [value for value in second if value is not None]
    if len(known) < len(first) or len(other) < len(second) or not all((*known, *other)):
        return False
    if known[0] == known[-1] or other[0] == other[-1]:
        return False
    between = zip(known, other[1:], known[2:], strict=False)
    return all(_within(before, value, after, range_uj) for before, value, after in between)


def _within(before: int, value: int, after: int, range_uj: int | None) -> bool:
    """Whether a counter can have had this value between the two others, also if it wrapped in between."""
    if range_uj is None:
        return before <= value <= after
    return (value - before) % (range_uj + 1) <= (after - before) % (range_uj + 1)
