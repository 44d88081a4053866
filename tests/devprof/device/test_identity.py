import importlib.metadata
import os
import subprocess
import sys

import pytest
from fake_boards import CPU, FakeBoard, desktop, jetson_orin, raspberry_pi
from hypothesis import given
from hypothesis import strategies as st

from devprof.device import identity, jetson, software
from devprof.device.cores import largest_cache_bytes
from devprof.device.jetson import PowerMode, parse_nvpmodel

GPU = "Model: \t\t NVIDIA {}\nIRQ:   \t 40\nGPU UUID: \t GPU-{}\n"


@pytest.fixture
def orin(tmp_path, monkeypatch):
    return jetson_orin(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch):
    for name in ("LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "MALLOC_ARENA_MAX"):
        monkeypatch.delenv(name, raising=False)


def facts_of(device):
    return dict(device.facts)


class TestBoards:
    @pytest.mark.parametrize(("generation", "cpu", "part"), [(4, "Cortex-A72", "0xd08"), (5, "Cortex-A76", "0xd0b")])
    def test_a_raspberry_pi(self, tmp_path, monkeypatch, generation, cpu, part):
        raspberry_pi(tmp_path, monkeypatch, generation)
        device = identity.identify()
        assert device.name == f"Raspberry Pi {generation} Model B Rev 1.1"
        assert device.power_mode is None
        facts = facts_of(device)
        assert facts["compatible"] == f"raspberrypi,{generation}-model-b, brcm,bcm2712"
        assert (facts["cpu"], facts["cpu_parts"]) == (cpu, f"4x 0x41:{part}")
        assert (facts["cores_physical"], facts["cores_logical"], facts["cores_online"]) == ("4", "4", "0-3")
        assert facts["clusters"] == "4 up to 2.40 GHz"
        assert facts["swap_bytes"] == str(102396 * 1024)
        assert not {"l4t", "gpu", "hypervisor", "container", "cpu_limit"} & set(facts)

    def test_a_jetson_has_a_power_mode_and_a_release(self, orin):
        device = identity.identify(processor="cuda")
        assert device.name == "NVIDIA Jetson Orin Nano Developer Kit"
        assert (device.power_mode, device.processor) == ("15W", "cuda")
        facts = facts_of(device)
        assert (facts["power_mode"], facts["power_mode_id"], facts["l4t"]) == ("15W", "0", "36.4.3")
        assert facts["cpu"] == "Cortex-A78AE"
        assert facts["clusters"] == "6 up to 1.51 GHz"

    def test_a_desktop_is_named_by_its_processor(self, tmp_path, monkeypatch):
        desktop(tmp_path, monkeypatch)
        device = identity.identify()
        assert device.name == "Intel Core i7-1, 4 cores"
        assert identity.identify(name="mine").name == "mine"
        facts = facts_of(device)
        assert facts["board"] == "Vendor Box 12"
        assert (facts["cores_physical"], facts["cores_logical"]) == ("4", "8")
        assert facts["caches"] == "L1d 48 KiB, L2 1.25 MiB, L3 24 MiB"
        assert largest_cache_bytes() == 24 << 20
        assert (facts["boost"], facts["smt"]) == ("on", "on")
        # A serial number that the maker did not fill in is none.
        assert "serial_hash" not in facts

    def test_cores_of_two_kinds_are_both_named(self, tmp_path, monkeypatch):
        board = FakeBoard(tmp_path, monkeypatch)
        core = "processor: {}\nCPU implementer: 0x41\nCPU part: {}\n\n"
        parts = ["0xd05", "0xd05", "0xd0b", "0xfff"]
        board.write("proc/cpuinfo", "".join(core.format(*pair) for pair in enumerate(parts)))
        for number, capacity in enumerate((414, 414, 1024, 1024)):
            board.write(f"{CPU}/cpu{number}/cpu_capacity", f"{capacity}\n")
        facts = facts_of(identity.identify())
        assert facts["cpu"] == "2x Cortex-A55 + 1x Cortex-A76 + 1x 0x41:0xfff"
        assert facts["clusters"] == "2 of capacity 414, 2 of capacity 1024"

    def test_this_machine_has_facts(self):
        facts = facts_of(identity.identify())
        assert {"cpu", "machine", "memory_bytes", "cores_physical", "os", "boot_id"} <= set(facts)
        assert identity.installed_version("no-such-distribution") is None

    def test_a_fact_is_in_one_group_only(self, orin):
        groups = identity.device_facts()
        assert list(groups) == ["board", "processor", "memory", "limits", "software"]
        assert sum(map(len, groups.values())) == len(facts_of(identity.identify()))

    def test_where_the_system_tells_nothing_there_still_is_a_device(self, tmp_path, monkeypatch):
        FakeBoard(tmp_path, monkeypatch, machine="")
        device = identity.identify()
        assert device.name
        assert len(device.key) == 12


class TestInside:
    """Virtual machines and containers."""

    @pytest.mark.parametrize(
        ("file", "text", "name"),
        [
            (".dockerenv", "", "docker"),
            ("run/.containerenv", "", "podman"),
            ("proc/1/cgroup", "0::/kubepods/besteffort/pod1\n", "kubernetes"),
            ("proc/1/cgroup", "1:name=systemd:/lxc/101\n", "lxc"),
        ],
    )
    def test_a_container_is_recognised(self, orin, file, text, name):
        orin.write(file, text)
        assert facts_of(identity.identify())["container"] == name

    def test_a_hypervisor_is_named_if_it_says_its_name(self, tmp_path, monkeypatch):
        board = desktop(tmp_path, monkeypatch)
        flagged = "processor: 0\nmodel name: CPU\nflags: fpu hypervisor\n"
        board.write("proc/cpuinfo", flagged)
        board.write("sys/class/dmi/id/sys_vendor", "QEMU\n")
        assert facts_of(identity.identify())["hypervisor"] == "QEMU"
        board.write("sys/class/dmi/id/sys_vendor", "")
        assert facts_of(identity.identify())["hypervisor"] == "yes"
        board.write("sys/hypervisor/type", "xen\n")
        assert facts_of(identity.identify())["hypervisor"] == "xen"


class TestSerialNumber:
    def test_it_is_a_pseudonym_and_not_in_the_key(self, orin):
        first = identity.identify()
        orin.write("proc/device-tree/serial-number", "1420123456780\x00")
        second = identity.identify()
        assert first.key == second.key
        assert facts_of(first)["serial_hash"] != facts_of(second)["serial_hash"]
        assert "1420123456780" not in str(second)
        assert len(facts_of(second)["serial_hash"]) == 12

    @pytest.mark.parametrize("serial", ["0000000000000000", "None", "Default string", "System Serial Number"])
    def test_a_placeholder_is_none(self, tmp_path, monkeypatch, serial):
        desktop(tmp_path, monkeypatch).write("sys/class/dmi/id/product_serial", serial)
        assert "serial_hash" not in facts_of(identity.identify())


class TestKey:
    """What changes speed for good is in the key, and nothing else."""

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            ("proc/sys/kernel/random/boot_id", "another-boot"),
            (f"{CPU}/cpufreq/policy0/scaling_governor", "performance"),
            (f"{CPU}/cpufreq/policy0/scaling_cur_freq", "115200"),
            (f"{CPU}/cpufreq/policy0/scaling_max_freq", "115200"),
            (f"{CPU}/cpufreq/boost", "0"),
            ("sys/class/thermal/thermal_zone0/temp", "90000"),
            ("proc/meminfo", f"MemTotal: {(8 << 20) - 120000} kB\nSwapTotal: 0 kB\n"),
            ("etc/nv_tegra_release", "# R36 (release), REVISION: 4.4\n"),
            ("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Kernel Module  540.4.0  Release\n"),
        ],
    )
    def test_what_passes_is_not_in_it(self, orin, file, text):
        before = identity.identify(threads=4)
        orin.write(file, text)
        assert identity.identify(threads=4).key == before.key

    def test_neither_is_the_kernels_release(self, orin, monkeypatch):
        before = identity.identify(threads=4)
        monkeypatch.setattr(software.platform, "release", lambda: "9.9.9")
        after = identity.identify(threads=4)
        assert after.key == before.key
        assert facts_of(after)["os"].endswith("9.9.9")

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            ("proc/device-tree/model", "Another board"),
            ("proc/meminfo", f"MemTotal: {(16 << 20) - 70000} kB\n"),
            (f"{CPU}/online", "0-3"),
            ("proc/cpuinfo", "CPU implementer: 0x41\nCPU part: 0xd0b\n"),
        ],
    )
    def test_the_board_is_in_it(self, orin, file, text):
        before = identity.identify(threads=4)
        orin.write(file, text)
        assert identity.identify(threads=4).key != before.key

    def test_threads_and_processor_are_in_it(self, orin):
        keys = {identity.identify(threads=threads, processor=p).key for threads in (1, 2) for p in ("cpu", "cuda")}
        assert len(keys) == 4

    def test_the_power_mode_is_in_it(self, orin):
        before = identity.identify(threads=4)
        orin.tool("nvpmodel", 'echo "NV Power Mode: MAXN_SUPER"; echo 1')
        after = identity.identify(threads=4)
        assert after.key != before.key
        assert after.power_mode == "MAXN_SUPER"

    def test_the_users_name_is_not_in_it(self, orin):
        assert identity.identify(name="a").key == identity.identify(name="b").key

    def test_limits_are_in_it_in_the_facts_and_in_the_name(self, orin, monkeypatch):
        free = identity.identify(threads=1)
        monkeypatch.setattr(identity, "cpu_limit", lambda: 0.5)
        slow = identity.identify(threads=1)
        monkeypatch.setattr(identity, "memory_limit_bytes", lambda: 1 << 30)
        small = identity.identify(threads=1)
        assert len({free.key, slow.key, small.key}) == 3
        assert slow.name == f"{free.name} (0.5 CPUs)"
        assert small.name == f"{free.name} (0.5 CPUs, 1 GiB)"
        assert facts_of(small)["cpu_limit"] == "0.5"
        assert facts_of(small)["memory_limit_bytes"] == str(1 << 30)

    def test_limits_above_what_the_machine_has_are_none(self, orin, monkeypatch):
        free = identity.identify(threads=1)
        monkeypatch.setattr(identity, "cpu_limit", lambda: 6.0)
        monkeypatch.setattr(identity, "memory_limit_bytes", lambda: 64 << 30)
        assert identity.identify(threads=1) == free

    def test_the_gpu_is_in_it_for_cuda_only(self, tmp_path, monkeypatch):
        board = desktop(tmp_path, monkeypatch)

        def keys():
            return identity.identify(processor="cpu").key, identity.identify(processor="cuda").key

        board.write("proc/driver/nvidia/gpus/0000:01:00.0/information", GPU.format("A", "aaaa"))
        cpu, cuda = keys()
        assert facts_of(identity.identify())["gpu"] == "NVIDIA A"
        board.write("proc/driver/nvidia/gpus/0000:01:00.0/information", GPU.format("B", "aaaa"))
        assert keys()[0] == cpu
        assert keys()[1] != cuda

    def test_a_preloaded_allocator_is_in_it_and_other_libraries_are_not(self, orin, monkeypatch):
        plain = identity.identify()
        monkeypatch.setenv("LD_PRELOAD", "/opt/lib/libgomp.so.1")
        assert identity.identify().key == plain.key
        monkeypatch.setenv("LD_PRELOAD", "/opt/lib/libgomp.so.1:/home/me/libjemalloc.so.2")
        other = identity.identify()
        assert other.key != plain.key
        assert facts_of(other)["ld_preload"] == "libgomp.so.1, libjemalloc.so.2"


class TestGpu:
    @pytest.fixture
    def two_gpus(self, tmp_path, monkeypatch):
        board = desktop(tmp_path, monkeypatch)
        for slot, name, uuid in (("01", "A", "aaaa"), ("02", "B", "bbbb")):
            board.write(f"proc/driver/nvidia/gpus/0000:{slot}:00.0/information", GPU.format(name, uuid))
        board.write(
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n",
        )

    @pytest.mark.parametrize(
        ("visible", "model"),
        [("", "NVIDIA A"), ("1", "NVIDIA B"), ("GPU-bbbb", "NVIDIA B"), ("GPU-cccc", None), ("7", None)],
    )
    def test_it_is_the_one_that_programs_see_first(self, two_gpus, monkeypatch, visible, model):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert facts_of(identity.identify()).get("gpu") == model

    def test_the_driver_is_a_fact(self, two_gpus):
        assert facts_of(identity.identify())["nvidia_driver"] == "570.86.15"


class TestThreads:
    @pytest.fixture
    def allow(self, tmp_path, monkeypatch):
        desktop(tmp_path, monkeypatch)
        return lambda cpus: monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cpus), raising=False)

    @pytest.mark.parametrize(("cpus", "threads"), [(range(8), 4), ((0, 1), 1), ((0, 2, 4), 3), ((5,), 1)])
    def test_one_per_physical_core_that_may_be_used(self, allow, cpus, threads):
        allow(cpus)
        assert identity.default_threads() == threads

    @pytest.mark.parametrize(("limit", "threads"), [(0.5, 1), (1.0, 1), (1.5, 2), (64.0, 4)])
    def test_a_quota_is_rounded_up(self, allow, monkeypatch, limit, threads):
        allow(range(8))
        monkeypatch.setattr(identity, "cpu_limit", lambda: limit)
        assert identity.default_threads() == threads

    def test_without_a_topology_there_is_at_least_one(self, tmp_path, monkeypatch):
        FakeBoard(tmp_path, monkeypatch)
        assert 1 <= identity.default_threads() <= len(os.sched_getaffinity(0))


class TestJetson:
    @pytest.mark.parametrize(
        ("text", "mode"),
        [
            ("NV Power Mode: MAXN\n0\n", PowerMode("MAXN", 0)),
            ("NV Fan Mode:quiet\r\nNV Power Mode: MODE_15W_6CORE\r\n2\r\n", PowerMode("MODE_15W_6CORE", 2)),
            ("NVPM WARN: fan mode is not set!\nNV Power Mode: 15W\nNVPM WARN: x\n 1 ", PowerMode("15W", 1)),
            ("NV Power Mode: 25W\n", PowerMode("25W", None)),
            ("NV Power Mode:\n0\n", None),
            ("NVPM ERROR: failed to read PARAM_ID\n0\n", None),
            ("", None),
        ],
    )
    def test_variants_of_the_tools_answer(self, text, mode):
        assert parse_nvpmodel(text) == mode

    @given(st.text() | st.from_regex(r"NV Power Mode: ?\S*\n?\w*"))
    def test_no_answer_makes_the_parser_raise(self, text):
        mode = parse_nvpmodel(text)
        assert mode is None or mode.name.strip() == mode.name != ""

    def test_without_the_tool_the_kept_mode_counts(self, orin):
        (orin.folder / "bin" / "nvpmodel").unlink()
        assert jetson.power_mode() == PowerMode("MAXN_SUPER", 1)
        orin.write("etc/nvpmodel.conf", "")
        assert jetson.power_mode() == PowerMode("mode 1", 1)
        orin.write("var/lib/nvpmodel/status", "nothing")
        assert jetson.power_mode() is None

    @pytest.mark.parametrize(
        ("line", "release"),
        [
            ("# R36 (release), REVISION: 4.3, GCID: 1", "36.4.3"),
            ("# R35 (release)", "35"),
            ("# none", None),
        ],
    )
    def test_variants_of_the_release(self, orin, line, release):
        orin.write("etc/nv_tegra_release", line)
        assert jetson.l4t_release() == release


class FakeDistribution:
    """An installed torch: its metadata, and ``torch/version.py`` in a folder."""

    version = "2.5.0"

    def __init__(self, folder, *, git="abc", library="sha256=AAA", extra="", files=True):
        self.folder = folder
        self.files = {
            "WHEEL": "Generator: any\nTag: cp311-cp311-linux_aarch64\n",
            "RECORD": f"torch/lib/libtorch_cpu.so,{library},9\ntorch/__pycache__/x.pyc,,\n{extra}",
        }
        if not files:
            self.files = {}
        (folder / "torch").mkdir(parents=True, exist_ok=True)
        text = (
            f"__version__ = '2.5.0'\ncuda: Optional[str] = '12.6'\ngit_version = '{git}'\nhip: Optional[str] = None\n"
        )
        (folder / "torch" / "version.py").write_text(text)

    def read_text(self, name):
        return self.files.get(name)

    def locate_file(self, name):
        return self.folder / name


class TestTorchBuild:
    @pytest.fixture
    def install(self, tmp_path, monkeypatch):
        def place(**build):
            distribution = FakeDistribution(tmp_path, **build)
            monkeypatch.setattr(importlib.metadata, "distribution", lambda _: distribution)
            return software.torch_build()

        return place

    def test_two_builds_of_one_version_differ(self, install):
        builds = {install(), install(git="def"), install(library="sha256=BBB"), install(files=False)}
        assert len(builds) == 4
        assert all(build.startswith("2.5.0 ") for build in builds)

    def test_what_installers_add_is_not_in_it(self, install):
        added = "../../../bin/torchrun,sha256=CCC,9\ntorch-2.5.0.dist-info/INSTALLER,sha256=DDD,4\n"
        assert install(extra=added) == install()

    def test_it_is_in_the_key(self, install, orin):
        install()
        before = identity.identify()
        install(library="sha256=BBB")
        assert identity.identify().key != before.key

    def test_what_the_build_was_made_from_is_a_fact(self, install):
        install()
        facts = software.software_facts()
        assert (facts["torch_cuda"], facts["torch_git"]) == ("12.6", "abc")

    def test_without_torch_there_is_none(self, monkeypatch):
        def absent(_):
            raise importlib.metadata.PackageNotFoundError("torch")

        monkeypatch.setattr(importlib.metadata, "distribution", absent)
        assert software.torch_build() is None
        assert software.software_facts()["torch_build"] is None

    def test_the_installed_torch_has_one(self):
        assert software.torch_build().split()[0] == identity.installed_version("torch")

    def test_torch_is_not_imported_for_it(self):
        script = "import sys; from devprof.device import identity; identity.identify(); print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"


def test_the_allocators_settings_are_facts(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert software.software_facts()["malloc_arena_max"] == "2"
    assert software.preloaded_allocator() is None


def test_another_c_library_is_no_error(monkeypatch):
    def unknown(_):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", unknown)
    assert software.software_facts()["glibc"] is None
