"""``devprof measure``: a sweep of configurations, a child process each, a row each."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from devprof.cli.common import (
    SECONDS,
    CommaList,
    echo_json,
    json_option,
    log_to_stderr,
    missing_modules,
    stderr_console,
    stdout_table,
)
from devprof.errors import MissingExtraError
from devprof.records import MODES, TASKS, Measurement
from devprof.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress

    from devprof.measure.harness import MeasureOptions
    from devprof.measure.sweep import Configuration
    from devprof.records import Device
    from devprof.workloads.suites import Suite


@click.command("measure")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--suite", help="A named list of models, or a .toml file; instead of MODEL.")
@click.option("--mode", "modes", type=CommaList(str, MODES), help="full, head or both.  [default: full]")
@click.option(
    "--task", "tasks", type=CommaList(str, TASKS), default="train", show_default=True, help="train, infer or both."
)
@click.option("--batch-size", "batch_sizes", type=CommaList(int), help="Samples per step.  [default: 16]")
@click.option(
    "--image-size", type=click.IntRange(1), help="Height and width of the input.  [default: the model's own, or 224]"
)
@click.option(
    "--classes", "num_classes", type=click.IntRange(2), help="Outputs of the classifier.  [default: the model's own]"
)
@click.option("--threads", type=click.IntRange(1), help="Threads of the training process.  [default: physical cores]")
@click.option("--processor", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--optimizer", type=click.Choice(["sgd", "adam"]), default="sgd", show_default=True)
@click.option("--memory-format", type=click.Choice(["nchw", "nhwc"]), default="nchw", show_default=True)
@click.option(
    "--repeats", type=click.IntRange(1), default=1, show_default=True, help="Fresh processes per configuration."
)
@click.option("--min-time", type=SECONDS, default="10s", show_default=True, help="Timed window per run, at the least.")
@click.option(
    "--timeout", type=SECONDS, default="600s", show_default=True, help="After this a run becomes a row 'timeout'."
)
@click.option(
    "--device", "device_name", help="Name of this board in tables and figures.  [default: what it says of itself]"
)
@click.option(
    "--retry-failed", is_flag=True, help="Measure again what ended as oom, killed, crashed, timeout or error."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Measurement folder."
)
@json_option
def command(
    models: tuple[str, ...],
    suite: str | None,
    modes: tuple[str, ...] | None,
    tasks: tuple[str, ...],
    batch_sizes: tuple[int, ...] | None,
    image_size: int | None,
    num_classes: int | None,
    threads: int | None,
    processor: str,
    optimizer: str,
    memory_format: str,
    repeats: int,
    min_time: float,
    timeout: float,
    device_name: str | None,
    retry_failed: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Measure training steps of MODELs and add a row per run to the folder given with -o.

    MODEL is a timm name, torchvision:NAME, seed:cnn, seed:lstm, seed:mlp, seed:net, or module:factory of your own. Every
    configuration gets a fresh process. A run that fails (out of memory, crash, timeout) is a row, too, and the sweep goes on.
    Interrupt it whenever you like: what is finished is kept, and the same command goes on where it stopped.
    """
    from devprof.device.identity import identify
    from devprof.measure.harness import MeasureOptions
    from devprof.measure.sweep import expand
    from devprof.records import Workload
    from devprof.store.folder import ensure_writable

    log_to_stderr()
    chosen = _chosen_suite(models, suite)
    ensure_writable(output)
    names = chosen.models if chosen else tuple(dict.fromkeys(models))
    _require_known_models(names)
    base = Workload(
        model=names[0],
        image_size=image_size or (chosen.image_size if chosen else None),
        num_classes=num_classes or (chosen.num_classes if chosen else None),
        optimizer=optimizer,
        memory_format=memory_format,
    )
    configurations = expand(
        base,
        models=names,
        modes=modes or (chosen.modes if chosen else ("full",)),
        tasks=tasks,
        batch_sizes=batch_sizes or (chosen.batch_sizes if chosen else (16,)),
        repeats=repeats,
    )
    options = MeasureOptions(min_time_s=min_time, timeout_s=timeout, suite=chosen.name if chosen else None)
    device = identify(processor=processor, threads=threads, name=device_name)
    rows, interrupted = measure_all(configurations, device, options, output, retry_failed=retry_failed)
    _show(rows, len(configurations), output, as_json=as_json, interrupted=interrupted)
    if interrupted:
        sys.exit(1)


def _chosen_suite(models: Sequence[str], suite: str | None) -> Suite | None:
    from devprof.workloads.suites import load_suite

    if bool(models) == bool(suite):
        raise click.UsageError("give either MODEL names or --suite, for example: devprof measure resnet18 -o runs")
    return load_suite(suite) if suite else None


def _require_known_models(names: Sequence[str]) -> None:
    """Find a mistyped name or a missing torch now, not after an hour of measuring."""
    from devprof.workloads.names import check_names

    # Without timm the seed networks can be measured all the same: boards with a vendor's torch often lack it.
    if "torch" in missing_modules("train"):
        raise MissingExtraError("train", "torch", "measuring a model")

    bad = check_names(names)
    if bad:
        raise click.UsageError("\n".join(bad.values()))


def measure_all(
    configurations: Sequence[Configuration],
    device: Device,
    options: MeasureOptions,
    output: Path,
    *,
    retry_failed: bool = False,
) -> tuple[list[Measurement], bool]:
    """Measure what is not finished in a folder yet, storing each row as soon as it stands, with a progress bar on stderr.

    Returns:
        The rows that were added, and whether the user interrupted.
    """
    from devprof.measure.sweep import finished_keys, is_finished, run_sweep
    from devprof.store.folder import read_records, write_run

    stored = read_records(output, "runs", Measurement)
    finished = finished_keys(run for run in stored if run.status == "ok" or not retry_failed)
    to_do = [configuration for configuration in configurations if not is_finished(configuration, device, finished)]
    kept = len(configurations) - len(to_do)
    if kept:
        click.echo(f"{kept} of {len(configurations)} configurations were finished already in {output}.", err=True)
    rows: list[Measurement] = []
    if not to_do:
        return rows, False
    with _progress() as progress, _sigterm_as_interrupt():
        bar = progress.add_task("starting", total=len(configurations), completed=kept)

        def show(configuration: Configuration) -> None:
            progress.update(bar, description=_label(configuration))

        try:
            for run, steps in run_sweep(to_do, device, options, on_start=show):
                write_run(output, run, steps)
                rows.append(run)
                progress.advance(bar)
                if run.status != "ok":
                    progress.console.print(
                        f"{run.model} {run.mode} batch {run.batch_size}: {run.status}: {run.error}", markup=False
                    )
        except KeyboardInterrupt:
            click.echo(f"Interrupted: {len(rows)} of {len(to_do)} finished and kept.", err=True)
            return rows, True
    return rows, False


def _label(configuration: Configuration) -> str:
    workload = configuration.workload
    repeat = f", repeat {configuration.repeat + 1}" if configuration.repeat else ""
    return f"{workload.model} {workload.mode} batch {workload.batch_size}{repeat}"


def _progress() -> Progress:
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
def _sigterm_as_interrupt() -> Iterator[None]:
    """A service manager's request to end is treated like Ctrl-C: finish nothing more, lose nothing."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(rows: Sequence[Measurement], asked: int, output: Path, *, as_json: bool, interrupted: bool) -> None:
    if as_json:
        echo_json({"output": str(output), "configurations": asked, "interrupted": interrupted, "runs": rows})
    elif rows:
        columns = [("model", False), ("mode", False), ("batch", True), ("status", False)]
        columns += [
            ("step", True),
            ("95 % interval", True),
            ("memory peak", True),
            ("steps", True),
            ("remarks", False),
        ]
        stdout_table(f"Measured on {rows[0].device}", columns, [_line(run) for run in rows])
    if interrupted:
        click.echo("The same command goes on from here.", err=True)


def _line(run: Measurement) -> tuple[str, ...]:
    mode = run.mode if run.task == "train" else run.task
    interval = "–"
    if run.step_s_ci_low is not None and run.step_s_ci_high is not None:
        interval = f"{format_seconds(run.step_s_ci_low)} … {format_seconds(run.step_s_ci_high)}"
    notes = ", ".join(json.loads(run.warnings)) if run.warnings else run.error or ""
    figures = (format_seconds(run.step_s), interval, format_bytes(run.rss_peak_bytes), str(run.steps or "–"))
    return (run.model, mode, str(run.batch_size), run.status, *figures, notes)
