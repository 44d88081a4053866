"""The arithmetic of rounds: what each device did when, and where its time went. Pure functions of round logs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from devprof.records import RoundLog
from devprof.report.figure import finite

__all__ = ["DeviceTime", "Span", "choose_rounds", "device_time", "is_used", "natural_key", "spans"]

# Shares of a round below which a gap is rounding, not waiting.
_NEGLIGIBLE = 0.005
_PHASES = ("download", "start-up", "compute", "upload")


@dataclass(frozen=True, slots=True)
class Span:
    """One phase of one client's round, on the clock of its round log."""

    phase: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """Where the time of all devices went under one strategy, in device seconds.

    The four parts fill the time from the first message to the end of the last round, for each client that was ever asked.

    Attributes:
        strategy: Name of the strategy.
        compute_s: Steps whose result was used.
        overhead_s: Transfers and start-up around work that was used.
        wasted_s: Everything around work that was not used: late, failed, lost.
        idle_s: The rest.
    """

    strategy: str
    compute_s: float
    overhead_s: float
    wasted_s: float
    idle_s: float

    @property
    def total_s(self) -> float:
        """Device seconds of the whole run."""
        return self.compute_s + self.overhead_s + self.wasted_s + self.idle_s


def natural_key(text: str) -> tuple[tuple[int, float, str], ...]:
    """A sort key that puts ``client 2`` before ``client 10`` and ``2.5x`` before ``10x``."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return tuple((0, float(part), "") if index % 2 else (1, 0.0, part) for index, part in enumerate(parts))


def is_used(log: RoundLog) -> bool:
    """Whether the client's result went into the model."""
    return log.outcome in ("used", "partial")


def spans(log: RoundLog) -> list[Span]:
    """A client's round as consecutive phases, from the sending of the message on.

    Time that the record does not explain is not hidden: before known transfers it is ``still busy`` (with work of an earlier
    round); where a transfer was not recorded the rest is the transfer, shared evenly if neither was; without any phases the
    whole is ``not itemised``. A client that never answered occupies its round up to the end.
    """
    seconds = {
        "download": finite(log.download_s),
        "start-up": finite(log.startup_s),
        "compute": finite(log.train_s),
        "upload": finite(log.upload_s),
    }
    if seconds["compute"] is None:
        return [Span("not itemised", log.sent_s, max(log.sent_s, _end(log)))]
    known = sum(value for value in seconds.values() if value is not None)
    at = log.sent_s
    if log.finished_s is not None:
        rest = max(0.0, log.finished_s - log.sent_s - known)
        unknown = [name for name in ("download", "upload") if seconds[name] is None]
        for name in unknown:
            seconds[name] = rest / len(unknown)
        if not unknown:
            at += rest
    found: list[Span] = []
    if at - log.sent_s > _NEGLIGIBLE * (known + at - log.sent_s):
        found.append(Span("still busy", log.sent_s, at))
    for name in _PHASES:
        length = seconds[name]
        if length:
            found.append(Span(name, at, at + length))
            at += length
    return found


def _end(log: RoundLog) -> float:
    return log.round_end_s if log.finished_s is None else log.finished_s


def _accounted(log: RoundLog) -> bool:
    return log.finished_s is not None or log.outcome in ("missing", "error", "rejected")


def choose_rounds(logs: Sequence[RoundLog], server_round: int | None = None) -> dict[str, int]:
    """The round of each strategy that the timeline shows.

    By default the last round that every strategy ran and in which the end of every client's work is known, then the last
    common one, then each strategy's own last.

    Args:
        logs: Round logs of all strategies.
        server_round: The round to show instead; a strategy without it shows its own last.
    """
    rounds: dict[str, dict[int, bool]] = {}
    for log in logs:
        of = rounds.setdefault(log.strategy, {})
        of[log.server_round] = of.get(log.server_round, True) and _accounted(log)
    if server_round is None and rounds:
        common = set.intersection(*(set(of) for of in rounds.values()))
        complete = {number for number in common if all(of[number] for of in rounds.values())}
        server_round = max(complete or common, default=None)
    return {name: server_round if server_round in of else max(of) for name, of in rounds.items()}


def device_time(logs: Sequence[RoundLog]) -> tuple[DeviceTime, ...]:
    """Where device time went, per strategy in order of first appearance."""
    return tuple(
        _device_time(name, [log for log in logs if log.strategy == name])
        for name in dict.fromkeys(log.strategy for log in logs)
    )


def _device_time(strategy: str, logs: Sequence[RoundLog]) -> DeviceTime:
    end = max(log.round_end_s for log in logs)
    total = (end - min(log.sent_s for log in logs)) * len({log.client for log in logs})
    compute = overhead = wasted = 0.0
    for log in logs:
        for span in spans(log):
            # Work that outlives the run is cut at its end; waiting is counted where the earlier work is.
            seconds = max(0.0, min(span.end_s, end) - span.start_s)
            if span.phase == "still busy":
                continue
            if not is_used(log):
                wasted += seconds
            elif span.phase in ("compute", "not itemised"):
                compute += seconds
            else:
                overhead += seconds
    return DeviceTime(strategy, compute, overhead, wasted, max(0.0, total - compute - overhead - wasted))
