"""``devprof fit``: from measurements to a cost model, with its errors on what it did not see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from devprof.cli.common import echo_json, json_option, log_to_stderr, stdout_table

if TYPE_CHECKING:
    from devprof.costmodel.evaluate import ErrorReport
    from devprof.costmodel.suggest import Probe
    from devprof.costmodel.summary import CostReport


# From this number of families on, 90 % intervals come from the residuals alone.
_ENOUGH_FAMILIES = 9


@click.command("fit")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The cost model's file."
)
@click.option("--suggest", type=click.IntRange(1), help="Name so many models that are worth measuring next.")
@click.option("--device", help="With --suggest: the device to measure on.  [default: a new one]")
@json_option
def command(folders: tuple[Path, ...], output: Path, suggest: int | None, device: str | None, as_json: bool) -> None:
    """Fit a cost model to all runs in the measurement folders DIR... and print its errors.

    Operators that `devprof calibrate` timed are used, too: a device that was only calibrated can be predicted.

    Errors are those on model families (and models) that were left out of the fit, one after the other: what to expect for a
    model that was never measured. Models are traced once and kept in a cache (DEVPROF_CACHE), so a second fit is quick.
    """
    from devprof.cli.tables import load_all_operators, load_all_runs
    from devprof.costmodel.model import CostModel

    log_to_stderr()
    operators = load_all_operators(folders)
    model = CostModel.fit(load_all_runs(folders, may_be_empty=operators is not None), operators=operators)
    probes = model.suggest(suggest, device) if suggest is not None else []
    model.save(output)
    report = model.report
    if as_json:
        found = [_named(probe) for probe in probes]
        echo_json({"output": str(output), "devices": model.devices, "suggested": found, **report.to_dict()})
        return
    stdout_table(
        "Errors of step time on what was left out of the fit", _COLUMNS, [_row(error) for error in report.errors]
    )
    if any(error.mape is not None for error in report.memory_errors):
        stdout_table("Errors of peak memory", _COLUMNS, [_row(error) for error in report.memory_errors])
    for what, errors in (("energy per step", report.energy_errors), ("mean power", report.power_errors)):
        if any(error.mape is not None for error in errors):
            stdout_table(f"Errors of {what}", _COLUMNS, [_row(error) for error in errors])
    _show_remarks(report)
    if probes:
        click.echo("Worth measuring next, the most telling first:")
        for probe in probes:
            one = _named(probe)
            click.echo(f"  devprof measure {one['model']} --mode {one['mode']} --batch-size {one['batch_size']} -o DIR")
    click.echo(f"{output}: fitted to {report.used_rows} of {report.total_rows} runs on {', '.join(model.devices)}")


_COLUMNS = [("device", False), ("mode", False), ("left out", False), ("rows", True), ("groups", True)]
_COLUMNS += [
    ("mean", True),
    ("median", True),
    ("within 10 %", True),
    ("within 20 %", True),
    ("90 % interval covers", True),
]


def _named(probe: Probe) -> dict[str, str | int]:
    own = probe.configuration
    return {"model": own.model, "mode": own.mode, "batch_size": probe.batch_size}


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _row(error: ErrorReport) -> tuple[str, ...]:
    shares = (error.mape, error.median, error.within_10, error.within_20, error.coverage_90)
    named = (error.device, error.mode, error.scheme, str(error.rows), str(error.groups))
    return (*named, *(_percent(share) for share in shares))


def _show_remarks(report: CostReport) -> None:
    from devprof.costmodel.evaluate import FAMILY_OUT

    for error in report.errors:
        if error.note:
            click.echo(f"{error.device}, {error.mode}, {error.scheme}: {error.note}", err=True)
    few = sorted(
        {error.device for error in report.errors if error.scheme == FAMILY_OUT and error.groups < _ENOUGH_FAMILIES}
    )
    if few:
        click.echo(
            f"fewer than {_ENOUGH_FAMILIES} model families were measured on {', '.join(few)}: predictions for other kinds of "
            "models are rough there, and their intervals wide; each further kind helps more than a further size",
            err=True,
        )
    for text in report.suspects:
        click.echo(f"suspicious: {text}", err=True)
    for reason, count in report.rejected.items():
        click.echo(f"left out {count} run(s): {reason}", err=True)
    for reason, count in report.power_rejected.items():
        click.echo(f"did not use the power of {count} run(s): {reason}", err=True)
    for model, reason in report.dropped_models.items():
        click.echo(f"left out {model}: {reason}", err=True)
    for name, note in report.interval_notes.items():
        click.echo(f"interval of {name}: {note}", err=True)
