"""THE training step. ``devprof measure`` times it and the Flower app trains with it, so predictions transfer.

Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from devprof.errors import WorkloadError
from devprof.workloads.names import OPTIMIZERS

__all__ = ["Mark", "inference_step", "make_optimizer", "training_step"]

Mark = Callable[[str], None]


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    mark: Mark | None = None,
) -> torch.Tensor:
    """One step: forward and loss, backward, optimizer step, clearing of gradients.

    Args:
        model: In training mode.
        optimizer: Over the parameters to be trained.
        loss_fn: From (outputs, targets) to a scalar.
        inputs: A batch, first dimension the batch.
        targets: What the loss compares the outputs with.
        mark: Called with ``forward``, ``backward`` and ``optimizer`` when each phase has ended; it disturbs the total, so
            only a separate pass uses it.

    Returns:
        The detached loss.
    """
    outputs = model(inputs)
    # Some torchvision networks return (logits, auxiliary logits) while training.
    loss = loss_fn(outputs if isinstance(outputs, torch.Tensor) else outputs[0], targets)
    if mark is not None:
        mark("forward")
    loss.backward()
    if mark is not None:
        mark("backward")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if mark is not None:
        mark("optimizer")
    return loss.detach()


@torch.inference_mode()
def inference_step(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """A forward pass without gradients; the model should be in evaluation mode."""
    outputs = model(inputs)
    logits: torch.Tensor = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
    return logits


def make_optimizer(name: str, model: nn.Module, learning_rate: float = 1e-3) -> torch.optim.Optimizer:
    """The optimizer over the parameters that require gradients.

    Args:
        name: ``sgd`` (momentum 0.9) or ``adam``.
        model: Its frozen parameters are left out.
        learning_rate: Step size.

    Raises:
        WorkloadError: If the optimizer is unknown or nothing is to be trained.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise WorkloadError("the model has no parameter to train")
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=learning_rate)
    raise WorkloadError(f"unknown optimizer {name!r}; use {' or '.join(OPTIMIZERS)}")
