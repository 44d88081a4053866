"""The app's task: a model of the catalogue on a data set, trained by THE training step.

The catalogue and the step are those of ``devprof measure``, so what it measures of a model is what a client does here. Needs
torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import nn

from datasets_meta import DatasetMeta
from devprof.errors import DevprofError
from devprof.records import Mode, Workload
from devprof.workloads.catalogue import build
from devprof.workloads.seeds import SEEDS
from devprof.workloads.trainable import Trainable
from devprof.workloads.training import inference_step, make_optimizer, training_step
from strategies.app.batches import Preparation, evaluation_batches, training_batches
from strategies.app.config import DataConfig, TrainConfig
from strategies.app.data import Samples
from strategies.client import Budget

__all__ = ["IMAGE_SIZE", "MODEL", "Task", "evaluate", "make_task", "train", "workload"]

# What a client of the digits trains, which is what ``devprof demo`` measures.
MODEL = "seed:net"
IMAGE_SIZE = 8

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Task:
    """A model, and how images become its input."""

    model: nn.Module
    preparation: Preparation
    loss_fn: Loss

    @property
    def device(self) -> torch.device:
        """Where the model is, and batches are brought to."""
        return next(self.model.parameters()).device

    def arrays(self) -> ArrayRecord:
        """The model's present weights and buffers."""
        return ArrayRecord(self.model.state_dict())

    def load(self, arrays: ArrayRecord) -> None:
        """Take over weights and buffers; those of another model are a ``RuntimeError`` of torch."""
        self.model.load_state_dict(arrays.to_torch_state_dict())


def workload(training: TrainConfig, meta: DatasetMeta) -> Workload:
    """What a client's step is to ``devprof measure`` and to a cost model."""
    model = training.model_for(meta)
    seed = SEEDS.get(model)
    takes_images = seed is None or seed.takes_images
    return Workload(
        model=model,
        mode=cast("Mode", training.mode),
        batch_size=training.batch_size,
        image_size=(training.image_size or meta.input_shape[-1]) if takes_images else None,
        num_classes=meta.num_classes,
        optimizer=training.optimizer,
    )


def make_task(data: DataConfig, training: TrainConfig, device: str = "cpu") -> Task:
    """The configured model with a reproducible initialisation; the global random state stays as it was.

    Args:
        data: Says shape and number of classes, and the seed.
        training: Says the model.
        device: Where it is trained, as torch names it.

    Raises:
        DevprofError: If torch has no such device here.
        WorkloadError: If the model cannot be built, or cannot take the data's images.
        UnknownNameError: If there is no such model; carries the closest names.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        trainable: Trainable = build(workload(training, data.meta))
    try:
        trainable.model.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise DevprofError(f"torch cannot train on the device {device!r} here: {reason}") from error
    return Task(trainable.model, Preparation(data.meta, trainable.input_shape), trainable.loss_fn)


def train(
    task: Task,
    samples: Samples,
    budget: Budget,
    training: TrainConfig,
    *,
    seed: int,
    learning_rate_scale: float = 1.0,
) -> float:
    """Train within a budget.

    A network with batch normalisation cannot train on one sample, whose batch has no variance: such a last batch is dropped,
    and where a client has no other the statistics stay as they came.

    Args:
        task: Its model is changed in place.
        samples: The client's own.
        budget: Says how many passes and steps, and stops at a batch boundary.
        training: Batch size, optimizer and loss.
        seed: Of the order of samples and of augmentation.
        learning_rate_scale: Factor on the learning rate.

    Returns:
        Mean loss over the steps done, without the proximal term.
    """
    model = task.model
    model.train()
    optimizer = _optimizer(model, training, learning_rate_scale)
    normalised = _batch_norms(model)
    losses: list[torch.Tensor] = []
    loss_fn = _proximal(_kept(task.loss_fn, losses), model, training.proximal_mu)
    generator = np.random.default_rng(seed)
    for _ in range(budget.local_epochs):
        passes = training_batches(
            samples,
            training.batch_size,
            generator,
            task.preparation,
            augment=training.augment and task.preparation.meta.augmentation is not None,
            keep_single=not normalised,
        )
        for inputs, targets in budget.limit(passes):
            with _statistics_kept(normalised if len(targets) == 1 else []):
                training_step(model, optimizer, loss_fn, inputs.to(task.device), targets.to(task.device))
            if task.device.type == "cuda":
                # The budget's clock counts what is done, not what is queued.
                torch.cuda.synchronize(task.device)
    return float(torch.stack(losses).double().mean()) if losses else 0.0


def evaluate(task: Task, samples: Samples) -> tuple[float, float]:
    """Accuracy and mean cross-entropy on samples, batch by batch."""
    task.model.eval()
    correct, loss = 0, 0.0
    for inputs, targets in evaluation_batches(samples, task.preparation):
        logits = inference_step(task.model, inputs.to(task.device)).cpu()
        correct += int((logits.argmax(dim=1) == targets).sum())
        loss += float(nn.functional.cross_entropy(logits, targets, reduction="sum"))
    return correct / len(samples), loss / len(samples)


def _optimizer(model: nn.Module, training: TrainConfig, scale: float) -> torch.optim.Optimizer:
    optimizer = make_optimizer(training.optimizer, model, training.learning_rate * scale)
    for group in optimizer.param_groups:
        group["weight_decay"] = training.weight_decay
        if "momentum" in group:
            group["momentum"] = training.momentum
    return optimizer


def _kept(loss_fn: Loss, losses: list[torch.Tensor]) -> Loss:
    """The loss, which also goes into a list."""

    def kept(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = loss_fn(outputs, targets)
        losses.append(loss.detach())
        return loss

    return kept


def _proximal(loss_fn: Loss, model: nn.Module, mu: float) -> Loss:
    """The loss plus ``mu/2 ||w - w0||^2`` over what is trained, w0 being the present weights (FedProx)."""
    if mu <= 0:
        return loss_fn
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    start = [parameter.detach().clone() for parameter in weights]

    def proximal(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        distance = torch.stack([(now - then).square().sum() for now, then in zip(weights, start, strict=True)]).sum()
        return loss_fn(outputs, targets) + mu / 2 * distance

    return proximal


def _batch_norms(model: nn.Module) -> list[nn.Module]:
    """The layers that compute statistics over a batch."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 - no public base class


@contextmanager
def _statistics_kept(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Inside the block these layers normalise by the statistics that they came with."""
    switched = [layer for layer in layers if layer.training]
    for layer in switched:
        layer.eval()
    try:
        yield
    finally:
        for layer in switched:
            layer.train()
