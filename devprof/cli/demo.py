"""``devprof demo``: the whole way on this machine, in a few minutes, without network or GPU.

Measures a few small models, fits a cost model, predicts what it has not seen, federates ten clients on virtual devices whose
step times are the measured ones, and writes the report. Every figure that it prints comes from this run.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devprof.cli.common import SECONDS, echo_json, json_option, log_to_stderr, require_extras, stdout_table
from devprof.cli.demo_board import measure_board
from devprof.cli.demo_parts import (
    CLASSES,
    FITTED,
    HELD_OUT,
    LEARNING_RATE,
    LINK,
    SETTINGS,
    Headline,
    calibration_frame,
    headline,
    repeats_of_federated,
    virtual_fleet,
)
from devprof.records import Measurement, Prediction, StepTime
from devprof.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from devprof.costmodel.model import CostModel
    from strategies.compare import Comparison

_STEPS = 5

_CLOCK_NOTE = (
    "The federation trains for real; only its clock is virtual. A client's step takes what a step took when it was measured "
    "in a second process that the cost model did not see, times the factor of its class; transfers follow from the size of "
    "the model and the link. Flower's own scheduling delays, seconds per round on a real network, are left out: they are the "
    "same for all."
)
_TARGET_NOTE = (
    "The target is 95 % of the best accuracy that waiting for all reached; accuracy is the mean of the last three evaluations "
    "within the same virtual time. One seed is shown: try others with --seed."
)
_HELD_OUT_NOTE = (
    "Three of the four predictions are of convolutional networks between two measured batch sizes, where a line fits well. It "
    "need not: a recurrent network, whose processes differ by up to two times, was off by half in such a place."
)

_BOARD_NOTE = (
    "The emulated board is this machine under the kernel's own limits (control groups): it is slower because it gets half a "
    "processor's time, and a batch that does not fit into its memory was really killed. It takes no part in fit and federation."
)


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default="demo-out",
    show_default=True,
    help="Folder for measurements, cost model and report.",
)
@click.option(
    "--rounds",
    type=click.IntRange(2),
    default=8,
    show_default=True,
    help="Rounds of plain FedAvg; sets the virtual time.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Of data split, initial model and step times."
)
@click.option(
    "--min-time", type=SECONDS, default="1s", show_default=True, help="Timed window per measured run, at the least."
)
@json_option
def command(output: Path, rounds: int, seed: int, min_time: float, as_json: bool) -> None:
    """Go the whole way on this machine: measure, fit, predict, federate, report.

    Takes three to five minutes on two cores. A second run with the same folder reuses the measurements that are finished.
    """
    log_to_stderr()
    require_extras("train", "model", "fl", "report")
    _say(1, f"measuring {len(FITTED) + len(HELD_OUT)} configurations, a fresh process each")
    runs = _measure(output, min_time)
    _say(1, "measuring on an emulated board with half a processor and 1 GiB, one batch of which will not fit")
    board, reason = measure_board(output)
    if reason is not None:
        click.echo(f"No board is emulated here: {reason}", err=True)
    _say(2, "fitting a cost model to what was measured")
    model = _fit(output, runs)
    _say(3, "predicting configurations that the fit has not seen")
    predictions = _predict(output, model, runs)
    _say(4, "training a federation of ten clients in virtual time, four ways to treat the slow ones")
    comparison = _federate(output, model, runs, rounds, seed)
    _say(5, "writing the report")
    result = headline(comparison)
    page = _report(output, runs, board, predictions, comparison, result)
    if as_json:
        shown = {"page": str(page), "time_s": comparison.time_s, "target_accuracy": comparison.target_accuracy}
        echo_json(
            shown
            | {
                "kept": result.kept,
                "verdict": result.verdict,
                "outcomes": comparison.outcomes,
                "predictions": predictions,
            }
        )
        return
    _show_predictions(predictions)
    stdout_table(result.title, [(name, numeric) for name, numeric in result.columns], result.rows)
    click.echo(result.verdict)
    click.echo(f"The report: {page}")


def _say(step: int, text: str) -> None:
    click.echo(f"[{step}/{_STEPS}] {text}", err=True)


def _measure(output: Path, min_time_s: float) -> list[Measurement]:
    """The runs of this demo in the folder's table, those of an earlier demo included."""
    from devprof.cli.sweeping import measure_all
    from devprof.device.identity import identify
    from devprof.measure.harness import MeasureOptions, configuration_key
    from devprof.store.folder import ensure_writable, read_records

    ensure_writable(output)
    configurations = [*FITTED, *HELD_OUT]
    device = identify()
    options = MeasureOptions(min_time_s=min_time_s, timeout_s=120.0, suite="demo")
    _, interrupted = measure_all(configurations, device, options, output)
    if interrupted:
        click.echo("Interrupted; what was measured is kept, and the same command goes on from here.", err=True)
        sys.exit(1)
    wanted = {(configuration_key(configuration.workload), configuration.repeat) for configuration in configurations}
    runs = [
        run
        for run in read_records(output, "runs", Measurement)
        if run.device_key == device.key and (run.configuration, run.repeat) in wanted
    ]
    failed = [run for run in runs if run.status != "ok"]
    if failed:
        names = ", ".join(f"{run.model} batch {run.batch_size} ({run.status}: {run.error})" for run in failed)
        raise click.ClickException(
            f"the demo needs all of its measurements, but some failed: {names}. Delete {output} and try again"
        )
    return runs


def _fit(output: Path, runs: Sequence[Measurement]) -> CostModel:
    """The cost model of this machine and of the slower classes, whose rows are this machine's at their factor."""
    from devprof.costmodel.model import CostModel

    model = CostModel.fit(calibration_frame(runs))
    model.save(output / "cost.skops")
    return model


def _predict(output: Path, model: CostModel, runs: Sequence[Measurement]) -> list[Prediction]:
    from devprof.measure.harness import configuration_key
    from devprof.store.folder import write_records

    keys = {configuration_key(configuration.workload) for configuration in HELD_OUT}
    held_out = [run for run in runs if run.configuration in keys]
    predictions = [
        Prediction.beside(
            model.predict(
                run.device, run.model, run.mode, run.batch_size, image_size=run.image_size, num_classes=run.num_classes
            ),
            run,
        )
        for run in held_out
    ]
    write_records(output, "predictions", "demo", predictions)
    return predictions


def _federate(output: Path, model: CostModel, runs: Sequence[Measurement], rounds: int, seed: int) -> Comparison:
    import torch

    from devprof.store.folder import read_records, write_records
    from strategies.app.experiment import digits_experiment
    from strategies.app.task import IMAGE_SIZE, MODEL
    from strategies.baselines import contenders
    from strategies.compare import compare
    from strategies.estimators import CostModelEstimator

    steps = read_records(output, "steps", StepTime)
    experiment = digits_experiment(
        virtual_fleet(repeats_of_federated(runs), steps),
        CostModelEstimator(model, MODEL, image_size=IMAGE_SIZE, num_classes=10),
        SETTINGS,
        rounds=rounds,
        alpha=0.3,
        learning_rate=LEARNING_RATE,
        seed=seed,
    )
    # Threads cost more than they give on batches of 8x8 images.
    torch.set_num_threads(1)
    comparison = compare(experiment, contenders(), on_start=lambda name: click.echo(f"      {name}", err=True))
    write_records(output, "evaluations", "demo", comparison.evaluations)
    write_records(output, "rounds", "demo", comparison.round_logs)
    return comparison


def _report(
    output: Path,
    runs: Sequence[Measurement],
    board: Sequence[Measurement],
    predictions: Sequence[Prediction],
    comparison: Comparison,
    result: Headline,
) -> Path:
    from devprof.cli.report import phase_steps
    from devprof.report.content import Column, HeadlineTable, ReportContent
    from devprof.report.files import write_report

    first = runs[0]
    classes = ", ".join(f"{one.count} at {one.factor:g}x" for one in CLASSES)
    content = ReportContent(
        title="devprof demo: measured here, planned from it",
        lead=result.verdict,
        facts=(
            ("devprof", importlib.metadata.version("devprof")),
            ("device", first.device),
            ("threads", str(first.threads)),
            ("federation", f"10 clients ({classes} this machine's step time), digits of scikit-learn, Dirichlet 0.3"),
            ("link", f"{LINK.up_mbps:g} Mbit/s up and down, {format_seconds(LINK.latency_s)} latency"),
            ("virtual time", f"{format_seconds(comparison.time_s)} for each strategy"),
        ),
        runs=(*runs, *board),
        steps=phase_steps([output], runs),
        predictions=tuple(predictions),
        evaluations=comparison.evaluations,
        round_logs=comparison.round_logs,
        headline=HeadlineTable(tuple(Column(name, numeric) for name, numeric in result.columns), result.rows),
        notes=(_CLOCK_NOTE, _TARGET_NOTE, _HELD_OUT_NOTE, *([_BOARD_NOTE] if board else [])),
        target_accuracy=comparison.target_accuracy,
    )
    return write_report(content, output / "report").page


def _show_predictions(predictions: Sequence[Prediction]) -> None:
    rows = []
    for one in predictions:
        measured = one.measured_step_s or float("nan")
        inside = one.step_s_lo <= measured <= one.step_s_hi
        interval = f"{format_seconds(one.step_s_lo)} … {format_seconds(one.step_s_hi)}"
        error = f"{100 * (one.step_s / measured - 1):+.0f} %"
        memory = f"{format_bytes(one.memory_bytes)} / {format_bytes(one.measured_rss_peak_bytes)}"
        figures = (
            format_seconds(one.step_s),
            interval,
            format_seconds(measured),
            error,
            "yes" if inside else "no",
            memory,
        )
        rows.append((one.model, str(one.batch_size), one.basis, *figures))
    columns = [("model", False), ("batch", True), ("basis", False), ("predicted", True), ("90 % interval", True)]
    columns += [("measured", True), ("error", True), ("inside", False), ("memory, predicted / measured", True)]
    stdout_table("Predicted without having been fitted", columns, rows)
