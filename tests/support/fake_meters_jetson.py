"""Jetson boards as the kernel shows them, with known power, and the real service of jetson-stats on top of them.

``JetsonTree(folder, "agx-orin-jp6", power)`` writes the files, ``advance(t_s)`` makes them show the power of that moment, and
``energy_j(start_s, end_s)`` is what was really used. ``JtopService`` starts the service on a tree in a process of its own.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from devprof import paths

SCRIPT = Path(__file__).with_name("fake_jtop_service.py")


class Steps:
    """Power that steps: ``Steps((0, 5.0), (2, 9.0))`` is 5 W until 2 s, then 9 W."""

    def __init__(self, *steps):
        self.steps = [(0.0, steps[0][1]), *steps[1:]]

    def at(self, t_s):
        return next(watts for start, watts in reversed(self.steps) if start <= max(t_s, 0.0))

    def pieces(self, start_s, end_s):
        """(seconds, watts) of each piece of a span."""
        ends = [start for start, _ in self.steps[1:]] + [float("inf")]
        for (start, watts), end in zip(self.steps, ends, strict=True):
            seconds = min(end, end_s) - max(start, start_s)
            if seconds > 0:
                yield seconds, watts


@dataclass(frozen=True)
class Board:
    """A board: its names, and per sensor the labels of its channels.

    ``shares`` says which part of the total each rail shows; rails outside the total show a part of it besides.
    """

    compatible: tuple
    chips: dict
    shares: dict
    volts: dict = field(default_factory=dict)
    layout: str = "hwmon"
    shunt_micro_ohm: int = 5000
    total: tuple = ()
    config: int | None = None

    @property
    def chip(self):
        return self.compatible[-1].removeprefix("nvidia,")


_NX = {"1-0040": ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")}
_NX_SHARES = {"VDD_IN": 1.0, "VDD_CPU_GPU_CV": 0.4, "VDD_SOC": 0.25}

BOARDS = {
    "nano-jp4": Board(
        compatible=("nvidia,p3449-0000-b00+p3448-0000-b00", "nvidia,jetson-nano", "nvidia,tegra210"),
        chips={"6-0040": ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")},
        shares={"POM_5V_IN": 1.0, "POM_5V_GPU": 0.3, "POM_5V_CPU": 0.4},
        layout="iio",
        total=("POM_5V_IN",),
        config=0x7C07,
    ),
    "tx2-jp4": Board(
        compatible=("nvidia,quill", "nvidia,tegra186"),
        chips={
            "0-0040": ("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI"),
            "0-0041": ("VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"),
            "0-0042": ("VDD_MUX", "VDD_5V0_IO_SYS", "VDD_3V3_SYS"),
        },
        shares={"VDD_IN": 1.0, "VDD_SYS_CPU": 0.25, "VDD_SYS_GPU": 0.3, "VDD_SYS_SOC": 0.125, "VDD_MUX": 1.25},
        volts=dict.fromkeys(("VDD_IN", "VDD_SYS_CPU", "VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_MUX"), 19_000),
        layout="iio",
        shunt_micro_ohm=10_000,
        total=("VDD_IN",),
    ),
    "xavier-nx-jp5": Board(
        compatible=("nvidia,p3509-0000+p3668-0000", "nvidia,p3449-0000+p3668-0000", "nvidia,tegra194"),
        chips={"7-0040": ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")},
        shares=_NX_SHARES,
        total=("VDD_IN",),
    ),
    "agx-xavier-jp5": Board(
        compatible=("nvidia,p2972-0000", "nvidia,tegra194"),
        chips={"1-0040": ("GPU", "CPU", "SOC"), "1-0041": ("CV", "VDDRQ", "SYS5V")},
        shares={"GPU": 0.25, "CPU": 0.25, "SOC": 0.125, "CV": 0.0, "VDDRQ": 0.125, "SYS5V": 0.25},
        volts=dict.fromkeys(("GPU", "CPU", "SOC", "CV", "VDDRQ"), 19_000),
        total=("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
    ),
    "orin-nx-jp6": Board(
        compatible=("nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234"),
        chips=_NX,
        shares=_NX_SHARES,
        total=("VDD_IN",),
    ),
    "agx-orin-jp6": Board(
        compatible=("nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"),
        chips={"1-0040": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "1-0041": ("NC", "VDDQ_VDD2_1V8AO", "NC")},
        shares={"VDD_GPU_SOC": 0.5, "VDD_CPU_CV": 0.25, "VIN_SYS_5V0": 0.25, "VDDQ_VDD2_1V8AO": 0.05},
        volts={"VDD_GPU_SOC": 20_000, "VDD_CPU_CV": 20_000},
        shunt_micro_ohm=2000,
        total=("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ),
    "thor-jp7": Board(
        compatible=("nvidia,p4071-0000+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"),
        chips={"2-0040": ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), "2-0044": "ina238"},
        shares={"VIN": 1.0, "VDD_GPU": 0.4, "VDD_CPU_SOC_MSS": 0.3, "VIN_SYS_5V0": 0.1},
        volts={"VIN": 20_000},
        total=("VIN",),
    ),
}


class JetsonTree:
    """The files of a board below ``folder/sys``.

    Args:
        folder: Where.
        board: A key of ``BOARDS``, or a board.
        power: Steps of the board's total, in watts; constant if it is a number.
    """

    def __init__(self, folder, board, power=8.0):
        self.board = BOARDS[board] if isinstance(board, str) else board
        self.power = power if isinstance(power, Steps) else Steps((0, float(power)))
        self.sys = Path(folder) / "sys"
        self.i2c = self.sys / "bus" / "i2c" / "devices"
        self.folders = {}
        self.files = {}
        self._descriptor_tree()
        for number, (address, labels) in enumerate(self.board.chips.items(), 2):
            if labels == "ina238":
                self._ina238(address, number)
            elif self.board.layout == "iio":
                self._iio(address, labels, number)
            else:
                self._hwmon(address, labels, number)
        self.advance(0.0)

    def use(self, monkeypatch):
        """Let devprof read this tree in this process."""
        monkeypatch.setenv("DEVPROF_SYSFS", str(self.sys))
        monkeypatch.setattr(paths, "_ROOT", self.sys.parent)
        return self

    def advance(self, t_s):
        """Show what the board shows so long after its start."""
        total_w = self.power.at(t_s)
        for label in self.files:
            self._show(label, self._milliamperes(label, total_w))

    def energy_j(self, start_s, end_s):
        """What the rails of the total used, as the board shows it."""
        return sum(seconds * self.shown_w(watts) for seconds, watts in self.power.pieces(start_s, end_s))

    def shown_w(self, total_w):
        """What the rails of the total show when this is the power: whole milliamperes."""
        return sum(self._milliamperes(label, total_w) * self.millivolts(label) for label in self.board.total) * 1e-6

    def millivolts(self, label):
        return self.board.volts.get(label, 5000)

    def path(self, label, quantity):
        """The file of ``volts``, ``amps`` or ``watts`` of a rail."""
        return self.files[label][quantity]

    def folder(self, address):
        """The folder in which a sensor's files are."""
        return self.folders[address]

    def vanish(self, *labels):
        """Take away files of rails, also from readers that hold them open."""
        for label in labels or tuple(self.files):
            for path in self.files[label].values():
                path.write_bytes(b"")
                path.unlink()

    def _milliamperes(self, label, total_w):
        return round(total_w * self.board.shares.get(label, 0.0) / self.millivolts(label) * 1e6)

    def _show(self, label, milliamperes):
        millivolts = self.millivolts(label)
        micro = label == "VIN"
        numbers = {"volts": millivolts, "amps": milliamperes}
        numbers["watts"] = millivolts * milliamperes // (1 if micro else 1000)
        for quantity, path in self.files[label].items():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                # One write of a fixed width: a reader sees the old or the new.
                os.pwrite(descriptor, b"%-11d\n" % numbers[quantity], 0)
            finally:
                os.close(descriptor)

    def _write(self, path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())

    def _descriptor_tree(self):
        names = "".join(f"{name}\0" for name in self.board.compatible).encode()
        if names:
            self._write(self.sys / "firmware" / "devicetree" / "base" / "compatible", names)

    def _device(self, address, driver):
        device = self.sys / "devices" / "platform" / "bus" / f"i2c-{address[0]}" / address
        self._write(device / "name", driver)
        for folder in (self.i2c, self.sys / "bus" / "i2c" / "drivers" / driver):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / address).symlink_to(device)
        return device

    def _iio(self, address, labels, number):
        device = self._device(address, "ina3221x")
        folder = self.folders[address] = device / f"iio:device{number}"
        if self.board.config is not None:
            self._write(device / "of_node" / "ti,continuous-config", self.board.config.to_bytes(4, "big"))
        for index, label in enumerate(labels):
            shunt = (self.board.shunt_micro_ohm // 1000).to_bytes(4, "big")
            self._write(device / "of_node" / f"channel@{index}" / "ti,shunt-resistor-mohm", shunt)
            self._write(folder / f"rail_name_{index}", label)
            self._write(folder / f"crit_current_limit_{index}", "32760 ma")
            self.files[label] = {
                "volts": folder / f"in_voltage{index}_input",
                "amps": folder / f"in_current{index}_input",
                "watts": folder / f"in_power{index}_input",
            }

    def _class_folder(self, device, name, number):
        folder = device / "hwmon" / f"hwmon{number}"
        self._write(folder / "name", name)
        (self.sys / "class" / "hwmon").mkdir(parents=True, exist_ok=True)
        (self.sys / "class" / "hwmon" / f"hwmon{number}").symlink_to(folder)
        (folder / "device").symlink_to(device)
        return folder

    def _hwmon(self, address, labels, number):
        folder = self.folders[address] = self._class_folder(self._device(address, "ina3221"), "ina3221", number)
        self._write(folder / "samples", 1)
        self._write(folder / "update_interval", 7)
        for index, label in enumerate(labels, 1):
            self._write(folder / f"in{index}_label", label)
            self._write(folder / f"in{index}_enable", 0 if label == "NC" else 1)
            self._write(folder / f"shunt{index}_resistor", self.board.shunt_micro_ohm)
            if label == "NC":
                self._write(folder / f"in{index}_input", 0)
                self._write(folder / f"curr{index}_input", 0)
                continue
            self.files[label] = {"volts": folder / f"in{index}_input", "amps": folder / f"curr{index}_input"}
        self._write(folder / "in7_label", "sum of shunt voltages")
        self._write(folder / "in7_input", 12_345)
        self._write(folder / "curr4_input", 4321)

    def _ina238(self, address, number):
        folder = self.folders[address] = self._class_folder(self._device(address, "ina238"), "ina238", number)
        self._write(folder / "in0_input", 10)
        self._write(folder / "temp1_input", 45_000)
        names = {"volts": "in1_input", "amps": "curr1_input", "watts": "power1_input"}
        self.files["VIN"] = {quantity: folder / name for quantity, name in names.items()}


class JtopService:
    """The real service of jetson-stats in processes of its own, on the sensors of a tree.

    Args:
        tree: The board, or ``None`` for one without sensors.
        interval_s: What its first client asked for; 0: nobody came before.
        version: The version that it says it is; empty for the real one.
    """

    def __init__(self, tree, *, interval_s=0.0, version=""):
        # The path of a socket may have 107 characters, fewer than a test's own folder may take.
        self.folder = Path(tempfile.mkdtemp(prefix="jtop-"))
        self.socket = self.folder / "jtop.sock"
        self._arguments = ["--folder", self.folder, "--socket", self.socket, "--i2c", tree.i2c if tree else self.folder]
        self._arguments += ["--soc", tree.board.chip if tree else "", "--interval", interval_s, "--version", version]
        self._process = None
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        """Start it, once more after :meth:`kill`."""
        command = [sys.executable, str(SCRIPT), *map(str, self._arguments)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert self._process.stdout.readline() == b"ready\n", "the jtop service did not start"

    def stop(self):
        """Let all its processes stand still."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self):
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self):
        """End all its processes at once; its socket stays behind."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
