"""``devprof summary``: what measurement folders hold, a line per configuration."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devprof.cli.common import CommaList, echo_json, json_option, stdout_table
from devprof.store.summary import IDENTITY, summarize_folders
from devprof.units import format_bytes, format_joules, format_seconds

if TYPE_CHECKING:
    from devprof.store.summary import Summary, SummaryLine

# Lines that a terminal shows unless asked for more.
_TERMINAL_LINES = 50
# From here on a table is aligned text: rich takes a millisecond per line to draw one.
_MOST_DRAWN = 500
_HEADINGS = {"batch_size": "batch"}
_NUMERIC = {"batch_size", "image_size", "num_classes", "threads"}


@click.command("summary")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--by",
    type=CommaList(str, IDENTITY),
    help="Columns that make a line, such as device,model.  [default: all that identify a configuration]",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    help=f"Lines to show.  [default: {_TERMINAL_LINES} on a terminal, all in a pipe or file]",
)
@json_option
def command(folders: tuple[Path, ...], by: tuple[str, ...] | None, limit: int | None, as_json: bool) -> None:
    """Summarise the runs in the measurement folders DIR..., a line per device, model, mode and batch size.

    A further column is shown where its values differ. Step times are medians over processes, which "devprof measure" calls
    repeats, of their median steps. "within" is the spread of steps in a process, "between" that of processes: a second process
    may run several percent faster or slower than the first, which only --repeats 3 shows. The interval covers both with three
    or more processes; with one it is that process's own.
    """
    summary = summarize_folders(folders, by=by or IDENTITY)
    if limit is None and sys.stdout.isatty() and not as_json:
        limit = _TERMINAL_LINES
    if as_json:
        echo_json(_as_json(summary, limit))
    else:
        _show(summary, limit)


def _as_json(summary: Summary, limit: int | None) -> dict[str, Any]:
    lines = [dataclasses.asdict(line) for line in summary.lines[:limit]]
    return {
        "folders": [dataclasses.asdict(size) | {"folder": str(size.folder)} for size in summary.folders],
        "runs_with_power": summary.runs_with_power,
        "configurations": len(summary.lines),
        "lines": [line.pop("identity") | line for line in lines],
        "skipped": {str(file.path): file.reason for file in summary.skipped},
    }


def _show(summary: Summary, limit: int | None) -> None:
    for file in summary.skipped:
        click.echo(f"WARNING: skipped {file.path}: {file.reason}", err=True)
    for size in summary.folders:
        click.echo(f"{size.folder}: {size.runs:,} runs, {size.steps:,} steps, {size.power_samples:,} power samples")
    if not summary.lines:
        click.echo("There is nothing to summarise; measure something: devprof measure MODEL -o DIR", err=True)
        return
    shown = summary.lines[:limit]
    columns = [(_HEADINGS.get(name, name.replace("_", " ")), name in _NUMERIC) for name in summary.shown]
    columns += [
        (name, True) for name in ("processes", "step", "interval", "within", "between", "samples/s", "memory peak")
    ]
    energy = any(line.energy_per_step_j is not None for line in shown)
    columns += [("energy/step", True)] if energy else []
    rows = [_row(line, summary.shown, energy=energy) for line in shown]
    columns.append(("remarks", False))
    if len(rows) > _MOST_DRAWN:
        click.echo(_plain_table(columns, rows))
    else:
        stdout_table("Medians over processes", columns, rows)
    if len(shown) < len(summary.lines):
        click.echo(
            f"{len(summary.lines) - len(shown)} more lines; show them with --limit {len(summary.lines)}", err=True
        )
    alone = sum(line.interval == "one process" for line in summary.lines)
    if alone:
        click.echo(
            f"{alone} of {len(summary.lines)} lines stand on one process, whose interval says nothing about the next one: "
            "measure them with --repeats 3",
            err=True,
        )


def _plain_table(columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    headings = tuple(heading for heading, _ in columns)
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]
    numeric = [is_number for _, is_number in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in (headings, *rows)
    )


def _row(line: SummaryLine, shown: tuple[str, ...], *, energy: bool) -> tuple[str, ...]:
    identity = ("–" if line.identity[name] is None else str(line.identity[name]) for name in shown)
    interval = "–"
    if line.step_s_low is not None:
        interval = f"{format_seconds(line.step_s_low)} … {format_seconds(line.step_s_high)}"
    joules = (format_joules(line.energy_per_step_j),) if energy else ()
    return (
        *identity,
        str(line.processes),
        format_seconds(line.step_s),
        interval,
        _percent(line.within_rel),
        _percent(line.between_rel),
        _rate(line.samples_per_s),
        format_bytes(line.rss_peak_bytes),
        *joules,
        _remarks(line),
    )


def _rate(samples_per_s: float | None) -> str:
    if samples_per_s is None:
        return "–"
    return f"{samples_per_s:,.0f}" if samples_per_s >= 100 else f"{samples_per_s:.3g}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _remarks(line: SummaryLine) -> str:
    """What went wrong in how many processes; the verdict on throttling says what the warnings about it repeat."""
    notes = {**line.failed}
    if line.latency_invalid:
        notes["without valid latency"] = line.latency_invalid
    notes |= {f"throttling {verdict}": count for verdict, count in line.throttled.items()}
    notes |= {code: count for code, count in line.warnings.items() if not code.startswith("throttle")}
    return ", ".join(f"{count} {text}" for text, count in notes.items())
