"""From what a child delivers to the columns of a row; and the warnings, one by one."""

import dataclasses
import json

import pytest

from devprof.device.state import State
from devprof.device.throttle import Throttling
from devprof.measure.checks import Warn, check_run, is_latency_valid
from devprof.measure.protocol import Finished, MemoryPeaks, WindowCounts
from devprof.measure.rows import finished_columns, state_columns, step_rows
from devprof.measure.statistics import summarize

QUIET = Finished(
    warmup_ns=[90, 50],
    step_ns=[50] * 30,
    phase_ns=[[1, 20, 25, 4], [3, 22, 27, 6], [2, 21, 26, 5]],
    warmup_capped=False,
    threads_changed=False,
    memory=MemoryPeaks(reset=True, rss_first_step_bytes=700, rss_steady_bytes=600, pss_end_bytes=500),
    window=WindowCounts(0, 0, 12, 0.01),
)


def columns(finished=QUIET, throttled=None, *, cool_enough=True):
    return finished_columns(finished, throttled=throttled, cool_enough=cool_enough)


def test_times_are_seconds_and_the_peak_is_the_larger_one():
    row = columns()
    assert (row["step_s"], row["first_step_s"]) == (50e-9, 90e-9)
    assert (row["data_s"], row["forward_s"], row["backward_s"], row["optimizer_s"]) == (2e-9, 21e-9, 26e-9, 5e-9)
    assert (row["rss_first_step_bytes"], row["rss_steady_bytes"], row["rss_peak_bytes"]) == (700, 600, 700)
    assert (row["steps"], row["warmup_steps"], row["involuntary_switches"]) == (30, 2, 12)
    assert row["warnings"] is None
    assert row["latency_valid"]


def test_what_the_system_does_not_say_is_null():
    memory, window = MemoryPeaks(reset=True), WindowCounts()
    row = columns(dataclasses.replace(QUIET, memory=memory, window=window, phase_ns=[]))
    for column in ("rss_peak_bytes", "swapped_in_bytes", "other_cpu_share", "accelerator_peak_bytes"):
        assert row[column] is None
    assert "forward_s" not in row


def test_unified_memory_is_the_sum_because_the_chips_are_the_same():
    memory = dataclasses.replace(QUIET.memory, unified=True, accelerator_reserved_bytes=1000)
    assert columns(dataclasses.replace(QUIET, memory=memory))["unified_memory_bytes"] == 1700
    assert columns()["unified_memory_bytes"] is None


def warned(finished=QUIET, throttled=None, *, cool_enough=True):
    figures = summarize([step / 1e9 for step in finished.step_ns])
    return set(check_run(figures, finished, throttled=throttled, cool_enough=cool_enough))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, set()),
        ({"step_ns": [50] * 9}, {Warn.FEW_STEPS}),
        ({"step_ns": [50, 80, 50, 110, 50, 90, 120, 50, 60, 100, 70, 130]}, {Warn.WIDE_INTERVAL}),
        ({"step_ns": [50] * 30 + [60] * 30}, {Warn.NOT_STEADY, Warn.WIDE_INTERVAL, Warn.AUTOCORRELATED}),
        ({"step_ns": ([50, 51, 49, 50, 52, 48, 50] * 10 + [500] * 5) * 2}, {Warn.OUTLIERS}),
        ({"warmup_capped": True}, {Warn.WARM_UP_CAPPED}),
        ({"threads_changed": True}, {Warn.THREADS_CHANGED}),
        ({"memory": MemoryPeaks(reset=False)}, {Warn.PEAK_NOT_RESET}),
        ({"window": WindowCounts(other_cpu_share=0.06)}, {Warn.BUSY_MACHINE}),
        ({"window": WindowCounts(swapped_in_bytes=4096)}, {Warn.SWAPPED_IN}),
    ],
)
def test_each_trouble_has_its_warning(change, expected):
    assert warned(dataclasses.replace(QUIET, **change)) >= expected
    if not expected:
        assert warned(dataclasses.replace(QUIET, **change)) == set()


def test_heat_has_its_warnings():
    assert warned(throttled="confirmed") == {Warn.THROTTLED}
    assert warned(throttled="suspected") == {Warn.THROTTLE_SUSPECTED}
    assert warned(throttled="none") == set()
    assert warned(cool_enough=False) == {Warn.HOT_START}


def test_step_times_are_not_valid_when_memory_came_back_from_swap():
    assert not is_latency_valid(dataclasses.replace(QUIET, window=WindowCounts(swapped_in_bytes=4096)))
    assert is_latency_valid(dataclasses.replace(QUIET, window=WindowCounts(swapped_in_bytes=None)))


def test_every_warning_says_what_it_means_and_has_a_code():
    codes = [warning.code for warning in Warn]
    assert len(set(codes)) == len(codes)
    assert all(warning.value and not warning.value.endswith(".") for warning in Warn)


def test_raw_steps_keep_their_order_and_kind():
    rows = step_rows("r", QUIET)
    assert [row.index for row in rows] == list(range(35))
    assert [row.kind for row in rows] == ["warmup"] * 2 + ["measured"] * 30 + ["phases"] * 3
    assert (rows[-1].data_ns, rows[-1].forward_ns, rows[-1].backward_ns, rows[-1].optimizer_ns) == (2, 21, 26, 5)
    assert rows[-1].step_ns == 54


def test_heat_and_clocks_before_during_and_after():
    base = State()
    states = [
        dataclasses.replace(base, temperature_c=40.0, frequency_hz=2.4e9, governor="ondemand"),
        dataclasses.replace(base, temperature_c=81.0, frequency_hz=1.5e9),
        dataclasses.replace(base, temperature_c=70.0, frequency_hz=1.8e9),
    ]
    row = state_columns(states, Throttling("confirmed", ("firmware reports under-voltage",)))
    assert (row["temp_start_c"], row["temp_max_c"], row["temp_end_c"]) == (40.0, 81.0, 70.0)
    assert (row["frequency_start_hz"], row["frequency_min_hz"], row["frequency_end_hz"]) == (2.4e9, 1.5e9, 1.8e9)
    assert (row["governor"], row["throttled"]) == ("ondemand", "confirmed")
    assert json.loads(row["throttle_reasons"]) == ["firmware reports under-voltage"]
    assert json.loads(row["state"])["after"]["temperature_c"] == 70.0


def test_a_device_that_says_nothing_of_heat_has_nulls():
    row = state_columns([State(), State()], Throttling(None, ()))
    assert {name for name, value in row.items() if value is not None} == {"state"}
