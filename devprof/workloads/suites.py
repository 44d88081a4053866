"""Suites: named lists of workloads, as TOML files that a user can write too.

A suite file::

    description = "What it is for, in a sentence."
    models = ["resnet18", "seed:cnn"]
    modes = ["full", "head"]      # optional, also batch_sizes, tasks, image_size, num_classes, data, optimizer
    min_time = "5s"               # optional, also repeats, min_steps, phase_steps

Instead of ``models``, a file may have several ``[[groups]]``, each with keys of its own; what stands above them holds for every
group that does not say otherwise. A group that ``requires`` a module is left out, with the reason, where it is not installed.

Standard library only (``tomli`` before Python 3.11).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from devprof.errors import UnknownNameError, WorkloadError, closest
from devprof.records import MODES, TASKS
from devprof.units import parse_seconds
from devprof.workloads.names import DATA_SOURCES, OPTIMIZERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Group", "Suite", "load_suite", "suite_names"]

_HINTS = ("repeats", "min_steps", "phase_steps")
_GROUP_KEYS = (
    "models",
    "modes",
    "batch_sizes",
    "tasks",
    "image_size",
    "num_classes",
    "data",
    "optimizer",
    "requires",
)


@dataclass(frozen=True, slots=True)
class Group:
    """Models that are measured in the same way; what is ``None`` the command line decides.

    Attributes:
        models: Model names.
        modes: ``full``, ``head``.
        batch_sizes: Samples per step.
        tasks: ``train``, ``infer``.
        image_size: Height and width of the input.
        num_classes: Outputs of the classifier.
        data: ``memory``, ``jpeg`` or ``own``.
        optimizer: ``sgd`` or ``adam``.
        requires: The module without which these models cannot be built.
    """

    models: tuple[str, ...]
    modes: tuple[str, ...] | None = None
    batch_sizes: tuple[int, ...] | None = None
    tasks: tuple[str, ...] | None = None
    image_size: int | None = None
    num_classes: int | None = None
    data: str | None = None
    optimizer: str | None = None
    requires: str | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """What a suite asks to be measured, and how; what it leaves ``None`` the command line decides.

    Attributes:
        name: Its name, for a file the file's.
        description: What it is for.
        groups: At least one.
        repeats: Fresh processes per configuration.
        min_steps: Timed steps per run, at the least.
        phase_steps: Steps of the pass that times forward, backward and optimizer.
        min_time_s: Timed window per run, at the least.
    """

    name: str
    description: str
    groups: tuple[Group, ...]
    repeats: int | None = None
    min_steps: int | None = None
    phase_steps: int | None = None
    min_time_s: float | None = None

    @classmethod
    def of_models(cls, models: tuple[str, ...]) -> Suite:
        """A suite without a name that leaves everything but the models to the command line."""
        return cls(name="", description="", groups=(Group(models),))

    def available(self) -> tuple[Suite, dict[str, str]]:
        """What of this suite can be measured here: groups whose module is installed, and the reason by model for the rest."""
        groups: list[Group] = []
        skipped: dict[str, str] = {}
        for group in self.groups:
            if group.requires is None or importlib.util.find_spec(group.requires) is not None:
                groups.append(group)
            else:
                reason = f"the package {group.requires!r} is not installed: pip install {group.requires}"
                skipped |= dict.fromkeys(group.models, reason)
        return replace(self, groups=tuple(groups)), skipped


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
    _require_known_keys(table, (*_GROUP_KEYS, *_HINTS, "description", "min_time", "groups"), where)
    defaults = {key: table[key] for key in _GROUP_KEYS if key in table}
    tables = table.get("groups", [{}])
    if not isinstance(tables, list) or not tables or not all(isinstance(entry, dict) for entry in tables):
        raise WorkloadError(f"{where}: groups must be tables: [[groups]], with models below")
    groups = []
    for number, entry in enumerate(tables, 1):
        place = f"{where}, group {number}" if "groups" in table else where
        _require_known_keys(entry, _GROUP_KEYS, place)
        groups.append(_group(defaults | entry, place))
    return Suite(
        name=name,
        description=str(table.get("description", "")),
        groups=tuple(groups),
        **{key: _positive(table, key, where) for key in _HINTS},
        min_time_s=_duration(table, "min_time", where),
    )


def _group(table: Mapping[str, Any], where: str) -> Group:
    requires = table.get("requires")
    if requires is not None and not (isinstance(requires, str) and requires.isidentifier()):
        raise WorkloadError(f"{where}: requires must be the name of a module to import, got {requires!r}")
    models = _list(table, "models", str, where)
    if models is None:
        raise WorkloadError(f"{where} names no models: models = [...], or [[groups]] with models below")
    return Group(
        models=models,
        modes=_choices(table, "modes", MODES, where),
        batch_sizes=_list(table, "batch_sizes", int, where),
        tasks=_choices(table, "tasks", TASKS, where),
        image_size=_positive(table, "image_size", where),
        num_classes=_positive(table, "num_classes", where),
        data=_choice(table, "data", DATA_SOURCES, where),
        optimizer=_choice(table, "optimizer", OPTIMIZERS, where),
        requires=requires,
    )


def _require_known_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    unknown = []
    for key in sorted(set(table) - set(known)):
        nearest = closest(key, known, count=1)
        unknown.append(f"{key} (closest: {nearest[0]})" if nearest else key)
    if unknown:
        raise WorkloadError(f"{where} has unknown keys: {', '.join(unknown)}")


def _list(table: Mapping[str, Any], key: str, kind: type, where: str) -> tuple[Any, ...] | None:
    values = table.get(key)
    if values is None:
        return None
    good = isinstance(values, list) and values and all(type(value) is kind for value in values)
    if not good or (kind is int and min(values) < 1):
        raise WorkloadError(
            f"{where}: {key} must be a non-empty list of {'positive ' if kind is int else ''}{kind.__name__} values"
        )
    return tuple(values)


def _choices(table: Mapping[str, Any], key: str, choices: Sequence[str], where: str) -> tuple[str, ...] | None:
    values = _list(table, key, str, where)
    if values is not None and not set(values) <= set(choices):
        raise WorkloadError(f"{where}: {key} must be among {', '.join(choices)}, got {', '.join(values)}")
    return values


def _choice(table: Mapping[str, Any], key: str, choices: Sequence[str], where: str) -> str | None:
    value = table.get(key)
    if value is not None and value not in choices:
        raise WorkloadError(f"{where}: {key} must be one of {', '.join(choices)}, got {value!r}")
    return value


def _positive(table: Mapping[str, Any], key: str, where: str) -> int | None:
    value = table.get(key)
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise WorkloadError(f"{where}: {key} must be a whole number of at least 1, got {value!r}")
    return value


def _duration(table: Mapping[str, Any], key: str, where: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    try:
        seconds = parse_seconds(str(value))
    except ValueError as error:
        raise WorkloadError(f"{where}: {key}: {error}") from error
    if seconds <= 0:
        raise WorkloadError(f"{where}: {key} must be longer than nothing, got {value!r}")
    return seconds
