from __future__ import annotations

import importlib
import json
import math
from collections import Counter

import pytest

from devprof.errors import MissingExtraError
from devprof.records import Evaluation, Prediction
from devprof.report import ReportContent
from devprof.report.configurations import configurations
from devprof.report.figures import FIGURE_NAMES, figures_of
from devprof.report.figures_federate import accuracy_chart, accuracy_figure, device_time_figure, time_to_target
from devprof.report.figures_measure import memory_chart, memory_figure, step_time_chart, step_time_figure
from devprof.report.figures_predict import predicted_vs_measured_chart, predicted_vs_measured_figure
from devprof.report.figures_timeline import round_timeline_chart, round_timeline_figure
from devprof.report.runs import arrange
from devprof.report.theme import STRATEGY_COLOURS


def layers(chart):
    """Every layer of a chart with its own data resolved: (mark, encoding, rows)."""
    spec = chart.to_dict()
    found = []
    for layer in spec["layer"]:
        data = layer["data"] if "data" in layer else spec["data"]
        rows = data["values"] if "values" in data else spec["datasets"][data["name"]]
        mark = layer["mark"]
        found.append((mark if isinstance(mark, str) else mark["type"], layer["encoding"], rows, layer["mark"]))
    return found


def points(chart):
    return next((encoding, rows) for mark, encoding, rows, _ in layers(chart) if mark == "point")


def texts(chart):
    found = []
    for mark, encoding, rows, how in layers(chart):
        if mark == "text" and how.get("style") != "halo":
            field = encoding["text"]["field"]
            found += [row.get(field, row.get("text")) for row in rows]
    return found


def test_all_figures_stand_in_the_order_of_the_contract(content):
    figures = figures_of(content)
    assert tuple(figure.name for figure in figures) == FIGURE_NAMES
    assert [figure.rows for figure in figures] == [12, 7, 8, 27, 21, 12, 5, 18, 52, 40, len(content.round_logs)]
    for figure in figures:
        assert figure.caption.endswith(".")
        assert figure.alt.startswith(figure.title)
        assert figure.numbers.rows


def test_empty_content_has_no_figures():
    assert figures_of(ReportContent("nothing")) == ()


def test_every_spec_is_json_without_nan(content):
    for figure in figures_of(content):
        assert json.dumps(figure.chart.to_dict(), allow_nan=False)


def test_step_time_points_are_the_medians(new_run):
    runs = [new_run(batch=8), new_run(batch=32)]
    encoding, rows = points(step_time_chart(configurations(runs)))
    assert [(row["batch_size"], row["step_s"]) for row in rows] == [(8, runs[0].step_s), (32, runs[1].step_s)]
    assert encoding["x"]["field"] == "step_s"
    assert encoding["x"]["scale"]["domain"][0] == 0
    assert encoding["color"]["scale"]["domain"] == [8, 32]
    titles = {item["title"] for item in encoding["tooltip"]}
    assert titles >= {
        "Median step",
        "95% interval of the median",
        "5th to 95th percentile of steps",
        "Peak memory",
        "Parameters",
        "Status",
    }


def test_step_time_is_logarithmic_from_a_factor_of_thirty(new_run):
    linear, _ = points(step_time_chart(configurations([new_run(step_s=0.1), new_run(batch=16, step_s=3.0)])))
    wide, _ = points(step_time_chart(configurations([new_run(step_s=0.1), new_run(batch=16, step_s=3.1)])))
    assert "type" not in linear["x"]["scale"]
    assert wide["x"]["scale"]["type"] == "log"


def test_failed_runs_are_named_not_missing(new_run):
    runs = [
        new_run(batch=8),
        new_run(batch=32, status="oom"),
        new_run(batch=64, status="oom"),
        new_run(batch=16, status="timeout"),
    ]
    assert texts(step_time_chart(configurations(runs))) == ["× batch 32, 64 out of memory; batch 16 timed out"]
    figure = step_time_figure(configurations(runs))
    assert "Marked ×: 3 of 4 runs failed (2 out of memory, 1 timed out)." in figure.caption
    assert len(figure.numbers.rows) == 4


def test_only_failed_runs_still_make_a_figure(new_run):
    figure = step_time_figure(configurations([new_run(status="killed")]))
    assert texts(figure.chart) == ["× batch 8 killed"]
    assert memory_figure(configurations([new_run(status="killed")])) is None


def test_runs_without_a_finite_time_are_not_drawn(new_run):
    assert texts(step_time_chart(configurations([new_run(), new_run(batch=9, step_s=math.nan)]))) == [
        "× batch 9 no step time"
    ]


def test_devices_get_headings_only_where_there_are_several(new_run):
    one = step_time_chart(configurations([new_run()])).to_dict()
    two = step_time_chart(configurations([new_run(), new_run(device="jetson", processor="cuda")])).to_dict()
    assert "pi-5" not in json.dumps(one["layer"][0]["encoding"])
    assert "jetson \\u00b7 cuda" in two["layer"][0]["encoding"]["y"]["axis"]["labelExpr"]
    assert len(two["layer"][0]["encoding"]["y"]["scale"]["domain"]) == 4


def test_fast_models_come_first_on_each_device(new_run):
    speeds = {("pi-5", "a"): 1.0, ("pi-5", "b"): 2.0, ("jetson", "a"): 0.4, ("jetson", "b"): 0.3}
    runs = [new_run(model, device=device, step_s=step_s) for (device, model), step_s in speeds.items()]
    assert list(arrange(configurations(runs)).labels.values()) == ["pi-5 · cpu", "a", "b", "jetson · cpu", "b", "a"]


def test_settings_that_vary_are_in_the_labels(new_run):
    spec = step_time_chart(configurations([new_run(), new_run(image_size=96)])).to_dict()
    assert "resnet18 \\u00b7 96 px" in spec["layer"][0]["encoding"]["y"]["axis"]["labelExpr"]


def test_memory_axis_is_binary(new_run):
    encoding, rows = points(memory_chart(configurations([new_run(rss_peak_bytes=int(1.6 * GIB))])))
    assert encoding["x"]["axis"]["values"] == [GIB // 4 * i for i in range(8)]
    assert rows[0]["rss_peak_bytes"] == int(1.6 * GIB)


def test_accelerator_peak_is_a_diamond(new_run):
    chart = memory_chart(configurations([new_run(accelerator_peak_bytes=3 * GIB)]))
    diamonds = [
        encoding for _, encoding, _, how in layers(chart) if isinstance(how, dict) and how.get("shape") == "diamond"
    ]
    assert [encoding["x"]["field"] for encoding in diamonds] == ["accelerator_peak_bytes"]


GIB = 1 << 30


def prediction(measured=0.1, step_s=0.11, basis="known-family", low=0.09, high=0.13):
    return Prediction("pi", "resnet18", "full", 8, step_s, low, high, basis, measured)


def test_prediction_points_have_error_and_interval():
    encoding, rows = points(predicted_vs_measured_chart([prediction()]))
    assert (rows[0]["measured_s"], rows[0]["predicted_s"]) == (0.1, 0.11)
    assert rows[0]["error_rel"] == pytest.approx(0.1)
    assert (rows[0]["error"], rows[0]["inside"]) == ("+10.0%", "yes")
    assert encoding["x"]["scale"] == encoding["y"]["scale"]
    assert encoding["x"]["scale"]["type"] == "log"
    assert encoding["color"]["field"] == "device"
    assert encoding["y"]["title"] == "predicted time per step"


def test_predictions_have_a_panel_per_basis_hardest_first():
    predictions = [prediction(basis=basis) for basis in ("measured", "known-pair", "new-family")]
    spec = predicted_vs_measured_chart(predictions).to_dict()
    assert spec["facet"]["field"] == "basis"
    assert spec["facet"]["sort"] == ["new model family", "other batch sizes known", "in the fit: no test"]


def test_measurements_outside_their_interval_are_hollow():
    hollow = [
        (layer["transform"][0]["filter"], layer["mark"]["filled"])
        for layer in predicted_vs_measured_chart([prediction()]).to_dict()["layer"]
        if layer["mark"]["type"] == "point"
    ]
    assert hollow == [("datum.inside != 'no'", True), ("datum.inside == 'no'", False)]


def test_what_was_in_the_fit_is_no_test():
    figure = predicted_vs_measured_figure([prediction(), prediction(step_s=0.1001, basis="measured")])
    assert "over 1 prediction the median absolute error is 10.0%" in figure.caption
    assert "1 point of measurements in the fit" in figure.caption
    assert "not a test" in figure.caption
    only = predicted_vs_measured_figure([prediction(basis="measured")])
    assert "median absolute error" not in only.caption


def test_a_prediction_without_interval_counts_in_no_coverage():
    figure = predicted_vs_measured_figure([prediction(low=0.11, high=0.11)])
    assert "too little could be left out for intervals" in figure.caption
    assert figure.numbers.rows[0][-3] == "–"


def test_prediction_guides_are_identity_and_band():
    marks = layers(predicted_vs_measured_chart([prediction()]))
    rows = next(rows for mark, _, rows, _ in marks if mark == "area")
    assert all(row["same_s"] == row["measured_s"] for row in rows)
    assert [row["band_low_s"] / row["measured_s"] for row in rows] == pytest.approx([0.8, 0.8])
    assert [row["band_high_s"] / row["measured_s"] for row in rows] == pytest.approx([1.2, 1.2])


def test_predictions_without_measurement_are_counted_not_drawn():
    figure = predicted_vs_measured_figure([prediction(), prediction(measured=None), prediction(measured=math.nan)])
    assert figure.rows == 1
    assert "Not shown: 2 predictions without a measured counterpart." in figure.caption
    assert predicted_vs_measured_figure([prediction(measured=None)]) is None


def test_caption_tells_how_good_the_predictions_are():
    figure = predicted_vs_measured_figure([prediction(), prediction(step_s=0.15, low=0.14, high=0.16)])
    assert "median absolute error is 30.0%" in figure.caption
    assert "1 of 2 measured times (50%) in their 90% interval" in figure.caption
    assert "largest error is +50.0%" in figure.caption


EVALUATIONS = (
    Evaluation("a", 1, 10.0, 0.5),
    Evaluation("a", 2, 20.0, 0.8),
    Evaluation("b", 1, 30.0, 0.7),
)


def test_accuracy_holds_until_the_next_model():
    marks = layers(accuracy_chart(EVALUATIONS, target=0.75))
    line = next((how, encoding, rows) for mark, encoding, rows, how in marks if mark == "line")
    assert line[0]["interpolate"] == "step-after"
    assert [(row["strategy"], row["time_s"], row["accuracy"]) for row in line[2]] == [
        ("a", 10.0, 0.5),
        ("a", 20.0, 0.8),
        ("b", 30.0, 0.7),
    ]
    assert line[1]["color"]["scale"] == {"domain": ["a", "b"], "range": list(STRATEGY_COLOURS[:2])}
    assert sorted(texts(accuracy_chart(EVALUATIONS, target=0.75))) == ["a", "b", "target 75%"]


def test_colours_stay_with_the_strategy_when_one_has_no_evaluations():
    encoding, _ = points(accuracy_chart(EVALUATIONS[2:], strategies=("a", "b")))
    assert encoding["color"]["scale"]["domain"] == ["a", "b"]


def test_time_to_target():
    assert time_to_target(EVALUATIONS, 0.75) == {"a": 20.0, "b": None}
    figure = accuracy_figure(EVALUATIONS, strategies=("a", "b"), target=0.75)
    assert "The target of 75% was reached by “a” after 20 s; never by “b”." in figure.caption
    nobody = accuracy_figure(EVALUATIONS, strategies=("a", "b"), target=0.99)
    assert "None reached the target of 99%." in nobody.caption


def test_labels_of_equal_ends_are_moved_apart():
    equal = [Evaluation(name, 1, 10.0, 0.8) for name in "abc"]
    marks = layers(accuracy_chart(equal))
    rows = next(rows for mark, encoding, rows, _ in marks if mark == "text" and encoding["text"]["field"] == "text")
    heights = sorted(row["accuracy"] for row in rows)
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1])
    assert heights[1] - heights[0] > 0


def test_accuracy_that_is_not_a_number_is_left_out():
    assert accuracy_figure([Evaluation("a", 1, 1.0, math.nan)], strategies=("a",)) is None


def test_timeline_marks_deadlines_and_cut_offs(content):
    chart = round_timeline_chart(content.round_logs)
    ticks = [rows for mark, _, rows, _ in layers(chart) if mark == "tick"]
    assert [Counter(row["limit"] for row in rows) for rows in ticks] == [{"deadline": 25}, {"cut-off": 10}]
    encoding, rows = next((encoding, rows) for mark, encoding, rows, _ in layers(chart) if mark == "bar")
    assert (encoding["x"]["field"], encoding["x2"]["field"]) == ("start_s", "end_s")
    assert encoding["color"]["scale"]["domain"] == ["download", "start-up", "compute", "upload", "unused work", "idle"]
    assert {row["strategy"] for row in rows} == set(content.strategies)


def test_timeline_of_a_given_round(content):
    figure = round_timeline_figure(content.round_logs, server_round=1)
    assert {row[1] for row in figure.numbers.rows} == {"1"}
    assert "5 replies came too late for the round" in figure.caption


def test_device_time_shares_add_up(content):
    chart = device_time_figure(content.round_logs).chart
    rows = next(rows for mark, _, rows, _ in layers(chart) if mark == "bar")
    for strategy in content.strategies:
        parts = [row for row in rows if row["strategy"] == strategy]
        assert [row["part"] for row in parts] == [
            "used compute",
            "transfers and start-up",
            "wasted (late or lost)",
            "idle",
        ]
        assert sum(row["share"] for row in parts) == pytest.approx(1.0)
        assert parts[-1]["end"] == pytest.approx(1.0)
    assert [row["share"] > 0 for row in rows if row["part"].startswith("wasted")] == [False, True, False, False]


def test_missing_altair_names_the_extra(monkeypatch, new_run):
    real = importlib.import_module

    def without(name, *args):
        if name == "altair":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingExtraError, match=r"devprof\[report\]"):
        step_time_figure(configurations([new_run()]))
