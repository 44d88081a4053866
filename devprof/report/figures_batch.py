"""Figure of peak memory against the batch size, a line per model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from devprof.report.axes import BYTES_LABEL, bytes_ticks, label_limit
from devprof.report.configurations import Configuration
from devprof.report.figure import Chart, Figure, Row, counted, import_report_module, numbers_table
from devprof.report.labels import spread_apart
from devprof.report.marks import tooltip
from devprof.report.runs import describe, fields_of
from devprof.report.series import Series, series_of
from devprof.report.theme import MUTED, strategy_colours
from devprof.units import format_bytes

__all__ = ["memory_series", "memory_vs_batch_chart", "memory_vs_batch_figure"]

_HEIGHT = 380
_LABEL_PIXELS = 17
_LOG_FROM_RATIO = 16
_DASHES = {"full": [1, 0], "head": [6, 3]}
_FIELDS = (
    ("label", "Line", False),
    ("model", "Model", False),
    ("device", "Device", False),
    ("mode", "Trained", False),
    ("batch_size", "Batch size", True),
    ("image_size", "Image size", True),
    ("status", "Status", False),
    ("peak", "Peak memory", True),
    ("baseline", "Memory before the model", True),
    ("accelerator_peak", "Accelerator peak", True),
    ("processes", "Processes", True),
    ("parameters", "Parameters", True),
    ("error", "Error", False),
)


def _memory(one: Configuration) -> float | None:
    """The memory that ends first as the batch grows: the accelerator's own where there is one."""
    return one.peak_bytes if one.accelerator_bytes is None else one.accelerator_bytes


def memory_series(found: Sequence[Configuration]) -> tuple[Series, ...]:
    """The series whose memory is known at enough batch sizes."""
    return series_of(found, lambda one: _memory(one) is not None)


def _rows(series: Sequence[Series]) -> list[Row]:
    return [
        {**describe(one), "label": of.label, "memory_bytes": _memory(one), "oom": _ran_out(one)}
        for of in series
        for one in of.members
    ]


def _ran_out(one: Configuration) -> bool:
    return any(run.status == "oom" for run in one.failed)


def _batch_axis(alt: ModuleType, rows: Sequence[Row]) -> Any:
    """Batch sizes, logarithmic to base 2 where the largest is over 16 times the smallest."""
    sizes = [int(row["batch_size"] or 0) for row in rows]
    low, high = min(sizes), max(sizes)
    if high / low <= _LOG_FROM_RATIO:
        scale = alt.Scale(domain=[0, high * 1.03], nice=False)
        return alt.X("batch_size:Q", scale=scale, axis=alt.Axis(tickCount=8), title="batch size")
    ticks = [2**exponent for exponent in range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1)]
    scale = alt.Scale(type="log", base=2, domain=[low / 1.1, high * 1.1], nice=False)
    axis = alt.Axis(values=[tick for tick in ticks if low <= tick <= high])
    return alt.X("batch_size:Q", scale=scale, axis=axis, title="batch size (logarithmic)")


def memory_vs_batch_chart(series: Sequence[Series]) -> Chart:
    """Peak memory over the batch size; lines are named at the right, a cross at the top is a batch that did not fit.

    Raises:
        MissingExtraError: If altair is not installed.
    """
    alt = import_report_module("altair", "drawing a report")
    rows = _rows(series)
    measured = [row for row in rows if row["memory_bytes"] is not None]
    height = max(_HEIGHT, _LABEL_PIXELS * (len(series) + 4))
    ticks = bytes_ticks(max(float(row["memory_bytes"] or 0) for row in measured))
    names = [one.label for one in series]
    colour = alt.Color("label:N", legend=None, scale=alt.Scale(domain=names, range=strategy_colours(names)))
    x = _batch_axis(alt, rows)
    y = alt.Y(
        "memory_bytes:Q",
        scale=alt.Scale(domain=[0, ticks[-1]], nice=False),
        axis=alt.Axis(values=ticks, labelExpr=BYTES_LABEL),
        title="peak memory",
    )
    told = tooltip(alt, rows, _FIELDS)
    base = alt.Chart(alt.Data(values=measured)).encode(x=x, y=y, color=colour)
    modes = list(dict.fromkeys(one.mode for one in series))
    dash = alt.StrokeDash(
        "mode:N", legend=None, scale=alt.Scale(domain=modes, range=[_DASHES.get(mode, [2, 2]) for mode in modes])
    )
    layers = [
        *_baseline_layers(alt, series, y),
        base.mark_line(strokeWidth=2).encode(strokeDash=dash),
        base.mark_point(filled=True, size=50, opacity=1).encode(tooltip=told),
        _names(alt, series, gap=_LABEL_PIXELS * ticks[-1] / height, ceiling=ticks[-1]).encode(y=y, color=colour),
        *_oom_layers(alt, rows, x, colour),
    ]
    chart: Chart = alt.layer(*layers).properties(height=height)
    return chart


def _baseline_layers(alt: ModuleType, series: Sequence[Series], y: Any) -> list[Any]:
    known = [one.baseline_bytes for of in series for one in of.members if one.baseline_bytes is not None]
    if not known:
        return []
    middle = statistics.median(known)
    rows: list[Row] = [{"memory_bytes": middle, "text": f"before the model: {format_bytes(middle)}"}]
    base = alt.Chart(alt.Data(values=rows)).encode(y=y)
    text = base.mark_text(style="quiet", align="left", baseline="top", dx=4, dy=4)
    return [base.mark_rule(color=MUTED, strokeDash=[5, 4]), text.encode(x=alt.value(0), text="text:N")]


def _names(alt: ModuleType, series: Sequence[Series], *, gap: float, ceiling: float) -> Any:
    """The lines' names at the right, moved apart where they would lie on each other."""
    ends = [[memory for one in of.members if (memory := _memory(one)) is not None][-1] for of in series]
    places = spread_apart(ends, gap=gap, ceiling=ceiling)
    rows: list[Row] = [{"label": of.label, "memory_bytes": place} for of, place in zip(series, places, strict=True)]
    base = alt.Chart(alt.Data(values=rows)).encode(x=alt.value("width"), text="label:N")
    return base.mark_text(align="left", baseline="middle", dx=9, fontSize=13, fontWeight=600, limit=label_limit(alt))


def _oom_layers(alt: ModuleType, rows: Sequence[Row], x: Any, colour: Any) -> list[Any]:
    failed = [row for row in rows if row["oom"]]
    if not failed:
        return []
    # How much it would have needed is not known: the cross stands at the top, not at an amount.
    level: dict[object, int] = {}
    marks: list[Row] = []
    for row in failed:
        at = level.get(row["batch_size"], 0)
        level[row["batch_size"]] = at + 1
        marks.append({**row, "y": 8 + at * 15, "text": "×"})
    base = alt.Chart(alt.Data(values=marks)).encode(
        x=x, y=alt.Y("y:Q", scale=None, axis=None), color=colour, text="text:N", tooltip=tooltip(alt, marks, _FIELDS)
    )
    return [base.mark_text(fontSize=20, fontWeight=700, baseline="middle")]


def memory_vs_batch_figure(found: Sequence[Configuration]) -> Figure | None:
    """The figure ``memory_vs_batch``; ``None`` where no model's memory is known at three batch sizes or more."""
    series = memory_series(found)
    if not series:
        return None
    rows = _rows(series)
    failed = any(row["oom"] for row in rows)
    return Figure(
        name="memory_vs_batch",
        section="Against the batch size",
        title="Peak memory against the batch size",
        subtitle="Dashed: before the model was built." + (" ×: out of memory." if failed else ""),
        caption=_caption(series),
        chart=memory_vs_batch_chart(series),
        rows=len(rows),
        numbers=numbers_table(rows, fields_of(rows, _FIELDS)),
    )


def _caption(series: Sequence[Series]) -> str:
    parts = ["Each line is a model; a point is the highest memory that a process held at that batch size."]
    if any(one.accelerator_bytes is not None for of in series for one in of.members):
        parts.append("On an accelerator it is the accelerator's own memory.")
    slopes = {of.label: slope for of in series if (slope := _per_sample(of)) is not None}
    if slopes:
        most = max(slopes, key=slopes.__getitem__)
        parts.append(
            f"From the smallest to the largest batch size {most} grows by {format_bytes(slopes[most])} per sample"
            + (", the most." if len(slopes) > 1 else ".")
        )
    failed = [(of.label, one.first.batch_size) for of in series for one in of.members if _ran_out(one)]
    if failed:
        words = ", ".join(f"{label} at {size}" for label, size in failed)
        parts.append(f"Marked × at the top: {counted(len(failed), 'batch size')} that ran out of memory ({words}).")
    return " ".join(parts)


def _per_sample(series: Series) -> float | None:
    known = [(one.first.batch_size, memory) for one in series.members if (memory := _memory(one)) is not None]
    (low, least), (high, most) = known[0], known[-1]
    return max(0.0, (most - least) / (high - low)) if high > low else None
