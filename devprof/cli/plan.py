"""``devprof plan``: the planned round of a fleet, and what other choices would cost."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devprof.cli.common import echo_json, json_option, log_to_stderr, stdout_table
from devprof.cli.fleetfile import FleetFile, read_fleet
from devprof.cli.rounds import Query, under_conditions
from devprof.errors import DevprofError, UnknownNameError
from devprof.units import format_joules, format_seconds

if TYPE_CHECKING:
    from devprof.costmodel.model import CostModel
    from devprof.plan.columns import StepCosts
    from devprof.plan.fleetplan import FleetPlan
    from devprof.plan.whatif import Choice, Question

_CLIENT_COLUMNS = (
    *(
        "participates",
        "steps",
        "normal_steps",
        "epochs",
        "batch_size",
        "cutoff_s",
        "learning_rate_scale",
        "predicted_s",
    ),
    *("predicted_hi_s", "predicted_energy_j", "predicted_energy_hi_j"),
)
_JSON_CLIENTS = 10_000


@click.command("plan")
@click.argument("cost_model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("fleet", metavar="FLEET.toml", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--what-if", is_flag=True, help="Also what other deadlines and numbers of local epochs would cost.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the plan as CSV, a line per client; '-' for stdout.",
)
@json_option
def command(cost_model: Path, fleet: Path, what_if: bool, output: Path | None, as_json: bool) -> None:
    """Plan a federated round with the file COST_MODEL for the fleet that FLEET.toml describes.

    Prints each group's part (steps, batch size, cut-off, predicted time and energy) and what the round costs beside waiting for
    all, dropping what is late, and one cut-off per kind of processor. With --what-if, also at other deadlines and with other
    numbers of local epochs. Devices that the cost model does not know are named, and planned for as probes.
    """
    from devprof.costmodel.model import CostModel
    from devprof.plan.whatif import compare, sweep_deadlines, sweep_epochs

    log_to_stderr()
    if as_json and output == Path("-"):
        raise click.UsageError("--json and -o - both print the result on stdout")
    file = read_fleet(fleet)
    question, notes = _ask(CostModel.load(cost_model), file)
    plan = question.plan()
    tables = {"choices": compare(question)}
    if what_if:
        epochs = file.settings.local_epochs
        tables["deadlines"] = sweep_deadlines(question)
        tables["epochs"] = sweep_epochs(question, sorted({1, math.ceil(epochs / 2), epochs, 2 * epochs}))
    for note in notes:
        click.echo(note, err=True)
    if output is not None:
        _write(output, file, plan)
    if as_json:
        echo_json(_as_json(file, question, plan, tables, notes))
    elif output != Path("-"):
        _show(file, plan, tables)


def _ask(model: CostModel, file: FleetFile) -> tuple[Question, list[str]]:
    """The question that a file asks of a cost model, and what is to be said of the answer."""
    from devprof.plan.whatif import Question

    notes: list[str] = []
    known = set(model.devices)
    for device in file.devices:
        if device not in known:
            error = UnknownNameError("device", device, known)
            notes.append(f"{error}. Nothing is predicted of its clients; they are not compared")
    settings = file.settings
    costs = _table(model, file, settings.candidates, notes)
    plain = _table(model, file, (settings.batch_size,), [])
    sizes = {"image_size": file.image_size, "num_classes": file.num_classes}
    payload_bytes = file.payload_bytes
    if payload_bytes is None:
        first = next((device for device in file.devices if device in known), None)
        if first is None:
            raise DevprofError(
                f"{file.path}: none of its devices is in the cost model, which knows {', '.join(model.devices)}; "
                'name one of them, or give the size of the model as sent: payload = "10M"'
            )
        payload_bytes = Query(first, file.model, file.mode, **sizes).payload_bytes(model)
    processors = [group.processor for group in file.groups for _ in range(group.count)]
    return Question(file.columns(), costs, plain, processors, settings, payload_bytes), notes


def _table(model: CostModel, file: FleetFile, batch_sizes: Sequence[int], notes: list[str]) -> StepCosts:
    """The costs of a step on each device of a file, measured loading and heat included; adds notes on those."""
    from devprof.plan.columns import StepCosts

    rows: list[Sequence[Any]] = []
    for device in file.devices:
        if device not in model.devices:
            rows.append([None] * len(batch_sizes))
            continue
        query = Query(device, file.model, file.mode, file.image_size, file.num_classes)
        found = under_conditions(model, device, batch_sizes, query.steps(model, list(batch_sizes)))
        rows.append(found.steps)
        notes += found.notes
    return StepCosts.of(rows, batch_sizes)


def _names(file: FleetFile) -> Iterator[tuple[str, str]]:
    return ((group.client(at), group.name) for group in file.groups for at in range(group.count))


def _lines(file: FleetFile, plan: FleetPlan, most: int | None = None) -> Iterator[dict[str, Any]]:
    """The plan of each client as a mapping; ``None`` for what is not known and for no limit."""
    columns = [getattr(plan, name)[:most].tolist() for name in _CLIENT_COLUMNS]
    devices = {group.name: group.device for group in file.groups}
    for at, ((client, group), *values) in enumerate(zip(_names(file), *columns, strict=False)):
        own = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in zip(_CLIENT_COLUMNS, values, strict=True)
        }
        yield {"client": client, "group": group, "device": devices[group], **own, "reason": plan.reason_text(at)}


def _write(output: Path, file: FleetFile, plan: FleetPlan) -> None:
    from devprof.atomic import write_atomically

    text = io.StringIO()
    writer = csv.DictWriter(text, ["client", "group", "device", *_CLIENT_COLUMNS, "reason"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_lines(file, plan))
    if output == Path("-"):
        click.echo(text.getvalue(), nl=False)
        return
    try:
        write_atomically(output, text.getvalue().encode())
    except OSError as error:
        raise DevprofError(f"{output} cannot be written: {error}") from error


def _as_json(
    file: FleetFile, question: Question, plan: FleetPlan, tables: dict[str, list[Choice]], notes: list[str]
) -> dict[str, Any]:
    return {
        "model": file.model,
        "mode": file.mode,
        "payload_bytes": question.payload_bytes,
        "deadline_s": plan.deadline_s,
        "clients": int(plan.participates.size),
        "participating": int(plan.participates.sum()),
        "groups": [_group_summary(file, plan, at) for at in range(len(file.groups))],
        "plan": list(_lines(file, plan, _JSON_CLIENTS)),
        "plan_is_whole": bool(plan.participates.size <= _JSON_CLIENTS),
        **{name: [dataclasses.asdict(choice) for choice in choices] for name, choices in tables.items()},
        "notes": notes,
    }


def _group_summary(file: FleetFile, plan: FleetPlan, number: int) -> dict[str, Any]:
    """What the clients of a group are asked for: least and most of each number over those that take part."""
    import numpy as np

    begin = sum(group.count for group in file.groups[:number])
    own = slice(begin, begin + file.groups[number].count)
    taken = plan.participates[own]
    ends: dict[str, Any] = {}
    for name in _CLIENT_COLUMNS[1:]:
        values = getattr(plan, name)[own][taken]
        values = values[np.isfinite(values)]
        ends[name] = [values.min().item(), values.max().item()] if values.size else None
    # The commonest reason why work is less than whole, told of the first client that has it.
    codes, first, count = np.unique(plan.reason[own], return_index=True, return_counts=True)
    commonest = int(np.where(codes == 0, 0, count).argmax())
    group = file.groups[number]
    return {
        "group": group.name,
        "device": group.device,
        "clients": group.count,
        "participating": int(taken.sum()),
        **ends,
        "reason": plan.reason_text(begin + int(first[commonest])),
        "reason_clients": int(count[commonest]),
    }


def _show(file: FleetFile, plan: FleetPlan, tables: dict[str, list[Choice]]) -> None:
    deadline = "no deadline" if math.isinf(plan.deadline_s) else f"deadline {format_seconds(plan.deadline_s)}"
    headings = [
        "group",
        "device",
        "clients",
        "steps",
        "of",
        "batch",
        "cut-off",
        "predicted",
        "at risk",
        "energy",
        "why",
    ]
    rows = []
    for number in range(len(file.groups)):
        one = _group_summary(file, plan, number)
        rows.append(
            [
                one["group"],
                one["device"],
                f"{one['participating']:,}/{one['clients']:,}",
                *(_span(one[name], "{:,}".format) for name in ("steps", "normal_steps", "batch_size")),
                *(_span(one[name], format_seconds) for name in ("cutoff_s", "predicted_s", "predicted_hi_s")),
                _span(one["predicted_energy_j"], format_joules),
                one["reason"]
                + (f" ({one['reason_clients']:,} of them)" if one["reason_clients"] < one["clients"] else ""),
            ]
        )
    stdout_table(
        f"{file.model}, {file.mode}: {deadline}, {int(plan.participates.sum()):,} of {plan.participates.size:,} clients",
        [(heading, heading not in ("group", "device", "why")) for heading in headings],
        rows,
    )
    titles = {
        "choices": "What each way costs",
        "deadlines": "Other deadlines",
        "epochs": "Other numbers of local epochs",
    }
    for name, choices in tables.items():
        _show_choices(titles[name], choices, dropped=name != "choices")


def _show_choices(title: str, choices: list[Choice], *, dropped: bool) -> None:
    if not choices:
        click.echo(f"{title}: nothing is predicted of any client that could take part", err=True)
        return
    headings = ["choice", "deadline", "round", "clients", "work", "effective", "lost", "epochs per hour", "energy"]
    headings[6] = "lost if dropped" if dropped else "lost"
    rows = [
        [
            one.name,
            format_seconds(one.deadline_s),
            format_seconds(one.round_s),
            f"{one.clients:,}",
            f"{one.work_share:.1%}",
            f"{one.effective_work:.1%}",
            f"{one.lost_if_dropped_share if dropped else one.lost_share:.1%}",
            "–" if one.epochs_per_hour is None else f"{one.epochs_per_hour:.3g}",
            format_joules(one.energy_j),
        ]
        for one in choices
    ]
    stdout_table(title, [(heading, heading != "choice") for heading in headings], rows)


def _span(ends: list[Any] | None, show: Any) -> str:
    if ends is None:
        return "–"
    low, high = (show(end) for end in ends)
    return str(low) if low == high else f"{low} to {high}"
