"""The hwmon chips of a machine: which of them measure power, what their channels are, and what their makers say of them.

Sources: Linux kernel, Documentation/hwmon/sysfs-interface.rst and the pages of the drivers beside it (ina2xx, ina238, ina3221,
pmbus-core, powerz, corsair-psu, ibmpowernv); the chips' data sheets by Texas Instruments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from devprof.paths import read_int, read_text, sysfs

__all__ = ["FACTS", "Chip", "Facts", "Form", "find_chips", "total_of"]

_FOLDER = re.compile(r"hwmon([0-9]{1,6})", re.ASCII)
_FILE = re.compile(r"(energy|power|curr)([0-9]{1,4})_(input|average)", re.ASCII)
# What a battery or a charger shows as a hwmon chip is the business of the meter "battery", which knows when it is valid.
_SUPPLIES = frozenset(("Battery", "Mains", "USB", "UPS", "Wireless"))


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a chip that its files do not say.

    Attributes:
        update_s: Seconds between its values as the kernel's driver sets it up; ``None`` where it is not known.
        gain_rel: Greatest error of the power's gain, that of its current plus that of its voltage; of the chip, not of a shunt.
        shunt_offset_v: Greatest error of the zero, in volts at the shunt.
        offset_a: The same of a chip that has its shunt inside, in amperes.
        power_step_vw: Step of its power value times the resistance of the shunt: watts times ohms.
        power_step_w: The same of a chip that has its shunt inside, in watts.
        current_step_v: Step of its current value, in volts at the shunt.
        numbers: The channels that measure; all where it is ``None``.
    """

    update_s: float | None = None
    gain_rel: float | None = None
    shunt_offset_v: float = 0.0
    offset_a: float = 0.0
    power_step_vw: float = 0.0
    power_step_w: float = 0.0
    current_step_v: float = 0.0
    numbers: range | None = None


_INA219 = Facts(update_s=1.1e-3, gain_rel=0.02, shunt_offset_v=100e-6, power_step_vw=200e-6)
_INA230 = Facts(gain_rel=0.01, shunt_offset_v=50e-6, power_step_vw=62.5e-6)

FACTS: Mapping[str, Facts] = {
    # 12 bits, 532 us for each of shunt and bus; the less accurate grade A, because nothing tells the grade.
    "ina219": _INA219,
    "ina220": _INA219,
    "ina226": Facts(gain_rel=0.002, shunt_offset_v=10e-6, power_step_vw=62.5e-6),
    "ina230": _INA230,
    "ina231": _INA230,
    # The data sheets of these two state power itself, as a fraction of full scale; 16 averages of 3 x 1052 us.
    "ina237": Facts(update_s=0.0505, gain_rel=0.016, shunt_offset_v=50e-6, power_step_vw=1e-6),
    "ina238": Facts(update_s=0.0505, gain_rel=0.007, shunt_offset_v=5e-6, power_step_vw=1e-6),
    "ina260": Facts(gain_rel=0.0025, offset_a=5e-3, power_step_w=10e-3),
    # Channels 4 to 7 are voltages of shunts and sums.
    "ina3221": Facts(gain_rel=0.005, shunt_offset_v=80e-6, current_step_v=40e-6, numbers=range(1, 4)),
    # Its second counter adds up a part of what the first does, chosen when it is set up.
    "ltc2947": Facts(numbers=range(1, 2)),
    # Registers of the processor, as RAPL's.
    "amd_energy": Facts(update_s=1e-3),
}
"""Figures of the data sheets at 25 degrees Celsius, greatest ones, by the name of the chip."""

# Labels of channels that contain the chip's others, most particular first; parts of them are the rest.
_TOTALS = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        r"pin[0-9]*",  # PMBus: what a converter takes in; "pout" is what it gives out, "pin1.2" a phase of "pin1"
        r"pout[0-9]*",  # PMBus without a measured input
        r"esocket[0-9]+",  # amd_energy: a socket contains its "Ecore"s
        r"power total",  # corsair-psu: contains "power +12v" and others
        r"system",  # ibmpowernv: contains processors and memory
        r"card",  # xe: a graphics card contains its "pkg"
        r"vdd_in|pom_5v_in",  # NVIDIA's modules: the input of all rails
    )
)


@dataclass(frozen=True, slots=True)
class Form:
    """One way to read a channel of a chip.

    Attributes:
        key: Its name, such as ``power1``; of a voltage times a current that of the current.
        kind: ``energy`` (microjoules), ``power`` (microwatts) or ``product`` (millivolts times milliamperes).
        number: Number of the channel.
        files: The file, or the files of voltage and current.
        label: What the driver calls it; ``None`` without a label.
        off: Whether it is switched off, or not connected.
    """

    key: str
    kind: Literal["energy", "power", "product"]
    number: int
    files: tuple[Path, ...]
    label: str | None = None
    off: bool = False


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip that measures power.

    Attributes:
        name: What its driver calls it.
        address: Where it is, such as ``1-0040`` on an I2C bus.
        folder: Its files. The path contains the address, so that it never becomes another chip's when numbers change.
        forms: All ways to read its channels.
        spelling: What follows ``--meter hwmon:`` to mean this chip.
    """

    name: str
    address: str
    folder: Path
    forms: tuple[Form, ...]
    spelling: str = field(default="")

    @property
    def defaults(self) -> list[Form]:
        """One form per channel: energy if the chip counts it, else power; voltage times current if it has neither."""
        best: dict[int, Form] = {}
        for form in self.forms:
            if form.number not in best or (best[form.number].off and not form.off):
                best[form.number] = form
        stated = [form for form in best.values() if form.kind != "product"]
        return stated or list(best.values())

    def form(self, wanted: str) -> Form | None:
        """The form of a name such as ``power1`` or of a label; the default one where several have the label."""
        ordered = [*self.defaults, *self.forms]
        named = [form for form in ordered if form.key == wanted]
        labelled = [form for form in ordered if form.label is not None and form.label.lower() == wanted.lower()]
        return next(iter(named + labelled), None)

    def update_s(self, form: Form) -> float | None:
        """Seconds between new values of a channel; ``None`` where neither the driver nor a data sheet says."""
        if form.files[0].name.endswith("_average"):
            interval_ms = read_int(self.folder / f"{form.key}_average_interval")
        else:
            interval_ms = read_int(self.folder / "update_interval")
        if interval_ms is not None and 0 < interval_ms < 10**7:
            return interval_ms / 1e3
        return FACTS.get(self.name, Facts()).update_s

    def shunt_ohm(self, form: Form) -> float | None:
        """The shunt's resistance as the kernel was told it; ``None`` where there is none to tell."""
        for name in ("shunt_resistor", f"shunt{form.number}_resistor"):
            micro = read_int(self.folder / name)
            if micro is not None and 0 < micro < 10**12:
                return micro / 1e6
        return None

    def volts(self, form: Form) -> float:
        """The present voltage of a channel; 0 where it cannot be read."""
        path = form.files[0] if form.kind == "product" else self.folder / f"in{form.number}_input"
        milli = read_int(path)
        return milli / 1e3 if milli is not None and 0 < milli < 10**7 else 0.0


def find_chips() -> list[Chip]:
    """The chips that measure energy, power, or voltage and current of one thing, in the order of their names."""
    found: list[Chip] = []
    for folder in sorted(sysfs("class", "hwmon").glob("hwmon*"), key=lambda path: (len(path.name), path.name)):
        if _FOLDER.fullmatch(folder.name) is None or read_text(folder / "device" / "type") in _SUPPLIES:
            continue
        # Drivers of old kernels keep their files with the device.
        base = next((base for base in (folder, folder / "device") if (base / "name").exists()), folder)
        name = read_text(base / "name")
        real = base.resolve()
        forms = _forms(name or "", real)
        if name and forms:
            found.append(Chip(name, _address(folder), real, forms))
    found.sort(key=lambda chip: (chip.name, chip.address))
    names = [chip.name for chip in found]
    return [_spelt(chip, names.count(chip.name) > 1) for chip in found]


def _spelt(chip: Chip, ambiguous: bool) -> Chip:
    spelling = f"{chip.name}@{chip.address}" if ambiguous else chip.name
    return Chip(chip.name, chip.address, chip.folder, chip.forms, spelling)


def _address(folder: Path) -> str:
    device = folder / "device"
    if device.is_symlink():
        return device.resolve().name
    parents = folder.resolve().parents
    # Without a link to the device: .../1-0040/hwmon/hwmon3. The number is the last resort, it may differ at the next start.
    return parents[1].name if folder.is_symlink() and parents[0].name == "hwmon" else folder.name


def _forms(name: str, folder: Path) -> tuple[Form, ...]:
    """Energy before power before products, each in the order of their numbers."""
    try:
        files = {path.name for path in folder.iterdir()}
    except OSError:
        return ()
    found: dict[str, Form] = {}
    numbers = FACTS.get(name, Facts()).numbers
    for match in sorted(filter(None, map(_FILE.fullmatch, files)), key=lambda match: match[3] != "input"):
        kind, number = match[1], int(match[2])
        if numbers is not None and number not in numbers:
            continue
        if kind == "curr":
            form = _product(folder, files, number) if match[3] == "input" else None
        else:
            form = _stated(folder, "energy" if kind == "energy" else "power", number, match[0])
        if form is not None:
            found.setdefault(form.key, form)
    order = ("energy", "power", "product")
    return tuple(sorted(found.values(), key=lambda form: (order.index(form.kind), form.number)))


def _stated(folder: Path, kind: Literal["energy", "power"], number: int, file: str) -> Form:
    key = f"{kind}{number}"
    label = read_text(folder / f"{key}_label")
    return Form(key, kind, number, (folder / file,), label, _is_off(folder, key, label))


def _product(folder: Path, files: set[str], number: int) -> Form | None:
    """Current times its voltage: the one whose label differs by the first letter only (vin, iin), else that of its number."""
    key = f"curr{number}"
    label = read_text(folder / f"{key}_label")
    volts = {match: read_text(folder / f"{match}_label") for match in _voltages(files)}
    thing = label[1:].lower() if label and label[0] in "iI" else None
    voltage = next(
        (name for name, text in volts.items() if thing and text and text.lower() == f"v{thing}"),
        None,
    )
    if voltage is None:
        voltage = f"in{number}"
        text = volts.get(voltage)
        if voltage not in volts or (thing is not None and text is not None and text[0] in "vV"):
            return None
        label = label or text
    off = _is_off(folder, key, label) or _is_off(folder, voltage, label)
    return Form(key, "product", number, (folder / f"{voltage}_input", folder / f"{key}_input"), label, off)


def _voltages(files: set[str]) -> list[str]:
    return sorted(name.removesuffix("_input") for name in files if re.fullmatch(r"in[0-9]{1,4}_input", name))


def _is_off(folder: Path, key: str, label: str | None) -> bool:
    return read_int(folder / f"{key}_enable") == 0 or (label or "").upper() == "NC"


def total_of(forms: Sequence[Form]) -> list[Form] | None:
    """The channels that together contain all others of a chip; ``None`` where no label says so."""
    for pattern in _TOTALS:
        found = [form for form in forms if form.label is not None and pattern.fullmatch(form.label)]
        if found:
            return found if len(found) < len(forms) else None
    return None
