"""A network whose training stays in the second cache of a core: its step time depends little on the neighbours of the machine.

On shared machines the memory behind the caches is shared as well, and a step that needs it is slowed by whoever else uses it.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

__all__ = ["small"]

_CHANNELS, _SIZE, _LAYERS, _CLASSES, _SAMPLES = 32, 8, 16, 10, 256


class _Repeated(nn.Module):
    """One convolution, applied again and again: many products on little memory."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)
        self.classify = nn.Linear(_CHANNELS, _CLASSES)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for _ in range(_LAYERS):
            values = torch.relu_(self.convolution(values))
        scores: torch.Tensor = self.classify(values.mean((2, 3)))
        return scores


def small() -> tuple[nn.Module, TensorDataset]:
    """16 convolutions of 32 channels on 8 x 8 values, with 0.7 MB of activations at a batch of 4; and data for it."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(_SAMPLES, _CHANNELS, _SIZE, _SIZE, generator=generator)
    return _Repeated(), TensorDataset(inputs, torch.randint(_CLASSES, (_SAMPLES,), generator=generator))
