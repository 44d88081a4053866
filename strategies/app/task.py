"""The app's task: Flower's small MNIST network on 8x8 digits, trained by THE training step.

The network is ``seed:net`` of the catalogue, so what ``devprof measure seed:net --image-size 8`` measures is what a client
does here. Needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import nn

from devprof.records import Workload
from devprof.workloads.catalogue import build
from devprof.workloads.training import inference_step, make_optimizer, training_step
from strategies.app.data import Samples
from strategies.client import Budget

__all__ = ["IMAGE_SIZE", "MODEL", "batches", "evaluate", "initial_arrays", "make_model", "train"]

MODEL = "seed:net"
IMAGE_SIZE = 8

Batch = tuple[torch.Tensor, torch.Tensor]


def make_model(seed: int = 0) -> nn.Module:
    """The network with a reproducible initialisation; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(Workload(model=MODEL, image_size=IMAGE_SIZE, num_classes=10)).model


def initial_arrays(seed: int) -> ArrayRecord:
    """The weights every run starts from."""
    return ArrayRecord(make_model(seed).state_dict())


def batches(samples: Samples, batch_size: int, generator: np.random.Generator) -> Iterator[Batch]:
    """One pass over the samples in random order; the last batch may be smaller."""
    order = generator.permutation(len(samples))
    for start in range(0, len(order), batch_size):
        chosen = samples.take(order[start : start + batch_size])
        yield torch.from_numpy(chosen.images), torch.from_numpy(chosen.labels)


def train(
    model: nn.Module, samples: Samples, budget: Budget, *, batch_size: int, learning_rate: float, seed: int
) -> float:
    """Train within a budget.

    Args:
        model: Changed in place.
        samples: The client's own.
        budget: Says how many passes and steps, and stops at a batch boundary.
        batch_size: Samples per step.
        learning_rate: Of SGD with momentum 0.9.
        seed: Of the order of samples.

    Returns:
        Mean loss over the steps done.
    """
    model.train()
    optimizer = make_optimizer("sgd", model, learning_rate)
    generator = np.random.default_rng(seed)
    losses = []
    for _ in range(budget.local_epochs):
        for inputs, targets in budget.limit(batches(samples, batch_size, generator)):
            losses.append(float(training_step(model, optimizer, nn.functional.cross_entropy, inputs, targets)))
    return float(np.mean(losses))


def evaluate(model: nn.Module, samples: Samples) -> tuple[float, float]:
    """Accuracy and mean loss on samples."""
    model.eval()
    logits = inference_step(model, torch.from_numpy(samples.images))
    targets = torch.from_numpy(samples.labels)
    accuracy = (logits.argmax(dim=1) == targets).float().mean()
    return float(accuracy), float(nn.functional.cross_entropy(logits, targets))
