from __future__ import annotations

import json

import pytest

from devprof.report.configurations import Setting, comparable, configurations, devices_of
from devprof.report.runs import arrange, describe, labels_of


def only(runs):
    (one,) = configurations(runs)
    return one


def test_processes_of_one_configuration_are_one_mark(new_run):
    one = only([new_run(repeat=index, step_s=step_s) for index, step_s in enumerate((0.5, 0.4, 0.8))])
    assert (one.step_s, one.low_s, one.high_s) == (0.5, 0.4, 0.8)
    told = describe(one)
    assert (told["processes"], told["between"], told["steps"]) == (3, "80.0%", 120)


def test_of_one_process_the_line_is_that_of_its_steps(new_run):
    one = only([new_run(step_s=0.5, step_s_p05=0.4, step_s_p95=0.7)])
    assert (one.low_s, one.high_s) == (0.4, 0.7)
    assert describe(one)["between"] is None
    bare = only([new_run(step_s=0.5, step_s_p05=None, step_s_p95=None)])
    assert (bare.low_s, bare.high_s) == (0.5, 0.5)


@pytest.mark.parametrize(
    "changes", [{"device_key": "other"}, {"threads": 1}, {"mode": "head"}, {"batch": 9}, {"data": "jpeg"}]
)
def test_what_differs_in_a_setting_is_another_configuration(new_run, changes):
    assert len(configurations([new_run(), new_run(**changes)])) == 2


def test_the_interval_of_several_processes_is_the_envelope_of_theirs(new_run):
    intervals = [(0.4, 0.6), (0.5, 0.7)]
    runs = [
        new_run(repeat=index, step_s_ci_low=low, step_s_ci_high=high) for index, (low, high) in enumerate(intervals)
    ]
    assert describe(only(runs))["interval"] == "400 ms to 700 ms"


def test_a_process_that_swapped_counts_only_where_no_other_finished(new_run):
    swapped = new_run(repeat=1, step_s=9.0, latency_valid=False)
    good = only([new_run(step_s=0.5, latency_valid=True), swapped])
    assert (good.step_s, good.kind) == (0.5, "measured")
    bad = only([swapped])
    assert (bad.step_s, bad.kind) == (9.0, "swapped")
    assert "swapped: the step time is not the model's own" in describe(bad)["remarks"]


def test_failed_processes_are_told_beside_those_that_finished(new_run):
    one = only([new_run(), new_run(repeat=1, status="oom"), new_run(repeat=2, status="oom")])
    assert (len(one.timed), len(one.failed)) == (1, 2)
    assert describe(one)["status"] == "ok, 2 of 3 out of memory"
    assert describe(one)["error"] == "the kernel ended the process: out of memory"
    assert describe(only([new_run(status="timeout")]))["status"] == "timed out"


def test_memory_is_the_highest_of_all_processes(new_run):
    one = only([new_run(rss_peak_bytes=5), new_run(repeat=1, rss_peak_bytes=7, status="timeout"), new_run(repeat=2)])
    assert one.peak_bytes == new_run().rss_peak_bytes
    assert only([new_run(rss_peak_bytes=5), new_run(repeat=1, rss_peak_bytes=7)]).peak_bytes == 7


def test_remarks_say_how_many_processes_they_are_about(new_run):
    codes = json.dumps(["few-steps"])
    one = only([new_run(warnings=codes, throttled="confirmed"), new_run(repeat=1, warnings=codes, throttled="none")])
    assert describe(one)["remarks"] == "throttled: confirmed (1 of 2); few-steps"
    assert one.throttled
    assert describe(only([new_run(throttled="none")]))["remarks"] is None


def test_published_rows_are_a_device_of_their_own(new_run, new_published):
    mine, theirs = configurations([new_run(device="pi-4"), new_published()])
    assert (mine.device, mine.kind, mine.published) == ("pi-4 · cpu", "measured", None)
    assert (theirs.device, theirs.kind, theirs.published) == ("pi-4 · cpu (published)", "published", "someone/boards")
    assert devices_of([mine, theirs]) == ("pi-4 · cpu", "pi-4 · cpu (published)")


@pytest.mark.parametrize("source", [None, "devprof", "timm benchmark.py", "pyperf"])
def test_a_tool_is_not_somebody_else(new_run, source):
    assert only([new_run(source=source)]).published is None


def test_power_modes_are_devices_of_their_own(new_run):
    assert only([new_run(power_mode="15W")]).device == "pi-5 · cpu · 15W"


def test_models_are_compared_in_the_setting_that_most_share(new_run):
    runs = [new_run("a"), new_run("b"), new_run("a", batch=32), new_run("c", batch=32, status="oom")]
    setting, found = comparable(configurations(runs))
    assert setting == Setting(8, 224)
    assert str(setting) == "batch 8, 224 × 224"
    assert [one.first.model for one in found] == ["a", "b"]


def test_of_equally_common_settings_the_larger_is_compared(new_run):
    assert comparable(configurations([new_run(), new_run(batch=32)]))[0] == Setting(32, 224)
    assert str(Setting(4, None)) == "batch 4"


def test_inference_and_failures_are_not_compared(new_run):
    assert comparable(configurations([new_run(task="infer"), new_run(status="oom")])) == (None, ())


def test_labels_name_only_what_differs_within_a_model(new_run):
    runs = [new_run("a"), new_run("b", image_size=96), new_run("b", image_size=32, threads=1), new_run("b", threads=2)]
    assert labels_of(configurations(runs)) == (
        "a",
        "b · 96 px · 4 threads",
        "b · 32 px · 1 thread",
        "b · 224 px · 2 threads",
    )


def test_modes_share_a_row_and_full_training_places_it(new_run):
    runs = [new_run("a", "head", step_s=0.1), new_run("a", step_s=2.0), new_run("b", step_s=1.0), new_run("c", "head")]
    layout = arrange(configurations(runs))
    assert list(layout.labels.values()) == ["c", "b", "a"]
    assert layout.row_of == ("r2", "r2", "r1", "r0")
