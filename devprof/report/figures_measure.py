"""Figures of all measurements: step time and peak memory by model, a mark per configuration."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from devprof.report.axes import BYTES_LABEL, SECONDS_LABEL, bytes_ticks, log_seconds, row_axis
from devprof.report.configurations import Configuration, devices_of
from devprof.report.figure import Chart, Figure, Row, counted, import_report_module, numbers_table
from devprof.report.marks import legend_choice, look_sentences, point_layers, tooltip
from devprof.report.runs import Layout, arrange, describe, failure, fields_of
from devprof.report.theme import GRID, MUTED, batch_colours, strategy_colours
from devprof.units import format_bytes, format_seconds

__all__ = ["memory_chart", "memory_figure", "step_time_chart", "step_time_figure"]

_ROW_HEIGHT = 26
_CLOSE_ROW_HEIGHT = 20
_MANY_ROWS = 25
_LOG_FROM_RATIO = 30.0
# Share of the plot kept free at the right for the words that mark failed runs.
_FAILURE_ROOM = 0.3
# Of more batch sizes than this, a legend lists only some.
_MOST_LISTED = 7

_MODES = ("full", "head", "inference")
_SHAPES = ("circle", "square", "triangle-up")
_MEMORY_FIELDS = {
    *("model", "device", "mode", "batch_size", "image_size", "settings", "status", "processes"),
    *("peak", "baseline", "accelerator_peak", "parameters"),
}


def _modes(found: Sequence[Configuration]) -> list[str]:
    known = [mode for mode in _MODES if any(one.mode == mode for one in found)]
    return known + sorted({one.mode for one in found} - set(_MODES))


def _looks(alt: ModuleType, found: Sequence[Configuration]) -> tuple[dict[str, Any], Any]:
    """Colour and shape: the batch size's and the mode's, or both the mode's where there is one batch size only.

    Returns:
        The channels, and the choice that a click in the legend makes.
    """
    modes, sizes = _modes(found), sorted({one.first.batch_size for one in found})
    shapes = [_SHAPES[min(index, len(_SHAPES) - 1)] for index in range(len(modes))]
    # One legend for colour and shape where both tell the mode; of shapes alone, black would not be seen on dark pages.
    by_mode = len(sizes) == 1 and len(modes) > 1
    legend = alt.Undefined if by_mode else alt.Legend(symbolFillColor=MUTED) if len(modes) > 1 else None
    shape = alt.Shape("mode:N", title="trained", scale=alt.Scale(domain=modes, range=shapes), legend=legend)
    if by_mode:
        scale = alt.Scale(domain=modes, range=strategy_colours(modes))
        colour, field = alt.Color("mode:N", title="trained", scale=scale), "mode"
    else:
        scale = alt.Scale(domain=sizes, range=batch_colours(len(sizes)))
        listed = alt.Legend(values=_commonest(found))
        colour, field = alt.Color("batch_size:O", title="batch size", scale=scale, legend=listed), "batch_size"
    chosen, opacity = legend_choice(alt, field)
    return {"color": colour, "shape": shape, "opacity": opacity}, chosen


def _commonest(found: Sequence[Configuration]) -> list[int]:
    """The batch sizes that a legend lists: of many those that most points have."""
    counts = Counter(one.first.batch_size for one in found)
    return sorted(size for size, _ in counts.most_common(_MOST_LISTED))


def _stripes(alt: ModuleType, layout: Layout, y: Any) -> Any:
    """A quiet line along each row, so that the eye finds the label of a point."""
    rows: list[Row] = [{"row": key} for key in layout.labels if key not in layout.headings]
    return alt.Chart(alt.Data(values=rows)).mark_rule(color=GRID, strokeWidth=1).encode(y=y)


def _height(layout: Layout) -> int:
    rows = len(layout.labels)
    return rows * (_ROW_HEIGHT if rows <= _MANY_ROWS else _CLOSE_ROW_HEIGHT)


def _failure_rows(placed: Sequence[tuple[Configuration, str]], several_modes: bool) -> list[Row]:
    """Per row of the figure one text that names the batch sizes that failed, and why."""
    sizes: dict[str, dict[str, set[int]]] = {}
    errors: dict[str, str] = {}
    for one, key in placed:
        for run in one.failed:
            reason = f"{failure(run)}{f' ({one.mode})' if several_modes else ''}"
            sizes.setdefault(key, {}).setdefault(reason, set()).add(run.batch_size)
            if run.error:
                errors.setdefault(key, run.error)
    return [
        {
            "row": key,
            "short": "× " + ", ".join(map(str, sorted(set().union(*reasons.values())))),
            "text": "× "
            + "; ".join(f"batch {', '.join(map(str, sorted(of)))} {reason}" for reason, of in reasons.items()),
            "error": errors.get(key),
        }
        for key, reasons in sizes.items()
    ]


def _failure_marks(alt: ModuleType, failures: Sequence[Row], y: Any) -> list[Any]:
    if not failures:
        return []
    # A narrow plot has no room for the reason; the tooltip and the table name it.
    base = (
        alt.Chart(alt.Data(values=list(failures)))
        .transform_calculate(mark="width < 420 ? datum.short : datum.text")
        .encode(y=y, x=alt.value("width"), text="mark:N")
    )
    tooltips = [alt.Tooltip("text:N", title="Failed"), alt.Tooltip("error:N", title="Error")]
    place = {"align": "right", "dx": -4, "fontSize": 12}
    return [base.mark_text(style="halo", **place), base.mark_text(style="failed", **place).encode(tooltip=tooltips)]


def _step_axis(alt: ModuleType, rows: Sequence[Row], *, room: bool) -> dict[str, Any]:
    """Scale, axis and title of step times: logarithmic where the slowest is over 30 times the fastest."""
    # Percentiles may lie outside the medians; both have to fit.
    low = min([float(row["low_s"] or 0) for row in rows], default=0.1)
    high = max([float(row["high_s"] or 0) for row in rows], default=1.0)
    steps = [float(row["step_s"] or 0) for row in rows]
    free = 1 / (1 - _FAILURE_ROOM) if room else 1.0
    if steps and max(steps) / min(steps) > _LOG_FROM_RATIO:
        low, high = low / 1.3, high * 1.2
        return log_seconds(alt, low, low * (high / low) ** free, "time per step")
    scale = alt.Scale(domain=[0, high * 1.04 * free], nice=False)
    return {"scale": scale, "axis": alt.Axis(labelExpr=SECONDS_LABEL, tickCount=6), "title": "time per step"}


def step_time_chart(found: Sequence[Configuration]) -> Chart:
    """Median step time per configuration with its spread; failed runs are marked by name.

    Raises:
        MissingExtraError: If altair is not installed.
    """
    alt = import_report_module("altair", "drawing a report")
    layout = arrange(found)
    placed = list(zip(found, layout.row_of, strict=True))
    rows = [describe(one, key) for one, key in placed if one.step_s is not None]
    failures = _failure_rows(placed, len(_modes(found)) > 1)
    y = row_axis(alt, layout.labels, bold=layout.headings)
    x = _step_axis(alt, rows, room=bool(failures))
    looks, chosen = _looks(alt, found)
    lines = alt.Chart(alt.Data(values=rows)).mark_rule(strokeWidth=3, strokeCap="round")
    spread = lines.encode(
        y=y, x=alt.X("low_s:Q", **x), x2="high_s:Q", **{name: looks[name] for name in ("color", "opacity")}
    ).add_params(chosen)
    points = point_layers(alt, rows, x=alt.X("step_s:Q", **x), y=y, tooltip=tooltip(alt, rows), **looks)
    layers = [_stripes(alt, layout, y), spread, *points, *_failure_marks(alt, failures, y)]
    chart: Chart = alt.layer(*layers).properties(height=_height(layout))
    return chart


def memory_chart(found: Sequence[Configuration]) -> Chart:
    """Peak memory per configuration on an axis of binary units, from what the process held before the model was built.

    A diamond is the peak of the accelerator's own memory, where one was measured.

    Raises:
        MissingExtraError: If altair is not installed.
    """
    alt = import_report_module("altair", "drawing a report")
    found = _on_measuring_devices(found)
    layout = arrange(found)
    placed = list(zip(found, layout.row_of, strict=True))
    measured = [one for one in found if _has_memory(one)]
    rows = [describe(one, key) for one, key in placed if _has_memory(one)]
    failures = _failure_rows([(one, key) for one, key in placed if not _has_memory(one)], len(_modes(found)) > 1)
    y = row_axis(alt, layout.labels, bold=layout.headings)
    ticks = bytes_ticks(max(max(one.peak_bytes or 0, one.accelerator_bytes or 0) for one in measured))
    limit = ticks[-1] / (1 - _FAILURE_ROOM) if failures else ticks[-1]
    scale = alt.Scale(domain=[0, limit], nice=False)
    axis = alt.Axis(values=ticks, labelExpr=BYTES_LABEL)

    def x(field: str) -> Any:
        return alt.X(f"{field}:Q", scale=scale, axis=axis, title="peak memory")

    looks, chosen = _looks(alt, found)
    told = tooltip(alt, rows)
    base = alt.Chart(alt.Data(values=rows)).encode(y=y, color=looks["color"], opacity=looks["opacity"], tooltip=told)
    stems = base.mark_rule(strokeWidth=3, strokeCap="round").encode(x=x("rss_baseline_bytes"), x2="rss_peak_bytes:Q")
    before = base.mark_tick(thickness=2, size=12, color=MUTED).encode(x=x("rss_baseline_bytes"), color=alt.value(MUTED))
    layers = [
        _stripes(alt, layout, y),
        stems.transform_filter("isValid(datum.rss_baseline_bytes)"),
        before.transform_filter("isValid(datum.rss_baseline_bytes)"),
        base.mark_point(filled=True, size=95).encode(x=x("rss_peak_bytes"), shape=looks["shape"]).add_params(chosen),
    ]
    if any(one.accelerator_bytes is not None for one in measured):
        layers.append(base.mark_point(filled=True, size=95, shape="diamond").encode(x=x("accelerator_peak_bytes")))
    layers += _failure_marks(alt, failures, y)
    chart: Chart = alt.layer(*layers).properties(height=_height(layout))
    return chart


def _has_memory(one: Configuration) -> bool:
    return one.peak_bytes is not None or one.accelerator_bytes is not None


def _on_measuring_devices(found: Sequence[Configuration]) -> list[Configuration]:
    """Without the devices of which no memory is known at all, as in most published tables."""
    devices = {one.device for one in found if _has_memory(one)}
    return [one for one in found if one.device in devices]


def step_time_figure(found: Sequence[Configuration]) -> Figure | None:
    """The figure ``step_time``; ``None`` without runs."""
    if not found:
        return None
    rows = [describe(one) for one in found]
    return Figure(
        name="step_time",
        section="Measured",
        title="Time per training step" if all(one.first.task == "train" for one in found) else "Time per step",
        subtitle="Point: median step. " + _line_words(found),
        caption=_step_caption(found),
        chart=step_time_chart(found),
        rows=sum(len(one.runs) for one in found),
        numbers=numbers_table(rows, fields_of(rows)),
    )


def memory_figure(found: Sequence[Configuration]) -> Figure | None:
    """The figure ``memory``; ``None`` where no run measured its memory."""
    measured = [one for one in found if _has_memory(one)]
    if not measured:
        return None
    rows = [describe(one) for one in measured]
    return Figure(
        name="memory",
        section="Measured",
        title="Peak memory",
        subtitle="Point: peak of the training process. Tick: what it held before the model was built.",
        caption=_memory_caption(measured),
        chart=memory_chart(found),
        rows=sum(len(one.runs) for one in measured),
        numbers=numbers_table(rows, [field for field in fields_of(rows) if field[0] in _MEMORY_FIELDS]),
    )


def _name(one: Configuration, among: Sequence[Configuration]) -> str:
    what = {"full": "full training", "inference": "inference"}.get(one.mode, f"{one.mode} only")
    device = f" on {one.device}" if len(devices_of(among)) > 1 else ""
    return f"{one.first.model} ({what}, batch {one.first.batch_size}){device}"


def _line_words(found: Sequence[Configuration]) -> str:
    """What the line through a point is; it depends on how many processes there were."""
    counts = {len(one.timed) > 1 for one in found if one.timed}
    if counts == {True}:
        return "Line: shortest to longest median of a process."
    if counts == {True, False}:
        return "Line: shortest to longest median of a process; of a single process the 5th to 95th percentile of its steps."
    return "Line: 5th to 95th percentile of the steps."


def _step_caption(found: Sequence[Configuration]) -> str:
    done = [one for one in found if one.step_s is not None]
    parts = [f"Each point is the median step of a configuration. {_line_words(found)}"]
    if done:
        fast = min(done, key=lambda one: one.step_s or math.inf)
        slow = max(done, key=lambda one: one.step_s or 0.0)
        parts.append(f"Fastest: {_name(fast, found)} with {format_seconds(fast.step_s)} per step")
        if slow is not fast:
            parts[-1] += f"; slowest: {_name(slow, found)} with {format_seconds(slow.step_s)}"
        parts[-1] += "."
        spreads = [(max(of) - min(of)) / statistics.median(of) for one in done if len(of := one.known("step_s")) > 1]
        if spreads:
            parts.append(
                f"Processes of one configuration differ by {statistics.median(spreads):.1%} (median), "
                f"by {max(spreads):.1%} at the most."
            )
    parts += look_sentences(found)
    failed = Counter(failure(run) for one in found for run in one.failed)
    if failed:
        reasons = ", ".join(f"{count} {reason}" for reason, count in failed.most_common())
        total = sum(len(one.runs) for one in found)
        parts.append(f"Marked ×: {sum(failed.values())} of {counted(total, 'run')} failed ({reasons}).")
    return " ".join(parts)


def _memory_caption(measured: Sequence[Configuration]) -> str:
    host = [one for one in measured if one.peak_bytes is not None]
    parts = [
        "Each point is the highest memory that a process held; the tick is what it held before the model was built."
    ]
    if host:
        most = max(host, key=lambda one: one.peak_bytes or 0)
        parts.append(f"The most is {format_bytes(most.peak_bytes)}, for {_name(most, measured)}.")
    accelerator = [one.accelerator_bytes for one in measured if one.accelerator_bytes is not None]
    if accelerator:
        parts.append(
            f"A diamond is the peak of the accelerator's own memory, {format_bytes(max(accelerator))} at the most."
        )
    return " ".join(parts)
