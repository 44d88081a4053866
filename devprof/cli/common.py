"""What the commands share: options, the console on stderr, logging, JSON output. rich is imported when something is shown."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from devprof.errors import MissingExtraError
from devprof.units import parse_bytes, parse_celsius, parse_cpus, parse_seconds

if TYPE_CHECKING:
    from rich.console import Console

    from devprof.records import Device

__all__ = [
    "BYTES",
    "CELSIUS",
    "CPUS",
    "EXTRAS",
    "SECONDS",
    "CommaList",
    "Quantity",
    "device_options",
    "echo_json",
    "identified",
    "json_option",
    "log_to_stderr",
    "missing_modules",
    "require_extras",
    "require_known_models",
    "stderr_console",
    "stdout_table",
]

# What each extra of the distribution brings, and what it is for.
EXTRAS = {
    "train": (("torch", "torchvision", "timm"), "measuring and tracing models"),
    "model": (("pandas", "sklearn", "scipy", "skops"), "cost models"),
    "fl": (("flwr", "sklearn"), "federated learning with Flower"),
    "report": (("altair", "vl_convert"), "pages and figures"),
    "nvml": (("pynvml",), "throttling, memory and power of NVIDIA GPUs"),
    "meter": (("pyvisa", "pyvisa_py", "serial"), "lab meters that speak SCPI, meters on a serial line"),
    "jetson": (("jtop",), "power sensors of a Jetson through its jtop service"),
    "sim": (("flwr", "ray"), "Flower's own simulation engine (flwr run)"),
}

Function = TypeVar("Function", bound=Callable[..., Any])


def json_option(function: Function) -> Function:
    """The option ``--json``, which every command has."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


class Quantity(click.ParamType[Any]):
    """A quantity with its unit, such as ``10s`` or ``2G``.

    Args:
        name: What the help page calls it.
        parse: From a text to SI; raises ``ValueError`` with what is wrong.
    """

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The quantity in SI; a text that is no such quantity is wrong usage."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


SECONDS = Quantity("duration", parse_seconds)
BYTES = Quantity("size", parse_bytes)
CELSIUS = Quantity("temperature", parse_celsius)
CPUS = Quantity("cpus", parse_cpus)


class CommaList(click.ParamType[tuple[Any, ...]]):
    """Values separated by commas, such as ``1,8,16``.

    Args:
        kind: ``str`` or ``int``; whole numbers must be at least 1.
        choices: The accepted values; all if empty.
    """

    name = "list"

    def __init__(self, kind: type, choices: Sequence[str] = ()) -> None:
        self.kind = kind
        self.choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """The values in order, each once; an empty or unknown one is wrong usage."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        for part in parts:
            if self.kind is int and not (part.isdecimal() and int(part) >= 1):
                self.fail(f"{part!r} is not a whole number of at least 1", param, ctx)
            if self.choices and part not in self.choices:
                self.fail(f"{part!r} is not one of {', '.join(self.choices)}", param, ctx)
            if not part:
                self.fail("the list has an empty entry", param, ctx)
        return tuple(dict.fromkeys(self.kind(part) for part in parts))


def device_options(function: Function) -> Function:
    """The options that say where measured processes run, which :func:`identified` takes."""
    options = [
        click.option("--processor", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True),
        click.option(
            "--threads", type=click.IntRange(1), help="Threads of the training process.  [default: physical cores]"
        ),
        click.option("--affinity", type=CPUS, help="CPUs to bind the training process to, such as 0-3."),
        click.option(
            "--device",
            "device_name",
            help="Name of this board in tables and figures.  [default: what it says of itself]",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def identified(processor: str, threads: int | None, affinity: tuple[int, ...] | None, name: str | None) -> Device:
    """This device, as it is used: a bound process has by default as many threads as there are cores behind its CPUs."""
    from devprof.device.cores import physical_cores
    from devprof.device.identity import identify

    if threads is None and affinity is not None:
        threads = physical_cores(affinity)
    return identify(processor=processor, threads=threads, name=name, affinity=affinity)


def require_known_models(names: Sequence[str]) -> None:
    """Find a mistyped name or a missing torch now, not after an hour of measuring.

    Raises:
        MissingExtraError: If torch is not installed.
        click.UsageError: If a name means nothing here; carries the closest ones.
    """
    from devprof.workloads.names import check_names

    # Without timm the seed networks can be measured all the same: boards with a vendor's torch often lack it.
    if "torch" in missing_modules("train"):
        raise MissingExtraError("train", "torch", "measuring a model")
    bad = check_names(list(dict.fromkeys(names)))
    if bad:
        raise click.UsageError("\n".join(bad.values()))


def missing_modules(extra: str) -> list[str]:
    """Modules of an extra that are not installed."""
    return [name for name in EXTRAS[extra][0] if importlib.util.find_spec(name) is None]


def require_extras(*extras: str) -> None:
    """Find out that a package is missing now, not after an hour of measuring.

    Raises:
        MissingExtraError: For the first extra of which something is missing; the text is the pip command.
    """
    for extra in extras:
        missing = missing_modules(extra)
        if missing:
            raise MissingExtraError(extra, missing[0], EXTRAS[extra][1])


def stderr_console() -> Console:
    """A rich console on stderr, for progress and warnings."""
    from rich.console import Console

    return Console(stderr=True)


class _EchoHandler(logging.Handler):
    """Writes to whatever stderr is at that moment, so that it outlives none."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname}: {self.format(record)}", err=True)


def log_to_stderr() -> None:
    """Show the warnings of devprof's own loggers on stderr, one line each."""
    for name in ("devprof", "strategies"):
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _EchoHandler) for handler in logger.handlers):
            logger.addHandler(_EchoHandler(logging.WARNING))


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def echo_json(value: Any) -> None:
    """Print records, mappings and lists as JSON on stdout."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def stdout_table(title: str, columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout.

    Args:
        title: Above the table.
        columns: (heading, whether its values are numbers and set to the right).
        rows: Texts, one per column.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for heading, numeric in columns:
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    # A pipe has no width: a table that is read by a program must not be folded to 80 columns.
    Console(width=console.width if console.is_terminal else 200).print(table)
