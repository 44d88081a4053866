"""Figure of the same models on several devices, those of published tables among them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from devprof.report.axes import log_seconds, row_axis
from devprof.report.configurations import Configuration, comparable, devices_of
from devprof.report.figure import Chart, Figure, Row, counted, import_report_module, numbers_table
from devprof.report.marks import device_colour, legend_choice, look_sentences, mode_choice, point_layers, tooltip
from devprof.report.runs import FIELDS, describe, fields_of
from devprof.report.theme import MUTED

__all__ = ["measured_vs_published_chart", "measured_vs_published_figure"]

_ROW_HEIGHT = 22
_FIELDS = (*FIELDS[:3], ("against", "Against the reference", True), *FIELDS[3:])


def _shared(found: Sequence[Configuration]) -> tuple[Configuration, ...]:
    """The configurations of models that several devices trained in the same mode."""
    devices: dict[tuple[str, str], set[str]] = {}
    for one in found:
        devices.setdefault((one.first.model, one.mode), set()).add(one.device)
    return tuple(one for one in found if len(devices[one.first.model, one.mode]) > 1)


def _reference(found: Sequence[Configuration]) -> str:
    """The device that the others are compared with: of those measured here the one with the most configurations."""
    counts: dict[str, tuple[bool, int]] = {}
    for one in found:
        counts[one.device] = (one.published is None, counts.get(one.device, (False, 0))[1] + 1)
    return max(counts, key=counts.__getitem__)


def _times(found: Sequence[Configuration], device: str) -> dict[tuple[str, str], float]:
    """The fastest step of each model and mode on a device."""
    times: dict[tuple[str, str], float] = {}
    for one in found:
        if one.device == device and one.step_s is not None:
            key = (one.first.model, one.mode)
            times[key] = min(one.step_s, times.get(key, math.inf))
    return times


def _rows(found: Sequence[Configuration]) -> list[Row]:
    reference = _reference(found)
    times = _times(found, reference)
    rows: list[Row] = []
    for one in found:
        other = times.get((one.first.model, one.mode))
        against = None
        if other is not None and one.step_s is not None and one.device != reference:
            against = f"{one.step_s / other:.3g} times {reference}"
        rows.append({**describe(one, one.first.model), "against": against})
    return rows


def _order(rows: Sequence[Row], reference: Mapping[tuple[str, str], float]) -> dict[str, str]:
    """The models from fast to slow by full training on the reference device, then by what else there is."""

    def place(model: str) -> tuple[float, str]:
        own = [float(row["step_s"] or 0) for row in rows if row["model"] == model]
        return reference.get((model, "full"), reference.get((model, "head"), min(own))), model

    return {model: model for model in sorted({str(row["model"]) for row in rows}, key=place)}


def measured_vs_published_chart(found: Sequence[Configuration], devices: Sequence[str]) -> Chart:
    """Step time by model, a point per device in one row.

    Args:
        found: What to draw: training configurations with a step time.
        devices: All devices of the report, whose order fixes the colours.

    Raises:
        MissingExtraError: If altair is not installed.
    """
    alt = import_report_module("altair", "drawing a report")
    rows = _rows(found)
    labels = _order(rows, _times(found, _reference(found)))
    y = row_axis(alt, labels)
    steps = [float(row["step_s"] or 0) for row in rows]
    axis = log_seconds(alt, min(steps) / 1.3, max(steps) * 1.3, "time per training step")
    modes = [mode for mode in ("full", "head") if any(row["mode"] == mode for row in rows)]
    colour = device_colour(alt, rows, devices)
    chosen, opacity = legend_choice(alt, "device")
    spans: list[Row] = []
    for mode in modes:
        for model in labels:
            of = [float(row["step_s"] or 0) for row in rows if (row["model"], row["mode"]) == (model, mode)]
            if of:
                spans.append({"row": model, "mode": mode, "from_s": min(of), "to_s": max(of)})
    x = alt.X("step_s:Q", **axis)
    span = alt.Chart(alt.Data(values=spans)).mark_rule(color=MUTED, opacity=0.35, strokeWidth=1.5)
    layers: list[Any] = [
        span.encode(y=y, x=alt.X("from_s:Q", **axis), x2="to_s:Q"),
        *point_layers(alt, rows, x=x, y=y, color=colour, opacity=opacity, tooltip=tooltip(alt, rows, _FIELDS)),
    ]
    layers[0] = layers[0].add_params(chosen)
    if len(modes) > 1:
        layers = [layer.transform_filter("datum.mode == shown_mode") for layer in layers]
    chart: Any = alt.layer(*layers).properties(height=_ROW_HEIGHT * len(labels))
    result: Chart = chart.add_params(mode_choice(alt, modes)) if len(modes) > 1 else chart
    return result


def measured_vs_published_figure(found: Sequence[Configuration]) -> Figure | None:
    """The figure ``measured_vs_published``; ``None`` where no two devices trained the same model."""
    setting, of = comparable(found)
    shared = _shared(of)
    if not shared:
        return None
    rows = _rows(shared)
    published = any(one.published for one in shared)
    mode = "Training the whole model" if any(one.mode == "full" for one in shared) else "Training the head only"
    hollow = " Hollow: published, not measured here." if published else ""
    return Figure(
        name="measured_vs_published",
        section="Models compared",
        title="Measured here and published: the same models" if published else "The same models on several devices",
        subtitle=f"{mode}, {setting}.{hollow}",
        caption=" ".join(
            [f"Each row is a model at {setting}, each point a device.", *_ratios(shared), *look_sentences(shared)]
        ),
        chart=measured_vs_published_chart(shared, devices_of(found)),
        rows=len(rows),
        numbers=numbers_table(rows, fields_of(rows, _FIELDS)),
    )


def _ratios(found: Sequence[Configuration]) -> list[str]:
    """How much slower or faster the other devices are than the reference."""
    reference = _reference(found)
    base = _times(found, reference)
    sentences = []
    for device in dict.fromkeys(one.device for one in found):
        own = _times(found, device)
        ratios = sorted(own[key] / base[key] for key in own.keys() & base.keys())
        if device != reference and ratios:
            sentences.append(
                f"A step on {device} takes {statistics.median(ratios):.2g} times as long as on {reference} (median over "
                f"{counted(len(ratios), 'configuration')}, from {ratios[0]:.2g} to {ratios[-1]:.2g} times)."
            )
    return sentences
