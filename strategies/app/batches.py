"""From samples to what a model takes: order, augmentation, scaling, and the shape of its input. Needs torch.

Samples are bytes until they are in a batch, so that memory holds a data set once, and small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from datasets_meta import DatasetMeta
from devprof.errors import WorkloadError
from strategies.app.data import Samples

__all__ = ["Batch", "Preparation", "cropped_and_flipped", "evaluation_batches", "training_batches"]

Batch = tuple[torch.Tensor, torch.Tensor]

_PADDING = 4
_EVALUATION_BATCH = 256


@dataclass(frozen=True, slots=True)
class Preparation:
    """How images of a data set become a model's input: scaled to 0..1, normalised, and brought to its shape.

    Attributes:
        meta: Says the scale, and mean and standard deviation where they are published.
        input_shape: Of one input: (channels, height, width), or (values,) for models that take flat vectors.

    Raises:
        WorkloadError: If the data do not fit such an input.
    """

    meta: DatasetMeta
    input_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        channels, *_ = shape = self.meta.input_shape
        if len(self.input_shape) == 1 and self.input_shape[0] == math.prod(shape):
            return
        if len(self.input_shape) == 3 and (channels == 1 or channels == self.input_shape[0]):
            return
        raise WorkloadError(
            f"the data set {self.meta.name!r} has images of shape {shape}, which the model cannot take: "
            f"its input is {self.input_shape}"
        )

    def __call__(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """A batch of inputs: images of another size are resized, grey ones repeated over the colours that a model takes."""
        batch = torch.from_numpy(images).float().div_(self.meta.max_value)
        if self.meta.mean is not None and self.meta.std is not None:
            mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.meta.mean, self.meta.std))
            batch = batch.sub_(mean).div_(std)
        if len(self.input_shape) == 1:
            return batch.flatten(1)
        channels, *size = self.input_shape
        if list(batch.shape[2:]) != size:
            batch = torch.nn.functional.interpolate(batch, size=size, mode="bilinear", antialias=True)
        return batch if batch.shape[1] == channels else batch.expand(-1, channels, -1, -1).contiguous()


def training_batches(
    samples: Samples,
    batch_size: int,
    generator: np.random.Generator,
    preparation: Preparation,
    *,
    augment: bool = False,
    keep_single: bool = True,
) -> Iterator[Batch]:
    """One pass over the samples in random order; the last batch may be smaller.

    Args:
        samples: Of one client.
        batch_size: Samples per batch.
        generator: Of order and augmentation.
        preparation: From images to inputs.
        augment: Whether images are cropped and flipped at random.
        keep_single: Whether a last batch of one sample is given; ``False`` drops it behind other batches, for networks that
            compute statistics over a batch.
    """
    order = generator.permutation(len(samples))
    if not keep_single and batch_size > 1 and len(order) > 1 and len(order) % batch_size == 1:
        order = order[:-1]
    for start in range(0, len(order), batch_size):
        chosen = samples.take(order[start : start + batch_size])
        images = cropped_and_flipped(chosen.images, generator) if augment else chosen.images
        yield preparation(images), torch.from_numpy(chosen.labels)


def evaluation_batches(samples: Samples, preparation: Preparation) -> Iterator[Batch]:
    """The samples in their order, in batches that fit a small memory."""
    for start in range(0, len(samples), _EVALUATION_BATCH):
        end = start + _EVALUATION_BATCH
        yield preparation(samples.images[start:end]), torch.from_numpy(samples.labels[start:end])


def cropped_and_flipped(images: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """The usual augmentation of CIFAR-10: a random crop of each image padded by four pixels, mirrored by a coin's toss.

    Args:
        images: Shape (n, channels, height, width).
        generator: Of the draws.
    """
    count, _, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (_PADDING, _PADDING), (_PADDING, _PADDING)))
    windows = sliding_window_view(padded, (height, width), axis=(2, 3))
    rows, columns = generator.integers(0, 2 * _PADDING + 1, (2, count))
    crops = windows[np.arange(count), :, rows, columns]
    flips = generator.random(count) < 0.5
    crops[flips] = crops[flips][..., ::-1]
    return np.ascontiguousarray(crops)
