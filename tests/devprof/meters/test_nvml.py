import json
import os
import subprocess
import sys
import types

import pytest
from fake_boards import FakeBoard
from fake_meters_chip import FakeClock, FakeGpu, FakeNvml, build_stub_nvml, stub_nvml_environment

from devprof.errors import MissingExtraError
from devprof.meters import nvml
from devprof.meters.base import MeterError, MeterLostError
from devprof.meters.nvml_checks import Trace, fault_of

LOST, RESET, NOT_SUPPORTED, TIMEOUT = 15, 16, 3, 10
ENERGY, POWER, FIELDS = (
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetFieldValues",
)


@pytest.fixture
def board(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    return FakeBoard(tmp_path, monkeypatch, machine="x86_64")


@pytest.fixture
def machine(board, monkeypatch):
    """Installs a fake NVML over some GPUs and opens meters on it in fake time."""

    class Machine:
        def __init__(self):
            self.clock = FakeClock()

        def put(self, *gpus):
            self.nvml = FakeNvml(*gpus, clock=lambda: self.clock.t_ns)
            monkeypatch.setitem(sys.modules, "pynvml", self.nvml)
            return self.nvml

        def open(self, argument=""):
            return nvml.open_meter(argument, clock=self.clock, sleep=self.clock.sleep)

    return Machine()


def only(readings):
    (reading,) = readings
    return reading


def test_a_counter_that_agrees_with_the_sensor_is_taken(machine):
    machine.put(FakeGpu(150.0))
    meter = machine.open()
    channel = only(meter.info.channels)
    assert (channel.domain, channel.kind, channel.headline) == ("gpu0", "counter", True)
    assert channel.update_s == 0.1
    assert channel.quantum == 0.001
    assert channel.most_w == 900.0
    assert meter.info.rule == "nvml-gpu/1"
    assert meter.info.detail == "Fake GPU (GPU-00000000-aaaa); driver 999.1"
    assert "gpu0: the driver's energy counter" in meter.info.notes
    assert any("20 s" in note for note in meter.info.notes)


def test_joules_count_from_the_first_reading_at_the_time_of_the_look(machine):
    machine.put(FakeGpu(150.0, update_s=0.001))
    meter = machine.open()
    first = only(meter.read())
    machine.clock.sleep(2.0)
    before = machine.clock.t_ns
    second = only(meter.read())
    assert first.energy_j == 0.0
    assert second.energy_j == pytest.approx(300.0, abs=0.16)
    assert before < second.t_ns < machine.clock.t_ns


def test_the_look_at_opening_is_short(machine):
    machine.put(FakeGpu())
    start = machine.clock.t_ns
    machine.open()
    assert 0.3e9 <= machine.clock.t_ns - start <= 0.32e9


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"counter_scale": 0.0}, "did not rise twice within 0.3 s"),
        ({"counter_scale": -1.0}, "fell"),
        ({"counter_scale": 1e3}, "counted 1.5e+05 W while the sensor saw 150 to 150 W"),
        ({"counter_scale": 0.5}, "counted 75 W while the sensor saw 150 to 150 W"),
        ({"update_s": 0.25}, "did not rise twice within 0.3 s"),
        ({"failures": {ENERGY: NOT_SUPPORTED}}, "cannot be read (error 3)"),
    ],
)
def test_a_counter_that_is_not_to_be_trusted_gives_way_to_the_sensor(machine, change, why):
    gpu = FakeGpu(150.0)
    for name, value in change.items():
        setattr(gpu, name, value)
    machine.put(gpu)
    meter = machine.open()
    channel = only(meter.info.channels)
    assert channel.kind == "sensor"
    assert f"gpu0: power is sampled, because its energy counter {why}" in meter.info.notes
    assert only(meter.read()).power_w == 150.0


def test_a_slow_counter_states_its_steps(machine):
    machine.put(FakeGpu(150.0, update_s=0.12))
    channel = only(machine.open().info.channels)
    assert channel.kind == "counter"
    assert channel.update_s == pytest.approx(0.12, abs=0.011)


def test_a_counter_without_a_sensor_is_taken_if_it_rises(machine):
    gpu = FakeGpu()
    gpu.failures = {POWER: NOT_SUPPORTED, FIELDS: NOT_SUPPORTED}
    machine.put(gpu)
    assert only(machine.open().info.channels).kind == "counter"


@pytest.mark.parametrize(
    ("change", "update_s"),
    [
        ({}, 0.1),
        ({"field": {"nvmlReturn": NOT_SUPPORTED, "valueType": 1}}, 1.0),
        ({"field": {"nvmlReturn": 0, "valueType": 0}}, 1.0),
        ({"instant_mw": 0}, 1.0),
        ({"instant_mw": 0, "architecture": 6}, 0.1),
        ({"instant_mw": 0, "failures": {ENERGY: 3, "nvmlDeviceGetArchitecture": 3}}, 1.0),
        ({"failures": {ENERGY: 3, FIELDS: 13}}, 1.0),
    ],
)
def test_the_sensor_says_over_what_it_averages(machine, change, update_s):
    gpu = FakeGpu(80.0)
    gpu.failures = {ENERGY: NOT_SUPPORTED}
    for name, value in change.items():
        setattr(gpu, name, value)
    machine.put(gpu)
    meter = machine.open()
    assert only(meter.info.channels).update_s == update_s
    assert any("over one second" in note for note in meter.info.notes) == (update_s == 1.0)
    assert only(meter.read()).power_w == 80.0


def test_the_instant_value_that_is_missing_once_is_a_break(machine):
    gpu = FakeGpu()
    gpu.failures = {ENERGY: NOT_SUPPORTED}
    machine.put(gpu)
    meter = machine.open()
    gpu.field = {"nvmlReturn": TIMEOUT, "valueType": 1}
    assert only(meter.read()).power_w is None
    gpu.field = {"nvmlReturn": 0, "valueType": 1}
    assert only(meter.read()).power_w == 150.0


def test_a_counter_that_was_not_read_goes_on_after_a_break(machine):
    gpu = FakeGpu(100.0, update_s=0.001)
    machine.put(gpu)
    meter = machine.open()
    meter.read()
    machine.clock.sleep(1.0)
    gpu.failures = {ENERGY: TIMEOUT}
    gap = only(meter.read())
    assert (gap.energy_j, gap.power_w) == (None, None)
    gpu.failures = {}
    assert only(meter.read()).energy_j == 0.0
    machine.clock.sleep(1.0)
    assert only(meter.read()).energy_j == pytest.approx(100.0, abs=0.11)


def test_a_counter_that_fell_is_a_break(machine):
    gpu = FakeGpu()
    machine.put(gpu)
    meter = machine.open()
    meter.read()
    gpu.counter_start_mj = 0
    assert only(meter.read()).energy_j is None
    assert only(meter.read()).energy_j == 0.0


@pytest.mark.parametrize("code", [1, 9, LOST, RESET])
def test_a_gpu_that_is_gone_is_a_lost_meter(machine, code):
    gpu = FakeGpu()
    machine.put(gpu)
    meter = machine.open()
    gpu.failures = {ENERGY: code, FIELDS: code}
    with pytest.raises(MeterLostError, match="does not answer any more"):
        meter.read()


def test_a_lost_gpu_without_a_counter_is_a_lost_meter(machine):
    gpu = FakeGpu()
    gpu.failures = {ENERGY: NOT_SUPPORTED}
    machine.put(gpu)
    meter = machine.open()
    gpu.failures = {FIELDS: LOST}
    with pytest.raises(MeterLostError, match="the GPU is lost"):
        meter.read()


def test_all_gpus_are_summed_and_one_that_is_lost_is_a_break(machine):
    gpus = FakeGpu(150.0, update_s=0.001), FakeGpu(50.0)
    gpus[1].failures = {ENERGY: NOT_SUPPORTED}
    machine.put(*gpus)
    meter = machine.open("all")
    assert [(c.domain, c.kind, c.headline) for c in meter.info.channels] == [
        ("gpu0", "counter", True),
        ("gpu1", "sensor", True),
    ]
    assert meter.info.rule == "nvml-gpus/1"
    gpus[1].failures = {FIELDS: LOST}
    counter, sensor = meter.read()
    assert counter.energy_j == 0.0
    assert (sensor.domain, sensor.power_w) == ("gpu1", None)
    gpus[0].failures = {ENERGY: LOST}
    with pytest.raises(MeterLostError):
        meter.read()


@pytest.mark.parametrize(
    ("argument", "visible", "domain"),
    [
        ("", None, "gpu0"),
        ("", "1,0", "gpu1"),
        ("", "GPU-bbbb", "gpu1"),
        ("", "GPU-bbbb-2,GPU-aaaa", "gpu1"),
        ("0", "1", "gpu0"),
        ("GPU-aaaa", "1", "gpu0"),
        ("gpu-AAAA-1", None, "gpu0"),
        ("00000000:02:00.0", None, "gpu1"),
        ("01:00.0", None, "gpu0"),
    ],
)
def test_a_gpu_is_found_by_index_uuid_and_slot(machine, monkeypatch, argument, visible, domain):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    machine.put(FakeGpu(uuid="GPU-aaaa-1"), FakeGpu(uuid="GPU-bbbb-2"))
    assert only(machine.open(argument).info.channels).domain == domain


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("2", "there is no GPU 2: NVML knows 2"),
        ("4294967296", "0 GPUs have a UUID that begins with"),
        ("09:00.0", "there is no GPU at '09:00.0'"),
        ("GPU-", "2 GPUs have a UUID that begins with 'GPU-'"),
        ("nonsense", "0 GPUs have a UUID that begins with 'nonsense'"),
    ],
)
def test_a_gpu_that_is_not_there_is_said(machine, argument, reason):
    library = machine.put(FakeGpu(), FakeGpu())
    with pytest.raises(MeterError) as caught:
        machine.open(argument)
    assert caught.value.reason.startswith(reason)
    assert caught.value.remedy == "nvidia-smi -L"
    assert library.running == 0


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles", "99999999999999999999"])
def test_gpus_that_are_hidden_from_cuda_are_not_guessed(machine, monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    machine.put(FakeGpu())
    with pytest.raises(MeterError, match="hides all GPUs: name one"):
        machine.open()
    assert machine.open("0").info.source == "nvml"


def test_different_gpus_may_be_counted_differently(machine, monkeypatch):
    machine.put(FakeGpu(name="Small"), FakeGpu(name="Large"))
    assert any("CUDA_DEVICE_ORDER" in note for note in machine.open().info.notes)
    assert not any("CUDA_DEVICE_ORDER" in note for note in machine.open("0").info.notes)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert not any("CUDA_DEVICE_ORDER" in note for note in machine.open().info.notes)


@pytest.mark.parametrize(("uuid", "remedy"), [("MIG-known", "nvml:1 "), ("MIG-else", "nvml:INDEX ")])
def test_a_mig_instance_has_no_power_of_its_own(machine, monkeypatch, uuid, remedy):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", uuid)
    machine.put(FakeGpu(), FakeGpu())
    with pytest.raises(MeterError) as caught:
        machine.open()
    assert f"{uuid} is a MIG instance" in caught.value.reason
    assert remedy in caught.value.remedy


def test_a_divided_gpu_is_measured_as_a_whole(machine):
    gpu = FakeGpu()
    gpu.mig = True
    machine.put(gpu)
    assert "gpu0 is divided (MIG): the power is that of all its instances" in machine.open().info.notes


@pytest.mark.parametrize(("code", "remedy"), [(NOT_SUPPORTED, "an external meter"), (4, "run as a user who may open")])
def test_a_gpu_that_tells_no_power_is_refused(machine, code, remedy):
    gpu = FakeGpu(name="GT 710")
    gpu.failures = {ENERGY: code, POWER: code, FIELDS: code}
    library = machine.put(gpu)
    with pytest.raises(MeterError) as caught:
        machine.open()
    assert caught.value.reason == f"NVML does not report the power of gpu0 (GT 710): error {code}"
    assert caught.value.remedy.startswith(remedy)
    assert library.running == 0


@pytest.mark.parametrize(
    ("code", "remedy"), [(9, "modprobe"), (12, "--gpus all"), (18, "reboot"), (4, "/dev/nvidiactl"), (999, None)]
)
def test_a_library_that_does_not_start_says_what_helps(machine, code, remedy):
    machine.put(FakeGpu()).failures = {"nvmlInit": code}
    with pytest.raises(MeterError, match=f"NVML cannot be used: error {code}") as caught:
        machine.open()
    assert caught.value.remedy is None if remedy is None else remedy in caught.value.remedy


def test_no_gpu_at_all(machine):
    machine.put()
    with pytest.raises(MeterError, match="NVML knows no GPU"):
        machine.open("all")
    with pytest.raises(MeterError, match="there is no GPU 0: NVML knows 0"):
        machine.open()


def test_other_errors_at_opening_leave_nothing_open(machine):
    library = machine.put(FakeGpu())
    library.failures = {"nvmlDeviceGetCount": 999}
    with pytest.raises(MeterError, match="NVML does not tell about the GPU: error 999"):
        machine.open()
    assert library.running == 0


def test_limits_and_mig_that_nobody_knows_are_no_obstacle(machine):
    gpu = FakeGpu()
    gpu.failures = {"nvmlDeviceGetPowerManagementLimitConstraints": 3, "nvmlDeviceGetMigMode": 3}
    machine.put(gpu)
    assert only(machine.open().info.channels).most_w == 5_000.0


def test_closing_twice_lets_go_once(machine):
    library = machine.put(FakeGpu())
    meter = machine.open()
    assert library.running == 1
    meter.close()
    meter.close()
    assert library.running == 0
    library.running = 1
    library.failures = {"nvmlShutdown": 1}
    machine.open().close()


def test_tegra_is_never_asked(board, machine):
    board.write("etc/nv_tegra_release", "# R36 (release)\n")
    machine.put(FakeGpu()).failures = {"nvmlInit": 999}
    with pytest.raises(MeterError, match="does not report power on Jetson boards: use the board's own sensors"):
        machine.open()
    assert not nvml.probe().readable


def test_the_package_is_asked_for(board, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingExtraError, match=r"devprof\[nvml\]"):
        nvml.open_meter("")


def test_the_unofficial_package_is_told_apart(board, monkeypatch):
    other = types.ModuleType("pynvml")
    other.__path__ = ["somewhere/pynvml"]
    monkeypatch.setitem(sys.modules, "pynvml", other)
    with pytest.raises(MeterError, match="unofficial package pynvml") as caught:
        nvml.open_meter("")
    assert "nvidia-ml-py" in caught.value.remedy


def test_the_probe_looks_at_files_only(board, monkeypatch):
    monkeypatch.setattr(nvml.importlib.util, "find_spec", lambda name: object())
    assert nvml.probe().detail == "no NVIDIA driver (/dev/nvidiactl is absent)"
    board.write("dev/nvidiactl", "")
    assert nvml.probe() == nvml.SourceState("nvml", "NVIDIA GPU (NVML)", True, "driver loaded, unknown GPU(s)")
    board.write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu")
    board.write("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t Some\n")
    assert nvml.probe().detail == "driver 570.86.15, 1 GPU(s)"
    monkeypatch.setattr(nvml.importlib.util, "find_spec", lambda name: None)
    state = nvml.probe()
    assert not state.readable
    assert state.remedy == "pip install 'devprof[nvml]'"


def test_a_counter_is_compared_with_the_range_of_a_changing_power():
    steps = [(n * 20_000_000, n * 2_000) for n in range(10)]
    assert fault_of(Trace(steps, [50_000, 180_000])) is None
    assert fault_of(Trace(steps, [50_000, 80_000])) == "counted 100 W while the sensor saw 50 to 80 W"
    assert fault_of(Trace(steps, [121_000])) is None
    assert fault_of(Trace(steps, [126_000])) is not None
    assert fault_of(Trace()) == "did not rise twice within 0.3 s"


@pytest.fixture(scope="session")
def stub(tmp_path_factory):
    folder = build_stub_nvml(tmp_path_factory.mktemp("stub-nvml"))
    if folder is None:
        pytest.skip("the stub of libnvidia-ml.so.1 needs a C compiler (cc)")
    pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    return folder


SCRIPT = """
import dataclasses, json, sys, time
from devprof.meters.base import MeterError
from devprof.meters.nvml import open_meter
try:
    meter = open_meter(sys.argv[1])
    readings = list(meter.read())
    while readings[-1].t_ns - readings[0].t_ns < 400_000_000:
        time.sleep(0.02)
        readings += meter.read()
    info = dataclasses.asdict(meter.info)
    meter.close()
    print(json.dumps({"info": info, "readings": [dataclasses.asdict(reading) for reading in readings]}))
except MeterError as error:
    print(json.dumps({"error": type(error).__name__ + ": " + str(error)}))
"""


def measured(stub, argument="", **settings):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_")}
    environment |= stub_nvml_environment(stub, **settings)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, argument], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_real_library_counts_joules(stub):
    found = measured(stub)
    (channel,) = found["info"]["channels"]
    assert channel["kind"] == "counter"
    assert found["info"]["detail"] == "Stub GPU (GPU-00000000-0000-0000-0000-000000000000); driver 999.1"
    first, last = found["readings"][0], found["readings"][-1]
    seconds = (last["t_ns"] - first["t_ns"]) / 1e9
    # The library counts in steps of 20 ms: one at each end.
    assert last["energy_j"] == pytest.approx(150 * seconds, abs=150 * 0.025)


@pytest.mark.parametrize("instant", [0, 1])
@pytest.mark.parametrize("counter", ["frozen", "absent"])
def test_a_real_library_is_sampled_where_its_counter_is_no_good(stub, counter, instant):
    found = measured(stub, "0000:02:00.0", watts="150,30", counter=counter, instant=instant)
    (channel,) = found["info"]["channels"]
    assert (channel["domain"], channel["kind"]) == ("gpu1", "sensor")
    assert channel["update_s"] == (0.1 if instant else 1.0)
    assert {reading["power_w"] for reading in found["readings"]} == {30.0}


def test_a_real_library_that_loses_its_gpu(stub, tmp_path):
    (tmp_path / "lost").touch()
    assert measured(stub, lost=tmp_path / "lost")["error"].startswith("MeterError: NVML does not tell about the GPU")


def test_a_machine_without_the_library(stub, tmp_path):
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    found = measured(tmp_path)
    assert found["error"].startswith("MeterError: NVML cannot be used")
    assert "--gpus all" in found["error"]
