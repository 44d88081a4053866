"""``devprof meter``: what is done with meters beside measuring."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devprof.cli.common import SECONDS, echo_json, json_option, log_to_stderr
from devprof.units import format_joules, format_seconds

if TYPE_CHECKING:
    from devprof.measure.aligned import Aligned
    from devprof.meters.logfile import Log
    from devprof.records import Measurement


@click.group("meter")
def command() -> None:
    """Work with meters of power beside measuring.

    Which of them a device has says devprof doctor; devprof measure --meter reads one.
    """


@command.command("serve", short_help="Share this host's meter with devprof on other hosts.")
@click.argument("meter", metavar="[NAME[:ARGUMENT]]", default="auto")
@click.option("--host", default="", help="Address to listen on.  [default: all]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.  [default: 7316]")
def serve(meter: str, host: str, port: int | None) -> None:
    """Share a meter of this host until it is interrupted: there, devprof measure --meter tcp:HOST:PORT reads it.

    There is no password: whoever reaches the port can read the power, so open it to the measured boards only.
    """
    from devprof.cli.sweeping import sigterm_as_interrupt
    from devprof.meters.catalogue import choose, open_meter
    from devprof.meters.serve import serve as share
    from devprof.meters.wire import DEFAULT_PORT

    log_to_stderr()
    candidates = choose("cpu") if meter == "auto" else [meter]
    if not candidates:
        raise click.ClickException("no meter was found here: name one; devprof doctor says which there are and why not")
    opened = open_meter(candidates[0])

    def ready(address: str, number: int) -> None:
        click.echo(f"Sharing {candidates[0]} ({opened.info.rule}) at {address}:{number}; Ctrl-C ends it.", err=True)

    try:
        with sigterm_as_interrupt():
            share(opened, host, DEFAULT_PORT if port is None else port, ready=ready)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
    finally:
        opened.close()


@command.command("align", short_help="Give a run its energy out of a logger's file.")
@click.argument("log_file", metavar="LOG.csv", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("run_name", metavar="RUN")
@click.option(
    "--columns",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Description of the log, as the meter toml takes it.  [default: what its header says]",
)
@click.option("--period", type=SECONDS, help="Time from row to row, such as 10ms, for a log without times.")
@click.option(
    "--at", type=SECONDS, help="About where the run's pattern begins after the first row, if it is there twice."
)
@click.option("--force", is_flag=True, help="Replace an energy that the run has already.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Measurement folder of the run.",
)
@json_option
def align(
    log_file: Path,
    run_name: str,
    columns: Path | None,
    period: float | None,
    at: float | None,
    output: Path,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Complete a run with its energy, out of the file LOG.csv of a meter that logged on its own.

    RUN is a run_id, the beginning of one, or latest. The run must have been measured with devprof measure --sync-pattern: its
    pattern of load and idle is looked for in the log, whatever clock the logger has.
    """
    from devprof.measure.aligned import align_run
    from devprof.meters.described import read_description
    from devprof.meters.logfile import LOG_DESCRIPTION, read_log
    from devprof.store.complete import complete_run, find_run

    log_to_stderr()
    if period is not None and not period > 0:
        raise click.UsageError("--period must be positive, such as 10ms")
    run = find_run(output, run_name)
    if run.energy_j is not None and not force:
        raise click.ClickException(
            f"the run {run.run_id} has energy already, of {run.energy_source}: --force replaces it"
        )
    description = LOG_DESCRIPTION if columns is None else read_description(str(columns))[1]
    log = read_log(log_file, description, period_s=period)
    found = align_run(run, log, at_s=at)
    complete_run(output, run.run_id, found.columns, found.power, force=force)
    if as_json:
        echo_json(_result(run, log, found))
    else:
        _show(run, log, found)


def _result(run: Measurement, log: Log, found: Aligned) -> dict[str, Any]:
    drift = found.alignment.drift
    return {
        "run_id": run.run_id,
        "log": {"rows": len(log.t_ns), "period_s": log.period_s, "clock": log.clock, "unreadable": log.unreadable},
        "window_at_s": found.window_at_s,
        "ahead_s": found.ahead_s,
        "error_s": found.alignment.error_s,
        "drift_ppm": None if drift is None else drift * 1e6,
        "likeness": found.alignment.likeness,
        **{name: value for name, value in found.columns.items() if name != "warnings"},
        "warnings": [warning.code for warning in found.warnings],
        "notes": found.notes,
    }


def _show(run: Measurement, log: Log, found: Aligned) -> None:
    drift, columns = found.alignment.drift, found.columns
    ahead = "" if found.ahead_s is None else f"; its clock is {abs(found.ahead_s):.3f} s {_side(found.ahead_s)}"
    pace = "" if drift is None else f"; it gains {drift * 1e6:.0f} ppm on the run's"
    error = f"±{columns['energy_error_rel']:.1%}" if columns["energy_error_rel"] is not None else "no bound"
    idle = "not measured" if columns["idle_power_w"] is None else f"{columns['idle_power_w']:.3g} W"
    for name, text in (
        ("run", f"{run.run_id}: {run.model} {run.mode} batch {run.batch_size} on {run.device}"),
        ("log", f"{len(log.t_ns)} rows, one every {format_seconds(log.period_s)}; clock: {log.clock}"),
        (
            "window",
            f"{found.window_at_s:.3f} s after the first row, ±{format_seconds(found.alignment.error_s)}{ahead}{pace}",
        ),
        ("likeness", f"{found.alignment.likeness:.2f} of 1"),
        ("energy", f"{format_joules(columns['energy_j'])} in {format_seconds(columns['energy_window_s'])}, {error}"),
        ("per step", format_joules(columns["energy_per_step_j"])),
        ("power", f"{columns['power_w']:.3g} W; idle: {idle}"),
    ):
        click.echo(f"{name:9} {text}")
    for note in (*found.notes, *(f"{warning.code}: {warning.value}" for warning in found.warnings)):
        click.echo(note, err=True)


def _side(ahead_s: float) -> str:
    return "ahead" if ahead_s > 0 else "behind"
