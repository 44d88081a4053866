"""What a training step of a model consists of, in numbers that do not depend on a device. No torch here.

A :class:`Features` counts the work of one step by operator family, forward and backward apart. Each count has a part
that grows with the batch and a part that every step pays, so that the work of any batch size follows:
``work(B) = B * per_sample + constant``. Memory is the highest of a few such lines, one for each moment that can be the
peak.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from devprof.costmodel.operators import FAMILIES, PRODUCTS
from devprof.costmodel.step import Step
from devprof.errors import CostModelError

__all__ = ["FEATURES_VERSION", "MAPPED_BYTES", "WORK", "Features", "Tracer", "summarize_steps", "work_of"]

# History: 1 = the first form; 2 = forward and backward apart, memory followed through the step, large allocations.
FEATURES_VERSION = 2

_AMOUNTS: tuple[str, ...] = (*(f"{name}_macs" for name in PRODUCTS), *(f"{name}_elements" for name in FAMILIES))
# Multiply-accumulates of products, elements read plus written of everything.
WORK: tuple[str, ...] = tuple(f"{phase}_{name}" for phase in ("forward", "backward") for name in _AMOUNTS)
_PLACE = {name: place for place, name in enumerate(WORK)}

# From this size on, the allocator of the GNU C library asks the kernel for each allocation anew and gives it back at
# once (DEFAULT_MMAP_THRESHOLD_MAX in its malloc.c): every page of it is faulted in again in every step.
MAPPED_BYTES = 32 << 20
# Storages smaller than this per sample never reach that size in a batch that trains.
_LEAST_STORAGE = 16 << 10

_Line = tuple[float, float]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Features:
    """The work of one training step: forward pass, loss and backward pass.

    Lines are pairs: what every step has, and what each sample adds.

    Attributes:
        per_sample: Work per sample, one number for each of :data:`WORK`.
        constant: Work per step whatever the batch size, in the same order.
        forward_operators: Operators started in the forward pass that do something (views do not).
        backward_operators: The same in the backward pass.
        parameters: Number of parameters.
        trainable_parameters: Number of parameters that the optimizer changes.
        trainable_tensors: Number of tensors that they lie in.
        buffer_bytes: Bytes of buffers.
        batch_bytes: Line of the bytes of inputs and targets.
        saved_bytes: Line of the bytes kept for the backward pass, without parameters.
        largest_bytes: Line of the bytes of the largest storage.
        live_bytes: Lines of the moments that hold most beyond parameters, buffers and batch, for some batch size.
        storages: Large storages: what every step has, what each sample adds, and their number.

    Raises:
        ValueError: If a number is negative or not finite, or the kinds of work are not all there.
    """

    per_sample: tuple[float, ...]
    constant: tuple[float, ...]
    forward_operators: float
    backward_operators: float
    parameters: float
    trainable_parameters: float
    trainable_tensors: float = 1.0
    buffer_bytes: float = 0.0
    batch_bytes: _Line = (0.0, 0.0)
    saved_bytes: _Line = (0.0, 0.0)
    largest_bytes: _Line = (0.0, 0.0)
    live_bytes: tuple[_Line, ...] = ((0.0, 0.0),)
    storages: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        if len(self.per_sample) != len(WORK) or len(self.constant) != len(WORK):
            raise ValueError(f"features need one number for each of the {len(WORK)} kinds of work")
        if not self.live_bytes:
            raise ValueError("features need at least one line of live bytes")
        for field in fields(self):
            numbers = np.array(getattr(self, field.name), dtype=float)
            if not (np.isfinite(numbers).all() and (numbers >= 0).all()):
                raise ValueError(f"features must be finite and not negative, got {field.name} = {numbers}")

    @property
    def operators(self) -> float:
        """Operators started in a step."""
        return self.forward_operators + self.backward_operators

    def work(self, batch_sizes: Array) -> Array:
        """The work of one step at each batch size, shape (sizes, kinds), kinds as in :data:`WORK`."""
        grown: Array = np.outer(batch_sizes, self.per_sample) + np.array(self.constant)
        return grown

    def peak_bytes(self, batch_sizes: Array) -> Array:
        """The most that is held at one moment beyond parameters, buffers and batch, at each batch size."""
        fixed, per_sample = np.array(self.live_bytes).T
        highest: Array = (fixed + np.outer(batch_sizes, per_sample)).max(axis=1)
        return highest

    def mapped_bytes(self, batch_sizes: Array) -> Array:
        """Bytes of all allocations of a step that are as large as :data:`MAPPED_BYTES`, at each batch size."""
        if not self.storages:
            return np.zeros(len(batch_sizes))
        fixed, per_sample, number = np.array(self.storages).T
        sizes = fixed + np.outer(batch_sizes, per_sample)
        mapped: Array = np.where(sizes >= MAPPED_BYTES, sizes * number, 0.0).sum(axis=1)
        return mapped

    def heap_bytes(self, batch_sizes: Array) -> Array:
        """How much of what is held at the peak lies in the allocator's heap, at each batch size; never falling with it.

        A storage counts up to :data:`MAPPED_BYTES`: what is larger gets pages of its own. Per sample, the storages of a step
        share the peak as they share what the step allocates.
        """
        if not self.storages:
            return self.peak_bytes(batch_sizes)
        fixed, per_sample, number = np.array(self.storages).T
        small = np.minimum(fixed + np.outer(batch_sizes, per_sample), MAPPED_BYTES)
        allocated, held = float((per_sample * number).sum()), max(line[1] for line in self.live_bytes)
        share = held / allocated if held < allocated else 1.0
        heap: Array = share * (small * number).sum(axis=1)
        return heap

    def __hash__(self) -> int:
        return hash((self.per_sample, self.constant, self.parameters, self.trainable_parameters))

    def to_dict(self) -> dict[str, Any]:
        """The features as plain JSON types, with their version."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("per_sample", "constant")}
        return {
            "features_version": FEATURES_VERSION,
            "per_sample": dict(zip(WORK, self.per_sample, strict=True)),
            "constant": dict(zip(WORK, self.constant, strict=True)),
            **plain,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Features:
        """The features that :meth:`to_dict` wrote.

        Raises:
            CostModelError: If the dictionary has another version or lacks something.
        """
        version = data.get("features_version")
        if version != FEATURES_VERSION:
            raise CostModelError(
                f"these features have version {version!r}, this devprof reads version {FEATURES_VERSION}: "
                "trace the model again"
            )
        try:
            return cls(
                per_sample=tuple(float(data["per_sample"][name]) for name in WORK),
                constant=tuple(float(data["constant"][name]) for name in WORK),
                forward_operators=float(data["forward_operators"]),
                backward_operators=float(data["backward_operators"]),
                parameters=float(data["parameters"]),
                trainable_parameters=float(data["trainable_parameters"]),
                trainable_tensors=float(data["trainable_tensors"]),
                buffer_bytes=float(data["buffer_bytes"]),
                batch_bytes=_line(data["batch_bytes"]),
                saved_bytes=_line(data["saved_bytes"]),
                largest_bytes=_line(data["largest_bytes"]),
                live_bytes=tuple(_line(one) for one in data["live_bytes"]),
                storages=tuple((float(a), float(b), float(c)) for a, b, c in data["storages"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CostModelError(f"these features are damaged ({error!r}): trace the model again") from error


def _line(data: Sequence[Any]) -> _Line:
    fixed, per_sample = data
    return float(fixed), float(per_sample)


def work_of(family: str, macs: float, elements: float, *, backward: bool) -> list[tuple[int, float]]:
    """Where the work of an operator is counted: places in :data:`WORK` with amounts."""
    phase = "backward" if backward else "forward"
    counted = [(_PLACE[f"{phase}_{family}_elements"], elements)]
    if family in PRODUCTS:
        counted.append((_PLACE[f"{phase}_{family}_macs"], macs))
    return counted


def summarize_steps(small: Step, large: Step) -> Features:
    """The features of a model from two traced steps.

    What is no straight line in the batch size is taken as one through the two; tiny negatives become 0.

    Args:
        small: A step.
        large: A step of the same model with a larger batch.
    """
    sizes = (small.batch_size, large.batch_size)

    def line(first: float, second: float) -> _Line:
        per_sample = max(0.0, (second - first) / (sizes[1] - sizes[0]))
        return max(0.0, first - sizes[0] * per_sample), per_sample

    works = [_work(step) for step in (small, large)]
    lines = [line(*pair) for pair in zip(*works, strict=True)]
    forward, backward = (
        max(sum(count for one, count in step.operators.items() if one.backward is phase) for step in (small, large))
        for phase in (False, True)
    )
    alike = len(small.live_bytes) == len(large.live_bytes)
    moments = (
        zip(small.live_bytes, large.live_bytes, strict=True)
        if alike
        else ((max(s.live_bytes) for s in (small, large)),)
    )
    return Features(
        per_sample=tuple(part[1] for part in lines),
        constant=tuple(part[0] for part in lines),
        forward_operators=float(forward),
        backward_operators=float(backward),
        parameters=float(small.parameters),
        trainable_parameters=float(small.trainable_parameters),
        trainable_tensors=float(small.trainable_tensors),
        buffer_bytes=float(small.buffer_bytes),
        batch_bytes=line(small.batch_bytes, large.batch_bytes),
        saved_bytes=line(small.saved_bytes, large.saved_bytes),
        largest_bytes=line(max(small.storages, default=0), max(large.storages, default=0)),
        live_bytes=_envelope({line(*pair) for pair in moments}),
        storages=_large_storages(small, large, line),
    )


def _work(step: Step) -> list[float]:
    amounts = [0.0] * len(WORK)
    for one, count in step.operators.items():
        for place, amount in work_of(one.family, one.macs, one.elements, backward=one.backward):
            amounts[place] += count * amount
    return amounts


def _large_storages(small: Step, large: Step, line: Any) -> tuple[tuple[float, float, float], ...]:
    if len(small.storages) != len(large.storages):
        return ()
    counts = Counter(line(*pair) for pair in zip(small.storages, large.storages, strict=True))
    chosen = sorted((one for one in counts if one[1] >= _LEAST_STORAGE or one[0] >= MAPPED_BYTES), reverse=True)
    return tuple((fixed, per_sample, float(counts[fixed, per_sample])) for fixed, per_sample in chosen)


def _envelope(lines: set[_Line]) -> tuple[_Line, ...]:
    """Those lines that are the highest for some batch size of at least 0, steepest last."""
    hull: list[_Line] = []
    for line in sorted(lines, key=lambda one: (one[1], one[0])):
        while hull and (
            hull[-1][0] <= line[0] or (len(hull) > 1 and _meet(hull[-2], line) <= _meet(hull[-2], hull[-1]))
        ):
            hull.pop()
        hull.append(line)
    return tuple(hull)


def _meet(flat: _Line, steep: _Line) -> float:
    return math.inf if steep[1] == flat[1] else (flat[0] - steep[0]) / (steep[1] - flat[1])


class Tracer(Protocol):
    """Finds out what a training step of a named model consists of, without running it on a device."""

    def __call__(self, model: str, mode: str, image_size: int | None, num_classes: int | None) -> Features:
        """The features of one configuration.

        Args:
            model: Name of the model, as in :class:`devprof.records.Workload`.
            mode: ``full`` or ``head``.
            image_size: Height and width of the input in pixels; ``None`` for the model's own.
            num_classes: Outputs of the classifier; ``None`` for the model's own.

        Raises:
            DevprofError: If the model is unknown or cannot be traced.
        """
        ...
