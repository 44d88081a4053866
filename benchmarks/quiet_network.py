"""A network whose training stays in the cache of one core: its step time depends little on the neighbours of the machine.

On shared machines the memory behind the caches is shared as well, and a step that needs it is slowed by whoever else uses it.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

__all__ = ["small"]

_WIDTH, _SAMPLES = 128, 1024


def small() -> tuple[nn.Module, TensorDataset]:
    """Two layers of 128 neurons: 400 KB with gradients and momentum; and data for it."""
    network = nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(_SAMPLES, _WIDTH, generator=generator)
    return network, TensorDataset(inputs, torch.randint(_WIDTH, (_SAMPLES,), generator=generator))
