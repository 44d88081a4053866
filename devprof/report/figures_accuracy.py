"""Figure of models: their accuracy on ImageNet against the time of a training step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from devprof.report.axes import log_seconds
from devprof.report.configurations import Configuration, Setting, comparable, devices_of
from devprof.report.content import ModelEntry
from devprof.report.figure import Chart, Figure, Row, counted, import_report_module, numbers_table
from devprof.report.labels import Label, Point, place_labels
from devprof.report.marks import (
    device_colour,
    label_layers,
    legend_choice,
    look_sentences,
    mode_choice,
    point_layers,
    tooltip,
)
from devprof.report.runs import FIELDS, describe, fields_of
from devprof.units import format_seconds

__all__ = ["accuracy_rows", "accuracy_vs_step_chart", "accuracy_vs_step_figure", "pareto_front"]

_HEIGHT = 460
_FEWEST_MODELS = 2
_OWN_FIELDS = (("top1", "ImageNet top-1", True), ("top1_source", "Top-1 according to", False))
_FIELDS = (*FIELDS[:3], *_OWN_FIELDS, *FIELDS[3:])


def accuracy_rows(found: Sequence[Configuration], models: Mapping[str, ModelEntry]) -> list[Row]:
    """The configurations of models whose accuracy is known, as rows of data; accuracy in percent."""
    rows: list[Row] = []
    for one in found:
        entry = models.get(one.first.model)
        if entry is None or entry.top1 is None:
            continue
        size = "" if entry.top1_image_size is None else f" at {entry.top1_image_size} px"
        own: Row = {
            "top1_percent": entry.top1,
            "top1": f"{entry.top1:.1f}%{size}",
            "top1_source": entry.top1_source,
            "parameters_count": one.first.parameters or entry.parameters,
        }
        rows.append({**describe(one), **own})
        if rows[-1]["parameters"] is None and entry.parameters is not None:
            rows[-1]["parameters"] = f"{entry.parameters:,}"
    return rows


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other beats: none is faster and at least as accurate. From the fastest to the slowest."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (_number(row, "step_s"), -_number(row, "top1_percent"))):
        if not front or _number(row, "top1_percent") > _number(front[-1], "top1_percent"):
            front.append(row)
    return front


def _number(row: Row, key: str) -> float:
    return float(row[key] or 0)


def _fronts(rows: Sequence[Row]) -> list[list[Row]]:
    """A front for each device and mode, without models whose time is that of swapping."""
    groups: dict[tuple[object, object], list[Row]] = {}
    for row in rows:
        if row["kind"] != "swapped":
            groups.setdefault((row["mode"], row["device"]), []).append(row)
    return [pareto_front(group) for group in groups.values()]


def _labels(rows: Sequence[Row], x: tuple[float, float], y: tuple[float, float]) -> list[Label]:
    """The models of the fronts by name, for a narrow and a wide plot, mode by mode."""
    on_front = {id(row) for front in _fronts(rows) for row in front}
    labels: list[Label] = []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        of = [row for row in rows if row["mode"] == mode]
        points = [
            Point(
                math.log(_number(row, "step_s") / x[0]) / math.log(x[1] / x[0]),
                (y[1] - _number(row, "top1_percent")) / (y[1] - y[0]),
                str(row["model"]) if id(row) in on_front else None,
                {key: row[key] for key in ("step_s", "top1_percent", "mode", "device")},
            )
            for row in of
        ]
        # The most accurate first: among the slow ones there is the most room.
        points.sort(key=lambda point: point.y)
        labels += place_labels(points, height=_HEIGHT)
    return labels


def accuracy_vs_step_chart(
    found: Sequence[Configuration], models: Mapping[str, ModelEntry], devices: Sequence[str]
) -> Chart:
    """ImageNet top-1 accuracy over step time; the models on the Pareto front of a device are joined by a line and named.

    Args:
        found: What to draw: training configurations with a step time.
        models: The models' accuracy.
        devices: All devices of the report, whose order fixes the colours.

    Raises:
        MissingExtraError: If altair is not installed.
        ValueError: If no model's accuracy is known.
    """
    rows = accuracy_rows(found, models)
    if not rows:
        raise ValueError("the accuracy of none of the models is known")
    alt = import_report_module("altair", "drawing a report")
    steps, tops = [_number(row, "step_s") for row in rows], [_number(row, "top1_percent") for row in rows]
    x_domain = (min(steps) / 1.3, max(steps) * 1.3)
    y_domain = (math.floor(min(tops) - 2), min(100, math.ceil(max(tops) + 1)))
    x = alt.X("step_s:Q", **log_seconds(alt, *x_domain, "time per training step"))
    y = alt.Y(
        "top1_percent:Q",
        scale=alt.Scale(domain=list(y_domain), nice=False),
        axis=alt.Axis(labelExpr="datum.label + '%'", tickCount=6),
        title="ImageNet top-1 accuracy",
    )
    modes = [mode for mode in ("full", "head") if any(row["mode"] == mode for row in rows)]
    colour = device_colour(alt, rows, devices)
    chosen, opacity = legend_choice(alt, "device")
    fronts = [{**row, "front": number} for number, front in enumerate(_fronts(rows)) for row in front]
    line = alt.Chart(alt.Data(values=fronts)).mark_line(interpolate="step-after", strokeWidth=1.5)
    front = line.encode(
        x=x, y=y, color=colour, detail="front:N", opacity=alt.condition(chosen, alt.value(0.45), alt.value(0.05))
    )
    told = tooltip(alt, rows, _FIELDS)
    size = _size(alt, rows)
    points = point_layers(alt, rows, x=x, y=y, color=colour, opacity=opacity, tooltip=told, **size)
    names = label_layers(alt, _labels(rows, x_domain, y_domain), x=x, y=y, opacity=opacity)
    layers = [front.add_params(chosen), *points, *names]
    if len(modes) > 1:
        layers = [layer.transform_filter("datum.mode == shown_mode") for layer in layers]
    chart: Any = alt.layer(*layers).properties(height=_HEIGHT)
    result: Chart = chart.add_params(mode_choice(alt, modes)) if len(modes) > 1 else chart
    return result


def _size(alt: ModuleType, rows: Sequence[Row]) -> dict[str, Any]:
    """The area of a point by the model's parameters, where they are known of all models."""
    counts = _parameter_counts(rows)
    if not counts:
        return {}
    # A legend of sizes would have colours of its own, which do not follow dark pages; the caption gives the range.
    scale = alt.Scale(type="sqrt", domain=[0, max(counts)], range=[20, 420])
    return {"size": alt.Size("parameters_count:Q", scale=scale, legend=None)}


def _parameter_counts(rows: Sequence[Row]) -> list[float]:
    """Parameters of each row's model, or nothing if they are not known of all."""
    counts = [_number(row, "parameters_count") for row in rows]
    return counts if min(counts) > 0 else []


def accuracy_vs_step_figure(found: Sequence[Configuration], models: Mapping[str, ModelEntry]) -> Figure | None:
    """The figure ``accuracy_vs_step``; ``None`` where the accuracy of fewer than two timed models is known."""
    setting, of = comparable([one for one in found if one.first.num_classes in (None, 1000)])
    rows = accuracy_rows(of, models)
    if setting is None or len({row["model"] for row in rows}) < _FEWEST_MODELS:
        return None
    unknown = {one.first.model for one in of} - {row["model"] for row in rows}
    return Figure(
        name="accuracy_vs_step",
        section="Models compared",
        title="Accuracy against the time of a training step",
        subtitle=f"{_trained(rows)}, {setting}. Line: no model is both faster and more accurate.",
        caption=_caption(rows, of, setting, unknown),
        chart=accuracy_vs_step_chart(of, models, devices_of(found)),
        rows=len(rows),
        numbers=numbers_table(rows, fields_of(rows, _FIELDS)),
    )


def _trained(rows: Sequence[Row]) -> str:
    return "Training the whole model" if any(row["mode"] == "full" for row in rows) else "Training the head only"


def _caption(rows: Sequence[Row], of: Sequence[Configuration], setting: Setting, unknown: set[str]) -> str:
    text = (
        f"Each point is a model on a device at {setting}: the accuracy that was published for it on ImageNet against the time "
        "of one training step. No model is both faster and more accurate than one on the line of its device."
    )
    parts = [text]
    counts = _parameter_counts(rows)
    if counts:
        parts.append(
            f"Its area shows the model's parameters, {min(counts) / 1e6:.3g} to {max(counts) / 1e6:.3g} million."
        )
    shown = [row for row in rows if row["mode"] == "full"] or list(rows)
    best = max(shown, key=lambda row: _number(row, "top1_percent"))
    fast = min(shown, key=lambda row: _number(row, "step_s"))
    parts.append(
        f"The most accurate is {best['model']} with {_number(best, 'top1_percent'):.1f}% at "
        f"{format_seconds(_number(best, 'step_s'))} per step on {best['device']}; the fastest {fast['model']} with "
        f"{_number(fast, 'top1_percent'):.1f}% at {format_seconds(_number(fast, 'step_s'))} on {fast['device']}."
    )
    parts += look_sentences([one for one in of if one.first.model not in unknown])
    if unknown:
        parts.append(f"Not shown: {counted(len(unknown), 'model')} whose accuracy is not known ({_few(unknown)}).")
    return " ".join(parts)


def _few(names: set[str], most: int = 6) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")
