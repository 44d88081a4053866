"""``devprof measure --meter X``, the whole way, with sources whose true energy is known by construction."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from click.testing import CliRunner
from fake_meters_chip import FakePi5, SteadyMeter, build_stub_nvml, stub_nvml_environment
from fake_meters_external import FifoLogger, FileLogger, Plug, Profile, ScpiInstrument, SerialLogger, TcpLogger
from fake_meters_jetson import JetsonTree, JtopService
from fake_meters_kernel import FakeBattery, FakeChip, FakeRapl
from real_time import advancing

from devprof.cli import main
from devprof.measure import harness
from devprof.measure.child import run_child
from devprof.measure.runspans import RunSpans
from devprof.meters.base import now_ns
from devprof.meters.sampling import Sampling
from devprof.meters.serve import serve
from devprof.records import Measurement, PowerSample
from devprof.store.folder import read_records

pytestmark = pytest.mark.slow

STUB = (sys.executable, str(Path(__file__).parents[2] / "support" / "timed_stub.py"))
# Half a second of each, again and again.
UNEVEN = Profile((0.5, 20.0), (0.5, 60.0))
STEADY_W = 60.0


@pytest.fixture(autouse=True)
def _quick_child(monkeypatch):
    def run(request, timeout_s, *, worker, respond):
        return run_child(request, timeout_s, worker=STUB if worker == harness.WORKER else worker, respond=respond)

    monkeypatch.setattr(harness, "run_child", run)


@dataclass
class Source:
    """A meter: how ``--meter`` names it, and what its device used between two moments."""

    spec: str
    true_j: object
    idle: str = "0.3s"
    own_error_rel: float = 0.0


def advanced(fake, stack, true_j=None):
    fake.true_j = true_j or fake.true_j
    return stack.enter_context(advancing(fake)).true_j


def steadily(watts):
    return lambda begin_ns, end_ns: watts * (end_ns - begin_ns) / 1e9


def rapl(folder, stack, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(folder))
    fake = FakeRapl(
        folder, {"package-0": 1.0, "package-1": 1.0, "package-0/dram": 5.0, "psys": 99.0}, range_uj=9_000_000
    )
    # Each package uses half; its counter goes round every few tenths of a second.
    half = Profile(*((seconds, watts / 2) for seconds, watts in UNEVEN.steps))
    fake.watts |= {"package-0": half, "package-1": half}
    return Source("rapl", advanced(fake, stack))


def ina(folder, stack, monkeypatch):
    tree = JetsonTree(folder, "orin-nx-jp6", STEADY_W)
    monkeypatch.setenv("DEVPROF_SYSFS", str(tree.sys))
    return Source("ina", advanced(tree, stack, lambda t_s: tree.energy_j(0.0, t_s)))


def jtop(folder, stack, monkeypatch):
    tree = JetsonTree(folder, "orin-nx-jp6", STEADY_W)
    monkeypatch.setenv("DEVPROF_SYSFS", str(tree.sys))
    service = stack.enter_context(JtopService(tree))
    return Source(f"jtop:{service.socket}", advanced(tree, stack, lambda t_s: tree.energy_j(0.0, t_s)), idle="1.5s")


def nvml(folder, stack, monkeypatch):
    library = build_stub_nvml(folder)
    if library is None:
        pytest.skip("there is no C compiler to build the stub library with")
    for name, value in stub_nvml_environment(library, watts="150").items():
        monkeypatch.setenv(name, value)
    # NVIDIA states 5 % and 5 W: no window makes that smaller.
    return Source("nvml:0", steadily(150.0), own_error_rel=0.05 + 5 / 150)


def pmic(folder, stack, monkeypatch):
    pi = FakePi5(folder, lambda _: 7.0)
    for name, value in pi.environment().items():
        monkeypatch.setenv(name, value)
    return Source("pmic", advanced(pi, stack, lambda t_s: 7.0 * t_s))


def hwmon(folder, stack, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(folder))
    return Source("hwmon:ina226", advanced(FakeChip(folder, 3, "ina226", {"power1": STEADY_W}, update_ms=10), stack))


def battery(folder, stack, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(folder))
    return Source("battery", advanced(FakeBattery(folder, watts=STEADY_W), stack), idle="1.5s")


def csv(folder, stack, monkeypatch):
    logger = FileLogger(folder / "log.csv", UNEVEN)
    logger.begin()
    return Source(f"csv:{folder / 'log.csv'}", advanced(logger, stack, UNEVEN.energy_j))


def pipe(folder, stack, monkeypatch):
    logger, opened = FifoLogger(folder / "fifo", UNEVEN), threading.Event()

    def begin():
        # Opening a pipe waits for its reader.
        logger.open()
        logger.begin()
        opened.set()

    opening = threading.Thread(target=begin)
    opening.start()
    stack.callback(opening.join)

    def advance(t_s):
        if opened.is_set():
            # Its reader ends before it does.
            with contextlib.suppress(BrokenPipeError):
                logger.advance(t_s)

    shown = SimpleNamespace(advance=advance)
    return Source(f"pipe:{folder / 'fifo'}", advanced(shown, stack, UNEVEN.energy_j))


def lines(folder, stack, monkeypatch):
    logger = TcpLogger(UNEVEN, greets=True)
    stack.callback(logger.close)
    return Source(f"lines:{logger.address}", advanced(logger, stack, UNEVEN.energy_j))


def serial(folder, stack, monkeypatch):
    logger = SerialLogger(UNEVEN)
    stack.callback(logger.close)
    file = folder / "meter.toml"
    file.write_text(
        f'format = 1\nsource = "serial:{logger.port}"\nupdate_s = 0.01\n'
        'columns = ["t", "n", "u", "i", "dp", "dn", "c", "e", "q"]\ndelimiter = "space"\n'
        '[time]\nclock = "utc"\ncolumn = "t"\n[[channels]]\ndomain = "usb"\nvoltage = "u"\ncurrent = "i"\n'
    )
    return Source(f"toml:{file}", advanced(logger, stack, UNEVEN.energy_j))


def scpi(folder, stack, monkeypatch):
    instrument = ScpiInstrument(UNEVEN)
    stack.callback(instrument.close)
    return Source(f"scpi:wt300@{instrument.resource}", advanced(instrument, stack, UNEVEN.energy_j))


def shelly(folder, stack, monkeypatch):
    plug = Plug("shelly2", Profile((1, STEADY_W)))
    stack.callback(plug.close)
    return Source(f"shelly:{plug.address}", advanced(plug, stack, lambda t_s: STEADY_W * t_s), idle="2.5s")


def tcp(folder, stack, monkeypatch):
    over, ready, found = threading.Event(), threading.Event(), []
    meter = SteadyMeter(STEADY_W, now_ns)

    def listening(*address):
        found.append(address)
        ready.set()

    thread = threading.Thread(
        target=serve, args=(meter, "127.0.0.1", 0), kwargs={"until": over.is_set, "ready": listening}
    )
    thread.start()
    stack.callback(thread.join)
    stack.callback(over.set)
    assert ready.wait(10)
    host, port = found[0][:2]
    return Source(f"tcp://{host}:{port}", steadily(STEADY_W))


def measured(folder, *options, code=0):
    command = ["measure", "seed:net", "--min-time", "0.5s", "--max-window", "60s", "-o", str(folder / "runs"), "--json"]
    result = CliRunner().invoke(main, [*command, *options])
    assert result.exit_code == code, result.output
    (run,) = read_records(folder / "runs", "runs", Measurement)
    return run, result.stderr


@pytest.mark.parametrize(
    "make", [ina, jtop, rapl, nvml, pmic, hwmon, battery, csv, pipe, lines, serial, scpi, shelly, tcp]
)
def test_the_energy_of_a_run_is_that_of_the_device_within_its_bound(make, tmp_path, monkeypatch):
    with contextlib.ExitStack() as stack:
        source = make(tmp_path, stack, monkeypatch)
        run, said = measured(tmp_path, "--meter", source.spec, "--idle", source.idle)
    begin_ns, end_ns = RunSpans.from_json(run.spans).spans_ns["window"]
    true_j = source.true_j(begin_ns, end_ns)
    assert run.status == "ok"
    assert run.energy_source in {source.spec.split(":")[0], "serial", "tcp+bench"}
    assert abs(run.energy_j - true_j) <= run.energy_error_rel * true_j + 2 * STEADY_W * 0.01
    assert run.energy_error_rel - source.own_error_rel <= 0.02
    assert run.energy_end == ("meter" if source.own_error_rel else "bound")
    assert run.energy_per_step_j == pytest.approx(run.energy_j / run.steps)
    assert run.power_coverage >= 0.95
    assert run.idle_power_w > 0
    assert run.power_rejected == 0
    assert run.energy_rule
    assert f"({run.energy_rule})" in said
    samples = read_records(tmp_path / "runs", "power", PowerSample)
    assert {sample.source for sample in samples} == {run.energy_source}


def test_a_service_that_is_killed_in_mid_run_costs_the_energy_and_nothing_else(tmp_path, monkeypatch):
    with contextlib.ExitStack() as stack:
        tree = JetsonTree(tmp_path, "agx-orin-jp6", STEADY_W)
        monkeypatch.setenv("DEVPROF_SYSFS", str(tree.sys))
        service = stack.enter_context(JtopService(tree))
        advanced(tree, stack, lambda t_s: tree.energy_j(0.0, t_s))
        killer = threading.Timer(4.0, service.kill)
        killer.start()
        stack.callback(killer.join)
        options = ("--meter", f"jtop:{service.socket}", "--idle", "0.2s", "--min-time", "6s", "--max-window", "7s")
        run, _ = measured(tmp_path, *options)
    assert (run.status, run.energy_source, run.energy_j, run.energy_per_step_j) == ("ok", "jtop", None, None)
    assert run.power_coverage < 0.95
    assert "power-lost" in run.warnings
    assert run.step_s == pytest.approx(0.005, rel=0.5)
    assert run.latency_valid


def test_a_meter_that_lies_is_not_believed(tmp_path):
    def row(t_s, start_utc_s, _profile):
        now_s = start_utc_s + t_s
        lies = {7: f"{now_s:.3f},-40", 23: f"{now_s:.3f},1000000", 41: f"{now_s - 9:.3f},60"}
        return lies.get(round(t_s * 100) % 50, f"{now_s:.3f},60")

    logger = FileLogger(tmp_path / "log.csv", Profile((1, STEADY_W)), row=row, header="timestamp,power_w")
    logger.begin()
    with advancing(logger):
        run, _ = measured(tmp_path, "--meter", f"csv:{tmp_path / 'log.csv'}", "--idle", "0.3s")
    assert run.power_rejected >= 3
    assert "power-rejected" in run.warnings
    assert run.power_w == pytest.approx(STEADY_W, rel=max(1e-9, run.energy_error_rel))


def test_nothing_outlives_a_command_that_was_killed(tmp_path):
    command = [sys.executable, "-m", "devprof", "measure", "seed:net", "--meter", "rapl", "-o", str(tmp_path / "runs")]
    with advancing(FakeRapl(tmp_path, {"package-0": 10.0})):
        own = os.environ | {"DEVPROF_SYSFS": str(tmp_path)}
        process = subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started = wait_for(
            lambda: (found := psutil.Process(process.pid).children(recursive=True)) and len(found) > 1 and found
        )
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive


def wait_for(look):
    end_s = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    return found


def test_without_a_meter_there_is_no_energy_and_nothing_is_made_up(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path))
    run, _ = measured(tmp_path)
    figures = (run.energy_j, run.energy_per_step_j, run.energy_net_j, run.power_w, run.idle_power_w, run.power_coverage)
    assert (run.energy_source, figures) == ("none", (None,) * 6)
    assert run.warnings is None or "power" not in run.warnings


@pytest.mark.parametrize(
    ("spec", "said"), [("rapl", "RAPL"), ("raple", "closest: rapl"), ("csv:/nowhere.csv", "nowhere")]
)
def test_a_meter_that_cannot_be_opened_ends_the_sweep_before_it_begins(tmp_path, monkeypatch, spec, said):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path))
    result = CliRunner().invoke(main, ["measure", "seed:net", "--meter", spec, "-o", str(tmp_path / "runs")])
    assert result.exit_code == 1
    assert said in result.stderr
    assert not read_records(tmp_path / "runs", "runs", Measurement)


def test_a_meter_is_shared_until_it_is_interrupted(tmp_path):
    command = [sys.executable, "-m", "devprof", "meter", "serve", "rapl", "--host", "127.0.0.1", "--port", "0"]
    with advancing(FakeRapl(tmp_path, {"package-0": 10.0})) as shown:
        own = os.environ | {"DEVPROF_SYSFS": str(tmp_path)}
        process = subprocess.Popen(command, env=own, stderr=subprocess.PIPE, text=True)
        said = process.stderr.readline()
        address = re.search(r"127\.0\.0\.1:\d+", said)[0]
        with Sampling(f"tcp:{address}") as sampling:
            assert sampling.info.rule == "rapl-packages/1"
            sampling.now()
            begin = now_ns()
            time.sleep(1.0)
            end = now_ns()
            wait_for(lambda: sampling.now() and sampling.readings()[-1].t_ns > end)
            energy = sampling.energy((begin, end))
        true_j = shown.true_j(begin, end)
        process.terminate()
        assert process.wait(10) == 0
        process.stderr.close()
    assert abs(energy.energy_j - true_j) <= energy.error_rel * true_j + 2 * 10 * 0.02
