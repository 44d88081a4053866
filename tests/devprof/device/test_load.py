import os

import pytest
from fake_boards import FakeBoard
from hypothesis import given
from hypothesis import strategies as st

from devprof.device.load import CpuTimes, other_cpu_share, read_cpu_times

seconds = st.floats(0, 1e6)
times = st.builds(CpuTimes, seconds, seconds, seconds)


def test_waiting_is_idle_and_the_time_of_guests_is_not_counted_twice(tmp_path, monkeypatch):
    tick = os.sysconf("SC_CLK_TCK")
    board = FakeBoard(tmp_path, monkeypatch)
    fields = [10, 20, 30, 1000, 500, 1, 2, 7, 9, 9]
    board.write("proc/stat", "cpu  " + " ".join(str(field * tick) for field in fields) + "\ncpu0 1 2 3 4\n")
    assert read_cpu_times() == CpuTimes(busy_s=63.0, idle_s=1500.0, steal_s=7.0)


@pytest.mark.parametrize("text", ["", "cpu", "cpu 1 2 3", "cpu0 1 2 3 4 5", "cpu 1 2 x 4 5", "intr 1 2 3 4"])
def test_counters_that_make_no_sense_are_none(tmp_path, monkeypatch, text):
    FakeBoard(tmp_path, monkeypatch).write("proc/stat", text)
    assert read_cpu_times() is None


def test_old_kernels_have_fewer_counters(tmp_path, monkeypatch):
    tick = os.sysconf("SC_CLK_TCK")
    FakeBoard(tmp_path, monkeypatch).write("proc/stat", f"cpu {tick} 0 {tick} {5 * tick}\n")
    assert read_cpu_times() == CpuTimes(2.0, 5.0, 0.0)


def test_this_machine_counts():
    times = read_cpu_times()
    assert times.busy_s > 0
    assert times.idle_s > 0


def test_what_others_and_the_hypervisor_took_is_a_share_of_all_cpus():
    before = CpuTimes(100.0, 50.0, 0.0)
    # 20 s of four CPUs: 12 s were this process, 3 s others, 1 s was stolen.
    assert other_cpu_share(before, CpuTimes(115.0, 54.0, 1.0), own_cpu_s=12.0) == 0.2
    assert other_cpu_share(before, CpuTimes(112.0, 58.0, 0.0), own_cpu_s=12.0) == 0.0


def test_a_coarse_tick_makes_no_negative_share():
    assert other_cpu_share(CpuTimes(0.0, 0.0, 0.0), CpuTimes(1.0, 1.0, 0.0), own_cpu_s=1.01) == 0.0


def test_a_window_without_a_tick_has_no_share():
    moment = CpuTimes(1.0, 1.0, 1.0)
    assert other_cpu_share(moment, moment, own_cpu_s=0.001) is None


@given(times, times, seconds)
def test_the_share_is_between_none_and_all(before, after, own):
    share = other_cpu_share(before, after, own)
    assert share is None or 0.0 <= share <= 1.0
