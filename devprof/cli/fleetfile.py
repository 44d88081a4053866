"""A fleet as a TOML file: the model that it trains, what is wanted of a round, and its clients in groups."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devprof.errors import DevprofError, closest
from devprof.plan.settings import PlannerSettings
from devprof.records import MODES
from devprof.units import parse_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from devprof.plan.columns import FleetArrays

__all__ = ["FleetFile", "Group", "read_fleet"]

_TOP = ("model", "mode", "image_size", "num_classes", "payload", "settings", "clients")
_LARGEST_COUNT = 10_000_000


@dataclass(frozen=True, slots=True)
class Group:
    """Clients that are alike but for the size of their data.

    Attributes:
        name: Its name; clients are numbered behind it where there are several.
        device: Name of their device, as the cost model knows it.
        processor: What a cut-off is set for.
        count: How many there are.
        samples: Least and most data; sizes in between are spread evenly.
        up_mbps: Upload in megabits per second; infinite where transfers count nothing.
        down_mbps: Download in megabits per second.
        latency_s: Seconds added to each transfer.
        startup_s: Seconds from receipt of the message to the first step.
        overhead_s: Seconds that neither link nor start-up explain.
        fixed_sd_s: Standard deviation of transfers, overhead and start-up together.
        memory_bytes: Memory for training; ``None`` if unknown.
        energy_budget_j: Joules that a client's steps may take in a round; ``None`` for no limit.
        rounds_left_out: Rounds in a row that they were left out.
    """

    name: str
    device: str
    processor: str
    count: int
    samples: tuple[int, int]
    up_mbps: float
    down_mbps: float
    latency_s: float
    startup_s: float
    overhead_s: float
    fixed_sd_s: float
    memory_bytes: int | None
    energy_budget_j: float | None
    rounds_left_out: int

    def client(self, number: int) -> str:
        """The name of one of them, numbered from 0."""
        return self.name if self.count == 1 else f"{self.name}-{number + 1}"


@dataclass(frozen=True, slots=True)
class FleetFile:
    """What a fleet file says; ``None`` for what it does not."""

    path: Path
    model: str
    mode: str
    image_size: int | None
    num_classes: int | None
    payload_bytes: int | None
    settings: PlannerSettings
    groups: tuple[Group, ...]

    @property
    def devices(self) -> list[str]:
        """Names of the devices, in the order of the file."""
        return list(dict.fromkeys(group.device for group in self.groups))

    def columns(self) -> FleetArrays:
        """The clients as arrays, group after group; devices are numbered as in :attr:`devices`."""
        import numpy as np

        from devprof.plan.columns import FleetArrays

        counts = [group.count for group in self.groups]

        def spread(name: str) -> Any:
            values = [getattr(group, name) for group in self.groups]
            return np.repeat([math.nan if value is None else value for value in values], counts)

        samples = [np.linspace(*group.samples, group.count).round().astype(np.int64) for group in self.groups]
        return FleetArrays(
            samples=np.concatenate(samples),
            device=np.repeat([self.devices.index(group.device) for group in self.groups], counts),
            memory_limit_bytes=spread("memory_bytes"),
            **{
                name: spread(name)
                for name in ("up_mbps", "down_mbps", "latency_s", "startup_s", "overhead_s", "fixed_sd_s")
            },
            energy_budget_j=spread("energy_budget_j"),
            rounds_left_out=spread("rounds_left_out"),
        )


def read_fleet(path: Path) -> FleetFile:
    """Reads a fleet file.

    Raises:
        DevprofError: If it is no TOML, a key is unknown, missing or of the wrong kind, or a value is out of range; the text
            names the file, the place and the key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DevprofError(f"{path} cannot be read as TOML: {error}") from error
    top = _Reader(table, str(path), _TOP)
    groups = table.get("clients")
    if not isinstance(groups, list) or not groups or not all(isinstance(entry, dict) for entry in groups):
        raise DevprofError(
            f"{path} has no clients: add a table [[clients]] with name, device and samples for each group"
        )
    found = tuple(_group(entry, f"{path}, [[clients]] number {number}") for number, entry in enumerate(groups, 1))
    names = [group.name for group in found]
    for name in names:
        if names.count(name) > 1:
            raise DevprofError(f"{path}: two groups of clients are called {name!r}; give each a name of its own")
    mode = top.text("mode", MODES[0])
    if mode not in MODES:
        raise top.error("mode", f"must be one of {', '.join(MODES)}", mode)
    return FleetFile(
        path=path,
        model=top.text("model"),
        mode=mode,
        image_size=top.whole("image_size", None, least=1),
        num_classes=top.whole("num_classes", None, least=2),
        payload_bytes=top.size("payload"),
        settings=_settings(table.get("settings", {}), f"{path}, [settings]"),
        groups=found,
    )


class _Reader:
    """A table of a file: reads its keys, and says what is wrong with them."""

    def __init__(self, table: Mapping[str, Any], where: str, known: tuple[str, ...]) -> None:
        if not isinstance(table, Mapping):
            raise DevprofError(f"{where} must be a table, got {table!r}")
        self._table = table
        self.where = where
        for key in table:
            if key not in known:
                near = closest(key, known)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
                raise DevprofError(f"{where}: unknown key {key!r}; {hint}")

    def error(self, key: str, rule: str, value: object) -> DevprofError:
        """What is wrong with a key's value."""
        return DevprofError(f"{self.where}: {key} {rule}, got {value!r}")

    def text(self, key: str, default: str | None = None) -> str:
        """A text; without a default it must be there."""
        value = self._table.get(key, default)
        if value is None:
            raise DevprofError(f'{self.where}: {key} is missing; add {key} = "..."')
        if not isinstance(value, str) or not value:
            raise self.error(key, "must be a text in quotes", value)
        return value

    def whole(self, key: str, default: int | None, *, least: int) -> int | None:
        """A whole number of at least ``least`` and at most ten million."""
        value = self._table.get(key, default)
        if value is None:
            return None
        if not _is_whole(value) or not least <= value <= _LARGEST_COUNT:
            raise self.error(key, f"must be a whole number from {least} to {_LARGEST_COUNT}", value)
        return int(value)

    def number(self, key: str, default: float | None, *, positive: bool = False) -> float | None:
        """A finite number that is not negative."""
        value = self._table.get(key)
        if value is None:
            return default
        good = (_is_whole(value) or isinstance(value, float)) and 0 <= value < math.inf
        if not good or (positive and value == 0):
            raise self.error(key, f"must be a number {'above' if positive else 'of at least'} 0", value)
        return float(value)

    def size(self, key: str) -> int | None:
        """A size in bytes: a number, or a text such as ``"1G"``."""
        value = self._table.get(key)
        if value is None:
            return None
        try:
            size = parse_bytes(str(value)) if isinstance(value, str) or _is_whole(value) else 0
        except ValueError as error:
            raise DevprofError(f"{self.where}: {key}: {error}") from error
        if size < 1:
            raise self.error(key, 'must be a size such as 512_000 or "1G"', value)
        return size

    def samples(self) -> tuple[int, int]:
        """Least and most data of the clients of a group."""
        value = self._table.get("samples")
        ends: list[Any] = value if isinstance(value, list) else [value, value]
        whole = len(ends) == 2 and all(_is_whole(end) for end in ends)
        if not whole or not 0 <= ends[0] <= ends[1] <= _LARGEST_COUNT:
            raise self.error("samples", f"must be a whole number, or [least, most], from 0 to {_LARGEST_COUNT}", value)
        return ends[0], ends[1]


def _group(table: Mapping[str, Any], where: str) -> Group:
    known = tuple("memory" if one.name == "memory_bytes" else one.name for one in fields(Group))
    reader = _Reader(table, where, known)
    if ("up_mbps" in table) != ("down_mbps" in table):
        raise DevprofError(f"{where}: up_mbps goes with down_mbps; without both, transfers count nothing")
    device = reader.text("device")
    numbers = {name: reader.number(name, 0.0) for name in ("latency_s", "startup_s", "overhead_s", "fixed_sd_s")}
    links = {name: reader.number(name, math.inf, positive=True) for name in ("up_mbps", "down_mbps")}
    return Group(
        name=reader.text("name", device),
        device=device,
        processor=reader.text("processor", device),
        count=reader.whole("count", 1, least=1) or 1,
        samples=reader.samples(),
        **{name: value or 0.0 for name, value in (numbers | links).items()},
        memory_bytes=reader.size("memory"),
        energy_budget_j=reader.number("energy_budget_j", None),
        rounds_left_out=reader.whole("rounds_left_out", 0, least=0) or 0,
    )


def _settings(table: Mapping[str, Any], where: str) -> PlannerSettings:
    """The planner's settings: keys are the fields of :class:`PlannerSettings`, values of the same kinds."""
    reader = _Reader(table, where, tuple(one.name for one in fields(PlannerSettings)))
    values: dict[str, Any] = {}
    for one in (one for one in fields(PlannerSettings) if one.name in table):
        value = table[one.name]
        fits, what = _KINDS[str(one.type).removesuffix(" | None")]
        if not fits(value):
            raise reader.error(one.name, f"must be {what}", value)
        values[one.name] = tuple(value) if isinstance(value, list) else value
    try:
        return PlannerSettings(**values)
    except ValueError as error:
        raise DevprofError(f"{where}: {error}") from error


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# What TOML must give for each kind of setting, and how that is called.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (_is_whole, "a whole number"),
    "float": (lambda value: _is_whole(value) or isinstance(value, float), "a number"),
    "tuple[int, ...]": (
        lambda value: isinstance(value, list) and all(map(_is_whole, value)),
        "a list of whole numbers",
    ),
}
