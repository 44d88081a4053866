"""``devprof predict``: what a model costs on a device, and a client's round with it."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devprof.cli.common import BYTES, SECONDS, echo_json, json_option, log_to_stderr
from devprof.errors import CostModelError
from devprof.records import MODES, Estimate, Link

if TYPE_CHECKING:
    from devprof.costmodel.model import CostModel

_PARAMETER_BYTES = 4


@click.command("predict")
@click.argument("cost_model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--table", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Many queries: CSV in, CSV out."
)
@click.option("--device", help="A device that the cost model knows.")
@click.option("--model", help="Any model; it need not have been measured.")
@click.option("--mode", type=click.Choice(MODES), default="full", show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True)
@click.option("--image-size", type=click.IntRange(1), help="Height and width of the input.  [default: as measured]")
@click.option(
    "--classes", "num_classes", type=click.IntRange(2), help="Outputs of the classifier.  [default: as measured]"
)
@click.option("--memory", "memory_limit", type=BYTES, help="The device's memory, such as 8G; decides 'fits'.")
@click.option("--epochs", type=click.IntRange(1), help="With --samples: predict a client's round of so many passes.")
@click.option("--samples", type=click.IntRange(1), help="Size of the client's data.")
@click.option("--up-mbps", type=click.FloatRange(0, min_open=True), help="The client's upload in megabits per second.")
@click.option(
    "--down-mbps", type=click.FloatRange(0, min_open=True), help="The client's download in megabits per second."
)
@click.option("--startup", type=SECONDS, default="0s", show_default=True, help="From the message to the first step.")
@click.option("--payload", type=BYTES, help="Size of the model as sent.  [default: 4 bytes per parameter]")
@json_option
def command(
    cost_model: Path,
    table: Path | None,
    device: str | None,
    model: str | None,
    mode: str,
    batch_size: int,
    image_size: int | None,
    num_classes: int | None,
    memory_limit: int | None,
    epochs: int | None,
    samples: int | None,
    up_mbps: float | None,
    down_mbps: float | None,
    startup: float,
    payload: int | None,
    as_json: bool,  # noqa: ARG001 - the result is JSON anyway; the option is there because every command has it
) -> None:
    """Predict a training step with the file COST_MODEL, and print it as JSON with its 90 % interval.

    With --epochs and --samples, a client's whole round as well; without --up-mbps and --down-mbps its transfers count
    nothing. With --table, every row of a CSV file (device, model, batch_size, and what else is known), as CSV on stdout.
    """
    from devprof.costmodel.model import CostModel

    log_to_stderr()
    loaded = CostModel.load(cost_model)
    if table is not None:
        _predict_table(loaded, table)
        return
    if device is None or model is None:
        raise click.UsageError("give --device and --model, or --table")
    if (epochs is None) != (samples is None) or (up_mbps is None) != (down_mbps is None):
        raise click.UsageError("--epochs goes with --samples, and --up-mbps with --down-mbps")
    estimate = loaded.predict(
        device,
        model,
        mode,
        batch_size,
        image_size=image_size,
        num_classes=num_classes,
        memory_limit_bytes=memory_limit,
    )
    result = {"device": device, "model": model, "mode": mode, "batch_size": batch_size, **dataclasses.asdict(estimate)}
    if epochs is not None and samples is not None:
        size = payload
        if size is None:
            features = loaded.features(device, model, mode, image_size=image_size, num_classes=num_classes)
            size = _PARAMETER_BYTES * round(features.parameters)
        link = Link(math.inf, math.inf) if up_mbps is None or down_mbps is None else Link(up_mbps, down_mbps)
        result |= _round(estimate, epochs, samples, batch_size, size, link, startup)
    echo_json(result)


def _round(
    estimate: Estimate, epochs: int, samples: int, batch_size: int, payload: int, link: Link, startup_s: float
) -> dict[str, Any]:
    from devprof.plan.roundtime import round_time

    whole = round_time(
        estimate,
        epochs=epochs,
        samples=samples,
        batch_size=batch_size,
        payload_bytes=payload,
        link=link,
        startup_s=startup_s,
    )
    return {
        "round_s": whole.total_s,
        "round_s_lo": whole.total_lo_s,
        "round_s_hi": whole.total_hi_s,
        "round_steps": whole.steps,
        "round_download_s": whole.download_s,
        "round_startup_s": whole.startup_s,
        "round_train_s": whole.train_s,
        "round_upload_s": whole.upload_s,
        "payload_bytes": payload,
    }


def _predict_table(model: CostModel, path: Path) -> None:
    import pandas as pd

    try:
        queries = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise CostModelError(f"{path} cannot be read as CSV: {error}") from error
    predicted = model.predict_frame(queries)
    predicted.to_csv(sys.stdout, index=False)
    failed = int(predicted["error"].notna().sum())
    if failed:
        click.echo(f"{failed} of {len(predicted)} rows could not be predicted; the column error says why", err=True)
