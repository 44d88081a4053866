"""What parent and child of a calibration say to each other: one JSON request, then one JSON object per line back.

A request comes by standard input, because thousands of operators are more than a command line holds. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from devprof.measure.protocol import Failed
from devprof.records import Mode, OperatorStatus

__all__ = [
    "Begun",
    "Event",
    "OperatorCall",
    "Prepared",
    "TimeRequest",
    "Timed",
    "TraceRequest",
    "Traced",
    "decode_message",
    "encode_message",
    "operator_status",
]


@dataclass(frozen=True, slots=True)
class OperatorCall:
    """One operator to time, as a traced step calls it.

    Attributes:
        signature: See :mod:`devprof.costmodel.signature`.
        family: Its family.
        macs: Multiply-accumulates of one call.
        elements: Elements that one call reads and writes.
    """

    signature: str
    family: str
    macs: float
    elements: float


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """Which models' operators are wanted: of all modes and batch sizes of each model."""

    models: tuple[str, ...]
    modes: tuple[Mode, ...]
    batch_sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TimeRequest:
    """Which operators are to be timed, in this order.

    Attributes:
        operators: The operators.
        processor: ``cpu`` or ``cuda``.
        threads: Intra-operator threads.
        time_s: Seconds from the start of the child after which no operator begins.
        affinity: CPUs to which the child is bound; ``None`` leaves it as it is.
    """

    operators: tuple[OperatorCall, ...]
    processor: str
    threads: int
    time_s: float
    affinity: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Traced:
    """A model's operators, each once; or why it has none."""

    model: str
    operators: tuple[OperatorCall, ...]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The child is about to time the first operator."""

    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Begun:
    """The operator of this index begins: if nothing comes after this, it is what ended the child."""

    index: int


@dataclass(frozen=True, slots=True)
class Timed:
    """What became of the operator of this index; see :class:`~devprof.records.operator.OperatorTime`."""

    index: int
    status: OperatorStatus
    error: str | None = None
    seconds: float | None = None
    seconds_first: float | None = None
    faults: float | None = None
    calls: int | None = None


def operator_status(status: str) -> OperatorStatus:
    """What the end of a run or of a child means for the operator that it was at."""
    return "ok" if status == "ok" else "oom" if status == "oom" else "error"


Event = Traced | Prepared | Begun | Timed | Failed
_KINDS = {kind.__name__: kind for kind in (TraceRequest, TimeRequest, Traced, Prepared, Begun, Timed, Failed)}


def encode_message(message: TraceRequest | TimeRequest | Event) -> str:
    """One line of JSON, without the line's end."""
    return json.dumps({"message": type(message).__name__, **dataclasses.asdict(message)})


def decode_message(line: str) -> TraceRequest | TimeRequest | Event | None:
    """The message in a line; ``None`` for a line that a dying child left incomplete."""
    try:
        values: dict[str, Any] = json.loads(line)
        kind = _KINDS[values.pop("message")]
        if "operators" in values:
            values["operators"] = [OperatorCall(**operator) for operator in values["operators"]]
        # JSON has no tuples.
        fixed: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        message: TraceRequest | TimeRequest | Event = kind(**fixed)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return message
