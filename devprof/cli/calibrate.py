"""``devprof calibrate``: minutes of single operators, from which cost models know a device before it has run a model."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devprof.cli.common import (
    SECONDS,
    CommaList,
    device_options,
    echo_json,
    identified,
    json_option,
    log_to_stderr,
    missing_modules,
    require_known_models,
    stdout_table,
)
from devprof.cli.sweeping import progress_bar, sigterm_as_interrupt
from devprof.errors import MissingExtraError
from devprof.measure.calibrate import (
    REFERENCE_MODELS,
    STEPS,
    Calibration,
    Traces,
    in_random_order,
    trace_operators,
)
from devprof.measure.calibration import OperatorCall
from devprof.records import Device, OperatorTime
from devprof.store.folder import ensure_writable, measured_operators, write_records
from devprof.units import format_seconds
from devprof.workloads.names import CHAINS

if TYPE_CHECKING:
    from rich.progress import Progress

# The part of the time after which models that are not traced yet are left out.
_TRACING_SHARE = 0.5
# The part of what tracing left after which no synthetic network is run any more.
_STEPS_SHARE = 0.5
# What a killed parent loses at the most.
_SAVE_EVERY_S = 30.0


@click.command("calibrate")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--batch-size", "batch_sizes", type=CommaList(int), default="16", show_default=True, help="Samples per step."
)
@click.option(
    "--time", "time_s", type=SECONDS, default="240s", show_default=True, help="After this no operator begins any more."
)
@device_options
@click.option("--again", is_flag=True, help="Time also what the folder has of this device already.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Measurement folder."
)
@json_option
def command(
    models: tuple[str, ...],
    batch_sizes: tuple[int, ...],
    time_s: float,
    processor: str,
    threads: int | None,
    affinity: tuple[int, ...] | None,
    device_name: str | None,
    again: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Time the operators of MODELs one by one and add them to the folder given with -o.

    Without MODEL, those of nineteen models of different kinds are timed, which between them call most of what others are made
    of; and always ten whole steps of small synthetic networks, which show what a step costs beyond its operators. Cost models
    fitted to the folder then know the device better: the time of a model that never ran there is the sum of its operators.
    What the folder has of this device is not timed again, so the command grows it. Interrupt it whenever you like: what is
    timed is kept.
    """
    stop_s = time.monotonic() + time_s
    log_to_stderr()
    if "torch" in missing_modules("train"):
        raise MissingExtraError("train", "torch", "timing operators")
    ensure_writable(output)
    if models:
        require_known_models(models)
    device = identified(processor, threads, affinity, device_name)
    work = _Work(Calibration(device, affinity=affinity), output)
    with progress_bar() as progress, sigterm_as_interrupt():
        try:
            work.trace(
                [*CHAINS, *(models or REFERENCE_MODELS)], batch_sizes, stop_s - (1 - _TRACING_SHARE) * time_s, progress
            )
            work.choose(device, again=again)
            work.time(stop_s, progress)
        except KeyboardInterrupt:
            interrupted = True
        else:
            interrupted = False
    result = work.summary()
    if as_json:
        facts = {"output": str(output), "device": device.name, "device_key": device.key, "interrupted": interrupted}
        echo_json(facts | result)
    else:
        _show(device, result)
    if result["missing"]:
        click.echo(f"{result['missing']} are not timed yet: the same command goes on with them.", err=True)
    if interrupted:
        click.echo("Interrupted: what is timed is kept.", err=True)
        sys.exit(1)


class _Work:
    """One calibration into a folder, step by step.

    Args:
        calibration: What times the operators.
        output: The measurement folder.
    """

    def __init__(self, calibration: Calibration, output: Path) -> None:
        self._calibration = calibration
        self._output = output
        self._traces = Traces()
        self._measured: frozenset[str] = frozenset()
        self._to_do: list[OperatorCall] = []
        self._rows: list[OperatorTime] = []

    def trace(self, models: Sequence[str], batch_sizes: Sequence[int], stop_s: float, progress: Progress) -> None:
        """Find the operators of the models; say which models have none, and why."""
        bar = progress.add_task("tracing models", total=len(models))
        traces = trace_operators(models, batch_sizes, stop_s=stop_s, on_model=lambda _: progress.advance(bar))
        progress.remove_task(bar)
        for model, reason in traces.left_out.items():
            progress.console.print(f"left out {model}: {reason}", markup=False)
        if not traces.operators:
            raise click.ClickException("no model could be traced, so there is no operator to time")
        self._traces = traces

    def choose(self, device: Device, *, again: bool) -> None:
        """What the folder has of this device is finished, unless it is wanted again."""
        self._measured = frozenset() if again else measured_operators(self._output, device.key)
        self._to_do = in_random_order(self._traces.operators.values(), self._measured)
        kept = len(self._traces.operators) - len(self._to_do)
        if kept:
            click.echo(
                f"{kept} of {len(self._traces.operators)} operators were timed already in {self._output}.", err=True
            )

    def time(self, stop_s: float, progress: Progress) -> None:
        """Time what is left to do, and store it now and then and at the end, whatever ends it."""
        stored_s = time.monotonic()
        try:
            bar = progress.add_task("timing steps", total=len(STEPS))
            steps_stop_s = stored_s + _STEPS_SHARE * (stop_s - stored_s)
            for row in self._calibration.time_steps(self._measured, stop_s=steps_stop_s):
                self._rows.append(row)
                progress.advance(bar)
            progress.remove_task(bar)
            bar = progress.add_task("timing operators", total=len(self._to_do))
            with contextlib.closing(self._calibration.time_operators(self._to_do, stop_s=stop_s)) as rows:
                for row in rows:
                    self._rows.append(row)
                    progress.advance(bar)
                    if time.monotonic() - stored_s > _SAVE_EVERY_S:
                        self._store()
                        stored_s = time.monotonic()
        finally:
            self._store()

    def _store(self) -> None:
        if self._rows:
            write_records(self._output, "operators", self._calibration.id, self._rows)

    def summary(self) -> dict[str, Any]:
        """What was done, as plain data."""
        operators = [row for row in self._rows if row.family != "step"]
        timed = [row for row in operators if row.status == "ok"]
        return {
            "calibration_id": self._calibration.id,
            "operators": len(self._traces.operators),
            "timed": len(timed),
            "failed": len(operators) - len(timed),
            "missing": len(self._to_do) - len(operators),
            "steps": len(self._rows) - len(operators),
            "families": _families(timed),
            "failures": _failures(self._rows),
            "left_out": self._traces.left_out,
        }


def _show(device: Device, result: dict[str, Any]) -> None:
    if result["families"]:
        columns = [("family", False), ("operators", True), ("one call of each", True)]
        lines = [
            (family, str(found["operators"]), format_seconds(found["seconds"]))
            for family, found in result["families"].items()
        ]
        stdout_table(f"Timed on {device.name}", columns, lines)
    if result["failures"]:
        columns = [("operators", True), ("status", False), ("reason, for example", False)]
        lines = [(str(entry["operators"]), entry["status"], entry["error"]) for entry in result["failures"]]
        stdout_table("Failed", columns, lines)
    click.echo(f"{result['timed']} of {result['operators']} operators timed now, {result['failed']} failed.")


def _families(rows: Sequence[OperatorTime]) -> dict[str, dict[str, Any]]:
    """How many operators of each family were timed, and the seconds of one call of each; the longest first."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = found.setdefault(row.family, {"operators": 0, "seconds": 0.0})
        entry["operators"] += 1
        entry["seconds"] += row.seconds or 0.0
    return dict(sorted(found.items(), key=lambda item: -item[1]["seconds"]))


def _failures(rows: Sequence[OperatorTime]) -> list[dict[str, Any]]:
    """How many operators failed for which reason, the most frequent first; reasons that differ in numbers only are one."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if row.status != "ok":
            reason = row.error or ""
            entry = {"status": row.status, "error": reason, "operators": 0}
            found.setdefault((row.status, re.sub(r"[\d.]+", "0", reason)), entry)["operators"] += 1
    return sorted(found.values(), key=lambda entry: -int(entry["operators"]))
