"""``devprof import``: measurements that other tools made."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devprof.cli.common import echo_json, json_option, log_to_stderr
from devprof.records import MODES

if TYPE_CHECKING:
    from devprof.store.imports.collect import ImportReport, RejectedRow

# What the tables of timm do not say and a run cannot do without.
_TIMM_NEEDS = ("device", "processor", "precision", "memory_format")


def _parse_names(_context: click.Context, _option: click.Parameter, texts: Sequence[str]) -> dict[str, dict[str, str]]:
    names = {}
    for text in texts:
        name, _, workload = text.rpartition("=")
        parts = workload.rsplit(",", 2)
        if not name or len(parts) != 3 or not parts[0] or parts[1] not in MODES or not parts[2].isdecimal():
            raise click.BadParameter(f"{text!r} is not NAME=MODEL,MODE,BATCH, such as step=resnet18,full,16")
        names[name] = dict(zip(("model", "mode", "batch_size"), parts, strict=True))
    return names


@click.command("import")
@click.argument("table", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Measurement folder."
)
@click.option(
    "--format",
    "table_format",
    type=click.Choice(["auto", "devprof", "timm", "pyperf"]),
    default="auto",
    show_default=True,
    help="Format of FILE; auto looks into it.",
)
@click.option("--device", help="Name of the device (timm; pyperf: instead of the host's name).")
@click.option("--processor", help="What was measured: cpu, cuda, or a finer name (timm, pyperf).")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "bf16", "amp"]), help="Precision (timm, pyperf).")
@click.option("--memory-format", type=click.Choice(["nchw", "nhwc"]), help="Memory format (timm, pyperf).")
@click.option("--optimizer", help="Optimizer of the training runs, such as sgd (timm, pyperf).")
@click.option("--framework", help="Framework and version, such as torch-2.4 (timm, pyperf).")
@click.option(
    "--map",
    "names",
    multiple=True,
    callback=_parse_names,
    metavar="NAME=MODEL,MODE,BATCH",
    help="What the benchmark NAME ran (pyperf); may be given many times.",
)
@json_option
def command(
    table: Path, output: Path, table_format: str, names: dict[str, dict[str, str]], as_json: bool, **stated: str | None
) -> None:
    """Import the measurements in FILE into the folder given with -o.

    FILE is a CSV table whose header names columns of the table "runs" (devprof), a result table of timm's benchmark.py
    (timm) or a JSON file of pyperf, plain or compressed (pyperf). What makes no sense is left out and reported, and so is
    what has no place in the table "runs". Importing the same measurements again adds nothing.
    """
    from devprof.store.folder import ensure_writable
    from devprof.store.imports.canonical import import_canonical
    from devprof.store.imports.detect import detect_format
    from devprof.store.imports.pyperf import import_pyperf
    from devprof.store.imports.timm import TimmSetting, import_timm

    log_to_stderr()
    found = detect_format(table) if table_format == "auto" else table_format
    given = {name: text for name, text in stated.items() if text is not None}
    _check_usage(found, table, given, has_names=bool(names))
    ensure_writable(output)
    version = importlib.metadata.version("devprof")
    if found == "timm":
        report = import_timm(table, output, setting=TimmSetting(**given), version=version)
    elif found == "pyperf":
        report = import_pyperf(table, output, given=given, names=names, version=version)
    else:
        report = import_canonical(table, output, version=version)
    if as_json:
        echo_json(report)
        return
    click.echo(
        f"imported {report.imported} runs from {table} ({report.format}) into {output}; "
        f"{report.already_there} were there already"
    )
    _show_left_out(report)


def _check_usage(found: str, table: Path, given: Mapping[str, str], *, has_names: bool) -> None:
    """An option that would be without effect is an error as much as one that is missing."""
    from devprof.store.imports.timm import hints_from_name

    useless = [_option(name) for name in given] if found == "devprof" else []
    if has_names and found != "pyperf":
        useless.append("--map")
    if useless:
        raise click.UsageError(f"{', '.join(useless)} cannot be used with the format {found}")
    missing = [name for name in _TIMM_NEEDS if name not in given] if found == "timm" else []
    if missing:
        hints = {name: hint for name, hint in hints_from_name(table).items() if name in missing}
        suggestion = " ".join(f"{_option(name)} {hint}" for name, hint in hints.items())
        raise click.UsageError(
            f"{table} is a table of timm's benchmark.py, which does not say everything; please give "
            f"{', '.join(_option(name) for name in missing)}"
            + (f". The file's name suggests: {suggestion}" if suggestion else "")
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _show_left_out(report: ImportReport) -> None:
    for row in report.rejected:
        click.echo(f"left out {_place(row)}: {row.reason}", err=True)
    if report.unknown_columns:
        click.echo(f"left out unknown columns: {', '.join(report.unknown_columns)}", err=True)
    for column, reason in report.unmapped.items():
        click.echo(f"left out column {column}: {reason}", err=True)
    for remark in report.remarks:
        click.echo(f"note: {remark}", err=True)


def _place(row: RejectedRow) -> str:
    return ", ".join(part for part in (None if row.line is None else f"line {row.line}", row.name) if part is not None)
