"""``devprof fleet``: the same measurement on every connected SuperNode, through Flower."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from devprof.cli.calibrate import command as calibrate_command
from devprof.cli.common import (
    SECONDS,
    CommaList,
    Function,
    echo_json,
    json_option,
    log_to_stderr,
    missing_modules,
    require_known_models,
    stdout_table,
)
from devprof.cli.measure import asked_workloads
from devprof.cli.measure import command as measure_command
from devprof.errors import MissingExtraError
from devprof.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from strategies.fleet.order import Order

__all__ = ["command"]

# A node names itself, and writes to a folder of its own; --json is about this command's output.
_LOCAL = {"device_name", "output", "as_json"}
_REMOTE = [param for param in measure_command.params if param.name not in _LOCAL]
_WORKLOADS = {"models", "suite_name"}
_UNKNOWN = "–"


def _fleet_options(deadline: str) -> Callable[[Function], Function]:
    """The options of every fleet command."""
    options = [
        click.option("--superlink", help="Connection of the Flower configuration.  [default: its default]"),
        click.option("--nodes", type=CommaList(str), default=(), help="Ask these alone, by name, device or node id."),
        click.option(
            "--min-nodes", type=click.IntRange(1), default=1, show_default=True, help="Wait for so many nodes."
        ),
        click.option("--wait", "wait_s", type=SECONDS, default="60s", show_default=True, help="The longest such wait."),
        click.option(
            "--deadline",
            "deadline_s",
            type=SECONDS,
            default=deadline,
            show_default=True,
            help="After this the run ends.",
        ),
    ]

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@click.group("fleet")
def command() -> None:
    """Measure on every connected SuperNode, or ask them how they are, through Flower.

    devprof[fl] must be installed on the SuperLink, devprof[fl,train] on the nodes. Which SuperLink is meant, and how it is
    reached, says the Flower configuration (flwr config list).
    """


@command.command("measure")
@click.option("--calibrate", is_flag=True, help="Time single operators first, as devprof calibrate does.")
@click.option("--calibration-time", type=SECONDS, default="240s", show_default=True, help="How long that may take.")
@_fleet_options("1h")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Measurement folder, on the SuperLink's host.",
)
@json_option
@click.pass_context
def measure(
    ctx: click.Context,
    /,
    models: tuple[str, ...],
    suite_name: str | None,
    calibrate: bool,
    calibration_time: float,
    output: Path,
    superlink: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Run devprof measure (and devprof calibrate) on every node, and gather the rows in the folder given with -o.

    The options are those of devprof measure. Each node works on its own until it is done or the deadline is near; its rows are
    stored as they come. What a node does not deliver, because it died, refused or was too slow, is stored as failed rows that
    name the node and the reason. Exits with 0 only if every node delivered everything.
    """
    from devprof.store.folder import ensure_writable

    if bool(models) == bool(suite_name) and (models or not calibrate):
        raise click.UsageError("give MODEL names, --suite or --calibrate: devprof fleet measure resnet18 -o runs")
    ensure_writable(output)
    order = _order(
        asked,
        action="measure",
        output=str(output.resolve()),
        processor=asked["processor"],
        measure_options=_words(ctx, _REMOTE, leave_out=_WORKLOADS),
        calibrate_options=_words(ctx, calibrate_command.params, leave_out={*_LOCAL, "batch_sizes", *_WORKLOADS}),
        models=tuple(dict.fromkeys(models)),
        calibration_s=calibration_time if calibrate else None,
        **_workloads(models, suite_name, asked),
    )
    result = _run(order, superlink)
    if as_json:
        echo_json(result)
    else:
        _show_rows(result["nodes"], operators=calibrate)
    _say_where(result)
    _exit(result["nodes"])


# What devprof measure takes, as far as it is not about this machine, comes first on the help page.
measure.params[:0] = _REMOTE


@command.command("status")
@_fleet_options("90s")
@json_option
def status(superlink: str | None, as_json: bool, **asked: Any) -> None:
    """Ask every node who it is, how it is, what is installed there, and whether it would measure.

    A node that does not answer is a line with the reason. Exits with 0 only if every node answered.
    """
    result = _run(_order(asked, action="status"), superlink)
    if as_json:
        echo_json(result)
    else:
        _show_status(result["nodes"])
    _exit(result["nodes"])


def _order(asked: Mapping[str, Any], **values: Any) -> Order:
    if "flwr" in missing_modules("fl"):
        raise MissingExtraError("fl", "flwr", "a fleet command")
    from strategies.fleet.order import Order

    shared = {name: asked[name] for name in ("deadline_s", "wait_s", "min_nodes", "nodes")}
    if not shared["deadline_s"] > 0:
        raise click.UsageError("--deadline must be positive")
    return Order(token=secrets.token_hex(8), **shared, **values)


def _workloads(models: Sequence[str], suite_name: str | None, asked: dict[str, Any]) -> dict[str, Any]:
    """What every node owes a row of, and the suite's text where the nodes do not have it."""
    from devprof.workloads.suites import Suite, load_suite

    if not models and suite_name is None:
        return {}
    if suite_name is None:
        suite, found = Suite.of_models(tuple(dict.fromkeys(models))), {}
    else:
        # Groups for which a module is missing here are not left out: it may be installed on the nodes.
        suite = load_suite(suite_name)
        own = suite_name.endswith(".toml")
        text = Path(suite_name).read_text(encoding="utf-8") if own else None
        found = {"suite": suite.name, "suite_toml": text}
    workloads = asked_workloads(suite, asked)
    if models and not missing_modules("train"):
        require_known_models(models)
    return found | {"workloads": tuple(workloads), "repeats": asked["repeats"] or suite.repeats or 1}


def _words(ctx: click.Context, params: Sequence[click.Parameter], *, leave_out: Collection[str]) -> tuple[str, ...]:
    """The options that the user gave, as words of a command line; what was not given is the node's to decide."""
    words: list[str] = []
    for param in params:
        name = param.name or ""
        if name in leave_out or ctx.get_parameter_source(name) in {None, ParameterSource.DEFAULT}:
            continue
        value = ctx.params[name]
        if isinstance(value, bool):
            words += [param.opts[0]] if value else []
        elif value is not None:
            # Quantities without a unit are SI.
            words += [param.opts[0], ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return tuple(words)


def _run(order: Order, superlink: str | None) -> dict[str, Any]:
    from strategies.fleet.launch import launch

    log_to_stderr()
    result = launch(order, superlink=superlink, on_event=_progress, on_line=lambda line: click.echo(line, err=True))
    return {key: value for key, value in result.items() if key != "event"}


def _progress(event: dict[str, Any]) -> None:
    if event.get("event") == "node":
        remark = f": {event['message']}" if event.get("message") else ""
        click.echo(f"{event['node']}: {event['rows_ok']} rows ok, {event['rows_failed']} failed{remark}", err=True)
    elif event.get("event") == "note":
        click.echo(str(event.get("text")), err=True)


def _show_rows(nodes: Sequence[Mapping[str, Any]], *, operators: bool) -> None:
    columns = [("node", False), ("device", False), ("delivered", False), ("rows ok", True), ("failed", True)]
    columns += [*([("operators", True)] if operators else []), ("time", True), ("remarks", False)]
    lines = []
    for node in nodes:
        figures = [node["rows_ok"], node["rows_failed"], *([node["operators"]] if operators else [])]
        head = (node["node"], node["device"] or _UNKNOWN, _yes(node["delivered"]))
        lines.append((*head, *map(str, figures), format_seconds(node["seconds"]), node["message"] or ""))
    stdout_table("Measured on the fleet", columns, lines)


def _show_status(nodes: Sequence[Mapping[str, Any]]) -> None:
    columns = [("node", False), ("device", False), ("key", False), ("processor", False), ("power mode", False)]
    columns += [("memory", True), ("free", True), ("heat", True), ("throttled", False), ("devprof", False)]
    columns += [("torch", False), ("flwr", False), ("measures", False), ("remarks", False)]
    stdout_table("The fleet", columns, [_status_line(node) for node in nodes])


def _status_line(node: Mapping[str, Any]) -> tuple[str, ...]:
    if not node["delivered"]:
        return (node["node"], *[_UNKNOWN] * 11, "no", node["message"] or "")
    heat = _UNKNOWN if node["temperature_c"] is None else f"{node['temperature_c']:.0f} °C"
    versions = [node[name] or _UNKNOWN for name in ("devprof_version", "torch_version", "flwr_version")]
    return (
        node["node"],
        node["device"],
        node["device_key"],
        f"{node['processor']}, {node['threads']} threads",
        node["power_mode"] or _UNKNOWN,
        format_bytes(node["memory_bytes"]),
        format_bytes(node["free_memory_bytes"]),
        heat,
        node["throttled"] or _UNKNOWN,
        *versions,
        _yes(node["refusal"] is None),
        node["message"] or ", ".join(node["throttle_reasons"]),
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _say_where(result: Mapping[str, Any]) -> None:
    if result["shared"]:
        click.echo(f"The rows are in {result['output']}.", err=True)
    else:
        click.echo(
            f"The rows are on the SuperLink's host, {result['host']}, in {result['output']}, not on this machine: "
            "copy that folder, or give both hosts one that they share.",
            err=True,
        )


def _exit(nodes: Sequence[Mapping[str, Any]]) -> None:
    if not nodes:
        raise click.ClickException("no node is connected to this SuperLink")
    if not all(node["delivered"] for node in nodes):
        sys.exit(1)
