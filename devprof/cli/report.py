"""``devprof report``: a page with live figures from measurement and federation folders."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devprof.cli.common import echo_json, json_option, log_to_stderr
from devprof.errors import DevprofError, StoreError
from devprof.records import Estimate, Evaluation, Measurement, Prediction, RoundLog, StepTime

if TYPE_CHECKING:
    from devprof.costmodel.leftout import LeftOut
    from devprof.report.content import ReportContent

# Device, model, mode, batch size, image size, classes.
_Key = tuple[str, str, str, int, int | None, int | None]
_LEFT_OUT = (
    "Predictions are those of {path}. For what its fit used, the figure shows what was predicted when the family, the model or "
    "the batch size was left out of the fit, not how well the fit describes it."
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
@click.option("--lead", default="", help="A sentence or two under the title.")
@click.option("--note", "notes", multiple=True, help="A remark on how to read the report; may be given many times.")
@json_option
def command(
    folders: tuple[Path, ...],
    output: Path,
    cost_model: Path | None,
    title: str,
    lead: str,
    notes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make one self-contained page (index.html) from the folders DIR..., and each figure as PNG and SVG.

    Folders of "devprof measure" and "devprof import" give step time and memory, models against each other by accuracy and
    device, and, from three batch sizes of a model on, how time and memory grow with the batch; folders of federated runs, such
    as that of "devprof demo", give accuracy over time and the timeline of a round. The page needs no network.
    """
    from devprof.report.files import write_report

    log_to_stderr()
    content = _content(folders, cost_model)
    content = dataclasses.replace(content, title=title, lead=lead, notes=(*notes, *content.notes))
    files = write_report(content, output)
    if as_json:
        echo_json({"page": str(files.page), "figures": {name: str(path) for name, path in files.png.items()}})
        return
    click.echo(f"{files.page}: {len(files.png)} figures, also as PNG and SVG in {output / 'figures'}")


def _content(folders: Sequence[Path], cost_model: Path | None) -> ReportContent:
    from datasets_meta.models import load_model_table
    from devprof.cli.tables import read_all
    from devprof.report.content import ReportContent
    from devprof.report.provenance import provenance

    runs = read_all(folders, "runs", Measurement)
    evaluations = read_all(folders, "evaluations", Evaluation)
    round_logs = read_all(folders, "rounds", RoundLog)
    predictions = read_all(folders, "predictions", Prediction)
    if not (runs or evaluations or round_logs or predictions):
        raise StoreError(f"there is nothing to report in {', '.join(map(str, folders))}")
    notes: tuple[str, ...] = ()
    if cost_model is not None:
        predictions += tuple(_predict(cost_model, runs))
        notes = (_LEFT_OUT.format(path=cost_model.name),)
    return ReportContent(
        title="",
        facts=(("devprof", importlib.metadata.version("devprof")), *provenance(runs)),
        runs=runs,
        steps=phase_steps(folders, runs),
        models=load_model_table(),
        predictions=predictions,
        evaluations=evaluations,
        round_logs=round_logs,
        notes=notes,
    )


def phase_steps(folders: Sequence[Path], runs: Sequence[Measurement]) -> tuple[StepTime, ...]:
    """The raw steps that a figure needs: of all others a large folder has too many to hold."""
    from devprof.report.series import phase_runs
    from devprof.store.folder import map_table

    wanted = phase_runs(runs)
    if not wanted:
        return ()
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.array(sorted(wanted))

    def of_wanted(piece: pa.Table) -> pa.Table:
        return piece.filter(pc.and_(pc.equal(piece["kind"], "phases"), pc.is_in(piece["run_id"], ids)))

    columns = [field.name for field in dataclasses.fields(StepTime)]
    pieces = [piece for folder in folders for piece in map_table(folder, "steps", of_wanted, columns)[0]]
    return tuple(StepTime(**row) for piece in pieces for row in piece.to_pylist())


def _predict(path: Path, runs: Sequence[Measurement]) -> list[Prediction]:
    """The cost model's word on every configuration that it can say something about; the others are named in the log.

    What the fit used is shown as it was predicted without it. A configuration is one point, however often it was repeated.
    """
    from devprof.costmodel.model import CostModel

    model = CostModel.load(path)
    settings = {one.device: one.setting for one in model.report.data}
    left_out: dict[_Key, list[LeftOut]] = {}
    for row in model.report.left_out:
        left_out.setdefault(_key(row), []).append(row)
    groups: dict[_Key, list[Measurement]] = {}
    others: Counter[str] = Counter()
    for run in runs:
        if run.status != "ok" or run.task != "train" or run.step_s is None:
            continue
        if any(str(getattr(run, name)) not in values for name, values in settings.get(run.device, {}).items()):
            others[run.device] += 1
            continue
        groups.setdefault(_key(run), []).append(run)
    for device, count in others.items():
        click.echo(
            f"no prediction for {count} run(s) on {device}: the cost model is for another setting of it", err=True
        )
    predictions = []
    for key, own in groups.items():
        run = dataclasses.replace(own[0], step_s=statistics.median(one.step_s for one in own if one.step_s is not None))
        if key in left_out:
            predictions += [Prediction.beside(_estimate(row), run) for row in left_out[key]]
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


def _key(one: LeftOut | Measurement) -> _Key:
    return (one.device, one.model, one.mode, one.batch_size, one.image_size, one.num_classes)


def _estimate(row: LeftOut) -> Estimate:
    """A prediction of what was left out. Without an interval of its own it is a point."""
    low = row.predicted_s if row.low_s is None else row.low_s
    high = row.predicted_s if row.high_s is None else row.high_s
    return Estimate(row.predicted_s, low, high, row.basis)
