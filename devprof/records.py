"""The records that travel between the parts of devprof. Layer 0: standard library only.

Frozen and inert: a record holds what was asked, measured, predicted or planned, in SI units with the unit in the name.
What was not measured is ``None``, never 0 and never a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = [
    "MODES",
    "STATUSES",
    "TASKS",
    "ClientPlan",
    "Device",
    "Estimate",
    "Evaluation",
    "Link",
    "Measurement",
    "Mode",
    "PowerSample",
    "Prediction",
    "RoundLog",
    "RoundPlan",
    "Status",
    "StepTime",
    "Task",
    "Workload",
]

Mode = Literal["full", "head"]
Task = Literal["train", "infer"]
Status = Literal["ok", "oom", "killed", "crashed", "timeout", "error"]

MODES: tuple[Mode, ...] = get_args(Mode)
TASKS: tuple[Task, ...] = get_args(Task)
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Device:
    """A device as it trains: hardware plus everything that changes its speed for good.

    Attributes:
        name: What the user calls the board; by default what the fingerprint says.
        key: Hash of board, power mode, torch build and threads; rows with one key may be compared.
        processor: What a cut-off is set for: ``cpu``, ``cuda``, or finer, such as ``jetson-orin-gpu@15W``.
        power_mode: The board's named power mode, or ``None`` where it has none.
        threads: Intra-operator threads of the training process.
        facts: What is known about the board, as (name, value) pairs in a fixed order.
    """

    name: str
    key: str
    processor: str
    power_mode: str | None
    threads: int
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """One configuration to measure or predict: a model, what is trained of it, and on what input.

    Attributes:
        model: ``NAME`` (timm), ``torchvision:NAME``, ``fastervit:NAME``, ``seed:NAME`` or ``module.path:factory``.
        mode: ``full`` trains every parameter, ``head`` the classifier only.
        batch_size: Samples per step.
        image_size: Height and width of the input; ``None`` for models with an input of their own.
        num_classes: Outputs of the classifier; ``None`` for the model's own number.
        task: ``train`` or ``infer``.
        optimizer: ``sgd`` (with momentum 0.9) or ``adam``.
        precision: ``fp32``.
        memory_format: ``nchw`` or ``nhwc`` (torch's channels-last).
        data: ``memory`` (generated once, no loader in the step).
    """

    model: str
    mode: Mode = "full"
    batch_size: int = 16
    image_size: int | None = None
    num_classes: int | None = None
    task: Task = "train"
    optimizer: str = "sgd"
    precision: str = "fp32"
    memory_format: str = "nchw"
    data: str = "memory"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {self.mode!r}")
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {TASKS}, got {self.task!r}")


@dataclass(frozen=True, slots=True)
class StepTime:
    """One raw step of a run: nanoseconds of the monotonic clock, by phase where the pass recorded phases.

    Attributes:
        run_id: The run this step belongs to.
        index: Position in the run, from 0, warm-up included.
        kind: ``warmup``, ``measured`` or ``phases`` (the separate pass that stamps the phases).
        step_ns: The whole step.
        forward_ns: Forward pass and loss.
        backward_ns: Backward pass.
        optimizer_ns: Optimizer step and clearing of gradients.
    """

    run_id: str
    index: int
    kind: Literal["warmup", "measured", "phases"]
    step_ns: int
    forward_ns: int | None = None
    backward_ns: int | None = None
    optimizer_ns: int | None = None


@dataclass(frozen=True, slots=True)
class PowerSample:
    """One raw reading of a power source during a run: a row of the table ``power``.

    Attributes:
        run_id: The run it belongs to.
        t_ns: Monotonic clock of the reading.
        source: The meter, such as ``rapl`` or ``ina3221``.
        domain: The rail or zone that was read.
        power_w: Watts, for a sensor.
        energy_j: Cumulative joules, for a counter.
    """

    run_id: str
    t_ns: int
    source: str
    domain: str
    power_w: float | None = None
    energy_j: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One finished run: a row of the table ``runs``. The fields are the columns; see ``docs/measuring.md`` for each.

    ``step_s`` is the median of the measured steps. A run that failed has its ``status`` and ``error`` and nulls.
    """

    run_id: str
    started_utc: str
    devprof_version: str
    device: str
    device_key: str
    processor: str
    model: str
    task: str
    mode: str
    status: str
    batch_size: int
    power_mode: str | None = None
    threads: int | None = None
    suite: str | None = None
    configuration: str | None = None
    optimizer: str | None = None
    precision: str | None = None
    memory_format: str | None = None
    image_size: int | None = None
    num_classes: int | None = None
    data: str | None = None
    error: str | None = None
    repeat: int | None = None
    warmup_steps: int | None = None
    steps: int | None = None
    step_s: float | None = None
    step_s_mean: float | None = None
    step_s_p05: float | None = None
    step_s_p95: float | None = None
    step_s_mad: float | None = None
    step_s_ci_low: float | None = None
    step_s_ci_high: float | None = None
    steady: bool | None = None
    throttled: str | None = None
    forward_s: float | None = None
    backward_s: float | None = None
    optimizer_s: float | None = None
    data_s: float | None = None
    startup_s: float | None = None
    rss_baseline_bytes: int | None = None
    rss_peak_bytes: int | None = None
    accelerator_peak_bytes: int | None = None
    energy_source: str | None = None
    energy_j: float | None = None
    energy_per_step_j: float | None = None
    energy_error_rel: float | None = None
    power_w: float | None = None
    idle_power_w: float | None = None
    power_coverage: float | None = None
    temp_start_c: float | None = None
    temp_end_c: float | None = None
    parameters: int | None = None
    trainable_parameters: int | None = None
    duration_s: float | None = None
    versions: str | None = None
    facts: str | None = None
    warnings: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A client's network link, as its own side sees it.

    Attributes:
        up_mbps: Upload in megabits (10^6 bits) per second.
        down_mbps: Download in megabits per second.
        latency_s: Time added to each transfer.
    """

    up_mbps: float
    down_mbps: float
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        if not (self.up_mbps > 0 and self.down_mbps > 0 and self.latency_s >= 0):
            raise ValueError(f"a link needs positive rates and a latency of at least 0, got {self}")

    def upload_s(self, size_bytes: float) -> float:
        """Seconds to send ``size_bytes`` to the server."""
        return self.latency_s + size_bytes * 8e-6 / self.up_mbps

    def download_s(self, size_bytes: float) -> float:
        """Seconds to receive ``size_bytes`` from the server."""
        return self.latency_s + size_bytes * 8e-6 / self.down_mbps


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a workload is predicted to cost on a device.

    Attributes:
        step_s: Seconds per training step, the centre of the interval.
        step_s_lo: Lower bound of the 90 % interval.
        step_s_hi: Upper bound of the 90 % interval.
        basis: What the interval stands on: ``measured`` (this very configuration), ``known-pair``, ``known-family``,
            ``new-family`` or ``observed``.
        memory_bytes: Peak memory of the training process.
        memory_hi_bytes: Upper bound of the peak, which decides ``fits``.
        fits: Whether the upper bound fits the device's memory; ``None`` where either is unknown.
        energy_per_step_j: Joules per step; ``None`` without energy measurements.
    """

    step_s: float
    step_s_lo: float
    step_s_hi: float
    basis: str
    memory_bytes: float | None = None
    memory_hi_bytes: float | None = None
    fits: bool | None = None
    energy_per_step_j: float | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """An estimate beside what was then measured: one point of the figure that shows how good the model is."""

    device: str
    model: str
    mode: str
    batch_size: int
    step_s: float
    step_s_lo: float
    step_s_hi: float
    basis: str
    measured_step_s: float | None = None
    measured_rss_peak_bytes: int | None = None
    memory_bytes: float | None = None
    memory_hi_bytes: float | None = None

    @classmethod
    def beside(cls, estimate: Estimate, run: Measurement) -> Prediction:
        """An estimate beside the run that shows whether it was right."""
        return cls(
            device=run.device,
            model=run.model,
            mode=run.mode,
            batch_size=run.batch_size,
            step_s=estimate.step_s,
            step_s_lo=estimate.step_s_lo,
            step_s_hi=estimate.step_s_hi,
            basis=estimate.basis,
            measured_step_s=run.step_s,
            measured_rss_peak_bytes=run.rss_peak_bytes,
            memory_bytes=estimate.memory_bytes,
            memory_hi_bytes=estimate.memory_hi_bytes,
        )


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """What one client is asked to do in a round.

    Attributes:
        client: The client's stable name (not Flower's node id, which may change at each start).
        participates: Whether it is asked at all.
        reason: Why it is left out or cut down; empty when it simply does all its work.
        local_epochs: Passes over its data that the steps stand for, rounded up.
        local_steps: Optimizer steps to do at the most.
        batch_size: Samples per step.
        cutoff_s: The client's own limit: from receiving the message to the end of training.
        learning_rate_scale: Factor on the configured learning rate.
        predicted_s: Predicted seconds of its whole part of the round, transfers included.
        predicted_hi_s: The same at the upper end of the interval.
    """

    client: str
    participates: bool
    reason: str
    local_epochs: int
    local_steps: int
    batch_size: int
    cutoff_s: float
    learning_rate_scale: float
    predicted_s: float
    predicted_hi_s: float


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """A round's plan: the server's deadline and each client's part."""

    server_round: int
    deadline_s: float
    clients: tuple[ClientPlan, ...]


@dataclass(frozen=True, slots=True)
class RoundLog:
    """What was planned for one client in one round, and what happened: a row of the table ``rounds``.

    Times count from the start of the run on one clock, virtual or the server's monotonic one.

    Attributes:
        strategy: Name of the strategy under which the round ran.
        server_round: Round number from 1.
        client: The client's stable name.
        device: Name of its device.
        processor: What its cut-off is set for.
        outcome: ``used``, ``partial`` (used, cut short), ``late`` (arrived too late), ``error``, ``missing`` or ``rejected``.
        detail: The reason, where there is one.
        sent_s: When the server sent the message.
        finished_s: When its reply reached the server; ``None`` if it never did.
        round_end_s: When the server closed the round.
        download_s: Time of the download.
        startup_s: Time from receipt to the first step.
        train_s: Time of the steps.
        upload_s: Time of the upload.
        local_steps: Steps planned.
        steps_done: Steps done, as the client says.
        examples_done: Samples trained on, as the client says.
        batch_size: Samples per step.
        cutoff_s: The client's own limit; ``None`` without one.
        deadline_s: The server's deadline for it, counted from ``sent_s``; ``None`` without one.
        predicted_s: Predicted seconds of its part; ``None`` without a prediction.
    """

    strategy: str
    server_round: int
    client: str
    device: str | None
    processor: str | None
    outcome: str
    detail: str | None
    sent_s: float
    finished_s: float | None
    round_end_s: float
    download_s: float | None = None
    startup_s: float | None = None
    train_s: float | None = None
    upload_s: float | None = None
    local_steps: int | None = None
    steps_done: int | None = None
    examples_done: int | None = None
    batch_size: int | None = None
    cutoff_s: float | None = None
    deadline_s: float | None = None
    predicted_s: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The global model's quality at a moment of a run: a row of the table ``evaluations``."""

    strategy: str
    server_round: int
    time_s: float
    accuracy: float
    loss: float | None = None
