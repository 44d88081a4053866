"""Figure of predictions: predicted step time beside the measured one, with intervals."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from devprof.records import Prediction
from devprof.report.axes import SECONDS_LABEL, log_time_ticks
from devprof.report.figure import Chart, Figure, Row, counted, finite, import_report_module, numbers_table
from devprof.report.theme import MUTED, STRATEGY_COLOURS
from devprof.units import format_seconds

__all__ = ["predicted_vs_measured_chart", "predicted_vs_measured_figure", "prediction_rows"]

BAND = 0.2
BASES = {
    "measured": "this very configuration",
    "known-pair": "this model on this device",
    "known-model": "this model on a kin device",
    "known-family": "known model family",
    "new-family": "new model family",
    "new-device": "new device",
    "observed": "observed in rounds",
}

_FIELDS = (
    ("model", "Model", False),
    ("device", "Device", False),
    ("mode", "Trained", False),
    ("batch_size", "Batch size", True),
    ("basis", "Basis", False),
    ("measured", "Measured", True),
    ("predicted", "Predicted", True),
    ("interval", "90% interval", True),
    ("error", "Error", True),
    ("inside", "In the interval", False),
)


def prediction_rows(predictions: Sequence[Prediction]) -> list[Row]:
    """Predictions whose configuration was also measured, as rows of data. ``error`` is relative to the measured time."""
    rows: list[Row] = []
    for item in predictions:
        measured, predicted = finite(item.measured_step_s), finite(item.step_s)
        if measured is None or predicted is None or measured <= 0 or predicted <= 0:
            continue
        error = predicted / measured - 1
        rows.append(
            {
                "measured_s": measured,
                "predicted_s": predicted,
                # A logarithmic axis has no place for a bound at or below zero.
                "low_s": max(item.step_s_lo, predicted / 100),
                "high_s": item.step_s_hi,
                "error_rel": error,
                "basis": BASES.get(item.basis, item.basis),
                "model": item.model,
                "device": item.device,
                "mode": item.mode,
                "batch_size": item.batch_size,
                "measured": format_seconds(measured),
                "predicted": format_seconds(predicted),
                "interval": f"{format_seconds(item.step_s_lo)} to {format_seconds(item.step_s_hi)}",
                "error": f"{error:+.1%}",
                "inside": "yes" if item.step_s_lo <= measured <= item.step_s_hi else "no",
            }
        )
    return rows


def _guides(alt: ModuleType, low: float, high: float) -> list[Any]:
    """The identity line and the band around it."""
    ends: list[Row] = [
        {"measured_s": end, "same_s": end, "band_low_s": end * (1 - BAND), "band_high_s": end * (1 + BAND)}
        for end in (low, high)
    ]
    base = alt.Chart(alt.Data(values=ends))
    return [
        base.mark_area(color=MUTED, opacity=0.12, clip=True).encode(
            x="measured_s:Q", y=alt.Y("band_low_s:Q", title=None), y2="band_high_s:Q"
        ),
        base.mark_line(color=MUTED, strokeWidth=1.5, strokeDash=[5, 4]).encode(x="measured_s:Q", y="same_s:Q"),
    ]


def predicted_vs_measured_chart(predictions: Sequence[Prediction]) -> Chart:
    """Predicted over measured step time, both logarithmic, with 90% intervals, identity line and a band of 20 %.

    Raises:
        MissingExtraError: If altair is not installed.
        ValueError: If no prediction has a measured counterpart.
    """
    rows = prediction_rows(predictions)
    if not rows:
        raise ValueError("no prediction has a measured step time to compare it with")
    alt = import_report_module("altair", "drawing a report")
    values = [float(row[key] or 0) for row in rows for key in ("measured_s", "low_s", "high_s")]
    low, high = min(values) / 1.2, max(values) * 1.2
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    axis = alt.Axis(values=log_time_ticks(low, high), labelExpr=SECONDS_LABEL)
    x = alt.X("measured_s:Q", scale=scale, axis=axis, title="measured time per step")

    def y(field: str) -> Any:
        return alt.Y(f"{field}:Q", scale=scale, axis=axis, title="predicted time per step")

    bases = [name for name in BASES.values() if any(row["basis"] == name for row in rows)]
    bases += sorted({str(row["basis"]) for row in rows} - set(bases))
    colours = [STRATEGY_COLOURS[index % len(STRATEGY_COLOURS)] for index in range(len(bases))]
    chosen = alt.selection_point(fields=["basis"], bind="legend", name="basis_choice")
    colour = alt.Color("basis:N", title=None, scale=alt.Scale(domain=bases, range=colours))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=x, color=colour, opacity=alt.condition(chosen, alt.value(0.9), alt.value(0.1))
    )
    intervals = base.mark_rule(strokeWidth=1.5).encode(y=y("low_s"), y2="high_s:Q")
    points = (
        base.mark_point(filled=True, size=80)
        .encode(
            y=y("predicted_s"),
            shape=alt.Shape("basis:N", title=None, scale=alt.Scale(domain=bases)),
            tooltip=[alt.Tooltip(f"{key}:N", title=heading) for key, heading, _ in _FIELDS],
        )
        .add_params(chosen)
    )
    chart: Chart = alt.layer(*_guides(alt, low, high), intervals, points).properties(height=420)
    return chart


def predicted_vs_measured_figure(predictions: Sequence[Prediction]) -> Figure | None:
    """The figure ``predicted_vs_measured``; ``None`` where nothing was both predicted and measured."""
    rows = prediction_rows(predictions)
    if not rows:
        return None
    return Figure(
        name="predicted_vs_measured",
        section="Predicted",
        title="Predicted and measured time per step",
        subtitle=f"Bars: 90% intervals. Dashed: prediction equals measurement. Shaded: ±{BAND:.0%}.",
        caption=_caption(rows, len(predictions)),
        chart=predicted_vs_measured_chart(predictions),
        rows=len(rows),
        numbers=numbers_table(rows, _FIELDS),
    )


def _caption(rows: Sequence[Row], asked: int) -> str:
    errors = [abs(float(row["error_rel"] or 0)) for row in rows]
    within = sum(error <= BAND for error in errors)
    inside = sum(row["inside"] == "yes" for row in rows)
    worst = max(rows, key=lambda row: abs(float(row["error_rel"] or 0)))
    text = (
        f"A point on the dashed line is a perfect prediction; the shaded band is ±{BAND:.0%}. "
        f"Over {counted(len(rows), 'configuration')} the median absolute error is {statistics.median(errors):.1%}; "
        f"{within} lie in the band, and {inside} of the measured times ({inside / len(rows):.0%}) lie in their 90% interval. "
        f"The largest error is {worst['error']} "
        f"({worst['model']}, {worst['mode']}, batch {worst['batch_size']} on {worst['device']})."
    )
    if asked > len(rows):
        text += f" Not shown: {counted(asked - len(rows), 'prediction')} without a measured counterpart."
    return text
