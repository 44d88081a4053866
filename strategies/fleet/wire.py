"""What the ServerApp and a node say to each other. Either side validates what it reads: a node may be broken or hostile.

A message is ``query.status`` or ``train.measure`` with a ConfigRecord ``config``. A reply has the ConfigRecords ``status`` and,
to ``train.measure``, ``devprof-fleet``, and the measured tables as an ArrayRecord ``tables`` (:mod:`strategies.fleet.tables`).
Keys are the fields of the classes here in kebab-case; what is not known is absent.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from flwr.app import ConfigRecord, RecordDict

from devprof.errors import DevprofError

__all__ = [
    "JOB",
    "MEASURE",
    "QUERY",
    "REPORT",
    "STATUS",
    "FleetError",
    "Job",
    "NodeStatus",
    "Outcome",
    "Report",
    "clean",
    "from_content",
    "to_record",
]

QUERY = "query.status"
MEASURE = "train.measure"
JOB = "config"
STATUS = "status"
REPORT = "devprof-fleet"

Outcome = Literal["done", "refused", "timeout", "crashed", "error"]
Record = TypeVar("Record")

_MOST_CHARACTERS = 1 << 20
_MOST_ENTRIES = 1 << 20
_MOST_SHOWN = 300
_MOST_FACTS = 1 << 16
_LARGEST = 1 << 62
_LONGEST_NAME = 200
_NAMES = (
    *("device", "device_key", "device_id", "processor", "power_mode", "throttled"),
    *("devprof_version", "python_version", "torch_version", "flwr_version"),
)


class FleetError(DevprofError):
    """What a node sent cannot be used; the text says which part and why."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a node is to do.

    Attributes:
        budget_s: Seconds from the arrival of the message after which the node stops and sends what it has.
        measure_options: Words of ``devprof measure``'s command line, without models, suite, device and output.
        calibrate_options: Likewise of ``devprof calibrate``.
        models: Models to measure.
        suite: Name of a suite to measure instead.
        suite_toml: The suite's text, where it is the operator's own file.
        configurations: Keys of the configurations whose rows are sent back.
        repeats: Rows per configuration.
        calibration_s: Seconds of a calibration before; ``None`` for none.
    """

    budget_s: float
    measure_options: tuple[str, ...] = ()
    calibrate_options: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    suite: str | None = None
    suite_toml: str | None = None
    configurations: tuple[str, ...] = ()
    repeats: int = 1
    calibration_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be done."""
        if not self.budget_s > 0:
            raise FleetError(f"budget-s must be positive, got {self.budget_s}")


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a node says of itself.

    Attributes:
        device: Name of the device in rows.
        device_key: Its key; see :func:`devprof.device.identity.identify`.
        processor: ``cpu`` or ``cuda``.
        threads: Training threads.
        devprof_version: Version of devprof there.
        python_version: Version of Python there.
        device_id: The stable id that its operator gave it in the node config.
        refusal: Why it would not measure; ``None`` if it would.
        power_mode: The board's named power mode.
        memory_bytes: Memory of the board.
        free_memory_bytes: Of which so much is free.
        temperature_c: The hottest thermal zone.
        frequency_hz: The fastest cluster's frequency.
        throttled: ``none``, ``suspected`` or ``confirmed``; ``None`` where nothing could tell.
        throttle_reasons: Why, in short clauses.
        torch_version: Version of torch there.
        flwr_version: Version of Flower there.
        extras: Extras of devprof that are installed.
        facts: All facts of the fingerprint, a JSON object of texts.
    """

    device: str
    device_key: str
    processor: str
    threads: int
    devprof_version: str
    python_version: str
    device_id: str | None = None
    refusal: str | None = None
    power_mode: str | None = None
    memory_bytes: int | None = None
    free_memory_bytes: int | None = None
    temperature_c: float | None = None
    frequency_hz: float | None = None
    throttled: str | None = None
    throttle_reasons: tuple[str, ...] = ()
    torch_version: str | None = None
    flwr_version: str | None = None
    extras: tuple[str, ...] = ()
    facts: str = "{}"

    def __post_init__(self) -> None:
        """Refuse names that are none, and facts that are none."""
        for name in _NAMES:
            value = getattr(self, name)
            if value is not None and not (0 < len(value) <= _LONGEST_NAME and value.isprintable()):
                raise FleetError(f"{_key(name)} must be a printable name of 1 to {_LONGEST_NAME} characters")
        facts = _loads(self.facts) if len(self.facts) <= _MOST_FACTS else None
        if not isinstance(facts, dict) or not all(isinstance(value, str) for value in facts.values()):
            raise FleetError(f"facts must be a JSON object of texts, of at most {_MOST_FACTS} characters")


@dataclass(frozen=True, slots=True)
class Report:
    """What a node did of its job.

    Attributes:
        outcome: How measuring ended: ``done``; ``timeout`` if the budget ended it; else why it could not be done.
        seconds: From the arrival of the message to the reply.
        message: What did not go well; ``None`` if all did.
        output: The end of what the commands printed.
    """

    outcome: Outcome
    seconds: float
    message: str | None = None
    output: str | None = None

    def left_out(self) -> dict[str, str]:
        """Models that the node's devprof left out, and why it said so."""
        lines = [line.strip() for line in (self.output or "").splitlines()]
        pairs = [line.removeprefix("left out ").partition(": ") for line in lines if line.startswith("left out ")]
        return {model: reason for model, _, reason in pairs if reason}


def to_record(record: Job | NodeStatus | Report) -> ConfigRecord:
    """The wire form; what is not known or empty is absent."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if value is not None and value not in {(), ""}:
            values[_key(field.name)] = list(value) if isinstance(value, tuple) else value
    return ConfigRecord(values)


def from_content(content: RecordDict, name: str, kind: type[Record]) -> Record:
    """A record of a message's content.

    Args:
        content: The message's content.
        name: Of the ConfigRecord.
        kind: The class of this module that it holds.

    Raises:
        FleetError: If it is missing, or a value is missing, of the wrong type, too long or not finite. Unknown keys, as a newer
            devprof may send, are passed over.
    """
    record = content.config_records.get(name)
    if record is None:
        raise FleetError(f"the ConfigRecord {name!r} is missing")
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(typing.cast("Any", kind)):
        key = _key(field.name)
        if key in record:
            values[field.name] = _checked(key, record[key], hints[field.name])
        elif field.default is dataclasses.MISSING:
            raise FleetError(f"{name!r} has no {key}")
    return kind(**values)


def _key(name: str) -> str:
    return name.replace("_", "-")


def _checked(key: str, value: object, hint: Any) -> object:
    kinds = [part for part in typing.get_args(hint) if part is not types.NoneType] if _is_union(hint) else [hint]
    kind = kinds[0]
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise FleetError(f"{key} must be one of {', '.join(typing.get_args(kind))}")
        return value
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list) or len(value) > _MOST_ENTRIES:
            raise FleetError(f"{key} must be a list of texts")
        return tuple(_text(key, entry) for entry in value)
    if kind is str:
        return _text(key, value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (kind is float and isinstance(value, float)):
        raise FleetError(f"{key} must be a {'whole ' if kind is int else ''}number")
    assert isinstance(value, (int, float))
    # Not a number fails the comparison, and so does infinity.
    if not -_LARGEST < value < _LARGEST:
        raise FleetError(f"{key} must be a finite number")
    return kind(value)


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _MOST_CHARACTERS:
        raise FleetError(f"{key} must be a text of at most {_MOST_CHARACTERS} characters")
    return value


def _loads(text: str) -> object:
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FleetError(f"a text is not JSON: {error}") from error
    return parsed


def clean(text: str, most: int = _MOST_SHOWN) -> str:
    """A text from a node as a person may see it: one line, no control characters, not too long."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
