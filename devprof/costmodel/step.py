"""One traced training step at one batch size: which operators it starts and which memory they hold. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any, Protocol

from devprof.errors import CostModelError

__all__ = ["STEP_VERSION", "Operator", "Step", "StepTracer"]

# History: 1 = the first form.
STEP_VERSION = 1


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

    def to_dict(self) -> dict[str, Any]:
        """The step as plain JSON types, with its version."""
        plain = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "operators"}
        operators = [[*astuple(operator), count] for operator, count in self.operators.items()]
        return {"step_version": STEP_VERSION, **plain, "operators": operators}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Step:
        """The step that :meth:`to_dict` wrote.

        Raises:
            CostModelError: If the dictionary has another version or lacks something.
        """
        if data.get("step_version") != STEP_VERSION:
            raise CostModelError("this traced step has another version than this devprof reads: trace the model again")
        try:
            operators = Counter({Operator(*fields_): int(count) for *fields_, count in data["operators"]})
            lists = {name: tuple(int(size) for size in data[name]) for name in ("live_bytes", "storages")}
            numbers = {name: int(data[name]) for name in _NUMBERS}
            return cls(operators=operators, **lists, **numbers)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise CostModelError(f"this traced step is damaged ({error!r}): trace the model again") from error


_NUMBERS = (
    "batch_size",
    "parameters",
    "trainable_parameters",
    "trainable_tensors",
    "buffer_bytes",
    "batch_bytes",
    "saved_bytes",
)


class StepTracer(Protocol):
    """Finds out which operators a training step of a named model calls at a batch size."""

    def __call__(self, model: str, mode: str, image_size: int | None, num_classes: int | None, batch_size: int) -> Step:
        """The step of one configuration; arguments and errors as :class:`devprof.costmodel.features.Tracer`."""
        ...
