"""``devprof report``: a page with live figures from measurement and federation folders."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devprof.cli.common import echo_json, json_option, log_to_stderr
from devprof.errors import DevprofError, StoreError
from devprof.records import Evaluation, Measurement, Prediction, RoundLog

if TYPE_CHECKING:
    from devprof.report.content import ReportContent

_IN_SAMPLE = (
    "Predictions are those of {path}. Where these runs were part of its fit, they show how well it describes them; how well it "
    "predicts what it has not seen is what devprof fit prints."
)


@click.command("report")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the report."
)
@click.option(
    "--cost-model", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Show its predictions beside."
)
@click.option("--title", default="What training costs here", show_default=True)
@json_option
def command(folders: tuple[Path, ...], output: Path, cost_model: Path | None, title: str, as_json: bool) -> None:
    """Make one self-contained page (index.html) from the folders DIR..., and each figure as PNG and SVG.

    Folders of "devprof measure" and "devprof import" give step time and memory; folders of federated runs, such as that of
    "devprof demo", give accuracy over time and the timeline of a round. The page needs no network.
    """
    from devprof.report.files import write_report

    log_to_stderr()
    content = _content(folders, cost_model, title)
    files = write_report(content, output)
    if as_json:
        echo_json({"page": str(files.page), "figures": {name: str(path) for name, path in files.png.items()}})
        return
    click.echo(f"{files.page}: {len(files.png)} figures, also as PNG and SVG in {output / 'figures'}")


def _content(folders: Sequence[Path], cost_model: Path | None, title: str) -> ReportContent:
    from devprof.cli.tables import read_all
    from devprof.report.content import ReportContent

    runs = read_all(folders, "runs", Measurement)
    evaluations = read_all(folders, "evaluations", Evaluation)
    round_logs = read_all(folders, "rounds", RoundLog)
    predictions = read_all(folders, "predictions", Prediction)
    if not (runs or evaluations or round_logs or predictions):
        raise StoreError(f"there is nothing to report in {', '.join(map(str, folders))}")
    notes: tuple[str, ...] = ()
    if cost_model is not None:
        predictions += tuple(_predict(cost_model, runs))
        notes = (_IN_SAMPLE.format(path=cost_model.name),)
    devices = ", ".join(dict.fromkeys(run.device for run in runs))
    facts = (("devprof", importlib.metadata.version("devprof")), ("runs", str(len(runs))), ("devices", devices))
    return ReportContent(
        title=title,
        facts=tuple((name, value) for name, value in facts if value),
        runs=runs,
        predictions=predictions,
        evaluations=evaluations,
        round_logs=round_logs,
        notes=notes,
    )


def _predict(path: Path, runs: Sequence[Measurement]) -> list[Prediction]:
    """The cost model's word on every run that it can say something about; the others are named in the log."""
    from devprof.costmodel.model import CostModel

    model = CostModel.load(path)
    predictions = []
    for run in runs:
        if run.status != "ok" or run.task != "train":
            continue
        try:
            estimate = model.predict(
                run.device, run.model, run.mode, run.batch_size, image_size=run.image_size, num_classes=run.num_classes
            )
        except DevprofError as error:
            click.echo(f"no prediction for {run.model} on {run.device}: {error}", err=True)
            continue
        predictions.append(Prediction.beside(estimate, run))
    return predictions
