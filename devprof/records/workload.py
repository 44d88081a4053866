"""What is measured or predicted: a device and a workload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["MODES", "STATUSES", "TASKS", "Device", "Mode", "Status", "Task", "Workload"]

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
        data: ``memory`` (one batch, generated once, no loader in the step), ``jpeg`` (generated JPEG files, read, decoded and
            augmented by a single-process loader in every step) or ``own`` (a factory's own data set, loaded in every step).
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
