"""One round arranged for drawing: what each client did when, as rows of data. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from devprof.records import RoundLog
from devprof.report.figure import Row
from devprof.report.rounds import choose_rounds, is_used, natural_key, spans
from devprof.units import format_seconds

__all__ = ["MOST_CLIENTS", "Timeline", "timeline"]

MOST_CLIENTS = 20
"""Clients shown per strategy; more would make rows too thin to read."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """A round per strategy, arranged for drawing. Times count from the start of the strategy's round.

    Attributes:
        labels: Label by row key, from top to bottom.
        headings: Per strategy the row that carries its heading, with the text.
        bars: The phases.
        limits: Deadlines and cut-offs.
        remarks: Words beside a client's bar.
        hidden: Number of clients that are not shown because there are too many.
    """

    labels: dict[str, str]
    headings: tuple[Row, ...]
    bars: tuple[Row, ...]
    limits: tuple[Row, ...]
    remarks: tuple[Row, ...]
    hidden: int


@dataclass(slots=True)
class _Draft:
    """A timeline in the making."""

    labels: dict[str, str] = field(default_factory=dict)
    headings: list[Row] = field(default_factory=list)
    bars: list[Row] = field(default_factory=list)
    limits: list[Row] = field(default_factory=list)
    remarks: list[Row] = field(default_factory=list)

    def row(self, label: str) -> str:
        """The key of a new row at the bottom."""
        key = f"r{len(self.labels)}"
        self.labels[key] = label
        return key


@dataclass(frozen=True, slots=True)
class _Panel:
    """The chosen round of one strategy."""

    strategy: str
    server_round: int
    start_s: float
    end_s: float
    logs: Mapping[str, RoundLog]
    unfinished: Mapping[str, RoundLog]


def timeline(logs: Sequence[RoundLog], server_round: int | None = None) -> Timeline:
    """The chosen round of each strategy, clients grouped by device; at most :data:`MOST_CLIENTS` of them.

    A client that was not asked is shown too: idle, or at work that an earlier round did not wait for.

    Args:
        logs: Round logs of all strategies.
        server_round: The round to show; by default see :func:`devprof.report.rounds.choose_rounds`.
    """
    clients = _clients(logs)
    shown = _sample(list(clients))
    draft = _Draft()
    for strategy, number in choose_rounds(logs, server_round).items():
        panel = _panel([log for log in logs if log.strategy == strategy], number)
        if draft.labels:
            draft.row("")
        used = sum(is_used(log) for log in panel.logs.values())
        length = format_seconds(panel.end_s - panel.start_s)
        detail = f"round {number}: {length}, {used} of {len(panel.logs)} results used"
        draft.headings.append({"row": draft.row(""), "strategy": strategy, "length": length, "detail": detail})
        for client in shown:
            _add_client(draft, panel, client, clients[client])
    longest = max((float(bar["end_s"] or 0) for bar in draft.bars), default=0.0)
    # A server's time-out of an hour must not squeeze a round of a minute.
    limits = [limit for limit in draft.limits if float(limit["at_s"] or 0) <= longest * 1.1]
    return Timeline(
        draft.labels,
        tuple(draft.headings),
        tuple(draft.bars),
        tuple(limits),
        tuple(_beside(remark, [*draft.bars, *limits]) for remark in draft.remarks),
        len(clients) - len(shown),
    )


def _panel(logs: Sequence[RoundLog], number: int) -> _Panel:
    chosen = {log.client: log for log in logs if log.server_round == number}
    start = min(log.sent_s for log in chosen.values())
    unfinished = {
        log.client: log
        for log in logs
        if log.server_round < number
        and log.client not in chosen
        and log.finished_s is not None
        and log.finished_s > start
    }
    return _Panel(logs[0].strategy, number, start, max(log.round_end_s for log in chosen.values()), chosen, unfinished)


def _clients(logs: Sequence[RoundLog]) -> dict[str, str | None]:
    """All clients with the device each ran on, grouped by device."""
    devices: dict[str, str | None] = {}
    for log in logs:
        devices[log.client] = log.device or devices.get(log.client)
    order = sorted(devices, key=lambda client: (natural_key(devices[client] or ""), natural_key(client)))
    return {client: devices[client] for client in order}


def _sample(names: list[str]) -> list[str]:
    """At most :data:`MOST_CLIENTS`, evenly over the list and so over the devices."""
    if len(names) <= MOST_CLIENTS:
        return names
    return [names[index * (len(names) - 1) // (MOST_CLIENTS - 1)] for index in range(MOST_CLIENTS)]


def _add_client(draft: _Draft, panel: _Panel, client: str, device: str | None) -> None:
    row = draft.row(client if device is None or device == client else f"{client} · {device}")
    log = panel.logs.get(client)
    if log is not None:
        draft.bars.extend(_bars(log, row, panel.start_s, panel.end_s))
        draft.limits.extend(_limits(log, row, panel.start_s))
        if log.outcome != "used":
            draft.remarks.append({"row": row, "text": _remark(log)})
        return
    earlier = panel.unfinished.get(client)
    if earlier is not None:
        draft.bars.extend(_bars(earlier, row, panel.start_s, panel.end_s))
        draft.remarks.append({"row": row, "text": f"still at round {earlier.server_round}"})
        return
    known: Row = {
        "row": row,
        "strategy": panel.strategy,
        "server_round": panel.server_round,
        "client": client,
        "device": device,
        "outcome": "not asked",
    }
    unknown: Row = dict.fromkeys(("steps", "cutoff", "deadline", "predicted"))
    draft.bars.append(_bar(known | unknown, "idle", "idle", 0.0, panel.end_s - panel.start_s))
    draft.remarks.append({"row": row, "text": "not asked"})


def _common(log: RoundLog, row: str) -> Row:
    steps = None if log.steps_done is None else str(log.steps_done)
    if steps is not None and log.local_steps is not None:
        steps += f" of {log.local_steps}"
    return {
        "row": row,
        "strategy": log.strategy,
        "server_round": log.server_round,
        "client": log.client,
        "device": log.device,
        "outcome": log.outcome if log.detail is None else f"{log.outcome} ({log.detail})",
        "steps": steps,
        "cutoff": None if log.cutoff_s is None else format_seconds(log.cutoff_s),
        "deadline": None if log.deadline_s is None else format_seconds(log.deadline_s),
        "predicted": None if log.predicted_s is None else format_seconds(log.predicted_s),
    }


def _bars(log: RoundLog, row: str, start: float, end: float) -> list[Row]:
    """The phases of a log from ``start`` on, and idle time up to ``end``."""
    common = _common(log, row)
    found: list[Row] = []
    at = log.sent_s
    for span in spans(log):
        at = span.end_s
        if span.end_s > start:
            phase = span.phase if is_used(log) or span.phase == "still busy" else "unused work"
            found.append(_bar(common, phase, span.phase, max(0.0, span.start_s - start), span.end_s - start))
    if at < end:
        found.append(_bar(common, "idle", "idle", at - start, end - start))
    return found


def _bar(common: Row, phase: str, doing: str, start_s: float, end_s: float) -> Row:
    return common | {
        "phase": phase,
        "doing": doing,
        "start_s": start_s,
        "end_s": end_s,
        "start": format_seconds(start_s),
        "end": format_seconds(end_s),
    }


def _limits(log: RoundLog, row: str, start: float) -> list[Row]:
    """The server's deadline counts from the sending of the message, the client's own cut-off from its receipt."""
    found: list[Row] = []
    sent = log.sent_s - start
    if log.deadline_s is not None:
        found.append(_limit(row, sent + log.deadline_s, "deadline"))
    if log.cutoff_s is not None:
        busy = next((span.end_s - span.start_s for span in spans(log) if span.phase == "still busy"), 0.0)
        found.append(_limit(row, sent + busy + (log.download_s or 0.0) + log.cutoff_s, "cut-off"))
    return found


def _limit(row: str, at_s: float, limit: str) -> Row:
    return {"row": row, "at_s": at_s, "at_text": format_seconds(at_s), "limit": limit}


def _remark(log: RoundLog) -> str:
    if log.outcome == "partial" and log.steps_done is not None and log.local_steps is not None:
        return f"cut at {log.steps_done} of {log.local_steps} steps"
    return log.outcome


def _beside(remark: Row, drawn: Sequence[Row]) -> Row:
    """A remark placed to the right of everything else in its row."""
    ends = [float(item.get("at_s") or item.get("end_s") or 0) for item in drawn if item["row"] == remark["row"]]
    return remark | {"at_s": max(ends, default=0.0)}
