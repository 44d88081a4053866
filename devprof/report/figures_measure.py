"""Figures of measurements: step time and peak memory by model."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from devprof.records import Measurement
from devprof.report.axes import BYTES_LABEL, SECONDS_LABEL, bytes_ticks, log_ticks, row_axis
from devprof.report.figure import Chart, Figure, Row, counted, import_report_module, numbers_table
from devprof.report.runs import FAILURES, Layout, arrange, describe, is_ok
from devprof.report.theme import GRID, MUTED, batch_colours
from devprof.units import format_bytes, format_seconds

__all__ = ["memory_chart", "memory_figure", "step_time_chart", "step_time_figure"]

_ROW_HEIGHT = 26
_LOG_FROM_RATIO = 30.0
# Share of the plot kept free at the right for the words that mark failed runs.
_FAILURE_ROOM = 0.3

_FIELDS = (
    ("model", "Model", False),
    ("device", "Device", False),
    ("mode", "Trained", False),
    ("batch_size", "Batch size", True),
    ("status", "Status", False),
    ("median", "Median step", True),
    ("interval", "Confidence interval", True),
    ("spread", "5th to 95th percentile", True),
    ("steps", "Steps", True),
    ("throughput", "Throughput", True),
    ("peak", "Peak memory", True),
    ("baseline", "Memory before the model", True),
    ("accelerator_peak", "Accelerator peak", True),
    ("parameters", "Parameters", True),
    ("energy", "Energy per step", True),
    ("startup", "Start-up", True),
    ("remarks", "Remarks", False),
    ("error", "Error", False),
)


def _fields(rows: Sequence[Row]) -> list[tuple[str, str, bool]]:
    """The fields of which at least one row knows something."""
    return [field for field in _FIELDS if any(row[field[0]] not in (None, "–") for row in rows)]


def _tooltip(alt: ModuleType, rows: Sequence[Row]) -> list[Any]:
    return [alt.Tooltip(f"{key}:N", title=heading) for key, heading, _ in _fields(rows)]


def _batch_colour(alt: ModuleType, batch_sizes: Sequence[int]) -> Any:
    return alt.Color(
        "batch_size:O",
        title="batch size",
        scale=alt.Scale(domain=list(batch_sizes), range=batch_colours(len(batch_sizes))),
    )


def _stripes(alt: ModuleType, layout: Layout, y: Any) -> Any:
    """A quiet line along each row, so that the eye finds the label of a point."""
    rows: list[Row] = [{"row": key} for key in layout.labels if key not in layout.headings]
    return alt.Chart(alt.Data(values=rows)).mark_rule(color=GRID, strokeWidth=1).encode(y=y)


def _failure_rows(placed: Sequence[tuple[Measurement, str]]) -> list[Row]:
    """Per row of the figure one text that names the batch sizes that failed, and why."""
    sizes: dict[str, dict[str, set[int]]] = {}
    errors: dict[str, str] = {}
    for run, key in placed:
        if is_ok(run):
            continue
        reason = FAILURES.get(run.status, "no step time")
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
    tooltip = [alt.Tooltip("text:N", title="Failed"), alt.Tooltip("error:N", title="Error")]
    place = {"align": "right", "dx": -4, "fontSize": 12}
    return [base.mark_text(style="halo", **place), base.mark_text(style="failed", **place).encode(tooltip=tooltip)]


def _step_axis(alt: ModuleType, rows: Sequence[Row], *, room: bool) -> dict[str, Any]:
    """Scale, axis and title of step times: logarithmic where the slowest is over 30 times the fastest."""
    steps = [float(row["step_s"]) for row in rows if row["step_s"]]
    # Percentiles may lie outside the medians; both have to fit.
    low = min([float(row["p05_s"]) for row in rows if row["p05_s"]] or [0.1])
    high = max([float(row["p95_s"]) for row in rows if row["p95_s"]] or [1.0])
    free = 1 / (1 - _FAILURE_ROOM) if room else 1.0
    if steps and max(steps) / min(steps) > _LOG_FROM_RATIO:
        low, high = low / 1.3, high * 1.2
        scale = alt.Scale(type="log", domain=[low, low * (high / low) ** free], nice=False)
        axis = alt.Axis(values=log_ticks(low, low * (high / low) ** free), labelExpr=SECONDS_LABEL)
        return {"scale": scale, "axis": axis, "title": "time per step (logarithmic)"}
    scale = alt.Scale(domain=[0, high * 1.04 * free], nice=False)
    return {"scale": scale, "axis": alt.Axis(labelExpr=SECONDS_LABEL, tickCount=6), "title": "time per step"}


def step_time_chart(runs: Sequence[Measurement]) -> Chart:
    """Median step time per configuration with its 5th to 95th percentile; failed runs are marked by name.

    Raises:
        MissingExtraError: If altair is not installed.
    """
    alt = import_report_module("altair", "drawing a report")
    layout = arrange(runs)
    rows = [describe(run, key) for run, key in zip(runs, layout.row_of, strict=True) if is_ok(run)]
    failures = _failure_rows(list(zip(runs, layout.row_of, strict=True)))
    y = row_axis(alt, layout.labels, bold=layout.headings)
    x = _step_axis(alt, rows, room=bool(failures))
    colour = _batch_colour(alt, layout.batch_sizes)
    chosen = alt.selection_point(fields=["batch_size"], bind="legend", name="batch")
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=y, color=colour, opacity=alt.condition(chosen, alt.value(1), alt.value(0.12))
    )
    spread = base.mark_rule(strokeWidth=3, strokeCap="round").encode(x=alt.X("p05_s:Q", **x), x2="p95_s:Q")
    points = (
        base.mark_point(filled=True, size=95)
        .encode(x=alt.X("step_s:Q", **x), tooltip=_tooltip(alt, rows))
        .add_params(chosen)
    )
    layers = [_stripes(alt, layout, y), spread, points, *_failure_marks(alt, failures, y)]
    chart: Chart = alt.layer(*layers).properties(height=_ROW_HEIGHT * len(layout.labels))
    return chart


def memory_chart(runs: Sequence[Measurement]) -> Chart:
    """Peak memory per configuration on an axis of binary units, from what the process held before the model was built.

    A diamond is the peak of the accelerator's own memory, where one was measured.

    Raises:
        MissingExtraError: If altair is not installed.
    """
    alt = import_report_module("altair", "drawing a report")
    layout = arrange(runs)
    placed = list(zip(runs, layout.row_of, strict=True))
    measured = [run for run in runs if _has_memory(run)]
    rows = [describe(run, key) for run, key in placed if _has_memory(run)]
    failures = _failure_rows([(run, key) for run, key in placed if not _has_memory(run)])
    y = row_axis(alt, layout.labels, bold=layout.headings)
    high = max(max(run.rss_peak_bytes or 0, run.accelerator_peak_bytes or 0) for run in measured)
    ticks = bytes_ticks(high)
    limit = ticks[-1] / (1 - _FAILURE_ROOM) if failures else ticks[-1]
    scale = alt.Scale(domain=[0, limit], nice=False)
    axis = alt.Axis(values=ticks, labelExpr=BYTES_LABEL)

    def x(field: str) -> Any:
        return alt.X(f"{field}:Q", scale=scale, axis=axis, title="peak memory")

    chosen = alt.selection_point(fields=["batch_size"], bind="legend", name="batch")
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=y,
        color=_batch_colour(alt, layout.batch_sizes),
        opacity=alt.condition(chosen, alt.value(1), alt.value(0.12)),
        tooltip=_tooltip(alt, rows),
    )
    stems = base.mark_rule(strokeWidth=3, strokeCap="round").encode(x=x("rss_baseline_bytes"), x2="rss_peak_bytes:Q")
    before = base.mark_tick(thickness=2, size=12, color=MUTED).encode(x=x("rss_baseline_bytes"), color=alt.value(MUTED))
    layers = [
        _stripes(alt, layout, y),
        stems.transform_filter("isValid(datum.rss_baseline_bytes)"),
        before.transform_filter("isValid(datum.rss_baseline_bytes)"),
        base.mark_point(filled=True, size=95).encode(x=x("rss_peak_bytes")).add_params(chosen),
    ]
    if any(run.accelerator_peak_bytes is not None for run in measured):
        layers.append(base.mark_point(filled=True, size=95, shape="diamond").encode(x=x("accelerator_peak_bytes")))
    layers += _failure_marks(alt, failures, y)
    chart: Chart = alt.layer(*layers).properties(height=_ROW_HEIGHT * len(layout.labels))
    return chart


def _has_memory(run: Measurement) -> bool:
    return run.rss_peak_bytes is not None or run.accelerator_peak_bytes is not None


def step_time_figure(runs: Sequence[Measurement]) -> Figure | None:
    """The figure ``step_time``; ``None`` without runs."""
    if not runs:
        return None
    rows = [describe(run, "") for run in runs]
    return Figure(
        name="step_time",
        section="Measured",
        title="Time per training step" if all(run.task == "train" for run in runs) else "Time per step",
        subtitle="Point: median of the steps. Line: 5th to 95th percentile.",
        caption=_step_caption(runs),
        chart=step_time_chart(runs),
        rows=len(runs),
        numbers=numbers_table(rows, _fields(rows)),
    )


def memory_figure(runs: Sequence[Measurement]) -> Figure | None:
    """The figure ``memory``; ``None`` where no run measured its memory."""
    measured = [run for run in runs if _has_memory(run)]
    if not measured:
        return None
    rows = [describe(run, "") for run in measured]
    shown = {"model", "device", "mode", "batch_size", "status", "peak", "baseline", "accelerator_peak", "parameters"}
    return Figure(
        name="memory",
        section="Measured",
        title="Peak memory",
        subtitle="Point: peak of the training process. Tick: what it held before the model was built.",
        caption=_memory_caption(measured),
        chart=memory_chart(runs),
        rows=len(measured),
        numbers=numbers_table(rows, [field for field in _fields(rows) if field[0] in shown]),
    )


def _name(run: Measurement) -> str:
    what = "inference" if run.task == "infer" else "full training" if run.mode == "full" else f"{run.mode} only"
    return f"{run.model} ({what}, batch {run.batch_size})"


def _step_caption(runs: Sequence[Measurement]) -> str:
    done = [run for run in runs if is_ok(run)]
    parts = ["Each point is the median of a run's steps, the line its 5th to 95th percentile."]
    if done:
        fast = min(done, key=lambda run: run.step_s or math.inf)
        slow = max(done, key=lambda run: run.step_s or 0.0)
        parts.append(f"Fastest: {_name(fast)} with {format_seconds(fast.step_s)} per step")
        if slow is not fast:
            parts[-1] += f"; slowest: {_name(slow)} with {format_seconds(slow.step_s)}"
        parts[-1] += "."
        gain = _head_gain(done)
        if gain is not None:
            parts.append(
                f"Training the head only takes {gain:.0%} of the time of full training (median over the pairs)."
            )
    failed = Counter(FAILURES.get(run.status, "no step time") for run in runs if not is_ok(run))
    if failed:
        reasons = ", ".join(f"{count} {reason}" for reason, count in failed.most_common())
        parts.append(f"Marked ×: {sum(failed.values())} of {counted(len(runs), 'run')} failed ({reasons}).")
    return " ".join(parts)


def _head_gain(done: Sequence[Measurement]) -> float | None:
    """Median ratio of head-only to full step time over configurations that have both."""
    times: dict[tuple[object, ...], dict[str, list[float]]] = {}
    for run in done:
        if run.task == "train" and run.step_s is not None:
            same = (run.device_key, run.model, run.batch_size, run.image_size, run.precision, run.memory_format)
            times.setdefault(same, {}).setdefault(run.mode, []).append(run.step_s)
    ratios = [
        statistics.median(modes["head"]) / statistics.median(modes["full"])
        for modes in times.values()
        if "head" in modes and "full" in modes
    ]
    return statistics.median(ratios) if ratios else None


def _memory_caption(measured: Sequence[Measurement]) -> str:
    host = [run for run in measured if run.rss_peak_bytes is not None]
    parts = [
        "Each point is the highest memory that the process held; the tick is what it held before the model was built."
    ]
    if host:
        most = max(host, key=lambda run: run.rss_peak_bytes or 0)
        parts.append(f"The most is {format_bytes(most.rss_peak_bytes)}, for {_name(most)}.")
    if any(run.accelerator_peak_bytes is not None for run in measured):
        peak = max(run.accelerator_peak_bytes or 0 for run in measured)
        parts.append(f"A diamond is the peak of the accelerator's own memory, {format_bytes(peak)} at the most.")
    return " ".join(parts)
