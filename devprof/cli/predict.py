"""``devprof predict``: what a model costs on a device, and a client's round with it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devprof.cli.common import BYTES, SECONDS, echo_json, json_option, log_to_stderr
from devprof.cli.rounds import Query, RoundOptions, add_rounds, predict_round
from devprof.errors import CostModelError
from devprof.records import MODES

if TYPE_CHECKING:
    from devprof.costmodel.model import CostModel


@click.command("predict")
@click.argument("cost_model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--table", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Many queries: CSV in, CSV out."
)
@click.option("--card", is_flag=True, help="Print the model card: data, errors, and what it is not for.")
@click.option("--device", help="A device that the cost model knows.")
@click.option("--model", help="Any model; it need not have been measured.")
@click.option("--mode", type=click.Choice(MODES), default="full", show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True)
@click.option("--image-size", type=click.IntRange(1), help="Height and width of the input.  [default: as measured]")
@click.option(
    "--classes", "num_classes", type=click.IntRange(2), help="Outputs of the classifier.  [default: as measured]"
)
@click.option(
    "--memory",
    "memory_limit",
    type=BYTES,
    help="The device's memory, such as 8G; decides 'fits' and the largest batch.",
)
@click.option("--epochs", type=click.IntRange(1), help="With --samples: predict a client's round of so many passes.")
@click.option("--samples", type=click.IntRange(1), help="Size of the client's data.")
@click.option("--up-mbps", type=click.FloatRange(0, min_open=True), help="The client's upload in megabits per second.")
@click.option(
    "--down-mbps", type=click.FloatRange(0, min_open=True), help="The client's download in megabits per second."
)
@click.option("--startup", type=SECONDS, default="0s", show_default=True, help="From the message to the first step.")
@click.option("--payload", type=BYTES, help="Size of the model as sent.  [default: 4 bytes per parameter]")
@click.option(
    "--data-loading",
    type=click.FloatRange(0),
    help="Seconds of data loading per sample that no step hides.  [default: as measured, else 0]",
)
@click.option(
    "--thermal-factor",
    type=click.FloatRange(1),
    help="How many times slower the hot device trains.  [default: as measured, else 1]",
)
@click.option("--drop-last", is_flag=True, help="Leave out the partial last batch of an epoch.")
@json_option
def command(
    cost_model: Path,
    table: Path | None,
    card: bool,
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
    data_loading: float | None,
    thermal_factor: float | None,
    drop_last: bool,
    as_json: bool,
) -> None:
    """Predict a training step with the file COST_MODEL, and print it as JSON with its 90 % interval.

    With --memory, whether it fits and the largest batch size that does. With --epochs and --samples, a client's whole round as
    well; without --up-mbps and --down-mbps its transfers count nothing. With --table, every row of a CSV file (device, model,
    batch_size, and what else is known), as CSV on stdout; rows with epochs and samples get their round, and options about
    rounds hold where a row says nothing. With --card, what the cost model was made from, its errors and its limits, as
    Markdown (or JSON) instead.
    """
    from devprof.costmodel.model import CostModel

    log_to_stderr()
    if (up_mbps is None) != (down_mbps is None):
        raise click.UsageError("--up-mbps goes with --down-mbps")
    options = RoundOptions(up_mbps, down_mbps, startup, payload, data_loading, thermal_factor, drop_last)
    loaded = CostModel.load(cost_model)
    if card:
        _show_card(loaded, as_json=as_json)
        return
    if table is not None:
        if epochs is not None or samples is not None:
            raise click.UsageError("epochs and samples are columns of the table")
        _predict_table(loaded, table, options)
        return
    if device is None or model is None:
        raise click.UsageError("give --device and --model, or --table, or --card")
    if (epochs is None) != (samples is None):
        raise click.UsageError("--epochs goes with --samples")
    query = Query(device, model, mode, image_size, num_classes)
    estimate = loaded.predict(device, model, mode, batch_size, memory_limit_bytes=memory_limit, **query.sizes)
    result = {"device": device, "model": model, "mode": mode, "batch_size": batch_size, **dataclasses.asdict(estimate)}
    if memory_limit is not None:
        result["largest_batch"] = loaded.largest_batch(device, model, mode, memory_limit, **query.sizes)
    if epochs is not None and samples is not None:
        try:
            result |= predict_round(loaded, query, estimate, (epochs, samples, batch_size), options)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    echo_json(result)


def _show_card(model: CostModel, *, as_json: bool) -> None:
    from devprof.costmodel.card import render_card

    if as_json:
        echo_json(model.report.to_dict())
    else:
        click.echo(render_card(model.report), nl=False)


def _predict_table(model: CostModel, path: Path, options: RoundOptions) -> None:
    import pandas as pd

    try:
        queries = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise CostModelError(f"{path} cannot be read as CSV: {error}") from error
    predicted, notes = add_rounds(model, queries, options)
    predicted.to_csv(sys.stdout, index=False)
    for note in notes:
        click.echo(note, err=True)
    failed = int(predicted["error"].notna().sum())
    if failed:
        click.echo(f"{failed} of {len(predicted)} rows could not be predicted; the column error says why", err=True)
