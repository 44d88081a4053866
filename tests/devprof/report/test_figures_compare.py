"""Models against each other: by accuracy, by what the head saves, and on several devices."""

from __future__ import annotations

import pytest

from devprof.report.configurations import configurations
from devprof.report.figures_accuracy import accuracy_rows, accuracy_vs_step_figure, pareto_front
from devprof.report.figures_devices import measured_vs_published_figure
from devprof.report.figures_head import full_vs_head_figure
from devprof.report.theme import FAILED, MUTED, PAPER, STRATEGY_COLOURS


def layers(figure):
    """Every layer of a figure's chart: (mark, encoding, rows)."""
    spec = figure.chart.to_dict()
    return [(layer["mark"], layer["encoding"], layer["data"]["values"]) for layer in spec["layer"]]


def drawn(figure, **look):
    """The rows of the layers of points with a look."""
    return [
        row
        for mark, _, rows in layers(figure)
        if mark["type"] == "point" and look.items() <= mark.items()
        for row in rows
    ]


def told(figure, heading):
    """A column of the figure's table."""
    index = [column.name for column in figure.numbers.columns].index(heading)
    return [row[index] for row in figure.numbers.rows]


def test_accuracy_is_that_of_the_table_with_its_source(new_run, table):
    figure = accuracy_vs_step_figure(configurations([new_run("resnet18"), new_run("efficientnet_b0")]), table)
    assert [(row["model"], row["top1_percent"]) for row in drawn(figure)] == [
        ("resnet18", 69.8),
        ("efficientnet_b0", 77.7),
    ]
    assert told(figure, "ImageNet top-1") == ["69.8% at 224 px", "77.7% at 240 px"]
    assert told(figure, "Top-1 according to") == ["paper B", "paper C"]
    tooltip = {item["title"] for mark, encoding, _ in layers(figure) for item in encoding.get("tooltip", ())}
    assert tooltip >= {
        *("Model", "Device", "Trained", "Batch size", "Median step", "95% interval of the median", "Throughput"),
        *("5th to 95th percentile of steps", "Peak memory", "Parameters", "ImageNet top-1", "Top-1 according to"),
    }


def test_models_of_unknown_accuracy_are_counted_and_named(new_run, table):
    models = ("resnet18", "efficientnet_b0", "vit_small_patch16_224", "mine:net")
    figure = accuracy_vs_step_figure(configurations([new_run(model) for model in models]), table)
    assert "Not shown: 2 models whose accuracy is not known (mine:net, vit_small_patch16_224)." in figure.caption
    assert figure.rows == 2


def test_one_known_model_is_no_comparison(new_run, table):
    assert accuracy_vs_step_figure(configurations([new_run("resnet18"), new_run("mine:net")]), table) is None
    assert accuracy_vs_step_figure(configurations([new_run("resnet18"), new_run("efficientnet_b0")]), {}) is None


def test_models_with_other_classes_are_not_held_against_imagenet(new_run, table):
    runs = [new_run(model, num_classes=10) for model in ("resnet18", "efficientnet_b0")]
    assert accuracy_vs_step_figure(configurations(runs), table) is None


def test_the_front_leaves_out_whatever_another_model_beats(new_run, new_entry):
    steps = {"fast": (0.1, 60.0), "beaten": (0.2, 59.0), "equal": (0.15, 60.0), "best": (0.9, 80.0)}
    found = configurations([new_run(model, step_s=step_s) for model, (step_s, _) in steps.items()])
    rows = accuracy_rows(found, {model: new_entry(1, top1) for model, (_, top1) in steps.items()})
    assert [row["model"] for row in pareto_front(rows)] == ["fast", "best"]


def test_each_device_and_mode_has_a_front_and_its_models_are_named(new_run, table):
    runs = [
        new_run(model, mode, device=device, step_s=step_s)
        for device in ("x", "y")
        for mode in ("full", "head")
        for model, step_s in (("resnet18", 0.1), ("efficientnet_b0", 1.0))
    ]
    figure = accuracy_vs_step_figure(configurations(runs), table)
    line = next(rows for mark, _, rows in layers(figure) if mark["type"] == "line")
    assert {row["front"] for row in line} == {0, 1, 2, 3}
    names = [row for mark, _, rows in layers(figure) if mark.get("style") == "label" for row in rows]
    assert {row["text"] for row in names} == {"resnet18", "efficientnet_b0"}
    assert {row["plot"] for row in names} == {"narrow", "wide"}


def test_a_page_can_switch_to_the_head_and_files_show_full_training(new_run, table):
    runs = [new_run(model, mode) for model in ("resnet18", "efficientnet_b0") for mode in ("head", "full")]
    spec = accuracy_vs_step_figure(configurations(runs), table).chart.to_dict()
    choice = next(param for param in spec["params"] if param["name"] == "shown_mode")
    assert choice["value"] == "full"
    assert choice["bind"]["options"] == ["full", "head"]
    assert all({"filter": "datum.mode == shown_mode"} in layer["transform"] for layer in spec["layer"])


def test_looks_tell_measured_published_swapped_and_throttled_apart(new_run, new_published, table):
    runs = [
        new_run("resnet18", throttled="confirmed"),
        new_run("efficientnet_b0", latency_valid=False),
        new_published("convnext_tiny"),
    ]
    figure = accuracy_vs_step_figure(configurations(runs), table)
    assert [row["model"] for row in drawn(figure, filled=True)] == ["resnet18"]
    assert {row["model"] for row in drawn(figure, fill=PAPER)} == {"efficientnet_b0", "convnext_tiny"}
    assert [row["model"] for row in drawn(figure, stroke=FAILED)] == ["resnet18"]
    grey = next(encoding for mark, encoding, _ in layers(figure) if "strokeDash" in mark)
    assert grey["color"] == {"value": MUTED}
    assert "Hollow: published by someone/boards." in figure.caption
    assert "the time is not the model's own (efficientnet_b0 on pi-5 · cpu)" in figure.caption
    assert "Red ring: the device was throttled (resnet18 on pi-5 · cpu)." in figure.caption


def test_a_device_keeps_its_colour_in_every_figure(new_run, new_published, table):
    runs = [new_published("resnet18"), new_run("resnet18"), new_run("resnet18", "head"), new_run("convnext_tiny")]
    runs += [new_run("convnext_tiny", "head")]
    found = configurations(runs)
    for figure in (
        accuracy_vs_step_figure(found, table),
        full_vs_head_figure(found),
        measured_vs_published_figure(found),
    ):
        scale = next(
            encoding["color"]["scale"] for _, encoding, _ in layers(figure) if "field" in encoding.get("color", {})
        )
        assert dict(zip(scale["domain"], scale["range"], strict=True))["pi-5 · cpu"] == STRATEGY_COLOURS[1]


def test_the_head_is_a_share_of_full_training(new_run):
    runs = [new_run("a", step_s=2.0), new_run("a", "head", step_s=0.5), new_run("b"), new_run("b", "head")]
    figure = full_vs_head_figure(configurations([*runs, new_run("alone")]))
    assert [(row["model"], row["share_rel"]) for row in drawn(figure)] == [("b", pytest.approx(0.36)), ("a", 0.25)]
    assert "the least is 25% for a on pi-5 · cpu (500 ms instead of 2 s)" in figure.caption
    assert told(figure, "Head / full") == ["36%", "25%"]
    assert told(figure, "Head only") == ["144 ms", "500 ms"]


def test_modes_of_different_settings_are_not_a_pair(new_run):
    runs = [new_run("a", threads=1), new_run("a", "head", threads=2), new_run("b"), new_run("b", "head")]
    assert full_vs_head_figure(configurations(runs)) is None


def test_published_devices_stand_beside_the_one_measured_here(new_run, new_published):
    runs = [new_published("resnet18"), new_run("resnet18"), new_run("convnext_tiny"), new_published("convnext_tiny")]
    figure = measured_vs_published_figure(configurations([*runs, new_run("only-here")]))
    assert figure.title == "Measured here and published: the same models"
    assert {row["model"] for row in drawn(figure)} == {"resnet18", "convnext_tiny"}
    assert told(figure, "Against the reference") == ["5 times pi-5 · cpu", "–", "–", "5 times pi-5 · cpu"]
    assert (
        "A step on pi-4 · cpu (published) takes 5 times as long as on pi-5 · cpu "
        "(median over 2 configurations, from 5 to 5 times)."
    ) in figure.caption
    spec = figure.chart.to_dict()["layer"][1]["encoding"]["y"]
    assert spec["scale"]["domain"] == ["resnet18", "convnext_tiny"]


def test_two_devices_of_ones_own_are_compared_without_a_word_of_publishing(new_run):
    figure = measured_vs_published_figure(configurations([new_run(), new_run(device="other", step_s=9.0)]))
    assert figure.title == "The same models on several devices"
    assert "published" not in figure.caption + figure.subtitle


def test_no_shared_model_is_no_figure(new_run, new_published):
    assert measured_vs_published_figure(configurations([new_run("a"), new_published("resnet18")])) is None
    assert measured_vs_published_figure(()) is None
