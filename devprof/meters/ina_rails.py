"""Where the kernel keeps the power rails of a Jetson, under all its releases, and how fine and how exact their sensors are.

Sources: Linux kernel, Documentation/hwmon/{ina3221,ina238,sysfs-interface}.rst (millivolts, milliamperes, microwatts, shunts in
microohms, ``update_interval`` in milliseconds); NVIDIA's driver ``ina3221x`` of JetPack 4, which speaks IIO instead and numbers
its channels from 0; data sheets SBOS576 (INA3221) and SBOSA20 (INA238) of Texas Instruments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from devprof.machine import compatible
from devprof.meters.base import Channel
from devprof.meters.rails import THOR
from devprof.paths import read_int, read_text, sysfs

__all__ = ["Figures", "Rail", "find_rails", "rail_channel"]

_PLACES = (
    ("ina3221x", "*/iio:device*"),
    ("ina3221", "*/hwmon/hwmon*"),
    ("ina238", "*/hwmon/hwmon*"),
)
_ADDRESS = re.compile(r"\d{1,4}-[0-9a-f]{4}", re.ASCII)

# INA3221: the time of one conversion and how many are averaged, by three bits each of its configuration register (data sheet).
_CONVERSION_S = (140e-6, 204e-6, 332e-6, 588e-6, 1.1e-3, 2.116e-3, 4.156e-3, 8.244e-3)
_AVERAGED = (1, 4, 16, 64, 128, 256, 512, 1024)
# What the chip does after power-on, which mainline's driver keeps: three channels, 1.1 ms for each voltage, no averaging.
_POWER_ON_CONFIG = 0x7127
# What NVIDIA's device trees of JetPack 4 ask for: three channels, 140 us for each voltage, 512 averaged. Used if the setting
# cannot be read, because a slow source that is taken for a fast one makes error bounds too narrow.
_JETPACK_4_CONFIG = 0x7C07
# INA238 as the kernel sets it: three quantities, 1.052 ms each, 16 averaged.
_INA238_UPDATE_S = 3 * 1.052e-3 * 16


@dataclass(frozen=True, slots=True)
class Figures:
    """What a chip's data sheet states.

    Attributes:
        step_v: Smallest step of the voltage over the shunt.
        offset_v: Largest error of its zero.
        full_scale_v: Largest voltage over the shunt.
        most_v: Largest voltage of a rail.
        gain_rel: Largest error of the gain of power, with 1 % for the shunt, whose tolerance no board's papers state.
    """

    step_v: float
    offset_v: float
    full_scale_v: float
    most_v: float
    gain_rel: float


# INA3221: gain 0.25 % each for current and voltage; INA238: 0.7 % for power.
_CHIPS = {
    "INA3221": Figures(step_v=40e-6, offset_v=80e-6, full_scale_v=0.1638, most_v=26.0, gain_rel=0.015),
    "INA238": Figures(step_v=5e-6, offset_v=5e-6, full_scale_v=0.16384, most_v=85.0, gain_rel=0.017),
}


@dataclass(frozen=True, slots=True)
class Rail:
    """One power rail and the files in which its values stand.

    Attributes:
        label: Its name; where sensors share one, each has its address too.
        chip: ``INA3221`` or ``INA238``.
        address: Bus and address of the sensor, such as ``1-0040``.
        volts: The file with millivolts.
        amps: The file with milliamperes; ``None`` without one.
        watts: The file with power; ``None`` where power is the product of the other two.
        watts_unit_w: Watts of one step of ``watts``.
        shunt_ohm: The shunt; ``None`` where it cannot be read.
        update_s: Seconds between new values.
    """

    label: str
    chip: str
    address: str
    volts: Path
    amps: Path | None
    watts: Path | None
    watts_unit_w: float
    shunt_ohm: float | None
    update_s: float


def rail_channel(rail: Rail, voltage_v: float, *, headline: bool, update_s: float | None = None) -> Channel:
    """What a rail is as a channel: step and zero of its current, times its voltage.

    Args:
        rail: The rail.
        voltage_v: Its voltage, which hardly changes.
        headline: Whether it is a part of the total.
        update_s: Seconds between new values, if they come slower than from the sensor.
    """
    figures = _CHIPS[rail.chip]
    channel = Channel(rail.label, "sensor", headline, update_s=update_s or rail.update_s, gain_rel=figures.gain_rel)
    if rail.shunt_ohm is None:
        return channel
    return replace(
        channel,
        quantum=figures.step_v / rail.shunt_ohm * voltage_v,
        offset_w=figures.offset_v / rail.shunt_ohm * voltage_v,
        most_w=figures.full_scale_v / rail.shunt_ohm * figures.most_v,
    )


def find_rails() -> list[Rail]:
    """All power rails with a sensor here, in the order of their sensors' addresses; empty on other machines."""
    names = compatible()
    found: list[Rail] = []
    for folder in _folders():
        found += _iio_rails(folder) if folder.name.startswith("iio:") else _hwmon_rails(folder, names)
    labels = [rail.label for rail in found]
    for label in {label for label in labels if labels.count(label) > 1}:
        same = [index for index, rail in enumerate(found) if rail.label == label]
        for count, index in enumerate(same, 1):
            found[index] = replace(found[index], label=f"{label}@{found[index].address}.{count}")
    return found


def _folders() -> list[Path]:
    """The folders of the sensors, each once, whether its driver or its class led to it."""
    drivers = sysfs("bus", "i2c", "drivers")
    folders = [folder for driver, pattern in _PLACES for folder in (drivers / driver).glob(pattern)]
    by_class = sysfs("class", "hwmon").glob("hwmon*")
    folders += [folder for folder in by_class if read_text(folder / "name") in {"ina3221", "ina238"}]
    unique = {folder.resolve(): folder for folder in reversed(folders)}
    return sorted(unique.values(), key=lambda folder: (_address(folder), folder.name))


def _address(folder: Path) -> str:
    """Bus and address of the chip: the nearest folder above that is called so, else the folder's own name."""
    paths = (folder, folder.resolve(), (folder / "device").resolve())
    names = (part for path in paths for part in reversed(path.parts))
    return next((name for name in names if _ADDRESS.fullmatch(name)), folder.name)


def _label(path: Path) -> str | None:
    """A rail's label; ``None`` if there is none, or if the channel is not connected ("NC")."""
    text = " ".join((read_text(path) or "").split())
    return text if text and text != "NC" and len(text) <= 64 and text.isprintable() else None


def _interval_s(config: int) -> float:
    """Seconds between new values of an INA3221 with this content of its configuration register."""
    channels = (config >> 12 & 7).bit_count() or 3
    return channels * _AVERAGED[config >> 9 & 7] * (_CONVERSION_S[config >> 6 & 7] + _CONVERSION_S[config >> 3 & 7])


def _cell(path: Path) -> int | None:
    """A number of the device tree: four bytes, the highest first."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return int.from_bytes(content, "big") if len(content) == 4 else None


def _present(path: Path) -> Path | None:
    return path if path.exists() else None


def _iio_rails(folder: Path) -> Iterator[Rail]:
    node = folder.parent / "of_node"
    config = _cell(node / "ti,continuous-config") or _JETPACK_4_CONFIG
    for number in range(3):
        label = _label(folder / f"rail_name_{number}")
        amps, watts = (_present(folder / f"in_{quantity}{number}_input") for quantity in ("current", "power"))
        if label is None or (amps is None and watts is None):
            continue
        shunt_mohm = _cell(node / f"channel@{number}" / "ti,shunt-resistor-mohm")
        yield Rail(
            label=label,
            chip="INA3221",
            address=_address(folder),
            volts=folder / f"in_voltage{number}_input",
            amps=amps,
            watts=watts,
            watts_unit_w=1e-3,
            shunt_ohm=shunt_mohm / 1e3 if shunt_mohm else None,
            update_s=_interval_s(config),
        )


def _hwmon_rails(folder: Path, names: tuple[str, ...]) -> Iterator[Rail]:
    if read_text(folder / "name") == "ina238":
        yield from _ina238_rail(folder, names)
        return
    update_s = _update_s(folder, _interval_s(_POWER_ON_CONFIG))
    # Channel 7 has a label too, but it is the sum of the voltages over the shunts.
    for number in (1, 2, 3):
        label = _label(folder / f"in{number}_label")
        amps = _present(folder / f"curr{number}_input")
        if label is None or amps is None or read_int(folder / f"in{number}_enable") == 0:
            continue
        yield Rail(
            label=label,
            chip="INA3221",
            address=_address(folder),
            volts=folder / f"in{number}_input",
            amps=amps,
            watts=None,
            watts_unit_w=1e-6,
            shunt_ohm=_shunt_ohm(folder / f"shunt{number}_resistor"),
            update_s=update_s,
        )


def _ina238_rail(folder: Path, names: tuple[str, ...]) -> Iterator[Rail]:
    """The rail of an INA238. Where it has no label, it is the power input on a Thor; elsewhere its address names it."""
    amps, watts = _present(folder / "curr1_input"), _present(folder / "power1_input")
    if amps is None and watts is None:
        return
    address = _address(folder)
    yield Rail(
        label=_label(folder / "label") or ("VIN" if THOR in names else f"ina238@{address}"),
        chip="INA238",
        address=address,
        volts=folder / "in1_input",
        amps=amps,
        watts=watts,
        watts_unit_w=1e-6,
        shunt_ohm=_shunt_ohm(folder / "shunt_resistor"),
        update_s=_update_s(folder, _INA238_UPDATE_S),
    )


def _shunt_ohm(path: Path) -> float | None:
    micro = read_int(path)
    return micro / 1e6 if micro and 0 < micro < 10**9 else None


def _update_s(folder: Path, otherwise_s: float) -> float:
    """Seconds between new values: ``update_interval``, which has averaging in it, else the default times ``samples``."""
    interval_ms = read_int(folder / "update_interval")
    if interval_ms is not None and 0 <= interval_ms <= 600_000:
        # The kernel rounds to whole milliseconds.
        return max(interval_ms, 0.5) / 1e3
    samples = read_int(folder / "samples")
    return otherwise_s * (samples if samples in _AVERAGED else 1)
