"""Figure of what training only the head saves, model by model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from devprof.report.axes import log_seconds
from devprof.report.configurations import Configuration, comparable, devices_of
from devprof.report.figure import Chart, Figure, Row, counted, import_report_module, numbers_table
from devprof.report.labels import Label, Point, place_labels
from devprof.report.marks import device_colour, label_layers, legend_choice, look_sentences, point_layers, tooltip
from devprof.report.runs import describe, fields_of, labels_of
from devprof.units import format_seconds

__all__ = ["full_vs_head_chart", "full_vs_head_figure", "mode_pairs"]

Pair = tuple[Configuration, Configuration]

_HEIGHT = 420
_FEWEST_PAIRS = 2
_FIELDS = (
    ("model", "Model", False),
    ("device", "Device", False),
    ("batch_size", "Batch size", True),
    ("image_size", "Image size", True),
    ("median", "Full training", True),
    ("head", "Head only", True),
    ("share", "Head / full", True),
    ("peak", "Peak memory, full", True),
    ("head_peak", "Peak memory, head", True),
    ("parameters", "Parameters", True),
    ("processes", "Processes, full", True),
    ("head_processes", "Processes, head", True),
    ("settings", "Settings", False),
    ("published", "Published by", False),
    ("remarks", "Remarks, full", False),
    ("head_remarks", "Remarks, head", False),
)


def mode_pairs(found: Sequence[Configuration]) -> list[Pair]:
    """Full training and head only of the same model, settings and device; the largest share of the time first."""
    by_mode: dict[str, dict[tuple[str, str], Configuration]] = {"full": {}, "head": {}}
    for one, label in zip(found, labels_of(found), strict=True):
        by_mode.get(one.mode, {}).setdefault((one.device, label), one)
    full, head = by_mode["full"], by_mode["head"]
    return sorted(((full[key], head[key]) for key in full if key in head), key=_share, reverse=True)


def _share(pair: Pair) -> float:
    """The head's step time as a share of the full one's."""
    full, head = pair
    return (head.step_s or math.nan) / (full.step_s or math.nan)


def _rows(pairs: Sequence[Pair]) -> list[Row]:
    rows: list[Row] = []
    for pair in pairs:
        full, head = pair
        told, of_head = describe(full), describe(head)
        own: Row = {
            "share_rel": _share(pair),
            "share": f"{_share(pair):.0%}",
            "head": of_head["median"],
            "head_peak": of_head["peak"],
            "head_processes": of_head["processes"],
            "head_remarks": of_head["remarks"],
            "kind": head.kind if head.swapped else full.kind,
            "throttled": full.throttled or head.throttled,
        }
        rows.append({**told, **own})
    return rows


def _labels(rows: Sequence[Row], x: tuple[float, float], top: float) -> list[Label]:
    """Names from the outside in: those that save the most or the least say more than those in the crowd."""
    middle = statistics.median(float(row["share_rel"] or 0) for row in rows)
    ordered = sorted(rows, key=lambda row: -abs(float(row["share_rel"] or 0) - middle))
    return place_labels(
        [
            Point(
                math.log(float(row["step_s"] or 0) / x[0]) / math.log(x[1] / x[0]),
                1 - float(row["share_rel"] or 0) / top,
                str(row["model"]),
                {key: row[key] for key in ("step_s", "share_rel", "device")},
            )
            for row in ordered
        ],
        height=_HEIGHT,
    )


def full_vs_head_chart(pairs: Sequence[Pair], devices: Sequence[str]) -> Chart:
    """The head's step time as a share of full training's, over the latter.

    Args:
        pairs: What to draw.
        devices: All devices of the report, whose order fixes the colours.

    Raises:
        MissingExtraError: If altair is not installed.
    """
    alt = import_report_module("altair", "drawing a report")
    rows = _rows(pairs)
    steps = [float(row["step_s"] or 0) for row in rows]
    x_domain = (min(steps) / 1.3, max(steps) * 1.3)
    top = max(float(row["share_rel"] or 0) for row in rows) * 1.15
    x = alt.X("step_s:Q", **log_seconds(alt, *x_domain, "time per step, training the whole model"))
    y = alt.Y(
        "share_rel:Q",
        scale=alt.Scale(domain=[0, top], nice=False),
        axis=alt.Axis(format=".0%", tickCount=6),
        title="time per step, head only / whole model",
    )
    colour = device_colour(alt, rows, devices)
    chosen, opacity = legend_choice(alt, "device")
    medians = alt.Chart(alt.Data(values=_medians(rows))).mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
    points = point_layers(alt, rows, x=x, y=y, color=colour, opacity=opacity, tooltip=tooltip(alt, rows, _FIELDS))
    names = label_layers(alt, _labels(rows, x_domain, top), x=x, y=y, opacity=opacity)
    layers: list[Any] = [medians.encode(y=y, color=colour, opacity=opacity).add_params(chosen), *points, *names]
    chart: Chart = alt.layer(*layers).properties(height=_HEIGHT)
    return chart


def _medians(rows: Sequence[Row]) -> list[Row]:
    shares: dict[str, list[float]] = {}
    for row in rows:
        shares.setdefault(str(row["device"]), []).append(float(row["share_rel"] or 0))
    return [{"device": device, "share_rel": statistics.median(of)} for device, of in shares.items()]


def full_vs_head_figure(found: Sequence[Configuration]) -> Figure | None:
    """The figure ``full_vs_head``; ``None`` where fewer than two models were trained both ways."""
    setting, of = comparable(found)
    pairs = mode_pairs(of)
    if len(pairs) < _FEWEST_PAIRS:
        return None
    rows = _rows(pairs)
    median_words = ", ".join(f"{float(row['share_rel'] or 0):.0%} on {row['device']}" for row in _medians(rows))
    caption = [
        f"Each point is a model on a device at {setting}: the time of a step that trains the head only, relative to one that",
        f"trains the whole model. Lower saves more. Dashed: the median of a device, {median_words}.",
        f"Over {counted(len(pairs), 'pair')} the least is {_pair_words(pairs[-1])}, the most {_pair_words(pairs[0])}.",
        *look_sentences([one for pair in pairs for one in pair]),
    ]
    return Figure(
        name="full_vs_head",
        section="Models compared",
        title="What training only the head saves",
        subtitle=f"Head-only step time as a share of the whole model's, {setting}. Dashed: median.",
        caption=" ".join(caption),
        chart=full_vs_head_chart(pairs, devices_of(found)),
        rows=len(pairs),
        numbers=numbers_table(rows, fields_of(rows, _FIELDS)),
    )


def _pair_words(pair: Pair) -> str:
    full, head = pair
    times = f"{format_seconds(head.step_s)} instead of {format_seconds(full.step_s)}"
    return f"{_share(pair):.0%} for {full.first.model} on {full.device} ({times})"
