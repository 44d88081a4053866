from __future__ import annotations

import pytest

from devprof.report import series
from devprof.report.configurations import configurations
from devprof.report.series import phase_series, phase_times, series_of


def by_run(steps):
    found = {}
    for step in steps:
        found.setdefault(step.run_id, []).append(step)
    return found


def test_a_series_needs_three_batch_sizes(new_run):
    runs = [new_run("a", batch=batch) for batch in (4, 1, 2)] + [new_run("b", batch=batch) for batch in (1, 2)]
    (line,) = series_of(configurations(runs), lambda one: True)
    assert line.label == "a"
    assert [one.first.batch_size for one in line.members] == [1, 2, 4]


def test_failed_batches_belong_to_a_series_but_do_not_make_one(new_run):
    runs = [new_run(batch=batch) for batch in (1, 2)] + [new_run(batch=4, status="oom")]
    assert series_of(configurations(runs), lambda one: one.step_s is not None) == ()
    (line,) = series_of(configurations([*runs, new_run(batch=3)]), lambda one: one.step_s is not None)
    assert [one.first.batch_size for one in line.members] == [1, 2, 3, 4]


def test_modes_and_devices_are_named_where_there_are_several(new_run):
    runs = [
        new_run(mode=mode, device=device, batch=batch)
        for mode in ("full", "head")
        for device in ("x", "y")
        for batch in (1, 2, 3)
    ]
    labels = [one.label for one in series_of(configurations(runs), lambda one: True)]
    assert labels == [f"resnet18 · {mode} · {device} · cpu" for mode in ("full", "head") for device in ("x", "y")]


def test_raw_steps_of_all_processes_give_median_and_band(phase_runs, phase_steps):
    one = configurations(phase_runs)[0]
    forward, backward, optimizer, data = phase_times(one, by_run(phase_steps))
    median_s = one.first.forward_s
    assert (forward.phase, forward.steps) == ("forward", 21)
    assert forward.median_s == pytest.approx(median_s, rel=1e-6)
    assert (forward.low_s, forward.high_s) == pytest.approx((0.91 * median_s, 1.09 * median_s), rel=1e-6)
    assert backward.low_s == backward.high_s == backward.median_s
    assert (optimizer.median_s, data.median_s) == (1e-3, 1e-6)


def test_without_raw_steps_the_medians_stand_without_a_band(phase_runs):
    one = configurations(phase_runs)[0]
    times = phase_times(one, {})
    assert [time.phase for time in times] == ["forward", "backward", "optimizer", "data"]
    assert times[0].median_s == one.first.forward_s
    assert {(time.low_s, time.high_s, time.steps) for time in times} == {(None, None, 0)}


def test_only_the_steps_of_drawn_runs_are_wanted(new_run, phase_runs):
    alone = new_run("alone", forward_s=0.1)
    assert series.phase_runs([*phase_runs, alone]) == {run.run_id for run in phase_runs}
    assert series.phase_runs([alone]) == frozenset()


def test_phases_of_inference_are_none(new_run):
    runs = [new_run(task="infer", batch=batch, forward_s=0.1) for batch in (1, 2, 3)]
    assert phase_series(configurations(runs)) == ()
