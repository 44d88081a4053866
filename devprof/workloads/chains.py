"""Small synthetic networks for ``devprof calibrate``: they show what a step costs beyond its operators.

An operator alone runs in a loop on operands that lie in the caches. In a step, modules call it, autograd records it, its
results lie on memory that was not touched lately, and the optimizer changes parameters. Each chain repeats one kind of
block, none of them is a published network, and together they hold the overheads in different shares. The head of a chain is a
linear layer, so that both modes can be timed.

Needs torch; the names are in :mod:`devprof.workloads.names`, which does not.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["bottlenecks", "convolutions", "narrow", "tokens", "wide"]

_CLASSES = 100


def narrow() -> nn.Module:
    """Many small operators: the overhead of starting them."""
    blocks = [_convolution(8, 8, 3) for _ in range(40)]
    return _classifier([_convolution(3, 8, 3, stride=4), *blocks], 8, size=32)


def convolutions() -> nn.Module:
    """Dense convolutions on large maps."""
    blocks = [_convolution(48, 48, 3) for _ in range(6)]
    return _classifier([_convolution(3, 48, 3, stride=2), *blocks], 48, size=112)


def bottlenecks() -> nn.Module:
    """Inverted residual blocks: convolutions of 1x1 and depthwise ones."""
    return _classifier([_convolution(3, 24, 3, stride=2), *[_Bottleneck(24, 120) for _ in range(5)]], 24, size=112)


def tokens() -> nn.Module:
    """Transformer blocks: attention, normalisation, matrix products."""
    stem = nn.Sequential(nn.Conv2d(3, 160, 8, 8), nn.Flatten(2), _Transposed())
    blocks = [_Block(160, 4) for _ in range(4)]
    return _with_shape(nn.Sequential(stem, *blocks, _Mean(1), nn.Linear(160, _CLASSES)), 112)


def wide() -> nn.Module:
    """Few large matrices: weights and the optimizer."""
    layers = [nn.Sequential(nn.Linear(2048, 2048), nn.ReLU()) for _ in range(4)]
    return _with_shape(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2048), *layers, nn.Linear(2048, _CLASSES)), 32
    )


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _classifier(layers: list[nn.Module], channels: int, *, size: int) -> nn.Module:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, _CLASSES))
    return _with_shape(nn.Sequential(*layers, *head), size)


def _with_shape(model: nn.Module, size: int) -> nn.Module:
    """What devprof asks a user's own model: the shape of a sample and the number of classes."""
    model.input_shape, model.num_classes = (3, size, size), _CLASSES  # type: ignore[assignment]
    return model


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, expanded: int) -> None:
        super().__init__()
        self.expand = _convolution(channels, expanded, 1)
        self.depthwise = _convolution(expanded, expanded, 3, groups=expanded)
        self.project = nn.Sequential(nn.Conv2d(expanded, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = self.project(self.depthwise(self.expand(inputs)))
        return inputs + changed


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        parts = self.qkv(self.first(inputs)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(*parts.unbind(0))
        hidden: torch.Tensor = inputs + self.out(attended.transpose(1, 2).flatten(2))
        changed: torch.Tensor = hidden + self.mlp(self.second(hidden))
        return changed


class _Transposed(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.transpose(1, 2)


class _Mean(nn.Module):
    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.mean(self.dimension)
