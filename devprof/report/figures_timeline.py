"""Figure of one round: what each client did when, one panel per strategy on a common clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from devprof.records import RoundLog
from devprof.report.axes import row_axis, time_axis
from devprof.report.figure import Chart, Figure, counted, import_report_module, numbers_table
from devprof.report.rounds import choose_rounds
from devprof.report.theme import INK, PAPER, PHASE_COLOURS
from devprof.report.timeline import Timeline, timeline
from devprof.units import format_seconds

__all__ = ["round_timeline_chart", "round_timeline_figure"]

_ROW_HEIGHT = 19

_FIELDS = (
    ("strategy", "Strategy", False),
    ("server_round", "Round", True),
    ("client", "Client", False),
    ("device", "Device", False),
    ("outcome", "Outcome", False),
    ("doing", "Phase", False),
    ("start", "From", True),
    ("end", "To", True),
    ("steps", "Steps", False),
    ("cutoff", "Cut-off", True),
    ("deadline", "Deadline", True),
    ("predicted", "Predicted", True),
)


def round_timeline_chart(logs: Sequence[RoundLog], *, server_round: int | None = None) -> Chart:
    """One round as bars per client on a common clock; thick lines are server deadlines, ticks the clients' cut-offs.

    Raises:
        MissingExtraError: If altair is not installed.
    """
    alt = import_report_module("altair", "drawing a report")
    shown = timeline(logs, server_round)
    y = row_axis(alt, shown.labels)
    end_s = max([float(row["end_s"] or 0) for row in shown.bars] + [float(row["at_s"] or 0) for row in shown.limits])
    axis, _ = time_axis(alt, end_s or 1.0, "time since the start of the round")
    # Remarks stand to the right of the bars and need room where the longest bar has one.
    full = max([float(row["at_s"] or 0) for row in shown.remarks], default=0.0)
    scale = alt.Scale(domain=[0, max((end_s or 1.0) * 1.02, full * 1.2)], nice=False)
    phases = [name for name in PHASE_COLOURS if any(row["phase"] == name for row in shown.bars)]
    bars = (
        alt.Chart(alt.Data(values=list(shown.bars)))
        .mark_bar(height=_ROW_HEIGHT - 6, stroke=PAPER, strokeWidth=0.5)
        .encode(
            y=y,
            x=alt.X("start_s:Q", scale=scale, axis=axis),
            x2="end_s:Q",
            color=alt.Color(
                "phase:N", title=None, scale=alt.Scale(domain=phases, range=[PHASE_COLOURS[name] for name in phases])
            ),
            tooltip=[alt.Tooltip(f"{key}:N", title=heading) for key, heading, _ in _FIELDS],
        )
    )
    x = alt.X("at_s:Q", scale=scale, axis=axis)
    chart: Chart = alt.layer(
        bars, *_limit_marks(alt, shown, x, y), *_remark_marks(alt, shown, x, y), *_heading_marks(alt, shown, y)
    ).properties(height=_ROW_HEIGHT * len(shown.labels))
    return chart


def _limit_marks(alt: ModuleType, shown: Timeline, x: Any, y: Any) -> list[Any]:
    marks = []
    for limit, size, thickness in (("deadline", _ROW_HEIGHT, 2), ("cut-off", _ROW_HEIGHT - 8, 3)):
        rows = [row for row in shown.limits if row["limit"] == limit]
        if rows:
            tick = alt.Chart(alt.Data(values=rows)).mark_tick(
                orient="vertical", size=size, thickness=thickness, color=INK, opacity=1
            )
            tooltip = [alt.Tooltip("limit:N", title="Limit"), alt.Tooltip("at_text:N", title="At")]
            marks.append(tick.encode(x=x, y=y, tooltip=tooltip))
    return marks


def _remark_marks(alt: ModuleType, shown: Timeline, x: Any, y: Any) -> list[Any]:
    if not shown.remarks:
        return []
    base = alt.Chart(alt.Data(values=list(shown.remarks))).encode(x=x, y=y, text="text:N")
    return [base.mark_text(style="quiet", align="left", dx=6, color=INK)]


def _heading_marks(alt: ModuleType, shown: Timeline, y: Any) -> list[Any]:
    # In a narrow plot the counts would run out of it; the strategy and the length of its round stay.
    base = (
        alt.Chart(alt.Data(values=list(shown.headings)))
        .transform_calculate(line="datum.strategy + ' – ' + (width < 420 ? datum.length : datum.detail)")
        .encode(y=y, x=alt.value(0), text="line:N")
    )
    return [base.mark_text(style="label", align="left", baseline="middle", dy=1, fontWeight=600, fontSize=13)]


def round_timeline_figure(logs: Sequence[RoundLog], *, server_round: int | None = None) -> Figure | None:
    """The figure ``round_timeline``; ``None`` without round logs."""
    if not logs:
        return None
    shown = timeline(logs, server_round)
    return Figure(
        name="round_timeline",
        section="Federated",
        title="One round, client by client",
        subtitle="Long line: the server's deadline. Short tick: the client's own cut-off.",
        caption=_caption(logs, shown, server_round),
        chart=round_timeline_chart(logs, server_round=server_round),
        rows=len({(row["strategy"], row["client"]) for row in shown.bars}),
        numbers=numbers_table(shown.bars, _FIELDS),
    )


def _caption(logs: Sequence[RoundLog], shown: Timeline, server_round: int | None) -> str:
    parts = ["Each bar is a client from the moment the server sent the model until the round ended."]
    limits = {row["limit"] for row in shown.limits}
    if "deadline" in limits:
        parts.append("A long line is the server's deadline.")
    if "cut-off" in limits:
        parts.append("A short tick is the client's own cut-off.")
    numbers = choose_rounds(logs, server_round)
    lengths: dict[str, float] = {}
    outcomes: Counter[str] = Counter()
    for strategy, number in numbers.items():
        panel = [log for log in logs if log.strategy == strategy and log.server_round == number]
        lengths[strategy] = max(log.round_end_s for log in panel) - min(log.sent_s for log in panel)
        outcomes.update(log.outcome for log in panel)
    if len(lengths) > 1:
        short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        parts.append(
            f"The round takes {format_seconds(lengths[short])} under “{short}” and "
            f"{format_seconds(lengths[long])} under “{long}”."
        )
    if outcomes["late"]:
        replies = counted(outcomes["late"], "reply", "replies")
        parts.append(f"{replies} came too late for the round and went unused.")
    if shown.hidden:
        parts.append(f"Not shown: {counted(shown.hidden, 'more client')}.")
    return " ".join(parts)
