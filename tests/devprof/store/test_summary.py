import shutil
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import make_run

from devprof.errors import StoreError
from devprof.records import PowerSample, StepTime
from devprof.store.compact import compact
from devprof.store.folder import write_records, write_run
from devprof.store.sampled import power_by_run
from devprof.store.summary import summarize_folders


def write(folder, *runs):
    write_records(folder, "runs", f"file-{len(list(folder.glob('runs/*')))}", runs)
    return folder


def processes(*steps, **changes):
    return [make_run(f"{changes}{index}", step_s=step, repeat=index, **changes) for index, step in enumerate(steps)]


def only_line(folder, **options):
    (line,) = summarize_folders([folder], **options).lines
    return line


def test_processes_of_one_configuration_are_one_line(tmp_path):
    write(tmp_path, *processes(1.0, 4.0, 2.0, step_s_mad=0.1))
    line = only_line(tmp_path)
    assert (line.processes, line.step_s, line.samples_per_s) == (3, 2.0, 2.0)
    assert line.within_rel == pytest.approx(0.05)
    assert line.between_rel == pytest.approx(1.5)
    assert line.interval == "t of 3 processes"
    assert line.identity["model"] == "seed:cnn"


def test_one_process_says_nothing_of_the_next(tmp_path):
    write(tmp_path, make_run(step_s_ci_low=0.2, step_s_ci_high=0.3))
    line = only_line(tmp_path)
    assert (line.step_s_low, line.step_s_high, line.interval, line.between_rel) == (0.2, 0.3, "one process", None)
    assert line.within_rel is None


@pytest.mark.parametrize(
    "change",
    [
        {"device": "other"},
        {"model": "other"},
        {"mode": "head"},
        {"batch_size": 5},
        {"task": "infer"},
        {"data": "jpeg"},
        {"precision": "bf16"},
        {"threads": 2},
        {"device_key": "other"},
        {"power_mode": "15W"},
    ],
)
def test_what_changes_the_speed_makes_a_line_and_is_shown(tmp_path, change):
    write(tmp_path, make_run("a"), make_run("b", **change))
    summary = summarize_folders([tmp_path])
    assert len(summary.lines) == 2
    assert set(change) < set(summary.shown)
    assert set(summary.shown) == {"device", "model", "mode", "batch_size", *change}


def test_a_devices_key_is_shown_only_where_nothing_else_tells_lines_apart(tmp_path):
    write(tmp_path, make_run("a"), make_run("b", device="other", device_key="other"))
    assert summarize_folders([tmp_path]).shown == ("device", "model", "mode", "batch_size")


def test_failures_are_counted_by_status(tmp_path):
    failed = [
        make_run(f"f{index}", status=status, step_s=None) for index, status in enumerate(["oom", "oom", "killed"])
    ]
    write(tmp_path, *failed, make_run("good", rss_peak_bytes=5))
    line = only_line(tmp_path)
    assert (line.processes, line.failed, line.rss_peak_bytes) == (1, {"oom": 2, "killed": 1}, 5)


def test_a_configuration_that_never_succeeded_is_a_line_without_figures(tmp_path):
    write(tmp_path, make_run(status="oom", step_s=None))
    line = only_line(tmp_path)
    assert (line.processes, line.failed) == (0, {"oom": 1})
    assert line.step_s is line.step_s_low is line.interval is line.rss_peak_bytes is line.energy_per_step_j is None


def test_latency_that_is_not_valid_is_left_out_and_counted(tmp_path):
    write(tmp_path, make_run("a", step_s=9.0, latency_valid=False, rss_peak_bytes=7), make_run("b", latency_valid=True))
    line = only_line(tmp_path)
    assert (line.processes, line.latency_invalid, line.step_s, line.interval) == (2, 1, 0.25, "one process")
    assert line.rss_peak_bytes == 7


def test_warnings_and_throttling_are_counted(tmp_path):
    write(
        tmp_path,
        make_run("a", warnings='["few-steps", "throttled"]', throttled="confirmed"),
        make_run("b", warnings='["few-steps"]', throttled="none"),
        make_run("c", warnings="said another tool"),
    )
    line = only_line(tmp_path)
    assert line.warnings == {"few-steps": 2, "said another tool": 1, "throttled": 1}
    assert line.throttled == {"confirmed": 1}


def test_energy_is_the_median_of_what_was_measured(tmp_path):
    runs = [make_run(str(index), energy_per_step_j=energy) for index, energy in enumerate([1.0, None, 3.0, 2.0])]
    write(tmp_path, *runs)
    assert only_line(tmp_path).energy_per_step_j == 2.0


def test_coarser_lines_on_request(tmp_path):
    write(tmp_path, make_run("a"), make_run("b", model="other", batch_size=9), make_run("c", device="d2"))
    summary = summarize_folders([tmp_path], by=("device",))
    assert [(line.identity, line.processes) for line in summary.lines] == [
        ({"device": "board"}, 2),
        ({"device": "d2"}, 1),
    ]
    assert summary.shown == ("device",)
    assert summary.lines[0].samples_per_s is None


def test_lines_are_sorted_and_nulls_come_last(tmp_path):
    write(tmp_path, *(make_run(str(size), image_size=size) for size in (None, 224, 32)))
    write(tmp_path, make_run("x", device="a board"))
    summary = summarize_folders([tmp_path])
    assert [line.identity["image_size"] for line in summary.lines] == [None, 32, 224, None]


def test_a_run_in_two_folders_counts_once(tmp_path):
    power = [PowerSample("r1", index, "rapl", "package", power_w=5.0) for index in range(4)]
    write_run(tmp_path / "a", make_run(), [StepTime("r1", 0, "measured", 1)], power)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    summary = summarize_folders([tmp_path / "a", tmp_path / "b"])
    assert [(size.runs, size.steps, size.power_samples) for size in summary.folders] == [(1, 1, 4)] * 2
    assert [line.processes for line in summary.lines] == [1]
    assert summary.runs_with_power == 1


def test_sampled_power_keeps_domains_apart(tmp_path):
    def samples(run, source, domain, *watts):
        return [PowerSample(run, index, source, domain, power_w=value) for index, value in enumerate(watts)]

    counter = [PowerSample("r1", index, "rapl", "core", energy_j=float(index)) for index in range(3)]
    write_run(
        tmp_path, make_run(), power=[*samples("r1", "ina", "all", 4, 6), *samples("r1", "ina", "cpu", 2), *counter]
    )
    write_run(tmp_path, make_run("r2"), power=samples("r2", "ina", "all", 7))
    assert only_line(tmp_path).sampled_power_w == {"ina all": 6.0, "ina cpu": 2.0}
    rows = {(row["run_id"], row["domain"]): row for row in power_by_run(tmp_path)[0].to_pylist()}
    assert (rows["r1", "core"]["samples"], rows["r1", "core"]["mean_w"]) == (3, None)
    assert (rows["r1", "all"]["samples"], rows["r1", "all"]["mean_w"]) == (2, 5.0)


def test_power_of_a_run_that_is_not_there_makes_no_line(tmp_path):
    write_run(tmp_path, make_run())
    write_records(tmp_path, "power", "other", [PowerSample("other", 0, "ina", "all", power_w=1.0)])
    summary = summarize_folders([tmp_path])
    assert (len(summary.lines), summary.lines[0].sampled_power_w, summary.runs_with_power) == (1, {}, 1)


def test_an_empty_folder_has_no_lines(tmp_path):
    summary = summarize_folders([tmp_path])
    assert (summary.lines, summary.runs_with_power, summary.skipped) == ((), 0, ())


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    write(tmp_path, make_run())
    (tmp_path / "runs" / "bad.parquet").write_text("")
    (tmp_path / "power").mkdir()
    (tmp_path / "power" / "bad.parquet").write_text("")
    assert len(summarize_folders([tmp_path]).skipped) == 2


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="there is no folder"):
        summarize_folders([tmp_path / "none"])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["ok", "oom"]), st.floats(0.01, 10)), max_size=12))
def test_figures_are_those_of_plain_python_before_and_after_merging(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("m")
    for index, (size, status, step) in enumerate(rows):
        write_run(folder, make_run(str(index), batch_size=size, status=status, step_s=step if status == "ok" else None))
    summary = summarize_folders([folder])
    for line in summary.lines:
        own = [(status, step) for size, status, step in rows if size == line.identity["batch_size"]]
        good = [step for status, step in own if status == "ok"]
        assert line.processes == len(good)
        assert line.failed.get("oom", 0) == len(own) - len(good)
        assert line.step_s == (median(good) if good else None)
    assert sum(line.processes + line.failed.get("oom", 0) for line in summary.lines) == len(rows)
    compact(folder)
    assert summarize_folders([folder]).lines == summary.lines
