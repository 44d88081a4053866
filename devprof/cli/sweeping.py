"""A sweep as a command runs it: what is finished already is left out, each row is stored as soon as it stands."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from devprof.cli.common import stderr_console
from devprof.records import Measurement

if TYPE_CHECKING:
    from rich.progress import Progress

    from devprof.measure.harness import MeasureOptions
    from devprof.measure.sweep import Configuration
    from devprof.meters.sampling import Sampling
    from devprof.records import Device

__all__ = ["measure_all", "progress_bar", "sigterm_as_interrupt"]

# Single files that a folder may hold before they are merged: each costs readers about a millisecond.
_COMPACT_FROM = 1000


def measure_all(
    configurations: Sequence[Configuration],
    device: Device,
    options: MeasureOptions,
    output: Path,
    *,
    retry_failed: bool = False,
    sampling: Sampling | None = None,
) -> tuple[list[Measurement], bool]:
    """Measure what is not finished in a folder yet, storing each row as soon as it stands, with a progress bar on stderr.

    Returns:
        The rows that were added, and whether the user interrupted.
    """
    from devprof.measure.sweep import key_of, run_sweep
    from devprof.store.compact import compact_if_many
    from devprof.store.folder import read_finished, write_run

    compact_if_many(output, threshold=_COMPACT_FROM)
    finished = read_finished(output, ok_only=retry_failed)
    to_do = [configuration for configuration in configurations if key_of(configuration, device) not in finished]
    kept = len(configurations) - len(to_do)
    if kept:
        click.echo(f"{kept} of {len(configurations)} configurations were finished already in {output}.", err=True)
    rows: list[Measurement] = []
    if not to_do:
        return rows, False
    with progress_bar() as progress, sigterm_as_interrupt():
        bar = progress.add_task("starting", total=len(configurations), completed=kept)

        def show(configuration: Configuration) -> None:
            progress.update(bar, description=_label(configuration))

        try:
            for run, steps, power in run_sweep(to_do, device, options, sampling=sampling, on_start=show):
                write_run(output, run, steps, power)
                rows.append(run)
                progress.advance(bar)
                if run.status != "ok":
                    progress.console.print(
                        f"{run.model} {run.mode} batch {run.batch_size}: {run.status}: {run.error}", markup=False
                    )
        except KeyboardInterrupt:
            click.echo(f"Interrupted: {len(rows)} of {len(to_do)} finished and kept.", err=True)
            return rows, True
    compact_if_many(output, threshold=_COMPACT_FROM)
    return rows, False


def _label(configuration: Configuration) -> str:
    workload = configuration.workload
    repeat = f", repeat {configuration.repeat + 1}" if configuration.repeat else ""
    return f"{workload.model} {workload.mode} batch {workload.batch_size}{repeat}"


def progress_bar() -> Progress:
    """A bar on stderr that counts what is finished and says how long the rest will take."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()]
    times = [TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn(compact=True)]
    return Progress(*columns, *times, console=stderr_console(), speed_estimate_period=3600.0)


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """A service manager's request to end is treated like Ctrl-C: finish nothing more, lose nothing."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
