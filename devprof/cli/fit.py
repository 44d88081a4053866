"""``devprof fit``: from measurements to a cost model, with its errors on what it did not see."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devprof.cli.common import echo_json, json_option, log_to_stderr, stdout_table
from devprof.errors import CostModelError

if TYPE_CHECKING:
    from devprof.costmodel.suggest import Probe
    from devprof.costmodel.summary import CostReport


_WIDTH = 100


@click.command("fit")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The cost model's file."
)
@click.option(
    "--card", type=click.Path(path_type=Path, dir_okay=False), help="Write the model card to this Markdown file."
)
@click.option("--suggest", type=click.IntRange(1), help="Name so many models that are worth measuring next.")
@click.option("--device", help="With --suggest: the device to measure on.  [default: a new one]")
@json_option
def command(
    folders: tuple[Path, ...], output: Path, card: Path | None, suggest: int | None, device: str | None, as_json: bool
) -> None:
    """Fit a cost model to all runs in the measurement folders DIR... and print its errors.

    Operators that `devprof calibrate` timed are used, too: a device that was only calibrated can be predicted.

    Errors are those on model families (and models) that were left out of the fit, one after the other: what to expect for a
    model that was never measured. Devices that were measured with kin are treated as new ones, too. The model card tells all of
    it, with the data and what the cost model must not be used for; the file keeps it (devprof predict COST_MODEL --card).

    Models are traced once and kept in a cache (DEVPROF_CACHE), so a second fit is quick.
    """
    from devprof.cli.tables import load_all_operators, load_all_runs
    from devprof.costmodel.model import CostModel
    from devprof.measure.calibrate import REFERENCE_MODELS

    log_to_stderr()
    operators = load_all_operators(folders)
    model = CostModel.fit(load_all_runs(folders, may_be_empty=operators is not None), operators=operators)
    probes = model.suggest(suggest, device, models=REFERENCE_MODELS) if suggest is not None else []
    model.save(output)
    report = model.report
    if card is not None:
        _write_card(report, card)
    if as_json:
        found = [_named(probe) for probe in probes]
        echo_json({"output": str(output), "devices": model.devices, "suggested": found, **report.to_dict()})
        return
    _show_errors(report)
    _show_remarks(report)
    if probes:
        click.echo("Worth measuring next, the most telling first:")
        for probe in probes:
            one = _named(probe)
            click.echo(f"  devprof measure {one['model']} --mode {one['mode']} --batch-size {one['batch_size']} -o DIR")
    click.echo("Not for:")
    for text in report.not_for:
        click.echo(textwrap.fill(text, _WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False))
    click.echo(f"{output}: fitted to {report.used_rows} of {report.total_rows} runs on {', '.join(model.devices)}")


def _named(probe: Probe) -> dict[str, str | int]:
    own = probe.configuration
    return {"model": own.model, "mode": own.mode, "batch_size": probe.batch_size}


def _write_card(report: CostReport, path: Path) -> None:
    from devprof.atomic import write_atomically
    from devprof.costmodel.card import render_card

    try:
        write_atomically(path, render_card(report).encode())
    except OSError as error:
        raise CostModelError(f"cannot write the card {path}: {error}") from error


def _show_errors(report: CostReport) -> None:
    """The card's tables: what was left out, and devices as new."""
    from devprof.costmodel.card import (
        ERROR_HEADINGS,
        error_cells,
        new_device_headings,
        new_device_notes,
        new_device_rows,
    )

    title = "Errors of step time on what was left out of the fit (leave-one-family-out, leave-one-model-out)"
    stdout_table(title, ERROR_HEADINGS, [error_cells(error) for error in report.errors])
    others = {
        "peak memory": report.memory_errors,
        "energy per step": report.energy_errors,
        "mean power": report.power_errors,
    }
    for what, errors in others.items():
        if any(error.mape is not None for error in errors):
            stdout_table(f"Errors of {what}", ERROR_HEADINGS, [error_cells(error) for error in errors])
    rows = new_device_rows(report.new_device)
    if rows:
        title = "Mean error on each device, were it new and known by a few random probes"
        stdout_table(title, new_device_headings(report.new_device), rows)
    for text in new_device_notes(report.new_device):
        click.echo(f"new devices: {text}", err=True)


def _show_remarks(report: CostReport) -> None:
    for error in report.errors:
        if error.note:
            click.echo(f"{error.device}, {error.mode}, {error.scheme}: {error.note}", err=True)
    for text in report.suspects:
        click.echo(f"suspicious: {text}", err=True)
    for reason, count in report.rejected.items():
        click.echo(f"left out {count} run(s): {reason}", err=True)
    for reason, count in report.power_rejected.items():
        click.echo(f"did not use the power of {count} run(s): {reason}", err=True)
    for model, reason in report.dropped_models.items():
        click.echo(f"left out {model}: {reason}", err=True)
