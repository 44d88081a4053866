"""What parent and child of a measurement say to each other: one JSON request, then one JSON object per line back.

The child answers on a pipe of its own, because models print to stdout. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from devprof.measure.runspans import RunSpans
from devprof.records import Status, Workload

__all__ = [
    "ENOUGH",
    "GO",
    "Edge",
    "Event",
    "Failed",
    "Finished",
    "MemoryPeaks",
    "Ready",
    "Request",
    "WindowCounts",
    "decode_event",
    "encode",
]


@dataclass(frozen=True, slots=True)
class Request:
    """What a child is to measure, and for how long.

    Attributes:
        workload: The configuration.
        processor: ``cpu`` or ``cuda``.
        threads: Intra-operator threads.
        min_time_s: Timed window at the least.
        min_steps: Timed steps at the least.
        phase_steps: Steps of the separate pass that stamps data loading, forward, backward and optimizer; ``None`` for a few.
        stop_after_s: Seconds from the start after which no new step begins once the least number of steps is done.
        affinity: CPUs to which the child is bound; ``None`` leaves it as it is.
        metered: Whether the parent reads a meter: then the child says when its window and its idle times begin and end, and
            asks whether the window is long enough.
        idle_s: Seconds of doing nothing before the first step and after the last, for the power of the loaded process.
        max_window_s: The longest timed window when the meter asks for more.
        sync_s: Length of each part of the pattern before and after the timed window; 0 shows none.
    """

    workload: Workload
    processor: str
    threads: int
    min_time_s: float
    min_steps: int
    phase_steps: int | None
    stop_after_s: float
    affinity: tuple[int, ...] | None = None
    metered: bool = False
    idle_s: float = 0.0
    max_window_s: float = 0.0
    sync_s: float = 0.0

    @classmethod
    def from_json(cls, text: str) -> Request:
        """The request that :func:`encode` wrote."""
        values = json.loads(text)
        return cls(**values | {"workload": Workload(**values["workload"])})


@dataclass(frozen=True, slots=True)
class Ready:
    """The model stands, the first step is about to begin.

    Attributes:
        startup_s: From the start of the process to here.
        rss_baseline_bytes: Resident memory after importing torch.
        rss_model_bytes: After building the model.
        rss_optimizer_bytes: After making the optimizer and the first batch.
        rss_build_peak_bytes: The peak of all that.
        pss_start_bytes: Proportional share here: pages that other processes use too count in part.
        parameters: All of the model's.
        trainable_parameters: Those that are trained.
        image_size: Height and width of the input, where it is an image.
        num_classes: Outputs of the classifier, where the model has one.
        interop_threads: torch's threads between operators.
        affinity: CPUs that the process may use.
        versions: Versions and build facts of what runs here.
    """

    startup_s: float
    rss_baseline_bytes: int | None
    rss_model_bytes: int | None
    rss_optimizer_bytes: int | None
    rss_build_peak_bytes: int | None
    pss_start_bytes: int | None
    parameters: int
    trainable_parameters: int
    image_size: int | None
    num_classes: int | None
    interop_threads: int
    affinity: list[int]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Finished:
    """All raw times of a finished run, in nanoseconds, and what the system counted meanwhile.

    Attributes:
        warmup_ns: Steps before the timed window, the very first included.
        step_ns: Steps of the timed window.
        phase_ns: (data, forward, backward, optimizer) per step of the separate pass.
        warmup_capped: Whether warm-up ended by its cap, while step times still moved.
        threads_changed: Whether the model or its libraries changed torch's number of threads.
        memory: Peaks and shares; see :class:`MemoryPeaks`.
        window: What happened to the process and the machine during the timed window.
        spans: When the parts of the run were.
    """

    warmup_ns: list[int]
    step_ns: list[int]
    phase_ns: list[list[int]]
    warmup_capped: bool
    threads_changed: bool
    memory: MemoryPeaks
    window: WindowCounts
    spans: RunSpans = field(default_factory=RunSpans)


@dataclass(frozen=True, slots=True)
class MemoryPeaks:
    """Peaks of memory in bytes; ``None`` where the system does not say.

    Attributes:
        reset: Whether the kernel reset the high-water mark; if not, peaks include building the model.
        rss_first_step_bytes: Peak of the very first step, which allocates and tunes.
        rss_steady_bytes: Peak of all later steps.
        pss_end_bytes: Proportional share after the last step.
        accelerator_reserved_bytes: The most that the CUDA allocator held.
        accelerator_allocated_bytes: The most of it that tensors used.
        accelerator_context_bytes: What the CUDA context took, outside the allocator.
        unified: Whether accelerator and host share one memory (Jetson).
    """

    reset: bool
    rss_first_step_bytes: int | None = None
    rss_steady_bytes: int | None = None
    pss_end_bytes: int | None = None
    accelerator_reserved_bytes: int | None = None
    accelerator_allocated_bytes: int | None = None
    accelerator_context_bytes: int | None = None
    unified: bool = False


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """Differences of counters over the timed window; ``None`` where the system does not count.

    Attributes:
        swapped_in_bytes: Read back from swap by the whole machine: such step times are not the device's.
        major_faults: Page faults of this process that had to read a file or swap.
        involuntary_switches: How often the scheduler took a CPU from this process.
        other_cpu_share: Share of the machine's CPU time that went to other programs and the hypervisor.
    """

    swapped_in_bytes: int | None = None
    major_faults: int | None = None
    involuntary_switches: int | None = None
    other_cpu_share: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The child knows why it cannot go on."""

    status: Status
    error: str


@dataclass(frozen=True, slots=True)
class Edge:
    """A moment at which the meter matters.

    Attributes:
        kind: ``read``: read the meter now, the child waits; ``check``: is the window that began at ``begin_ns`` long enough
            by ``t_ns``? The child goes on meanwhile.
        t_ns: The system's monotonic clock.
        begin_ns: Begin of the window that is asked about.
    """

    kind: str
    t_ns: int
    begin_ns: int | None = None


Event = Ready | Finished | Failed | Edge
_EVENTS: dict[str, type] = {"ready": Ready, "finished": Finished, "failed": Failed, "edge": Edge}
GO = "go"
"""The parent's answer to an edge ``read``: the meter was read."""
ENOUGH = "enough"
"""The parent's answer to an edge ``check``, once the window is long enough."""


def encode(message: Request | Event) -> str:
    """One line of JSON, without the line's end."""
    values: dict[str, Any] = dataclasses.asdict(message)
    if not isinstance(message, Request):
        values["event"] = type(message).__name__.lower()
    return json.dumps(values)


def decode_event(line: str) -> Event | None:
    """The event in a line; ``None`` for a line that a dying child left incomplete."""
    try:
        values = json.loads(line)
        kind = _EVENTS[values.pop("event")]
        if kind is Finished:
            values |= {"memory": MemoryPeaks(**values["memory"]), "window": WindowCounts(**values["window"])}
            values["spans"] = RunSpans(**values.get("spans", {}))
        event: Event = kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return event
