"""``devprof import``: measurements that other tools made."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import click

from devprof.cli.common import echo_json, json_option, log_to_stderr


@click.command("import")
@click.argument("table", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Measurement folder."
)
@json_option
def command(table: Path, output: Path, as_json: bool) -> None:
    """Import the CSV file TABLE, whose header names columns of the table "runs", into the folder given with -o.

    Rows that make no sense are reported by line and left out; columns that devprof does not know are reported. Importing the
    same rows again adds nothing.
    """
    from devprof.store.csv_import import import_csv
    from devprof.store.folder import ensure_writable

    log_to_stderr()
    ensure_writable(output)
    report = import_csv(table, output, version=importlib.metadata.version("devprof"))
    if as_json:
        echo_json(report)
        return
    click.echo(f"imported {report.imported} runs from {table} into {output}; {report.already_there} were there already")
    for row in report.rejected:
        click.echo(f"left out line {row.line}: {row.reason}", err=True)
    if report.unknown_columns:
        click.echo(f"left out unknown columns: {', '.join(report.unknown_columns)}", err=True)
