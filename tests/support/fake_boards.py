"""Boards that are not here: their files below a folder, and their tools on ``PATH``."""

import platform

from devprof import paths

PI_5_CORE = "processor\t: {}\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0b\n\n"
ORIN_CORE = "processor\t: {}\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n\n"
X86_CORE = (
    "processor\t: {}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Core(TM) i7-1 CPU @ 2.50GHz\n"
    "cpu MHz\t\t: 2500.000\nflags\t\t: fpu sse2 avx2\n\n"
)
CPU = "sys/devices/system/cpu"


class FakeBoard:
    """An empty file system that every reader of ``devprof.device`` takes for the real one, with nothing on ``PATH``."""

    def __init__(self, folder, monkeypatch, machine="aarch64"):
        self.folder = folder
        (folder / "bin").mkdir(exist_ok=True)
        monkeypatch.setattr(paths, "_ROOT", folder)
        monkeypatch.setenv("DEVPROF_SYSFS", str(folder / "sys"))
        monkeypatch.setenv("PATH", str(folder / "bin"))
        monkeypatch.setattr(platform, "machine", lambda: machine)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def tool(self, name, script):
        """Put a shell script on ``PATH``; it has the shell's own commands only."""
        self.write(f"bin/{name}", f"#!/bin/sh\n{script}\n")
        (self.folder / "bin" / name).chmod(0o755)

    def vcgencmd(self, clock, flags):
        self.tool("vcgencmd", f'case "$1" in measure_clock) echo "{clock}";; get_throttled) echo "{flags}";; esac')

    def cores(self, count, *, block, memory_gib, threads_per_core=1):
        self.write("proc/cpuinfo", "".join(block.format(number) for number in range(count)))
        self.write("proc/meminfo", f"MemTotal: {(memory_gib << 20) - 70000} kB\nSwapTotal: 102396 kB\n")
        self.write(f"{CPU}/online", f"0-{count - 1}\n")
        for number in range(count):
            first = number - number % threads_per_core
            siblings = str(first) if threads_per_core == 1 else f"{first}-{first + threads_per_core - 1}"
            self.write(f"{CPU}/cpu{number}/topology/thread_siblings_list", siblings + "\n")

    def policy(self, number, cpus, *, khz, max_khz, governor="schedutil", cap_khz=None):
        folder = f"{CPU}/cpufreq/policy{number}"
        self.write(f"{folder}/related_cpus", cpus + "\n")
        self.write(f"{folder}/scaling_cur_freq", f"{khz}\n")
        self.write(f"{folder}/cpuinfo_max_freq", f"{max_khz}\n")
        self.write(f"{folder}/scaling_max_freq", f"{cap_khz or max_khz}\n")
        self.write(f"{folder}/scaling_governor", governor + "\n")

    def zone(self, number, kind, milli, trips=()):
        folder = f"sys/class/thermal/thermal_zone{number}"
        self.write(f"{folder}/type", kind + "\n")
        self.write(f"{folder}/temp", f"{milli}\n")
        for index, (trip, at) in enumerate(trips):
            self.write(f"{folder}/trip_point_{index}_type", trip + "\n")
            self.write(f"{folder}/trip_point_{index}_temp", f"{at}\n")


def raspberry_pi(folder, monkeypatch, generation=5):
    """A Raspberry Pi 4 or 5 without ``vcgencmd``."""
    board = FakeBoard(folder, monkeypatch)
    board.write("proc/device-tree/model", f"Raspberry Pi {generation} Model B Rev 1.1\x00")
    board.write("proc/device-tree/compatible", f"raspberrypi,{generation}-model-b\x00brcm,bcm2712\x00")
    board.write("proc/device-tree/serial-number", "10000000c0ffee42\x00")
    core = PI_5_CORE if generation == 5 else PI_5_CORE.replace("0xd0b", "0xd08")
    board.cores(4, block=core, memory_gib=8)
    board.policy(0, "0 1 2 3", khz=1_500_000, max_khz=2_400_000, governor="ondemand")
    board.zone(0, "cpu-thermal", 48_300, [("critical", 110_000)])
    return board


def jetson_orin(folder, monkeypatch):
    """A Jetson Orin Nano of JetPack 6 with its tool ``nvpmodel``."""
    board = FakeBoard(folder, monkeypatch)
    board.write("proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\x00")
    board.write("proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005\x00nvidia,tegra234\x00")
    board.write("proc/device-tree/serial-number", "1420123456789\x00")
    board.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    board.write("etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=MAXN_SUPER >\n")
    board.write("var/lib/nvpmodel/status", "pmode:0001 fmode:quiet\n")
    board.tool("nvpmodel", 'echo "NV Power Mode: 15W"; echo 0')
    board.cores(6, block=ORIN_CORE, memory_gib=8)
    for number, cpus in ((0, "0 1 2 3"), (4, "4 5")):
        board.policy(number, cpus, khz=729_600, max_khz=1_510_400)
    board.zone(0, "cpu-thermal", 47_000, [("active", 40_000), ("passive", 99_000), ("passive", 103_000)])
    board.zone(1, "gpu-thermal", -256_000)
    board.zone(2, "tj-thermal", 51_500, [("passive", 0)])
    board.write("sys/class/devfreq/17000000.gpu/cur_freq", "306000000\n")
    board.write("sys/class/devfreq/17000000.gpu/max_freq", "624750000\n")
    board.write("sys/class/devfreq/15340000.vic/cur_freq", "729600000\n")
    board.write("sys/class/hwmon/hwmon4/oc1_event_cnt", "0\n")
    return board


def desktop(folder, monkeypatch):
    """An x86 desktop with four cores of two threads each, Intel's frequency driver and counters of throttling."""
    board = FakeBoard(folder, monkeypatch, machine="x86_64")
    board.write("sys/class/dmi/id/sys_vendor", "Vendor\n")
    board.write("sys/class/dmi/id/product_name", "Box 12\n")
    board.write("sys/class/dmi/id/product_serial", "To be filled by O.E.M.\n")
    board.cores(8, block=X86_CORE, memory_gib=16, threads_per_core=2)
    for number in range(8):
        board.policy(number, str(number), khz=3_000_000 + number, max_khz=4_700_000, governor="performance")
        board.write(f"{CPU}/cpufreq/policy{number}/base_frequency", "2500000\n")
        for kind in ("core", "package"):
            board.write(f"{CPU}/cpu{number}/thermal_throttle/{kind}_throttle_count", "3\n")
    board.write(f"{CPU}/intel_pstate/no_turbo", "0\n")
    board.write(f"{CPU}/smt/active", "1\n")
    for index, (level, kind, size) in enumerate(
        (("1", "Data", "48K"), ("2", "Unified", "1280K"), ("3", "Unified", "24M"))
    ):
        for name, text in (("level", level), ("type", kind), ("size", size)):
            board.write(f"{CPU}/cpu0/cache/index{index}/{name}", text + "\n")
    board.zone(0, "x86_pkg_temp", 61_000, [("passive", 0)])
    return board
