"""What the catalogue hands over: a model that can be trained, and what its batches look like.

torch is imported when a batch or a loss is made, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from devprof.errors import WorkloadError

if TYPE_CHECKING:
    import torch
    from torch import nn

    LossFunction = Callable[[Any, torch.Tensor], torch.Tensor]

__all__ = ["Samples", "Trainable", "collate", "require_samples"]


class Samples(Protocol):
    """A data set as torch's map-style data sets are: samples by index, each a pair (input, target)."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """The sample at an index."""
        ...


def _cross_entropy() -> LossFunction:
    from torch.nn.functional import cross_entropy

    return cross_entropy


@dataclass(frozen=True, slots=True)
class Trainable:
    """A model ready for the training step.

    Attributes:
        model: In training mode; in mode ``head`` all but the classifier is frozen.
        input_shape: Shape of one sample.
        num_classes: Outputs of the classifier; ``None`` only where a data set says what the targets are.
        image_size: Height and width of the input, ``None`` where the input is no image.
        dataset: The user's own data, always on the host; ``None`` where batches are random.
        loss_fn: From (outputs, targets) to a scalar.
    """

    model: nn.Module
    input_shape: tuple[int, ...]
    num_classes: int | None
    image_size: int | None
    dataset: Samples | None = None
    loss_fn: LossFunction = field(default_factory=_cross_entropy)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.model.parameters()).device

    def make_batch(self, batch_size: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch on the model's device: the first samples of the data set, else random inputs and class indices.

        On the ``meta`` device a batch has shapes and types, no values.

        Args:
            batch_size: Number of samples.
            seed: Of the random inputs (standard normal) and targets.

        Raises:
            WorkloadError: If the data set has fewer samples.
        """
        import torch

        device = self.device
        meta = device.type == "meta"
        if self.dataset is not None:
            inputs, targets = collate(self.dataset, 1 if meta else batch_size)
            if meta:
                inputs, targets = (
                    torch.empty((batch_size, *part.shape[1:]), dtype=part.dtype, device=device)
                    for part in (inputs, targets)
                )
        elif meta:
            inputs = torch.empty((batch_size, *self.input_shape), device=device)
            targets = torch.empty(batch_size, dtype=torch.long, device=device)
        else:
            assert self.num_classes is not None
            generator = torch.Generator().manual_seed(seed)
            inputs = torch.randn((batch_size, *self.input_shape), generator=generator)
            targets = torch.randint(self.num_classes, (batch_size,), generator=generator)
        return inputs.to(device), targets.to(device)

    def parameter_counts(self) -> tuple[int, int]:
        """Parameters: all of them, and those that are trained."""
        counts = [(parameter.numel(), parameter.requires_grad) for parameter in self.model.parameters()]
        return sum(count for count, _ in counts), sum(count for count, trained in counts if trained)


def require_samples(dataset: Samples, count: int) -> None:
    """Raise unless a data set has samples for a batch.

    Raises:
        WorkloadError: If it has fewer.
    """
    if len(dataset) < count:
        raise WorkloadError(
            f"the data set has {len(dataset)} samples, too few for a batch of {count}; use a smaller batch size"
        )


def collate(dataset: Samples, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first samples of a data set, stacked as torch's loader stacks them.

    Raises:
        WorkloadError: If there are fewer samples, or a sample is no pair of what becomes a tensor.
    """
    import torch
    from torch.utils.data import default_collate

    require_samples(dataset, count)
    try:
        batch = default_collate([dataset[index] for index in range(count)])
    except TypeError as error:
        raise WorkloadError(f"samples of the data set cannot be stacked to tensors: {error}") from error
    if len(batch) != 2 or not all(isinstance(part, torch.Tensor) for part in batch):
        raise WorkloadError("a sample of the data set must be a pair (input, target) of tensors, arrays or numbers")
    inputs, targets = batch
    return inputs, targets
