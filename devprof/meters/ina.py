"""Power rails of Jetson boards, read from the kernel's files: no root, no service, also in containers.

The sensors are INA3221 (three rails each) and, on Thor, an INA238 at the power input. :mod:`devprof.meters.ina_rails` finds
them, :mod:`devprof.meters.rails` says which rails make the total.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from devprof.machine import compatible, is_tegra
from devprof.meters.base import MeterError, MeterInfo, MeterLostError, Reading, SourceState, now_ns
from devprof.meters.ina_rails import Rail, find_rails, rail_channel
from devprof.meters.kernelfile import KernelFile
from devprof.meters.rails import RailRule, choose_rule, given_rule
from devprof.paths import sysfs

__all__ = ["NAME", "TITLE", "InaMeter", "open_meter", "probe"]

NAME = "ina"
TITLE = "power rails of a Jetson (INA3221, INA238)"

# Each value is a transfer on the I2C bus, some 0.3 ms in which the reader and the bus are busy: 10 Hz is enough.
_SHORTEST_PERIOD_S = 0.1
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO}


def probe() -> SourceState:
    """Whether the rails of this device can be read and make a total."""
    try:
        rails = find_rails()
        rule = _rule("", rails)
    except MeterError as error:
        return SourceState(NAME, TITLE, readable=False, detail=error.reason, remedy=error.remedy)
    return SourceState(NAME, TITLE, readable=True, detail=f"{_chips(rails)}, total by {rule.name}")


def open_meter(argument: str) -> InaMeter:
    """Open all rails of this device.

    Args:
        argument: The rails that make the total, joined by ``+``; empty for the rule of the board.

    Raises:
        MeterError: If there are no rails, if the total is not known, or if a rail of it cannot be read.
    """
    rails = find_rails()
    return InaMeter(rails, _rule(argument, rails))


def _rule(argument: str, rails: Sequence[Rail]) -> RailRule:
    if not rails:
        where = f"{sysfs('bus', 'i2c', 'drivers')} or {sysfs('class', 'hwmon')}"
        remedy = "load the driver (sudo modprobe ina3221), and in a container mount /sys" if is_tegra() else None
        raise MeterError(f"there is no power rail of an INA3221 or INA238 under {where}", remedy)
    labels = [rail.label for rail in rails]
    return given_rule(argument, labels) if argument else choose_rule(labels, compatible())


def _chips(rails: Sequence[Rail]) -> str:
    chips = dict.fromkeys(f"{rail.chip} at {rail.address}" for rail in rails)
    return f"{', '.join(chips)} with {len(rails)} rail{'s' if len(rails) > 1 else ''}"


class InaMeter:
    """The rails of a board, each a channel in watts.

    Args:
        rails: The rails.
        rule: Which of them make the total. Others that cannot be read are left out.

    Raises:
        MeterError: If a rail of the total cannot be read.
    """

    def __init__(self, rails: Sequence[Rail], rule: RailRule) -> None:
        readers = [_RailReader(rail) for rail in rails]
        self._rails = [reader for reader in readers if reader.power_w() is not None]
        silent = [reader for reader in readers if reader not in self._rails]
        problems = [reader.problem() for reader in silent if reader.rail.label in rule.rails]
        for reader in silent:
            reader.close()
        if problems:
            self.close()
            raise MeterError(f"a power rail of the total cannot be read: {problems[0]}")
        channels = [
            rail_channel(reader.rail, reader.voltage_v(), headline=reader.rail.label in rule.rails)
            for reader in self._rails
        ]
        update_s = min(channel.update_s for channel in channels if channel.headline)
        notes = list(rule.notes)
        if any(channel.headline and not channel.quantum for channel in channels):
            notes.append("the shunts cannot be read here, so the step of the values is not known")
        self._info = MeterInfo(
            NAME,
            rule.name,
            tuple(channels),
            # Half of it, so that no new value is missed.
            period_s=max(_SHORTEST_PERIOD_S, update_s / 2),
            detail=f"{_chips([reader.rail for reader in self._rails])}, new values every {update_s * 1e3:.3g} ms",
            notes=tuple(notes),
        )

    @property
    def info(self) -> MeterInfo:
        """What it is."""
        return self._info

    def read(self) -> list[Reading]:
        """Watts of each rail now; a break for a rail that does not answer.

        Raises:
            MeterLostError: If the files of all rails are gone.
        """
        readings = []
        for reader in self._rails:
            before_ns = now_ns()
            power_w = reader.power_w()
            readings.append(Reading((before_ns + now_ns()) // 2, reader.rail.label, power_w=power_w))
        if all(reader.gone() for reader in self._rails):
            folder = self._rails[0].rail.volts.parent
            raise MeterLostError(
                f"the power rails are gone, such as those in {folder}", "see dmesg for what happened to their driver"
            )
        return readings

    def close(self) -> None:
        """Close the files."""
        for reader in self._rails:
            reader.close()


class _RailReader:
    """The files of one rail, held open."""

    def __init__(self, rail: Rail) -> None:
        self.rail = rail
        self._volts = KernelFile(rail.volts)
        self._amps = KernelFile(rail.amps) if rail.amps else None
        self._watts = KernelFile(rail.watts) if rail.watts else None

    def power_w(self) -> float | None:
        if self._watts:
            number = self._watts.number()
            return None if number is None else number * self.rail.watts_unit_w
        assert self._amps is not None, "a rail has a file with current or one with power"
        millivolts, milliamperes = self._volts.number(), self._amps.number()
        return None if millivolts is None or milliamperes is None else millivolts * milliamperes * 1e-6

    def voltage_v(self) -> float:
        return (self._volts.number() or 0) * 1e-3

    def gone(self) -> bool:
        return all(file.error is not None and file.error.errno in _GONE for file in self._needed())

    def problem(self) -> str:
        file = next((file for file in self._needed() if file.error is not None), None)
        if file is None:
            return f"{self.rail.label} has no number in {self.rail.volts.parent}"
        return f"{self.rail.label}, {file.path}: {file.trouble}"

    def close(self) -> None:
        for file in (self._volts, self._amps, self._watts):
            if file:
                file.close()

    def _needed(self) -> list[KernelFile]:
        return [self._watts] if self._watts else [file for file in (self._volts, self._amps) if file]
