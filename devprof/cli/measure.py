"""``devprof measure``: a sweep of configurations, a child process each, a row each."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devprof.cli.common import (
    CELSIUS,
    SECONDS,
    CommaList,
    device_options,
    echo_json,
    identified,
    json_option,
    log_to_stderr,
    require_known_models,
    stdout_table,
)
from devprof.cli.metering import meter_asked, meter_options, opened_meter
from devprof.cli.sweeping import measure_all
from devprof.records import MODES, TASKS, Measurement
from devprof.units import format_bytes, format_joules, format_seconds
from devprof.workloads.names import DATA_SOURCES, OPTIMIZERS

if TYPE_CHECKING:
    from devprof.measure.harness import MeasureOptions
    from devprof.records import Workload
    from devprof.workloads.suites import Group, Suite


@click.command("measure")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--suite", "suite_name", help="A named list of workloads, or a .toml file; instead of MODEL.")
@click.option("--mode", "modes", type=CommaList(str, MODES), help="full, head or both.  [default: full]")
@click.option("--task", "tasks", type=CommaList(str, TASKS), help="train, infer or both.  [default: train]")
@click.option("--batch-size", "batch_sizes", type=CommaList(int), help="Samples per step.  [default: 16]")
@click.option(
    "--image-size", type=click.IntRange(1), help="Height and width of the input.  [default: the model's own, or 224]"
)
@click.option(
    "--classes", "num_classes", type=click.IntRange(2), help="Outputs of the classifier.  [default: the model's own]"
)
@click.option(
    "--data",
    type=click.Choice(DATA_SOURCES),
    help="Where batches come from; own: a factory's data set.  [default: memory]",
)
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="[default: sgd]")
@click.option("--memory-format", type=click.Choice(["nchw", "nhwc"]), default="nchw", show_default=True)
@device_options
@click.option("--repeats", type=click.IntRange(1), help="Fresh processes per configuration.  [default: 1]")
@click.option("--min-time", type=SECONDS, help="Timed window per run, at the least.  [default: 10s]")
@click.option("--min-steps", type=click.IntRange(1), help="Timed steps per run, at the least.  [default: 5]")
@click.option("--phase-steps", type=click.IntRange(1), help="Steps that are timed phase by phase.  [default: 3 to 10]")
@click.option("--max-start-temp", type=CELSIUS, help="Wait before each run until the device is this cool, such as 55C.")
@click.option(
    "--cooldown-timeout", type=SECONDS, default="600s", show_default=True, help="The longest such wait for one run."
)
@click.option(
    "--timeout", type=SECONDS, default="600s", show_default=True, help="After this a run becomes a row 'timeout'."
)
@meter_options
@click.option(
    "--retry-failed", is_flag=True, help="Measure again what ended as oom, killed, crashed, timeout or error."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Measurement folder."
)
@json_option
def command(
    models: tuple[str, ...],
    suite_name: str | None,
    processor: str,
    threads: int | None,
    device_name: str | None,
    repeats: int | None,
    retry_failed: bool,
    output: Path,
    as_json: bool,
    **asked: Any,
) -> None:
    """Measure training steps of MODELs and add a row per run to the folder given with -o.

    MODEL is a timm name, torchvision:NAME, seed:cnn, seed:lstm, seed:mlp, seed:net, or module:factory of your own. Every
    configuration gets a fresh process. A run that fails (out of memory, crash, timeout) is a row, too, and the sweep goes on.
    Interrupt it whenever you like: what is finished is kept, and the same command goes on where it stopped.
    """
    from devprof.measure.sweep import with_repeats
    from devprof.store.folder import ensure_writable
    from devprof.workloads.jpeg import prepare_jpegs

    log_to_stderr()
    if bool(models) == bool(suite_name):
        raise click.UsageError("give either MODEL names or --suite, for example: devprof measure resnet18 -o runs")
    suite, skipped = _suite(models, suite_name)
    ensure_writable(output)
    workloads = asked_workloads(suite, asked)
    require_known_models([workload.model for workload in workloads])
    if any(workload.data == "jpeg" for workload in workloads):
        prepare_jpegs()
    options = replace(_options(suite, asked), **meter_asked(asked))
    configurations = with_repeats(workloads, repeats or suite.repeats or 1)
    device = identified(processor, threads, options.affinity, device_name)
    with opened_meter(asked, processor) as sampling:
        rows, interrupted = measure_all(
            configurations, device, options, output, retry_failed=retry_failed, sampling=sampling
        )
    if as_json:
        result = {"output": str(output), "configurations": len(configurations), "interrupted": interrupted}
        echo_json(result | {"skipped": skipped, "runs": rows})
    elif rows:
        _show(rows)
    if interrupted:
        click.echo("The same command goes on from here.", err=True)
        sys.exit(1)


def _suite(models: Sequence[str], suite_name: str | None) -> tuple[Suite, dict[str, str]]:
    """What is to be measured, and which models are left out for which reason."""
    from devprof.workloads.suites import Suite, load_suite

    if not suite_name:
        return Suite.of_models(tuple(dict.fromkeys(models))), {}
    suite, skipped = load_suite(suite_name).available()
    for model, reason in skipped.items():
        click.echo(f"left out {model}: {reason}", err=True)
    if not suite.groups:
        raise click.ClickException(f"nothing of the suite {suite_name} can be measured here")
    return suite, skipped


def asked_workloads(suite: Suite, asked: dict[str, Any]) -> list[Workload]:
    """All workloads of a suite; what was asked for on the command line goes before what the suite says."""
    return list(dict.fromkeys(workload for group in suite.groups for workload in _of_group(group, asked)))


def _of_group(group: Group, asked: dict[str, Any]) -> list[Workload]:
    from devprof.measure.sweep import combine
    from devprof.records import Workload

    base = Workload(
        model=group.models[0],
        image_size=asked["image_size"] or group.image_size,
        num_classes=asked["num_classes"] or group.num_classes,
        optimizer=asked["optimizer"] or group.optimizer or "sgd",
        data=asked["data"] or group.data or "memory",
        memory_format=asked["memory_format"],
    )
    return combine(
        base,
        models=group.models,
        modes=asked["modes"] or group.modes or ("full",),
        tasks=asked["tasks"] or group.tasks or ("train",),
        batch_sizes=asked["batch_sizes"] or group.batch_sizes or (16,),
    )


def _options(suite: Suite, asked: dict[str, Any]) -> MeasureOptions:
    from devprof.device.state import temperature_c
    from devprof.measure.harness import MeasureOptions

    if asked["max_start_temp"] is not None and temperature_c() is None:
        raise click.UsageError("--max-start-temp needs a temperature, but this device shows no thermal zone")
    min_time_s = suite.min_time_s if asked["min_time"] is None else asked["min_time"]
    return MeasureOptions(
        min_time_s=10.0 if min_time_s is None else min_time_s,
        min_steps=asked["min_steps"] or suite.min_steps or 5,
        phase_steps=asked["phase_steps"] or suite.phase_steps,
        timeout_s=asked["timeout"],
        suite=suite.name or None,
        affinity=asked["affinity"],
        max_start_temp_c=asked["max_start_temp"],
        cooldown_timeout_s=asked["cooldown_timeout"],
    )


def _show(rows: Sequence[Measurement]) -> None:
    columns = [("model", False), ("mode", False), ("batch", True), ("status", False), ("step", True)]
    columns += [("95 % interval", True), ("memory peak", True), ("energy per step", True), ("steps", True)]
    columns += [("remarks", False)]
    stdout_table(f"Measured on {rows[0].device}", columns, [_line(run) for run in rows])
    _explain(rows)


def _line(run: Measurement) -> tuple[str, ...]:
    mode = run.mode if run.task == "train" else run.task
    interval = "–"
    if run.step_s_ci_low is not None and run.step_s_ci_high is not None:
        interval = f"{format_seconds(run.step_s_ci_low)} … {format_seconds(run.step_s_ci_high)}"
    notes = ", ".join(_codes(run)) or run.error or ""
    energy = format_joules(run.energy_per_step_j)
    figures = (format_seconds(run.step_s), interval, format_bytes(run.rss_peak_bytes), energy, str(run.steps or "–"))
    return (run.model, mode, str(run.batch_size), run.status, *figures, notes)


def _codes(run: Measurement) -> list[str]:
    return list(json.loads(run.warnings)) if run.warnings else []


def _explain(rows: Sequence[Measurement]) -> None:
    """Once per code what it means and what to try."""
    from devprof.measure.checks import Warn

    seen = {code for run in rows for code in _codes(run)}
    for warning in Warn:
        if warning.code in seen:
            click.echo(f"{warning.code}: {warning.value}", err=True)
