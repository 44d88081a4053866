"""One traced training step at one batch size: which operators it starts and which memory they hold. No torch here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

__all__ = ["Operator", "Step"]


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator as a step calls it, perhaps many times.

    Attributes:
        signature: See :mod:`devprof.costmodel.signature`.
        backward: Whether it belongs to the backward pass.
        family: One of :data:`devprof.costmodel.operators.FAMILIES` without the suffix, such as ``conv_1x1`` or ``norm``.
        macs: Multiply-accumulates of one call; 0 for what is no product.
        elements: Elements that one call reads and writes.
    """

    signature: str
    backward: bool
    family: str
    macs: float
    elements: float


@dataclass(frozen=True, slots=True)
class Step:
    """One training step: forward pass, loss, backward pass.

    Attributes:
        batch_size: Samples in the batch.
        operators: How often each operator is called, in the order of the first calls.
        parameters: Number of parameters.
        trainable_parameters: Number of parameters that the optimizer changes.
        trainable_tensors: Number of tensors that they lie in.
        buffer_bytes: Bytes of buffers, such as running statistics.
        batch_bytes: Bytes of inputs and targets.
        saved_bytes: Bytes kept for the backward pass; each storage counted once, no parameters.
        live_bytes: Bytes held after each operator beyond parameters, buffers and the batch, in order; gradients of
            parameters included.
        storages: Sizes in bytes of everything that was allocated, in order; each convolution's working copies of its
            operands included.
    """

    batch_size: int
    operators: Counter[Operator]
    parameters: int
    trainable_parameters: int
    trainable_tensors: int
    buffer_bytes: int
    batch_bytes: int
    saved_bytes: int
    live_bytes: tuple[int, ...]
    storages: tuple[int, ...]
