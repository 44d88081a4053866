"""What parent and child of a measurement say to each other: one JSON request, then one JSON object per line back.

The child answers on a pipe of its own, because models print to stdout. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from devprof.records import Status, Workload

__all__ = ["Failed", "Finished", "Ready", "Request", "decode_event", "encode"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a child is to measure, and for how long.

    Attributes:
        workload: The configuration.
        processor: ``cpu`` or ``cuda``.
        threads: Intra-operator threads.
        min_time_s: Timed window at the least.
        min_steps: Timed steps at the least.
        stop_after_s: Seconds from the start after which no new step begins once the least number of steps is done.
    """

    workload: Workload
    processor: str
    threads: int
    min_time_s: float
    min_steps: int
    stop_after_s: float

    @classmethod
    def from_json(cls, text: str) -> Request:
        """The request that :func:`encode` wrote."""
        values = json.loads(text)
        return cls(**values | {"workload": Workload(**values["workload"])})


@dataclass(frozen=True, slots=True)
class Ready:
    """The model stands, the first step is about to begin."""

    startup_s: float
    rss_baseline_bytes: int | None
    parameters: int
    trainable_parameters: int
    image_size: int | None
    num_classes: int
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Finished:
    """All raw times of a finished run, in nanoseconds; ``phase_ns`` holds (forward, backward, optimizer) per step."""

    warmup_ns: list[int]
    step_ns: list[int]
    phase_ns: list[list[int]] = field(default_factory=list)
    data_ns: int = 0
    rss_peak_bytes: int | None = None
    peak_reset: bool = False
    accelerator_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The child knows why it cannot go on."""

    status: Status
    error: str


_EVENTS: dict[str, type] = {"ready": Ready, "finished": Finished, "failed": Failed}


def encode(message: Request | Ready | Finished | Failed) -> str:
    """One line of JSON, without the line's end."""
    values: dict[str, Any] = dataclasses.asdict(message)
    if not isinstance(message, Request):
        values["event"] = type(message).__name__.lower()
    return json.dumps(values)


def decode_event(line: str) -> Ready | Finished | Failed | None:
    """The event in a line; ``None`` for a line that a dying child left incomplete."""
    try:
        values = json.loads(line)
        event: Ready | Finished | Failed = _EVENTS[values.pop("event")](**values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return event
