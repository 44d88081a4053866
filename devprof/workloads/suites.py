"""Suites: named lists of workloads, as TOML files that a user can write too.

A suite file::

    description = "What it is for, in a sentence."
    modes = ["full", "head"]
    batch_sizes = [1, 16]
    image_size = 224              # optional, also num_classes
    models = ["resnet18", "seed:cnn"]

Standard library only (``tomli`` before Python 3.11).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from devprof.errors import UnknownNameError, WorkloadError
from devprof.records import MODES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Suite", "load_suite", "suite_names"]


@dataclass(frozen=True, slots=True)
class Suite:
    """What a suite asks to be measured; what it leaves ``None`` the command line decides."""

    name: str
    description: str
    models: tuple[str, ...]
    modes: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    image_size: int | None = None
    num_classes: int | None = None


def suite_names() -> tuple[str, ...]:
    """Names of the suites that come with devprof."""
    folder = resources.files("devprof.workloads") / "suites"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_suite(name: str) -> Suite:
    """A suite by name, or by the path of a TOML file.

    Raises:
        UnknownNameError: If there is neither such a suite nor such a file; carries the closest names.
        WorkloadError: If the file is not a suite; the text names the file and the key.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UnknownNameError("suite", name, suite_names(), "There is no such file.")
        return _parse(path.stem, path.read_text(encoding="utf-8"), where=str(path))
    if name not in suite_names():
        raise UnknownNameError(
            "suite", name, suite_names(), f"Suites: {', '.join(suite_names())}, or a path to a .toml file."
        )
    text = (resources.files("devprof.workloads") / "suites" / f"{name}.toml").read_text(encoding="utf-8")
    return _parse(name, text, where=f"the suite {name}")


def _parse(name: str, text: str, where: str) -> Suite:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WorkloadError(f"{where} is not valid TOML: {error}") from error
    unknown = set(table) - {"description", "models", "modes", "batch_sizes", "image_size", "num_classes"}
    if unknown:
        raise WorkloadError(f"{where} has unknown keys: {', '.join(sorted(unknown))}")
    modes = _list(table, "modes", str, where)
    if not set(modes) <= set(MODES):
        raise WorkloadError(f"{where}: modes must be among {', '.join(MODES)}, got {', '.join(modes)}")
    return Suite(
        name=name,
        description=str(table.get("description", "")),
        models=_list(table, "models", str, where),
        modes=modes,
        batch_sizes=_list(table, "batch_sizes", int, where),
        image_size=_positive(table, "image_size", where),
        num_classes=_positive(table, "num_classes", where),
    )


def _list(table: dict[str, Any], key: str, kind: type, where: str) -> tuple[Any, ...]:
    values = table.get(key)
    good = isinstance(values, list) and values and all(type(value) is kind for value in values)
    if not good or (kind is int and min(values or [0]) < 1):
        raise WorkloadError(
            f"{where}: {key} must be a non-empty list of {'positive ' if kind is int else ''}{kind.__name__} values"
        )
    return tuple(values or ())


def _positive(table: dict[str, Any], key: str, where: str) -> int | None:
    value = table.get(key)
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise WorkloadError(f"{where}: {key} must be a whole number of at least 1, got {value!r}")
    return value
