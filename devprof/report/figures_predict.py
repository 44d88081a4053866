"""Figure of predictions: predicted step time beside the measured one, with intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from devprof.records import Prediction
from devprof.report.axes import SECONDS_LABEL, log_time_ticks
from devprof.report.figure import Chart, Figure, Row, counted, finite, import_report_module, numbers_table
from devprof.report.marks import device_colour, legend_choice, tooltip
from devprof.report.theme import MUTED, PANEL_MARGIN, PAPER
from devprof.units import format_seconds

__all__ = ["predicted_vs_measured_chart", "predicted_vs_measured_figure", "prediction_rows"]

BAND = 0.2
# What a prediction stood on, hardest first: a panel each.
BASES = {
    "new-family": "new model family",
    "known-family": "known model family",
    "known-model": "known on a kin device",
    "known-pair": "other batch sizes known",
    "new-device": "new device",
    "observed": "observed in rounds",
    "measured": "in the fit: no test",
}
_FITTED = BASES["measured"]
_PANEL_HEIGHT = 300
# Wide enough to tell an error of a tenth over two decades of times.
_COLUMNS = 2
_Y_TITLE = "predicted time per step"
# Between rows there is room for an axis with its title and for the name of the panel below.
_SPACING = {"row": 88, "column": PANEL_MARGIN}
# Area of a point in square pixels where a panel has at most so many of them.
_AREAS = ((60, 60), (200, 28))
_LEAST_AREA = 14

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
        # Where too little was left out to make an interval of, there is none.
        told = item.step_s_hi > item.step_s_lo
        inside = item.step_s_lo <= measured <= item.step_s_hi
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
                "interval": f"{format_seconds(item.step_s_lo)} to {format_seconds(item.step_s_hi)}" if told else None,
                "error": f"{error:+.1%}",
                "inside": ("yes" if inside else "no") if told else None,
            }
        )
    return rows


def _guides(alt: ModuleType, low: float, high: float, title: str | None) -> list[Any]:
    """The identity line and the band around it."""
    ends: list[Row] = [
        {"measured_s": end, "same_s": end, "band_low_s": end * (1 - BAND), "band_high_s": end * (1 + BAND)}
        for end in (low, high)
    ]
    base = alt.Chart(alt.Data(values=ends))
    return [
        base.mark_area(color=MUTED, opacity=0.12, clip=True).encode(
            x="measured_s:Q", y=alt.Y("band_low_s:Q", title=title), y2="band_high_s:Q"
        ),
        base.mark_line(color=MUTED, strokeWidth=1.5, strokeDash=[5, 4]).encode(
            x="measured_s:Q", y=alt.Y("same_s:Q", title=title)
        ),
    ]


def _panels(rows: Sequence[Row]) -> list[str]:
    """The bases that occur, in the order of the panels."""
    return [name for name in BASES.values() if any(row["basis"] == name for row in rows)] + sorted(
        {str(row["basis"]) for row in rows} - set(BASES.values())
    )


def predicted_vs_measured_chart(predictions: Sequence[Prediction]) -> Chart:
    """Predicted over measured step time, a panel per basis with the same axes.

    Both axes are logarithmic; there are 90% intervals, the identity line and a band of 20 %. Hollow points are measurements
    outside the interval.

    Raises:
        MissingExtraError: If altair is not installed.
        ValueError: If no prediction has a measured counterpart.
    """
    rows = prediction_rows(predictions)
    if not rows:
        raise ValueError("no prediction has a measured step time to compare it with")
    alt = import_report_module("altair", "drawing a report")
    panels = _panels(rows)
    # Beside a panel there is no room for a title: it stands inside, where no good prediction can be.
    title = _Y_TITLE if len(panels) == 1 else None
    values = [float(row[key] or 0) for row in rows for key in ("measured_s", "low_s", "high_s")]
    low, high = min(values) / 1.2, max(values) * 1.2
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    ticks = _ticks(low, high, narrow=len(panels) > 1)
    axis = alt.Axis(values=ticks, labelExpr=SECONDS_LABEL)
    # Of one width, so that panels in a column stand under each other.
    upright = alt.Axis(values=ticks, labelExpr=SECONDS_LABEL, minExtent=46, maxExtent=46)
    x = alt.X("measured_s:Q", scale=scale, axis=axis, title="measured time per step")

    def y(field: str) -> Any:
        return alt.Y(f"{field}:Q", scale=scale, axis=axis if title else upright, title=title)

    layers = [*_guides(alt, low, high, title), *_marks(alt, rows, panels, x, y)]
    data = alt.Data(values=rows)
    if title:
        single: Chart = alt.layer(*layers, data=data).properties(height=420)
        return single
    inside = alt.Chart(alt.Data(values=[{}])).mark_text(style="quiet", align="left")
    layers.append(inside.encode(x=alt.value(4), y=alt.value(10), text=alt.value(_Y_TITLE)))
    panels_of = alt.layer(*layers, data=data).properties(height=_PANEL_HEIGHT)
    faceted = panels_of.facet(
        facet=alt.Facet("basis:N", title=None, sort=panels),
        columns=min(_COLUMNS, len(panels)),
        bounds="flush",
        spacing=_SPACING,
    )
    # An axis under each panel: shared ones would lie under an empty place where the last row is not full.
    chart: Chart = faceted.resolve_axis(x="independent")
    return chart


def _marks(alt: ModuleType, rows: Sequence[Row], panels: Sequence[str], x: Any, y: Callable[[str], Any]) -> list[Any]:
    """Intervals, points inside them and points outside."""
    devices = list(dict.fromkeys(str(row["device"]) for row in rows))
    colour = device_colour(alt, rows, devices)
    chosen, opacity = legend_choice(alt, "device")
    most = max(sum(row["basis"] == name for row in rows) for name in panels)
    area = next((area for count, area in _AREAS if most <= count), _LEAST_AREA)
    base = alt.Chart().encode(x=x, color=colour)
    faint = alt.condition(chosen, alt.value(0.5 if area == _AREAS[0][1] else 0.35), alt.value(0.04))
    intervals = base.mark_rule(strokeWidth=1.25).encode(y=y("low_s"), y2="high_s:Q", opacity=faint)
    inside, outside = (
        base.transform_filter(which)
        .mark_point(size=area, **look)
        .encode(y=y("predicted_s"), opacity=opacity, tooltip=tooltip(alt, rows, _FIELDS))
        for which, look in (
            ("datum.inside != 'no'", {"filled": True}),
            ("datum.inside == 'no'", {"filled": False, "fill": PAPER, "strokeWidth": 1.5}),
        )
    )
    return [intervals, inside.add_params(chosen), outside]


def _ticks(low: float, high: float, *, narrow: bool) -> list[float]:
    """Ticks of an axis in seconds; a panel has room for a few, so there they are at 1 and 3 times the powers of ten."""
    if not narrow:
        return log_time_ticks(low, high)
    factors = (1,) if high / low > 3000 else (1, 3)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(min(high, 100.0))) + 1)
    short = [factor * 10.0**decade for decade in decades for factor in factors]
    return [tick for tick in (*(one for one in short if one <= 100), 600.0, 3600.0, 36000.0) if low <= tick <= high]


def predicted_vs_measured_figure(predictions: Sequence[Prediction]) -> Figure | None:
    """The figure ``predicted_vs_measured``; ``None`` where nothing was both predicted and measured."""
    rows = prediction_rows(predictions)
    if not rows:
        return None
    hollow = " Hollow: measured outside the interval." if any(row["inside"] == "no" for row in rows) else ""
    return Figure(
        name="predicted_vs_measured",
        section="Predicted",
        title="Predicted and measured time per step",
        subtitle=f"Bars: 90% intervals. Dashed: prediction equals measurement. Shaded: ±{BAND:.0%}.{hollow}",
        caption=_caption(rows, len(predictions)),
        chart=predicted_vs_measured_chart(predictions),
        rows=len(rows),
        numbers=numbers_table(rows, _FIELDS),
    )


def _caption(rows: Sequence[Row], asked: int) -> str:
    tests = [row for row in rows if row["basis"] != _FITTED]
    parts = [
        f"A point on the dashed line is a perfect prediction; the shaded band is ±{BAND:.0%}, bars are 90% intervals.",
        "Hollow is what was measured outside of its interval.",
    ]
    if tests:
        parts.append("Errors are of predictions that were made without the measurement beside them.")
    parts += [_sentence(name, [row for row in tests if row["basis"] == name]) for name in _panels(tests)]
    if tests:
        worst = max(tests, key=lambda row: abs(float(row["error_rel"] or 0)))
        parts.append(
            f"The largest error is {worst['error']} "
            f"({worst['model']}, {worst['mode']}, batch {worst['batch_size']} on {worst['device']}, {worst['basis']})."
        )
    fitted = len(rows) - len(tests)
    if fitted:
        parts.append(
            f"{counted(fitted, 'point')} of measurements in the fit show how well it describes them; "
            "they are not a test, and count in none of these figures."
        )
    if asked > len(rows):
        parts.append(f"Not shown: {counted(asked - len(rows), 'prediction')} without a measured counterpart.")
    return " ".join(parts)


def _sentence(basis: str, rows: Sequence[Row]) -> str:
    """Error and coverage of one panel."""
    errors = [abs(float(row["error_rel"] or 0)) for row in rows]
    within = sum(error <= BAND for error in errors)
    known = [row for row in rows if row["inside"] is not None]
    text = (
        f"{basis[0].upper()}{basis[1:]}: over {counted(len(rows), 'prediction')} the median absolute error is "
        f"{statistics.median(errors):.1%}, the mean {statistics.fmean(errors):.1%}; {within} lie in the band"
    )
    if not known:
        return f"{text}; too little could be left out for intervals."
    inside = sum(row["inside"] == "yes" for row in known)
    return f"{text}, and {inside} of {len(known)} measured times ({inside / len(known):.0%}) in their 90% interval."
