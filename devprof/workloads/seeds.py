"""The small networks of published federated-learning studies, under the names ``seed:*``.

- ``seed:cnn``, ``seed:lstm``, ``seed:mlp``: the three networks of a study of training on Raspberry Pi 4 boards
  (Conv16-Conv32-MaxPool-FC10, 47 K parameters; LSTM128-LSTM64-FC8 on 8 x 1024 steps, 641 K; FC512-FC256-FC10 on 3072
  inputs, 1.7 M). The study does not give the kernel size of the CNN; square kernels of 4 without padding are the ones that
  give its number of parameters.
- ``seed:net``: the MNIST network of Flower's embedded-devices example (two 3x3 convolutions of 32 and 64 channels, each with
  max-pooling, then FC128-FC10).

Needs torch; the names themselves are in :mod:`devprof.workloads.names`, which does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from devprof.errors import WorkloadError

__all__ = ["SEEDS", "Seed"]


class _Lstm(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.first = nn.LSTM(features, 128, batch_first=True)
        self.second = nn.LSTM(128, 64, batch_first=True)
        self.head = nn.Linear(64, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.first(inputs)
        hidden, _ = self.second(hidden)
        logits: torch.Tensor = self.head(hidden[:, -1])
        return logits


def _cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    channels, size, _ = shape
    side = (size - 6) // 2
    if side < 1:
        raise WorkloadError(f"seed:cnn needs images of at least 8x8, got {size}x{size}")
    return nn.Sequential(
        nn.Conv2d(channels, 16, 4),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * side * side, classes),
    )


def _net(shape: tuple[int, ...], classes: int) -> nn.Module:
    channels, size, _ = shape
    side = size // 4
    if side < 1:
        raise WorkloadError(f"seed:net needs images of at least 4x4, got {size}x{size}")
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * side * side, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


def _mlp(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(shape[0], 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, classes))


def _lstm(shape: tuple[int, ...], classes: int) -> nn.Module:
    return _Lstm(shape[1], classes)


@dataclass(frozen=True, slots=True)
class Seed:
    """A seed network: its builder, its own input (shape of one sample) and its own number of classes."""

    build: Callable[[tuple[int, ...], int], nn.Module]
    input_shape: tuple[int, ...]
    num_classes: int

    @property
    def takes_images(self) -> bool:
        """Whether the input is (channels, height, width), so that an image size applies."""
        return len(self.input_shape) == 3


SEEDS = {
    "seed:cnn": Seed(_cnn, (1, 28, 28), 10),
    "seed:lstm": Seed(_lstm, (8, 1024), 8),
    "seed:mlp": Seed(_mlp, (3072,), 10),
    "seed:net": Seed(_net, (1, 28, 28), 10),
}
