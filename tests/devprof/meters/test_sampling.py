"""The sampler as a process of its own, on a tree of counters that a thread advances."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from fake_meters_kernel import FakeRapl, Steps
from real_time import advancing

from devprof.meters.base import MeterError, now_ns
from devprof.meters.sampling import Sampling

WATTS = Steps(10.0)


@pytest.fixture
def rapl(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path / "sys"))
    fake = FakeRapl(tmp_path / "sys", {"package-0": WATTS, "psys": 30.0}, range_uj=3_000_000)
    with advancing(fake) as shown:
        yield shown


def gone(pid):
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def wait_for(condition):
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_energy_between_two_looks_is_that_of_the_device(rapl):
    with Sampling("rapl") as sampling:
        assert sampling.info.rule == "rapl-packages/1"
        assert sampling.now()
        begin = now_ns()
        # The counter goes round twice: 3 J are 0.3 s.
        time.sleep(0.8)
        end = now_ns()
        assert sampling.now()
        energy = sampling.energy((begin, end))
        report = sampling.stop()
    true_j = rapl.true_j(begin, end)
    # Beside the bound: what is shown between reading and clock at either edge.
    assert abs(energy.energy_j - true_j) <= energy.error_rel * true_j + 2 * 10 * 0.01
    assert energy.coverage == 1
    assert energy.channels["psys"].power_w == pytest.approx(3 * energy.power_w, rel=0.01)
    assert (report.losses, report.rejected) == (0, {})
    # Twenty times a second and the looks between, not more.
    assert 8 <= report.reads <= 25
    assert 0 < report.cpu_s < 2


def test_a_meter_that_cannot_be_opened_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path))
    with pytest.raises(MeterError, match="RAPL"), Sampling("rapl"):
        pytest.fail("it must not open")
    with pytest.raises(MeterError, match="unknown meter 'raple'; closest: rapl"), Sampling("raple"):
        pytest.fail("it must not open")


def test_a_sampler_that_cannot_start_shows_what_it_said():
    command = (sys.executable, "-c", "raise SystemExit('no such thing')")
    with pytest.raises(MeterError, match="no such thing"), Sampling("rapl", command=command):
        pytest.fail("it must not open")


def test_a_zone_that_vanishes_is_lost_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path / "sys"))
    rapl = FakeRapl(tmp_path / "sys", {"package-0": 10.0, "psys": 30.0})
    with Sampling("rapl") as sampling:
        sampling.now()
        for domain in ("package-0", "psys"):
            rapl.counter(domain).unlink()
        for _ in range(3):
            sampling.now()
        rapl.advance(1.0)
        before = len([one for one in sampling.readings() if one.energy_j is not None])
        wait_for(lambda: len([one for one in sampling.readings() if one.energy_j is not None]) > before + 2)
        report = sampling.stop()
    assert report.losses == 1
    assert "is gone" in report.lost[0]


def test_a_killed_sampler_leaves_its_readings_and_answers_no_more(rapl):
    with Sampling("rapl") as sampling:
        assert sampling.now()
        read = len(sampling.readings())
        os.kill(sampling.pid, signal.SIGKILL)
        assert gone(sampling.pid)
        assert not sampling.now()
        assert len(sampling.readings()) >= read
        assert not sampling.alive
        # What it said of itself last is all there is.
        assert sampling.stop().reads <= read


def test_a_stopped_sampler_does_not_hold_its_caller_for_ever(rapl, monkeypatch):
    monkeypatch.setattr("devprof.meters.sampling._ANSWER_S", 0.1)
    monkeypatch.setattr("devprof.meters.sampling._END_S", 0.1)
    with Sampling("rapl") as sampling:
        os.kill(sampling.pid, signal.SIGSTOP)
        assert not sampling.now()
    assert gone(sampling.pid)


def test_no_sampler_outlives_a_parent_that_was_killed(rapl):
    script = (
        "from devprof.meters.sampling import Sampling\n"
        "import time\n"
        "with Sampling('rapl') as sampling:\n"
        "    print(sampling.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    assert gone(pid)
