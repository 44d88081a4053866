"""Figures of a federation over time: accuracy per strategy, and where device time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from devprof.records import Evaluation, RoundLog
from devprof.report.axes import label_limit, time_axis
from devprof.report.figure import Chart, Figure, Row, finite, import_report_module, numbers_table
from devprof.report.labels import spread_apart
from devprof.report.rounds import device_time
from devprof.report.theme import MUTED, PHASE_COLOURS, strategy_colours
from devprof.units import format_seconds

__all__ = [
    "accuracy_chart",
    "accuracy_figure",
    "device_time_chart",
    "device_time_figure",
    "time_to_target",
]

_ACCURACY_HEIGHT = 360
_LABEL_PIXELS = 18
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
_PARTS = (
    ("used compute", "compute_s", PHASE_COLOURS["compute"]),
    ("transfers and start-up", "overhead_s", PHASE_COLOURS["download"]),
    ("wasted (late or lost)", "wasted_s", PHASE_COLOURS["unused work"]),
    ("idle", "idle_s", PHASE_COLOURS["idle"]),
)
_ACCURACY_FIELDS = (
    ("strategy", "Strategy", False),
    ("server_round", "Round", True),
    ("time", "Time", True),
    ("accuracy_text", "Accuracy", True),
    ("loss", "Loss", True),
)


def _by_strategy(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    of: dict[str, list[Evaluation]] = {}
    for row in evaluations:
        if finite(row.accuracy) is not None and finite(row.time_s) is not None:
            of.setdefault(row.strategy, []).append(row)
    return {name: sorted(rows, key=lambda row: row.time_s) for name, rows in of.items()}


def time_to_target(evaluations: Sequence[Evaluation], target: float) -> dict[str, float | None]:
    """Seconds until each strategy's accuracy first reached ``target``; ``None`` where it never did."""
    return {
        name: next((row.time_s for row in rows if row.accuracy >= target), None)
        for name, rows in _by_strategy(evaluations).items()
    }


def _accuracy_rows(evaluations: Sequence[Evaluation]) -> list[Row]:
    return [
        {
            "strategy": row.strategy,
            "server_round": row.server_round,
            "time_s": row.time_s,
            "accuracy": row.accuracy,
            "time": format_seconds(row.time_s),
            "accuracy_text": f"{row.accuracy:.1%}",
            "loss": None if row.loss is None else f"{row.loss:.4g}",
        }
        for rows in _by_strategy(evaluations).values()
        for row in rows
    ]


def _end_labels(ends: Sequence[Evaluation], low: float, high: float) -> list[Row]:
    """A label at the right of each line's last accuracy, moved apart where they would lie on each other."""
    gap = _LABEL_PIXELS * (high - low) / _ACCURACY_HEIGHT
    places = spread_apart([end.accuracy for end in ends], gap=gap, ceiling=high)
    return [
        {"strategy": end.strategy, "accuracy": place, "text": end.strategy}
        for end, place in zip(ends, places, strict=True)
    ]


def _accuracy_domain(rows: Sequence[Row], target: float | None) -> tuple[float, float]:
    values = [float(row["accuracy"] or 0) for row in rows] + ([target] if target is not None else [])
    margin = max(0.02, 0.06 * (max(values) - min(values)))
    return max(0.0, min(values) - margin), min(1.0, max(values) + margin)


def accuracy_chart(
    evaluations: Sequence[Evaluation], *, strategies: Sequence[str] | None = None, target: float | None = None
) -> Chart:
    """Accuracy of the global model over time as steps: a model holds until the next one, the last one (dotted) for good.

    The strategies are named at the right end of their lines.

    Args:
        evaluations: Evaluations of all strategies.
        strategies: Their order, which fixes the colours; by default that of first appearance.
        target: An accuracy to draw as a line.

    Raises:
        MissingExtraError: If altair is not installed.
    """
    alt = import_report_module("altair", "drawing a report")
    of = _by_strategy(evaluations)
    names = list(strategies or of)
    rows = _accuracy_rows(evaluations)
    low, high = _accuracy_domain(rows, target)
    end_s = max(float(row["time_s"] or 0) for row in rows) or 1.0
    axis, _ = time_axis(alt, end_s, "time since the start")
    scale = alt.Scale(domain=[0, end_s], nice=False)
    x = alt.X("time_s:Q", scale=scale, axis=axis)
    y = alt.Y(
        "accuracy:Q",
        scale=alt.Scale(domain=[low, high], nice=False),
        axis=alt.Axis(format=".0%" if high - low > 0.05 else ".1%", tickCount=6),
        title="accuracy of the global model",
    )
    colour = alt.Color("strategy:N", legend=None, scale=alt.Scale(domain=names, range=strategy_colours(names)))
    shapes = [_SHAPES[index % len(_SHAPES)] for index in range(len(names))]
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y, color=colour)
    points = base.mark_point(filled=True, size=42, opacity=1).encode(
        shape=alt.Shape("strategy:N", legend=None, scale=alt.Scale(domain=names, range=shapes)),
        tooltip=[alt.Tooltip(f"{key}:N", title=heading) for key, heading, _ in _ACCURACY_FIELDS],
    )
    last = [items[-1] for items in of.values()]
    ends = _end_labels(last, low, high)
    labels = alt.Chart(alt.Data(values=ends)).encode(x=alt.value("width"), y=y, text="text:N")
    held: list[Row] = [
        {"strategy": row.strategy, "time_s": row.time_s, "until_s": end_s, "accuracy": row.accuracy} for row in last
    ]
    after = alt.Chart(alt.Data(values=held)).mark_rule(strokeDash=[2, 4], strokeWidth=1.75)
    text = {"align": "left", "baseline": "middle", "dx": 9, "fontSize": 13}
    layers = _target_layers(alt, target) if target is not None else []
    layers += [
        after.encode(x=x, x2="until_s:Q", y=y, color=colour),
        base.mark_line(interpolate="step-after", strokeWidth=2.25),
        points,
        labels.mark_text(fontWeight=600, **text).encode(color=colour),
    ]
    chart: Chart = alt.layer(*layers).properties(height=_ACCURACY_HEIGHT)
    return chart


def _target_layers(alt: ModuleType, target: float) -> list[Any]:
    rows: list[Row] = [{"accuracy": target, "text": f"target {target:.0%}"}]
    base = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("accuracy:Q"))
    return [
        base.mark_rule(color=MUTED, strokeDash=[5, 4], strokeWidth=1.5),
        base.mark_text(style="quiet", align="left", baseline="bottom", dx=4, dy=-3).encode(
            x=alt.value(0), text="text:N"
        ),
    ]


def accuracy_figure(
    evaluations: Sequence[Evaluation], *, strategies: Sequence[str], target: float | None = None
) -> Figure | None:
    """The figure ``accuracy_over_time``; ``None`` without evaluations."""
    rows = _accuracy_rows(evaluations)
    if not rows:
        return None
    return Figure(
        name="accuracy_over_time",
        section="Federated",
        title="Accuracy over time",
        subtitle="Each point is the global model after a round. Dotted: its last model, held.",
        caption=_accuracy_caption(evaluations, target),
        chart=accuracy_chart(evaluations, strategies=strategies, target=target),
        rows=len(rows),
        numbers=numbers_table(rows, _ACCURACY_FIELDS),
    )


def _accuracy_caption(evaluations: Sequence[Evaluation], target: float | None) -> str:
    of = _by_strategy(evaluations)
    last = {name: rows[-1] for name, rows in of.items()}
    best = max(last, key=lambda name: last[name].accuracy)
    text = "Each point is the global model after a round."
    if len(of) > 1:
        text += f" The best at its end is “{best}” with {last[best].accuracy:.1%} after {format_seconds(last[best].time_s)}."
    else:
        text += f" It ends at {last[best].accuracy:.1%} after {format_seconds(last[best].time_s)}."
    if target is not None:
        text += " " + _target_sentence(time_to_target(evaluations, target), target)
    return text


def _target_sentence(reached: Mapping[str, float | None], target: float) -> str:
    times = sorted((time, name) for name, time in reached.items() if time is not None)
    never = [name for name, time in reached.items() if time is None]
    if not times:
        return f"None reached the target of {target:.0%}."
    text = f"The target of {target:.0%} was reached by " + ", ".join(
        f"“{name}” after {format_seconds(time)}" for time, name in times
    )
    return text + (f"; never by {', '.join(f'“{name}”' for name in never)}." if never else ".")


def device_time_chart(logs: Sequence[RoundLog]) -> Chart:
    """Share of all device time per strategy that was used, spent on transfers, wasted or idle.

    Raises:
        MissingExtraError: If altair is not installed.
    """
    alt = import_report_module("altair", "drawing a report")
    rows = _device_rows(logs)
    names = list(dict.fromkeys(str(row["strategy"]) for row in rows))
    y = alt.Y(
        "strategy:N",
        sort=None,
        title=None,
        scale=alt.Scale(domain=names, padding=0.2),
        axis=alt.Axis(grid=False, labelLimit=label_limit(alt)),
    )
    base = alt.Chart(alt.Data(values=rows)).encode(y=y)
    parts = [name for name, _, _ in _PARTS]
    bars = base.mark_bar().encode(
        x=alt.X(
            "start:Q",
            axis=alt.Axis(format=".0%", tickCount=5),
            scale=alt.Scale(domain=[0, 1]),
            title="share of device time",
        ),
        x2="end:Q",
        color=alt.Color("part:N", title=None, scale=alt.Scale(domain=parts, range=[colour for _, _, colour in _PARTS])),
        tooltip=[
            alt.Tooltip("strategy:N", title="Strategy"),
            alt.Tooltip("part:N", title="Time"),
            alt.Tooltip("share_text:N", title="Share"),
            alt.Tooltip("seconds:N", title="Device time"),
        ],
    )
    # Narrow parts have no room for a number; the tooltip and the table have it.
    wide = base.transform_filter("datum.share >= 0.055").encode(x="middle:Q", text="share_text:N")
    on_dark = wide.mark_text(style="on-colour", fontSize=12).transform_filter(
        f"indexof({[parts[0], parts[2]]!r}, datum.part) >= 0"
    )
    on_light = wide.mark_text(color="#1c2431", fontSize=12).transform_filter(f"datum.part == {parts[1]!r}")
    on_idle = wide.mark_text(style="label", fontSize=12).transform_filter(f"datum.part == {parts[3]!r}")
    chart: Chart = alt.layer(bars, on_dark, on_light, on_idle).properties(height=40 * len(names))
    return chart


def _device_rows(logs: Sequence[RoundLog]) -> list[Row]:
    rows: list[Row] = []
    for account in device_time(logs):
        at = 0.0
        for name, field, _ in _PARTS:
            seconds = float(getattr(account, field))
            share = seconds / account.total_s if account.total_s > 0 else 0.0
            rows.append(
                {
                    "strategy": account.strategy,
                    "part": name,
                    "start": at,
                    "end": at + share,
                    "middle": at + share / 2,
                    "share": share,
                    "share_text": f"{share:.0%}",
                    "seconds": format_seconds(seconds),
                }
            )
            at += share
    return rows


def device_time_figure(logs: Sequence[RoundLog]) -> Figure | None:
    """The figure ``device_time``; ``None`` without round logs."""
    if not logs:
        return None
    rows = _device_rows(logs)
    fields = (
        ("strategy", "Strategy", False),
        ("part", "Time", False),
        ("share_text", "Share", True),
        ("seconds", "Device time", True),
    )
    return Figure(
        name="device_time",
        section="Federated",
        title="Where device time went",
        subtitle="All clients together, from the first message to the end of the last round.",
        caption=_device_caption(logs),
        chart=device_time_chart(logs),
        rows=len(logs),
        numbers=numbers_table(rows, fields),
    )


def _device_caption(logs: Sequence[RoundLog]) -> str:
    accounts = device_time(logs)
    shares = {
        account.strategy: tuple(part / (account.total_s or 1.0) for part in (account.compute_s, account.wasted_s))
        for account in accounts
    }
    text = "The time of all clients together, from the first message to the end of the last round."
    most = max(shares, key=lambda name: shares[name][0])
    text += f" “{most}” turned {shares[most][0]:.0%} of it into training that was used"
    worst = max(shares, key=lambda name: shares[name][1])
    if shares[worst][1] > 0:
        text += f"; “{worst}” lost {shares[worst][1]:.0%} to work that came too late or never"
    return text + "."
