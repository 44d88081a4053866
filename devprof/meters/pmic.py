"""Raspberry Pi 5: the currents and voltages of the rails that its power management chip feeds, from ``vcgencmd``.

``vcgencmd pmic_read_adc`` (Raspberry Pi documentation, "vcgencmd") names twelve rails with a current and a voltage, and two
voltages without a current (``EXT5V_V``, ``BATT_V``). Their sum lies behind the chip's converters: their loss, fans, and what
USB and HATs take at 5 V are not in it. Older boards cannot measure a current at all.

A community fit of an external meter against the sum, published with the script RPi5-power (J. Fikar), says 1.1451 times the
sum plus 0.5879 W. It comes from one board, so it is off unless asked for, and a rule of its own.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from devprof.machine import compatible, device_tree
from devprof.meters.base import Channel, MeterError, MeterInfo, MeterLostError, Reading, SourceState, now_ns
from devprof.paths import system

__all__ = ["FIT", "PmicMeter", "Rail", "fitted_w", "open_meter", "parse_adc", "probe"]

FIT = (1.1451, 0.5879)
"""Factor and watts of the community's fit."""

_NAME = "pmic"
_TITLE = "Raspberry Pi 5 (power management chip)"
_SUM, _FITTED = "pmic_sum", "pmic_fit"
# Each reading starts a program that keeps a core busy for some milliseconds: more often would be seen in what is measured.
_PERIOD_S = 0.1
_TIMEOUT_S = 0.5
# No Pi 5 takes more than its 5 V, 5 A supply gives.
_MOST_W = 50.0
# Longer numbers than any rail can have are no answer.
_LINE = re.compile(
    r"^[ \t]*(\w{1,40})_([AV])[ \t]+(current|volt)[ \t]*(?:\([ \t]*\d{1,4}[ \t]*\))?[ \t]*=[ \t]*"
    r"(-?\d{1,6}(?:\.\d{0,20})?)[ \t]*([AV]?)[ \t]*\r?$",
    re.ASCII | re.MULTILINE,
)
_UNITS = {"current": "A", "volt": "V"}
_INSTALL = "sudo apt install raspi-utils (Raspberry Pi OS), sudo apt install libraspberrypi-bin (Ubuntu)"
_PERMIT = "sudo usermod -aG video $USER, and log in again"


@dataclass(frozen=True, slots=True)
class Rail:
    """A rail of the chip; a part that it did not report is ``None``."""

    current_a: float | None = None
    voltage_v: float | None = None

    @property
    def power_w(self) -> float | None:
        """Watts; ``None`` where a part is missing."""
        if self.current_a is None or self.voltage_v is None:
            return None
        return self.current_a * self.voltage_v


def parse_adc(text: str) -> dict[str, Rail]:
    """The rails in an answer of ``vcgencmd pmic_read_adc``; lines that say something else are passed over.

    Firmware writes ``VDD_CORE_A current(7)=1.23400000A`` and ``VDD_CORE_V volt(15)=0.72000000V``; the numbers in brackets and
    the units may be missing, and blanks may be anywhere around them.
    """
    found: dict[str, dict[str, float]] = {}
    for name, letter, kind, number, unit in _LINE.findall(text):
        if letter == _UNITS[kind] and unit in {"", letter}:
            found.setdefault(name, {})[letter] = float(number)
    return {name: Rail(parts.get("A"), parts.get("V")) for name, parts in found.items()}


def fitted_w(sum_w: float) -> float:
    """Watts at the 5 V input that the community's fit expects for a sum of the rails."""
    factor, constant_w = FIT
    return factor * sum_w + constant_w


class PmicMeter:
    """The open chip: every rail with current and voltage, their sum, and where asked for, what the fit makes of it."""

    def __init__(self, tool: str, *, calibrated: bool, clock: Callable[[], int]) -> None:
        """Ask once, which tells the rails and how long an answer takes.

        Raises:
            MeterError: If there is no answer, or one without rails.
        """
        self._tool = tool
        self._calibrated = calibrated
        self._clock = clock
        before = clock()
        answer = _asked(tool, at_opening=True)
        cost_s = (clock() - before) / 1e9
        self._rails = tuple(_powers(answer))
        if not self._rails:
            raise _failed(f"no rail with current and voltage in its answer {answer.strip()[:100]!r}")
        headline = _FITTED if calibrated else _SUM
        computed = (_SUM, _FITTED) if calibrated else (_SUM,)
        self.info = MeterInfo(
            source=_NAME,
            rule="pi5-pmic-fit/1" if calibrated else "pi5-pmic-sum/1",
            channels=tuple(
                Channel(domain, "sensor", headline=domain == headline, most_w=_MOST_W)
                for domain in (*self._rails, *computed)
            ),
            period_s=_PERIOD_S,
            detail=f"{device_tree('model') or 'Raspberry Pi 5'}, vcgencmd pmic_read_adc",
            notes=_notes(len(self._rails), cost_s, calibrated=calibrated),
        )

    def read(self) -> Sequence[Reading]:
        """Watts of the rails and of their sum; a rail that is missing is a break, and so is then the sum.

        Raises:
            MeterLostError: If the tool is gone.
        """
        before = self._clock()
        found = _powers(_asked(self._tool))
        # The chip is read somewhere between the start and the end of the tool.
        t_ns = (before + self._clock()) // 2
        powers = {rail: found.get(rail) for rail in self._rails}
        known = [power_w for power_w in powers.values() if power_w is not None]
        powers[_SUM] = math.fsum(known) if len(known) == len(self._rails) else None
        if self._calibrated:
            total_w = powers[_SUM]
            powers[_FITTED] = None if total_w is None else fitted_w(total_w)
        return [Reading(t_ns, domain, power_w=power_w) for domain, power_w in powers.items()]

    def close(self) -> None:
        """Nothing is held between two readings."""


def probe() -> SourceState:
    """Whether this is a Pi 5 with the tool and the right to use it; the tool is not started."""
    try:
        tool = _tool()
    except MeterError as error:
        return SourceState(_NAME, _TITLE, False, error.reason, error.remedy)
    if _forbidden():
        return SourceState(_NAME, _TITLE, False, "/dev/vcio is not readable", _PERMIT)
    return SourceState(_NAME, _TITLE, True, f"{tool} pmic_read_adc")


def open_meter(argument: str, *, clock: Callable[[], int] = now_ns) -> PmicMeter:
    """Open the power management chip of a Pi 5.

    Args:
        argument: ``calibrated`` for the community's fit as the total; empty for the plain sum of the rails.
        clock: Nanoseconds now.

    Raises:
        MeterError: If this is no Pi 5, or its tool does not answer.
    """
    if argument not in {"", "calibrated"}:
        raise MeterError(f"the meter pmic knows no {argument!r}", "--meter pmic or --meter pmic:calibrated")
    return PmicMeter(_tool(), calibrated=argument == "calibrated", clock=clock)


def _tool() -> str:
    """Where the tool is.

    Raises:
        MeterError: If there is none, or this is no Pi 5.
    """
    # raspberrypi,5-model-b, raspberrypi,5-compute-module, raspberrypi,500 (Linux kernel, bcm2712-rpi-*.dts).
    if not any(name.startswith("raspberrypi,5") for name in compatible()):
        if any(name.startswith("raspberrypi,") for name in compatible()):
            raise MeterError("Raspberry Pis before the Pi 5 cannot measure their current", "use an external meter")
        raise MeterError("not a Raspberry Pi 5")
    tool = shutil.which("vcgencmd")
    if tool is None:
        raise MeterError("vcgencmd is not on PATH", _INSTALL)
    return tool


def _forbidden() -> bool:
    device = system("dev", "vcio")
    return device.exists() and not os.access(device, os.R_OK)


def _asked(tool: str, *, at_opening: bool = False) -> str:
    """What the tool says; empty where it fails or takes too long.

    Raises:
        MeterError: At opening, if it fails.
        MeterLostError: If it is not there any more.
    """
    try:
        done = subprocess.run(
            [tool, "pmic_read_adc"], check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S
        )
        output, said = (part.decode(errors="replace") for part in (done.stdout, done.stderr))
        failure = "" if done.returncode == 0 else f"{output} {said}".strip() or f"exit status {done.returncode}"
    except FileNotFoundError as error:
        raise MeterLostError(f"{tool} is gone", _INSTALL) from error
    except subprocess.TimeoutExpired:
        output, failure = "", f"no answer within {_TIMEOUT_S:g} s"
    except OSError as error:
        output, failure = "", str(error)
    if failure and at_opening:
        raise _failed(failure)
    return "" if failure else output


def _failed(failure: str) -> MeterError:
    """Why the tool did not answer, and what helps."""
    device = system("dev", "vcio")
    if _forbidden():
        remedy = _PERMIT
    elif not device.exists():
        remedy = "the device /dev/vcio is absent: start the container with --device /dev/vcio"
    else:
        remedy = "sudo apt full-upgrade, sudo rpi-eeprom-update -a, and reboot"
    return MeterError(f"vcgencmd pmic_read_adc failed ({failure[:200]})", remedy)


def _powers(text: str) -> Mapping[str, float]:
    rails = parse_adc(text)
    return {name: power_w for name, rail in rails.items() if (power_w := rail.power_w) is not None}


def _notes(rails: int, cost_s: float, *, calibrated: bool) -> tuple[str, ...]:
    unseen = "the converters' loss, fans, and what USB and HATs take at 5 V"
    scope = f"the sum of {rails} rails does not see {unseen}"
    if calibrated:
        factor, constant_w = FIT
        scope += f"; {factor:g} times it plus {constant_w:g} W is a community's fit of one board, meant to cover them"
    cost = f"a reading starts a program: {cost_s * 1e3:.1f} ms when opened, which disturbs what is measured"
    return scope, cost, "the maker states neither accuracy nor resolution of these values"
