"""``devprof emulate``: run any command as a slower or smaller device."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from devprof.cli.common import BYTES, echo_json, json_option, log_to_stderr, stdout_table
from devprof.device.emulate import Ended, Limits, check, run
from devprof.device.limits import MIN_CPUS
from devprof.errors import DevprofError
from devprof.units import format_bytes

__all__ = ["command"]

# What is tried where no limit is given: small enough for every machine.
_SAMPLE = {"cpus": 0.5, "memory_bytes": 256 << 20, "cores": 1}


# Options after the command's name are the command's own, with and without "--" before it.
@click.command("emulate", context_settings={"allow_interspersed_args": False})
@click.option(
    "--cpus", type=click.FloatRange(min=MIN_CPUS), metavar="X", help="Processor time per second, such as 0.5."
)
@click.option("--memory", "memory_bytes", type=BYTES, help="Memory such as 1G; what needs more is killed, not swapped.")
@click.option("--cores", type=click.IntRange(min=1), metavar="N", help="Processors that the command sees.")
@click.option("--check", "only_check", is_flag=True, help="Say what can be emulated here, and how; run nothing.")
@json_option
@click.argument("line", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD...")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    cpus: float | None,
    memory_bytes: int | None,
    cores: int | None,
    only_check: bool,
    as_json: bool,
    line: tuple[str, ...],
) -> None:
    """Run a command as a slower or smaller device: less processor time, less memory, fewer cores.

    Slowness and out-of-memory kills are the kernel's own (control groups v1 or v2 as root, systemd-run otherwise). The exit
    code is the command's, 128 + N if signal N killed it. With --json the last line on stderr says how it ended.
    """
    log_to_stderr()
    try:
        limits = Limits(cpus=cpus, memory_bytes=memory_bytes, cores=cores)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    asked = {name: limit for name, limit in asdict(limits).items() if limit is not None}
    if only_check:
        if line:
            raise click.UsageError("--check runs nothing: leave the command out")
        ctx.exit(_show_ways(asked or _SAMPLE, as_json=as_json))
    if not asked:
        raise click.UsageError("give a limit: --cpus, --memory or --cores")
    if not line:
        raise click.UsageError("give a command: devprof emulate --cpus 0.5 -- CMD...")
    # A caller that ignores the end of its children hands that down, and the command's exit code would be lost.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        ended = run(line, limits)
    except (FileNotFoundError, PermissionError) as error:
        click.echo(f"Error: {error}", err=True)
        ctx.exit(127 if isinstance(error, FileNotFoundError) else 126)
    _report(ended, limits, as_json=as_json)
    ctx.exit(ended.exit_code)


def _report(ended: Ended, limits: Limits, *, as_json: bool) -> None:
    """What a caller cannot see from the exit code. stdout belongs to the command."""
    if as_json:
        click.echo(json.dumps(asdict(ended)), err=True)
    elif ended.oom_kills:
        click.echo(f"out-of-memory kills inside: {ended.oom_kills}", err=True)
    elif ended.oom_kills is None and ended.exit_code == 128 + signal.SIGKILL and limits.memory_bytes is not None:
        limit = format_bytes(limits.memory_bytes)
        click.echo(f"killed by SIGKILL, perhaps for its limit of {limit}: {ended.way} counts no such kills", err=True)


def _for_people(name: str, limit: float) -> tuple[str, str]:
    return ("memory", format_bytes(limit)) if name == "memory_bytes" else (name, f"{limit:g}")


def _show_ways(asked: Mapping[str, Any], *, as_json: bool) -> int:
    """Print how each limit can be set here; the exit code is 1 if one cannot."""
    rows: list[dict[str, Any]] = []
    for name, limit in asked.items():
        try:
            way, detail = check(Limits(**{name: limit})), ""
        except DevprofError as error:
            way, detail = None, str(error)
        rows.append({"limit": name, "asked": limit, "works": way is not None, "way": way, "detail": detail})
    if as_json:
        echo_json(rows)
    else:
        columns = [("limit", False), ("asked", True), ("here", False), ("how, or why not", False)]
        lines = [
            (*_for_people(row["limit"], row["asked"]), "yes" if row["works"] else "no", row["way"] or row["detail"])
            for row in rows
        ]
        stdout_table("What can be emulated here", columns, lines)
    return 0 if all(row["works"] for row in rows) else 1
