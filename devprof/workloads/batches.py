"""From where a workload's batches come: one batch in memory, generated JPEG files, or the user's own data set.

torch is imported when batches are made, not before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devprof.errors import WorkloadError
from devprof.records import Workload
from devprof.workloads.jpeg import JPEG_FILES, JpegData, default_folder, make_jpegs
from devprof.workloads.names import DATA_SOURCES
from devprof.workloads.trainable import Samples, Trainable, require_samples

if TYPE_CHECKING:
    import torch

    Batch = tuple[torch.Tensor, torch.Tensor]

__all__ = ["batches"]


def batches(
    trainable: Trainable, workload: Workload, *, seed: int = 0, folder: Path | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches on the model's device, without end.

    ``memory`` gives one and the same batch for ever. ``jpeg`` and ``own`` load a new one for every step in this process,
    shuffled; a pass over the data ends before a batch would be incomplete, and the next one begins.

    Args:
        trainable: The model; it says the shape, the device, and the user's data set.
        workload: Its data, batch size and memory format are used.
        seed: Of random inputs, generated files, order and augmentation.
        folder: Where generated JPEG files are kept; by default in the cache folder.

    Raises:
        WorkloadError: If model and data do not go together; the text says why.
        MissingExtraError: If JPEG files are asked for and Pillow or torchvision is not installed.
    """
    place = _placement(trainable, workload)
    size = workload.batch_size
    if workload.data == "memory":
        return itertools.repeat(place(*trainable.make_batch(size, seed=seed)))
    if workload.data == "jpeg":
        return _loaded(_jpeg_data(trainable, workload, seed, folder or default_folder()), size, seed, place)
    if workload.data != "own":
        raise WorkloadError(f"unknown data {workload.data!r}; use one of {', '.join(DATA_SOURCES)}")
    if trainable.dataset is None:
        raise WorkloadError(
            f"{workload.model} brings no data set: only a module:factory that returns one has data 'own'"
        )
    require_samples(trainable.dataset, size)
    return _loaded(trainable.dataset, size, seed, place)


def _jpeg_data(trainable: Trainable, workload: Workload, seed: int, folder: Path) -> JpegData:
    channels, *shape = trainable.input_shape
    if channels != 3 or len(shape) != 2:
        raise WorkloadError(
            f"{workload.model} takes inputs of shape {trainable.input_shape}; JPEG files need a model for images of 3 channels"
        )
    if trainable.num_classes is None:
        raise WorkloadError(
            f"{workload.model} does not say its number of classes, which the targets of JPEG files need"
        )
    paths = make_jpegs(folder, seed=seed)
    samples = max(JPEG_FILES, workload.batch_size)
    return JpegData(paths, (shape[0], shape[1]), trainable.num_classes, samples=samples, seed=seed)


def _loaded(dataset: Samples, batch_size: int, seed: int, place: Callable[..., Batch]) -> Iterator[Batch]:
    import torch
    from torch.utils.data import DataLoader

    source: Any = dataset
    # Loading in the training process itself, as on a board whose cores all train.
    loader: DataLoader[Any] = DataLoader(
        source,
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=0,
        generator=torch.Generator().manual_seed(seed),
    )
    while True:
        for inputs, targets in loader:
            yield place(inputs, targets)


def _placement(trainable: Trainable, workload: Workload) -> Callable[..., Batch]:
    """What brings a batch to the model's device and into its memory format."""
    import torch

    device = trainable.device
    nhwc = workload.memory_format == "nhwc"
    if nhwc and len(trainable.input_shape) != 3:
        raise WorkloadError(f"{workload.model} takes no images, so memory format nhwc means nothing; use nchw")

    def place(inputs: torch.Tensor, targets: torch.Tensor) -> Batch:
        inputs = inputs.to(device, memory_format=torch.channels_last) if nhwc else inputs.to(device)
        return inputs, targets.to(device)

    return place
