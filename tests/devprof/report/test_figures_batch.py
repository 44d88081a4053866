"""Time and memory against the batch size."""

from __future__ import annotations

import dataclasses

import pytest

from devprof.report.configurations import configurations
from devprof.report.figures_batch import memory_vs_batch_figure
from devprof.report.figures_phases import phases_vs_batch_figure

MIB = 1 << 20


def memory_runs(new_run, model, batches, base, per_sample, **changes):
    return [
        new_run(model, batch=batch, rss_peak_bytes=(base + per_sample * batch) * MIB, **changes) for batch in batches
    ]


def layers(figure):
    spec = figure.chart.to_dict()
    return [(layer["mark"], layer["encoding"], layer["data"]["values"]) for layer in spec["layer"]]


def test_a_line_per_model_with_its_name_at_the_end(new_run):
    runs = memory_runs(new_run, "a", (1, 2, 4), 400, 10) + memory_runs(new_run, "b", (1, 2, 4), 400, 2)
    figure = memory_vs_batch_figure(configurations([*runs, new_run("c", batch=1)]))
    _, encoding, rows = next(layer for layer in layers(figure) if layer[0]["type"] == "line")
    assert [(row["label"], row["batch_size"], row["memory_bytes"] // MIB) for row in rows] == [
        *(("a", 1, 410), ("a", 2, 420), ("a", 4, 440)),
        *(("b", 1, 402), ("b", 2, 404), ("b", 4, 408)),
    ]
    assert encoding["x"]["scale"]["domain"][0] == 0
    names = next(rows for mark, _, rows in layers(figure) if mark.get("fontWeight") == 600)
    assert [row["label"] for row in names] == ["a", "b"]
    assert "a grows by 10 MiB per sample, the most." in figure.caption


def test_batch_sizes_over_a_wide_range_are_logarithmic(new_run):
    figure = memory_vs_batch_figure(configurations(memory_runs(new_run, "a", (1, 16, 17), 400, 1)))
    x = next(encoding["x"] for mark, encoding, _ in layers(figure) if mark["type"] == "line")
    assert (x["scale"]["type"], x["scale"]["base"], x["axis"]["values"]) == ("log", 2, [1, 2, 4, 8, 16])


def test_memory_before_the_model_is_a_line(new_run):
    figure = memory_vs_batch_figure(
        configurations(memory_runs(new_run, "a", (1, 2, 3), 400, 1, rss_baseline_bytes=200 * MIB))
    )
    rule = next(rows for mark, _, rows in layers(figure) if mark["type"] == "rule")
    assert rule == [{"memory_bytes": 200 * MIB, "text": "before the model: 200 MiB"}]


def test_out_of_memory_is_marked_at_its_batch_and_not_at_an_amount(new_run):
    runs = [*memory_runs(new_run, "a", (1, 2, 3), 400, 1), new_run("a", batch=64, status="oom")]
    figure = memory_vs_batch_figure(configurations(runs))
    _, encoding, rows = next(layer for layer in layers(figure) if layer[0].get("fontSize") == 20)
    assert [(row["batch_size"], row["label"], row["text"]) for row in rows] == [(64, "a", "×")]
    assert encoding["y"]["scale"] is None
    assert "Marked × at the top: 1 batch size that ran out of memory (a at 64)." in figure.caption
    assert "×: out of memory." in figure.subtitle


def test_on_an_accelerator_its_own_memory_counts(new_run):
    runs = [new_run(batch=batch, accelerator_peak_bytes=batch * MIB) for batch in (1, 2, 3)]
    figure = memory_vs_batch_figure(configurations(runs))
    rows = next(rows for mark, _, rows in layers(figure) if mark["type"] == "line")
    assert [row["memory_bytes"] for row in rows] == [MIB, 2 * MIB, 3 * MIB]
    assert "On an accelerator it is the accelerator's own memory." in figure.caption


def test_two_batch_sizes_make_no_line(new_run):
    assert memory_vs_batch_figure(configurations(memory_runs(new_run, "a", (1, 2), 400, 1))) is None


def test_phases_have_medians_and_the_band_of_the_raw_steps(phase_runs, phase_steps):
    figure = phases_vs_batch_figure(configurations(phase_runs), phase_steps)
    spec = figure.chart.to_dict()
    rows = spec["data"]["values"]
    forward = next(row for row in rows if (row["phase"], row["batch_size"]) == ("forward", 4))
    median_s = phase_runs[2].forward_s
    assert forward["median_s"] == pytest.approx(median_s, rel=1e-6)
    assert (forward["low_s"], forward["high_s"]) == pytest.approx((0.91 * median_s, 1.09 * median_s), rel=1e-6)
    assert forward["per_sample"] == "18.3 ms"
    assert "The band holds the 5th to 95th percentile of the raw steps, 63 in all." in figure.caption
    assert "At the largest batch size the backward pass takes 2 times as long as the forward pass." in figure.caption
    assert spec["resolve"]["scale"] == {"x": "independent", "y": "independent"}


def test_phases_that_take_nothing_are_in_the_table_only(phase_runs, phase_steps):
    figure = phases_vs_batch_figure(configurations(phase_runs), phase_steps)
    assert {row["phase"] for row in figure.chart.to_dict()["data"]["values"]} == {"forward", "backward", "optimizer"}
    assert "Not drawn: data, under 1% of every step; the table has it." in figure.caption
    assert {row[4] for row in figure.numbers.rows} == {"forward", "backward", "optimizer", "data"}


def test_without_raw_steps_there_is_no_band(phase_runs):
    figure = phases_vs_batch_figure(configurations(phase_runs), ())
    assert "band" not in figure.caption.lower() + figure.subtitle.lower()
    assert all(row["low_s"] == row["high_s"] for row in figure.chart.to_dict()["data"]["values"])


def test_steps_of_other_kinds_are_no_phases(phase_runs, phase_steps):
    timed = tuple(dataclasses.replace(step, kind="measured", forward_ns=1) for step in phase_steps)
    found = configurations(phase_runs)
    assert phases_vs_batch_figure(found, timed).numbers == phases_vs_batch_figure(found, ()).numbers


def test_runs_without_phases_make_no_figure(new_run):
    assert phases_vs_batch_figure(configurations([new_run(batch=batch) for batch in (1, 2, 3)]), ()) is None
