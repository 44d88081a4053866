"""A run whose energy is found afterwards, in the log of a meter that nobody could reach while it ran."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from devprof.errors import MeasureError
from devprof.measure.checks import Warn
from devprof.measure.metered import METER_WARNINGS, Heard, MeterFigures, meter_figures
from devprof.measure.rows import Columns
from devprof.measure.runspans import PATTERNS, RunSpans, SpanNs
from devprof.meters.align import AlignError, Alignment, Samples, align
from devprof.meters.logfile import Log
from devprof.meters.sieve import Sieve
from devprof.meters.wave import Part, Pattern
from devprof.records import Measurement, PowerSample

__all__ = ["Aligned", "align_run", "patterns_of"]

# Of what the run did beside a pattern so many parts' length belongs to it; less than half of that says nothing.
_FLANK_PARTS = 2
_LEAST_FLANK = 0.5
_MARGIN_PERIODS = 3


@dataclass(frozen=True, slots=True)
class Aligned:
    """What a log says of a run.

    Attributes:
        columns: Of the run's row, warnings included.
        power: The log's rows from the run's first span to its last, on the run's clock.
        alignment: Where the run lies in the log.
        window_at_s: The begin of its window, in seconds from the log's first row.
        ahead_s: By how much the logger's clock of the day is ahead of the run's; ``None`` where it has none.
        warnings: About the log as a meter.
        notes: What was decided or left out, in sentences.
    """

    columns: Columns
    power: tuple[PowerSample, ...]
    alignment: Alignment
    window_at_s: float
    ahead_s: float | None
    warnings: tuple[Warn, ...]
    notes: tuple[str, ...]


def align_run(run: Measurement, log: Log, *, at_s: float | None = None) -> Aligned:
    """Find a run in a log, and make of the log what a meter beside the run would have said.

    Args:
        run: A run that came to its end and showed its pattern.
        log: What the logger wrote.
        at_s: About where the run's first pattern begins, in seconds from the log's first row.

    Raises:
        MeasureError: If the run cannot be looked for: it failed, or showed no pattern.
        AlignError: If it is not found in the log, or not well enough.
    """
    if run.spans is None or run.steps is None:
        raise MeasureError(f"nothing is known of the parts of the run {run.run_id}, because it is {_why(run)}")
    spans = RunSpans.from_json(run.spans)
    patterns = patterns_of(spans)
    window_ns = spans.timed_ns.get("window")
    if not patterns or window_ns is None:
        raise MeasureError(f"the run {run.run_id} showed no pattern: measure it with devprof measure --sync-pattern")
    utc_ns = spans.utc_ns(window_ns[0]) if log.clock == "utc" else None
    found = align(
        Samples(*log.total(), log.update_s),
        patterns,
        window_ns,
        expected_ns=None if utc_ns is None else utc_ns - window_ns[0],
        near_ns=None if at_s is None else log.t_ns[0] + round(at_s * 1e9),
    )
    figures = _figures(run, run.steps, spans.timed_ns, log, found)
    remote_ns = found.remote_ns(window_ns[0])
    return Aligned(
        figures.columns | {"warnings": _warnings(run, figures)},
        figures.samples,
        found,
        (remote_ns - log.t_ns[0]) / 1e9,
        None if utc_ns is None else (remote_ns - utc_ns) / 1e9,
        figures.warnings,
        (*found.notes, *_notes(log)),
    )


def _why(run: Measurement) -> str:
    return f"one that ended as {run.status}" if run.status != "ok" else "an imported one, or one of an older devprof"


def patterns_of(spans: RunSpans) -> list[Pattern]:
    """The patterns that a run showed, with a part of what it did before and after each.

    Raises:
        MeasureError: If its spans contradict each other.
    """
    try:
        return [_pattern(spans, name) for name in PATTERNS if name in spans.timed_ns and spans.loads_ns.get(name)]
    except ValueError as error:
        raise MeasureError(f"the column spans of the run makes no sense: {error}") from error


def _pattern(spans: RunSpans, name: str) -> Pattern:
    begin_ns, end_ns = spans.timed_ns[name]
    loads = [(begin, end) for begin, end in spans.loads_ns[name]]
    flank_ns = _FLANK_PARTS * (loads[0][0] - begin_ns)
    before, after = spans.timed_ns.get("warm-up"), spans.timed_ns.get("settle")
    if name != PATTERNS[0]:
        before, after = _window_and_phases(spans), None
        # Idle already, so that the last part is longer.
        end_ns = min(spans.timed_ns.get("idle-after", (end_ns, end_ns))[1], end_ns + flank_ns)
    idle = [(first[1], second[0]) for first, second in pairwise(loads)]
    if before is not None and before[1] - before[0] >= _LEAST_FLANK * flank_ns:
        idle = [(before[1], loads[0][0]), *idle]
        loads = [(max(before[0], before[1] - flank_ns), before[1]), *loads]
    else:
        idle = [(begin_ns, loads[0][0]), *idle]
    if after is not None and after[1] - after[0] >= _LEAST_FLANK * flank_ns:
        idle = [*idle, (loads[-1][1], after[0])]
        loads = [*loads, (after[0], min(after[1], after[0] + flank_ns))]
    else:
        idle = [*idle, (loads[-1][1], end_ns)]
    parts = [Part(*span, loaded=True) for span in loads] + [Part(*span, loaded=False) for span in idle]
    return Pattern(tuple(sorted(parts, key=lambda part: part.begin_ns)))


def _window_and_phases(spans: RunSpans) -> SpanNs | None:
    window_ns = spans.timed_ns.get("window")
    return window_ns and (window_ns[0], max(window_ns[1], *spans.timed_ns.get("phases", window_ns)))


def _figures(run: Measurement, steps: int, spans_ns: Mapping[str, SpanNs], log: Log, found: Alignment) -> MeterFigures:
    info = log.info
    info = replace(info, detail=f"{info.detail}, its clock known to {found.error_s:.2g} s")
    margin_ns = round(_MARGIN_PERIODS * info.period_s * 1e9)
    reach_ns = min(begin for begin, _ in spans_ns.values()), max(end for _, end in spans_ns.values())
    sieve = Sieve(info.channels)
    readings = sieve.accept(log.readings(found.clock, (reach_ns[0] - margin_ns, reach_ns[1] + margin_ns)))
    heard = Heard(info, readings, info.period_s, sum(sieve.rejected.values()), found.error_s)
    figures = meter_figures(run.run_id, spans_ns, steps, heard)
    if figures.columns["energy_j"] is None:
        raise AlignError(
            f"the log has values for {figures.columns['power_coverage']:.1%} of the run's window only",
            "let the logger write without gaps, and measure again",
        )
    return figures


def _warnings(run: Measurement, figures: MeterFigures) -> str | None:
    """The run's own warnings, and those about this meter in place of those about another."""
    about_meters = {warning.code for warning in METER_WARNINGS}
    codes = [code for code in json.loads(run.warnings or "[]") if code not in about_meters]
    codes += [warning.code for warning in figures.warnings]
    return json.dumps(codes) if codes else None


def _notes(log: Log) -> Sequence[str]:
    found = {
        f"{log.unreadable} rows could not be read; the last: {log.last_unreadable}": log.unreadable,
        f"{log.left_out} rows whose time is not later than that of the row before were left out": log.left_out,
        f"the logger was started again {log.restarts} times": log.restarts,
    }
    return [note for note, count in found.items() if count]
