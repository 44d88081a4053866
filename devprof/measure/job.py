"""In the child: the model, its optimizer and its data, as one callable per step.

Imports torch (inside functions); only the measuring child may load it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devprof.device.memory import current_rss_bytes

if TYPE_CHECKING:
    from devprof.records import Workload
    from devprof.workloads.catalogue import Trainable

__all__ = ["Job", "make_job"]

Step = Callable[[], None]
Phased = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What a run repeats.

    Attributes:
        trainable: The model and what is known about it.
        step: One whole step, as it is timed.
        phased: The same step, calling its argument at the ends of data loading, forward, backward and optimizer; an inference
            has none.
        rss_model_bytes: Resident memory when the model stood, before the optimizer and the first batch.
    """

    trainable: Trainable
    step: Step
    phased: Phased | None
    rss_model_bytes: int | None


def make_job(workload: Workload, processor: str) -> Job:
    """Build a workload's model, optimizer and first batch on a processor.

    Raises:
        DevprofError: If the model, its data or its optimizer cannot be made; the text says why.
    """
    import torch

    from devprof.workloads.batches import batches
    from devprof.workloads.catalogue import build

    trainable = build(workload, device=processor)
    if workload.memory_format == "nhwc":
        trainable.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rss_model = current_rss_bytes()
    source = batches(trainable, workload)
    # The first batch belongs to start-up: making it costs memory and time that no later step costs.
    data = itertools.chain([next(source)], source)
    if workload.task == "infer":
        trainable.model.eval()
        return Job(trainable, _inference(trainable.model, data), None, rss_model)
    step, phased = _training(trainable, workload.optimizer, data)
    return Job(trainable, step, phased, rss_model)


def _inference(model: Any, data: Iterator[Any]) -> Step:
    from devprof.workloads.training import inference_step

    def step() -> None:
        inference_step(model, next(data)[0])

    return step


def _training(trainable: Trainable, optimizer_name: str, data: Iterator[Any]) -> tuple[Step, Phased]:
    from devprof.workloads.training import make_optimizer, training_step

    model, loss_fn = trainable.model, trainable.loss_fn
    optimizer = make_optimizer(optimizer_name, model)

    def step() -> None:
        inputs, targets = next(data)
        training_step(model, optimizer, loss_fn, inputs, targets)

    def phased(mark: Callable[[], None]) -> None:
        inputs, targets = next(data)
        mark()
        training_step(model, optimizer, loss_fn, inputs, targets, mark=lambda _: mark())

    return step, phased
