import dataclasses
import json
import sys
from types import SimpleNamespace

import pytest
from fake_boards import CPU, FakeBoard, desktop, jetson_orin, raspberry_pi

from devprof.device import clocks, nvidia, state
from devprof.device.state import State, read_state


@pytest.fixture
def pi(tmp_path, monkeypatch):
    return raspberry_pi(tmp_path, monkeypatch)


@pytest.fixture
def orin(tmp_path, monkeypatch):
    return jetson_orin(tmp_path, monkeypatch)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    return FakeBoard(tmp_path, monkeypatch)


def test_where_nothing_can_be_read_nothing_is_said(empty):
    assert read_state() == State()


def test_this_machine_can_be_read_and_written_down():
    written = json.dumps(dataclasses.asdict(read_state()))
    assert json.loads(written)["processor"] == "cpu"


def test_the_hottest_zone_counts_and_switched_off_ones_do_not(empty):
    assert state.temperature_c() is None
    empty.zone(0, "acpitz", 45_500)
    empty.zone(1, "iwlwifi_1", -256_000)
    empty.write("sys/class/thermal/thermal_zone2/temp", "oops")
    empty.write("sys/class/thermal/thermal_zone10/temp", "20000")
    assert state.temperature_c() == 45.5
    assert read_state().zones == (("acpitz", 45.5), ("thermal_zone10", 20.0))


def test_a_pi_is_as_fast_as_its_firmware_says_not_as_the_kernel_thinks(pi):
    pi.vcgencmd("frequency(48)=1000000000", "throttled=0x50005")
    found = read_state()
    assert found.frequency_hz == 1e9
    assert found.clusters == (("policy0", 1.5e9),)
    assert found.max_frequency_hz == 2.4e9
    assert found.firmware_flags == 0x50005
    assert found.governor == "ondemand"
    assert (found.temperature_c, found.zones_at_passive_trip) == (48.3, ())


def test_a_pi_whose_firmware_cannot_be_asked_has_no_frequency(pi):
    found = read_state()
    assert found.frequency_hz is None
    assert found.firmware_flags is None
    assert found.clusters == (("policy0", 1.5e9),)


def test_an_orin_has_two_clusters_a_gpu_and_counters_of_over_current(orin):
    found = read_state("cuda")
    assert found.processor == "cuda"
    assert found.frequency_hz == 729.6e6
    assert found.clusters == (("policy0", 729.6e6), ("policy4", 729.6e6))
    assert found.gpu_frequency_hz == 306e6
    assert found.caps == (("policy0", 1510.4e6), ("policy4", 1510.4e6), ("17000000.gpu", 624.75e6))
    assert found.zones == (("cpu-thermal", 47.0), ("tj-thermal", 51.5))
    assert found.throttle_counts == (("oc1", 0),)
    assert found.nvml_reasons is None


@pytest.mark.parametrize("node", ["57000000.gpu", "17000000.gv11b", "17000000.ga10b", "57000000.gm20b", "gpu-gpc-0"])
def test_the_gpu_of_every_jetson_is_found(empty, node):
    empty.write(f"sys/class/devfreq/{node}/cur_freq", "114750000")
    assert clocks.gpu_frequency_hz() == 114.75e6


def test_a_passive_trip_point_that_is_reached_is_named(orin):
    orin.zone(0, "cpu-thermal", 99_000)
    assert read_state().zones_at_passive_trip == ("cpu-thermal",)


def test_a_desktop_is_as_fast_as_its_fastest_core(tmp_path, monkeypatch):
    desktop(tmp_path, monkeypatch)
    found = read_state()
    assert found.frequency_hz == 3_000_007e3
    assert found.max_frequency_hz == 4.7e9
    assert found.nominal_frequency_hz == 2.5e9
    assert found.governor == "performance"
    assert found.throttle_counts == (("core", 24), ("package", 24))
    # Nobody has set this zone's trip point: it stands at 0 and is not "reached".
    assert found.zones_at_passive_trip == ()


def test_the_nominal_frequency_comes_from_acpi_where_the_driver_has_none(empty):
    empty.write(f"{CPU}/cpu0/acpi_cppc/nominal_freq", "3400\n")
    assert clocks.nominal_frequency_hz() == 3.4e9


def test_clusters_with_different_governors_are_both_named(orin):
    orin.write(f"{CPU}/cpufreq/policy4/scaling_governor", "performance\n")
    assert state.governor() == "schedutil+performance"


def test_a_cpu_without_cpufreq_has_no_frequency_although_cpuinfo_has_a_number(empty):
    empty.write("proc/cpuinfo", "processor: 0\ncpu MHz: 2596.120\n")
    assert read_state().frequency_hz is None


def test_damaged_files_make_no_reading_and_no_error(orin):
    for name in ("scaling_cur_freq", "scaling_max_freq", "scaling_governor"):
        orin.write(f"{CPU}/cpufreq/policy0/{name}", "\x00")
    orin.write("sys/class/thermal/thermal_zone0/temp", "hot")
    orin.write("sys/class/hwmon/hwmon4/oc1_event_cnt", "-")
    orin.write("sys/class/devfreq/17000000.gpu/cur_freq", "0")
    found = read_state()
    assert found.clusters == (("policy4", 729.6e6),)
    assert found.gpu_frequency_hz is None
    assert found.throttle_counts == (("oc1", 0),)


class FakeNvml:
    """The part of nvidia-ml-py that is used; ``bits`` are the reasons."""

    class NVMLError(Exception):
        pass

    def __init__(self, bits=0, *, starts=True):
        self.bits = bits
        self.starts = starts
        self.asked_for = []

    def nvmlInit(self):
        if not self.starts:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByIndex(self, index):
        self.asked_for.append(index)
        return "gpu"

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return self.nvmlDeviceGetHandleByIndex(uuid)

    def nvmlDeviceGetCurrentClocksEventReasons(self, device):
        assert device == "gpu"
        if self.bits is None:
            raise self.NVMLError("Not Supported")
        return self.bits


@pytest.fixture
def install(empty, monkeypatch):
    def place(module):
        monkeypatch.setitem(sys.modules, "pynvml", module)
        nvidia._connect.cache_clear()
        return module

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield place
    nvidia._connect.cache_clear()


def test_the_gpus_reasons_have_their_names_and_are_read_for_cuda_only(install):
    install(FakeNvml(0x4 | 0x40))
    assert read_state("cuda").nvml_reasons == ("sw_power_cap", "hw_thermal_slowdown")
    assert read_state("cpu").nvml_reasons is None


def test_no_reason_is_not_no_answer(install):
    install(FakeNvml(0))
    assert read_state("cuda").nvml_reasons == ()
    install(FakeNvml(None))
    assert read_state("cuda").nvml_reasons is None


def test_nvml_is_asked_by_its_old_name_too(install):
    new = FakeNvml(0x8)
    old = SimpleNamespace(
        NVMLError=FakeNvml.NVMLError,
        nvmlInit=new.nvmlInit,
        nvmlDeviceGetHandleByIndex=new.nvmlDeviceGetHandleByIndex,
        nvmlDeviceGetCurrentClocksThrottleReasons=new.nvmlDeviceGetCurrentClocksEventReasons,
    )
    install(old)
    assert nvidia.nvml_reasons() == ("hw_slowdown",)


def test_a_driver_or_a_package_that_is_missing_is_said_once_in_the_log(install, caplog):
    caplog.set_level("INFO", "devprof.device.nvidia")
    install(FakeNvml(starts=False))
    assert nvidia.nvml_reasons() is nvidia.nvml_reasons() is None
    assert [record.message for record in caplog.records] == [
        "clocks of the GPU are not watched: NVML says Driver Not Loaded"
    ]
    install(None)
    assert nvidia.nvml_reasons() is None
    assert "nvidia-ml-py is not installed" in caplog.messages[-1]


def test_nvml_is_never_asked_on_a_jetson(orin, monkeypatch):
    monkeypatch.setattr(nvidia, "_connect", lambda: pytest.fail("NVML was asked"))
    assert nvidia.nvml_reasons() is None
    (orin.folder / "etc" / "nv_tegra_release").unlink()
    # In a container the file may be absent; the device tree is there.
    assert nvidia.nvml_reasons() is None


@pytest.mark.parametrize(("visible", "chosen"), [("2,0", 2), ("GPU-1234,0", "GPU-1234"), ("", 0), ("-1", 0)])
def test_the_gpu_is_the_one_that_programs_see_first(install, monkeypatch, visible, chosen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    module = install(FakeNvml(0))
    nvidia.nvml_reasons()
    assert module.asked_for == [chosen]
