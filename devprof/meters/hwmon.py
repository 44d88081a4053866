"""Power sensors and energy counters of the kernel's hwmon drivers: INA chips, power supplies, graphics cards, processors.

Which part of the machine a chip measures is a matter of its wiring: the total is what the chip sees, no more.

Sources: Linux kernel, Documentation/hwmon/sysfs-interface.rst (microjoules, microwatts, millivolts, milliamperes).
"""

from __future__ import annotations

from collections.abc import Sequence

from devprof.errors import closest
from devprof.meters.base import (
    MAX_RATE_HZ,
    Channel,
    Meter,
    MeterError,
    MeterInfo,
    Reading,
    SourceState,
    WrappingCounter,
)
from devprof.meters.hwmonchips import FACTS, Chip, Facts, Form, find_chips, total_of
from devprof.meters.kernelfile import FileMeter, KernelFile
from devprof.paths import sysfs

__all__ = ["open_meter", "probe"]

_TITLE = "power sensor of the kernel (hwmon)"
# Drivers that say nothing keep a value for a second at most, and most do.
_UNKNOWN_UPDATE_S = 1.0
_MICRO = 1e-6


def probe() -> SourceState:
    """Whether one chip can be read here without being chosen."""
    try:
        chip, _ = _chosen("")
        forms = [form for form in chip.defaults if not form.off]
        for file in (KernelFile(path) for form in forms for path in form.files):
            readable = file.number() is not None
            file.close()
            if not readable:
                raise _unreadable(chip, file)
    except MeterError as error:
        return SourceState("hwmon", _TITLE, readable=False, detail=error.reason, remedy=error.remedy)
    return SourceState("hwmon", _TITLE, readable=True, detail=_detail(chip))


def open_meter(argument: str) -> Meter:
    """Open a chip.

    Args:
        argument: ``NAME``, ``NAME@ADDRESS`` where several have the name, and after a slash the channel by its name or label if
            it is to be one alone: ``ina226@1-0040/power1``. Empty where the machine has one chip that measures power.

    Raises:
        MeterError: If there is no such chip or channel, if it must be chosen, or if a part of the total cannot be read.
    """
    chip, wanted = _chosen(argument)
    notes: list[str] = []
    forms, headline, rule = _channels(chip, wanted, notes)
    sources: list[_Source] = []
    channels: list[Channel] = []
    names = _domains(forms)
    for form in forms:
        files = [KernelFile(path) for path in form.files]
        bad = next((file for file in files if file.number() is None), None)
        if bad is None:
            sources.append(_source(names[form], form, files))
            channels.append(_channel(names[form], chip, form, form in headline))
            continue
        for held in (*files, *sources):
            held.close()
        raise _unreadable(chip, bad)
    period_s = max(1 / MAX_RATE_HZ, min(channel.update_s for channel in channels) / 2)
    info = MeterInfo(
        source="hwmon",
        rule=rule,
        channels=tuple(channels),
        period_s=period_s,
        detail=_detail(chip),
        notes=(*_notes(chip, channels, period_s, forms), *notes),
    )
    return FileMeter(info, sources)


def _detail(chip: Chip) -> str:
    return f"{chip.name} at {chip.address}"


def _chosen(argument: str) -> tuple[Chip, str]:
    """The chip that the argument means, and the channel or nothing."""
    spelling, _, wanted = argument.partition("/")
    name, _, address = spelling.partition("@")
    chips = find_chips()
    if not chips:
        names = sysfs("class", "hwmon", "hwmon*", "name")
        raise MeterError("no hwmon chip here measures power", f"use another meter; the chips there are: grep . {names}")
    known = ", ".join(f"--meter hwmon:{chip.spelling}" for chip in chips)
    found = [chip for chip in chips if not spelling or (chip.name == name and address in ("", chip.address))]
    if not found:
        near = closest(spelling, [chip.spelling for chip in chips], 1)
        raise MeterError(
            f"no hwmon chip {spelling!r} measures power", f"closest: {near[0]}" if near else f"try {known}"
        )
    if len(found) > 1:
        choices = ", ".join(f"--meter hwmon:{chip.spelling}" for chip in found)
        raise MeterError(f"{len(found)} hwmon chips measure power, and which is meant is not said", f"one of {choices}")
    return found[0], wanted.strip()


def _channels(chip: Chip, wanted: str, notes: list[str]) -> tuple[list[Form], list[Form], str]:
    """What to read, what of it is the total, and the name of the rule."""
    if wanted:
        form = chip.form(wanted)
        if form is None:
            names = ", ".join(
                other.key if other.label is None else f"{other.key} ({other.label})" for other in chip.forms
            )
            raise MeterError(f"{_detail(chip)} has no channel {wanted!r}", f"it has {names}")
        return [form], [form], "hwmon-one/1"
    forms = [form for form in chip.defaults if not form.off]
    off = [form for form in chip.defaults if form.off]
    if not forms:
        switch = off[0].files[0].with_name(off[0].files[0].name.replace("_input", "_enable"))
        raise MeterError(
            f"all channels of {_detail(chip)} are switched off or not connected",
            f"echo 1 | sudo tee {switch}" if switch.exists() else None,
        )
    if off:
        notes.append(f"Switched off or not connected: {', '.join(form.label or form.key for form in off)}.")
    if len(forms) == 1:
        return forms, forms, "hwmon-one/1"
    total = total_of(forms)
    spelling = f"--meter hwmon:{chip.spelling}/{forms[0].key}"
    if total is None:
        notes.append(f"The total is the sum of all {len(forms)} channels; one alone is chosen as in {spelling}.")
        return forms, forms, "hwmon-sum/1"
    names = " + ".join(form.label or form.key for form in total)
    notes.append(f"The total is {names}, by its label; the other channels are parts of it, or what becomes of it.")
    # A server's cores are a hundred counters: what is a part of the total is kept only where it is cheap.
    parts = [form for form in forms if form not in total]
    return (total + parts if len(parts) <= 8 else total), total, "hwmon-total/1"


def _domains(forms: Sequence[Form]) -> dict[Form, str]:
    labels = [form.label for form in forms]
    return {form: form.label if form.label and labels.count(form.label) == 1 else form.key for form in forms}


def _unreadable(chip: Chip, file: KernelFile) -> MeterError:
    if file.forbidden:
        return MeterError(
            f"{file.path} may not be read",
            f"sudo sh -c 'chgrp \"$SUDO_GID\" {file.path} && chmod g+r {file.path}' (until the next start)",
        )
    others = ", ".join(
        f"--meter hwmon:{chip.spelling}/{form.key}" for form in chip.defaults if file.path not in form.files
    )
    return MeterError(
        f"{file.path} cannot be read ({file.trouble}), and there is no total without it",
        f"choose another channel: {others}" if others else "load the chip's driver again",
    )


def _channel(domain: str, chip: Chip, form: Form, headline: bool) -> Channel:
    facts = FACTS.get(chip.name, Facts())
    update_s = chip.update_s(form)
    volts, ohm = chip.volts(form), chip.shunt_ohm(form)
    offset_a = facts.offset_a + (facts.shunt_offset_v / ohm if ohm else 0.0)
    step_w = _MICRO
    if form.kind == "power":
        step_w = max(_MICRO, facts.power_step_w, facts.power_step_vw / ohm if ohm else 0.0)
    elif form.kind == "product":
        step_w = volts * max(1e-3, facts.current_step_v / ohm if ohm else 0.0)
    return Channel(
        domain,
        "counter" if form.kind == "energy" else "sensor",
        headline=headline,
        update_s=_UNKNOWN_UPDATE_S if update_s is None else update_s,
        quantum=step_w,
        gain_rel=facts.gain_rel,
        offset_w=offset_a * volts,
    )


def _notes(chip: Chip, channels: Sequence[Channel], period_s: float, forms: Sequence[Form]) -> list[str]:
    notes = [f"What {_detail(chip)} measures is a matter of its wiring: the total is what it sees, no more."]
    if any(chip.update_s(form) is None for form in forms):
        notes.append(f"How often its values are new is not stated; {_UNKNOWN_UPDATE_S:g} s is assumed.")
    fastest_s = min(channel.update_s for channel in channels)
    if fastest_s < period_s / 2 and any(channel.kind == "sensor" for channel in channels):
        notes.append(
            f"A value covers {fastest_s * 1e3:g} ms and one is read every {period_s * 1e3:g} ms: what is shorter is missed."
        )
    if any(channel.gain_rel is not None for channel in channels) and not FACTS[chip.name].power_step_w:
        notes.append("The stated accuracy is the chip's; that of its shunt resistor comes on top.")
    return notes


class _Counter:
    """Joules of a channel that counts them. Where such counters end is not stated, so a fall is a break."""

    def __init__(self, domain: str, file: KernelFile) -> None:
        self.domain = domain
        self._file = file
        self._joules = WrappingCounter(_MICRO, None)

    def sample(self) -> Reading | None:
        t_ns, raw = self._file.stamped()
        if raw is None or raw < 0:
            self._joules.lost()
            return None if self._file.gone else Reading(t_ns, self.domain)
        return Reading(t_ns, self.domain, energy_j=self._joules.add(raw))

    def close(self) -> None:
        self._file.close()


class _Sensor:
    """Watts of a channel: a power, or a voltage times a current."""

    def __init__(self, domain: str, files: Sequence[KernelFile]) -> None:
        self.domain = domain
        self._files = files

    def sample(self) -> Reading | None:
        product, stamps = _MICRO, []
        for file in self._files:
            t_ns, raw = file.stamped()
            if raw is None:
                return None if file.gone else Reading(t_ns, self.domain)
            product *= raw
            stamps.append(t_ns)
        return Reading(sum(stamps) // len(stamps), self.domain, power_w=product)

    def close(self) -> None:
        for file in self._files:
            file.close()


_Source = _Counter | _Sensor


def _source(domain: str, form: Form, files: list[KernelFile]) -> _Source:
    return _Counter(domain, files[0]) if form.kind == "energy" else _Sensor(domain, files)
