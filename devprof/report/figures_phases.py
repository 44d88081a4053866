"""Figure of the phases of a step: forward, backward and optimizer time against the batch size, a panel per model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from devprof.records import StepTime
from devprof.report.axes import SECONDS_LABEL
from devprof.report.configurations import Configuration
from devprof.report.figure import Chart, Figure, Row, counted, import_report_module, numbers_table
from devprof.report.marks import legend_choice, tooltip
from devprof.report.runs import fields_of
from devprof.report.series import PHASES, PhaseTime, Series, phase_series, phase_times
from devprof.report.theme import PANEL_MARGIN, STRATEGY_COLOURS
from devprof.units import format_seconds

__all__ = ["phase_rows", "phases_vs_batch_chart", "phases_vs_batch_figure"]

_PANEL_HEIGHT = 190
# Between rows there is room for an axis with its title and for the name of the panel below.
_SPACING = {"row": 88, "column": PANEL_MARGIN}
# Below this share of the step at every batch size a phase is a line at zero, and only in the table.
_NEGLIGIBLE = 0.01
_COLOURS = dict(zip(PHASES, STRATEGY_COLOURS, strict=False))
_FIELDS = (
    ("panel", "Model", False),
    ("device", "Device", False),
    ("mode", "Trained", False),
    ("batch_size", "Batch size", True),
    ("phase", "Phase", False),
    ("median", "Median", True),
    ("spread", "5th to 95th percentile", True),
    ("per_sample", "Per sample", True),
    ("steps", "Steps", True),
    ("processes", "Processes", True),
    ("published", "Published by", False),
)


def phase_rows(series: Sequence[Series], steps: Sequence[StepTime]) -> list[Row]:
    """The phases of all configurations of the series, as rows of data."""
    by_run: dict[str, list[StepTime]] = {}
    for step in steps:
        if step.kind == "phases":
            by_run.setdefault(step.run_id, []).append(step)
    return [_row(one, member, time) for one in series for member in one.members for time in phase_times(member, by_run)]


def _row(series: Series, one: Configuration, time: PhaseTime) -> Row:
    spread = None
    if time.low_s is not None and time.high_s is not None:
        spread = f"{format_seconds(time.low_s)} to {format_seconds(time.high_s)}"
    return {
        "panel": series.label,
        "device": one.device,
        "mode": one.mode,
        "batch_size": one.first.batch_size,
        "phase": time.phase,
        "median_s": time.median_s,
        "low_s": time.median_s if time.low_s is None else time.low_s,
        "high_s": time.median_s if time.high_s is None else time.high_s,
        "median": format_seconds(time.median_s),
        "spread": spread,
        "per_sample": format_seconds(time.median_s / one.first.batch_size),
        "steps": time.steps or None,
        "processes": len(one.timed),
        "published": one.published,
    }


def _drawn(rows: Sequence[Row]) -> list[Row]:
    """Without phases that take next to nothing everywhere."""
    whole: dict[tuple[object, object], float] = {}
    for row in rows:
        key = (row["panel"], row["batch_size"])
        whole[key] = whole.get(key, 0.0) + float(row["median_s"] or 0)
    worth = {
        row["phase"]
        for row in rows
        if float(row["median_s"] or 0) > _NEGLIGIBLE * whole[row["panel"], row["batch_size"]]
    }
    return [row for row in rows if row["phase"] in worth]


def phases_vs_batch_chart(series: Sequence[Series], steps: Sequence[StepTime]) -> Chart:
    """Time per phase over the batch size, a panel with axes of its own per series: medians with the spread of the steps.

    Raises:
        MissingExtraError: If altair is not installed.
    """
    alt = import_report_module("altair", "drawing a report")
    rows = _drawn(phase_rows(series, steps))
    phases = [phase for phase in PHASES if any(row["phase"] == phase for row in rows)]
    scale = alt.Scale(domain=phases, range=[_COLOURS[phase] for phase in phases])
    colour = alt.Color("phase:N", title=None, scale=scale, legend=alt.Legend(symbolOpacity=1))
    chosen, opacity = legend_choice(alt, "phase")
    x = alt.X("batch_size:Q", title="batch size", scale=alt.Scale(zero=True, nice=False), axis=alt.Axis(tickCount=5))
    axis = alt.Axis(labelExpr=SECONDS_LABEL, tickCount=5, minExtent=46, maxExtent=46)

    def y(field: str) -> Any:
        return alt.Y(f"{field}:Q", title=None, scale=alt.Scale(zero=True, nice=5), axis=axis)

    faint = alt.condition(chosen, alt.value(0.22), alt.value(0.03))
    base = alt.Chart().encode(x=x, color=colour)
    layered = alt.layer(
        base.mark_area().encode(y=y("low_s"), y2="high_s:Q", opacity=faint),
        base.mark_line(strokeWidth=1.75).encode(y=y("median_s"), opacity=opacity),
        base.mark_point(filled=True, size=38)
        .encode(y=y("median_s"), opacity=opacity, tooltip=tooltip(alt, rows, _FIELDS))
        .add_params(chosen),
        data=alt.Data(values=rows),
    ).properties(height=_PANEL_HEIGHT)
    panel = alt.Facet("panel:N", title=None, sort=[one.label for one in series])
    # Flush: the labels of one panel's axis must not move it against its neighbours.
    panels = layered.facet(facet=panel, columns=len(series), bounds="flush", spacing=_SPACING)
    chart: Chart = panels.resolve_scale(x="independent", y="independent")
    return chart


def phases_vs_batch_figure(found: Sequence[Configuration], steps: Sequence[StepTime]) -> Figure | None:
    """The figure ``phases_vs_batch``; ``None`` where no model's phases were measured at three batch sizes or more."""
    series = phase_series(found)
    if not series:
        return None
    rows = phase_rows(series, steps)
    banded = any(row["spread"] for row in rows)
    return Figure(
        name="phases_vs_batch",
        section="Against the batch size",
        title="Forward and backward time against the batch size",
        subtitle="Point: median of the steps." + (" Band: 5th to 95th percentile." if banded else ""),
        caption=_caption(series, rows, banded),
        chart=phases_vs_batch_chart(series, steps),
        rows=len(rows),
        numbers=numbers_table(rows, fields_of(rows, _FIELDS)),
    )


def _caption(series: Sequence[Series], rows: Sequence[Row], banded: bool) -> str:
    parts = ["Each panel is a model with axes of its own; a point is the median time of a phase of its steps."]
    if banded:
        steps = sum(int(row["steps"] or 0) for row in rows if row["phase"] == "forward")
        parts.append(f"The band holds the 5th to 95th percentile of the raw steps, {steps:,} in all.")
    ratios = [ratio for one in series if (ratio := _backward_ratio(one, rows)) is not None]
    if ratios:
        middle = statistics.median(ratios)
        parts.append(
            f"At the largest batch size the backward pass takes {middle:.2g} times as long as the forward pass"
            + (f" (median over {counted(len(ratios), 'panel')})." if len(ratios) > 1 else ".")
        )
    hidden = {row["phase"] for row in rows} - {row["phase"] for row in _drawn(rows)}
    if hidden:
        words = " and ".join(str(phase) for phase in PHASES if phase in hidden)
        parts.append(f"Not drawn: {words}, under {_NEGLIGIBLE:.0%} of every step; the table has it.")
    return " ".join(parts)


def _backward_ratio(series: Series, rows: Sequence[Row]) -> float | None:
    of = [row for row in rows if row["panel"] == series.label]
    largest = max((int(row["batch_size"] or 0) for row in of), default=0)
    times = {str(row["phase"]): float(row["median_s"] or 0) for row in of if row["batch_size"] == largest}
    return times["backward"] / times["forward"] if times.get("forward") and "backward" in times else None
