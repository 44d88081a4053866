"""Traces one training step on torch's ``meta`` device: shapes only, no weights, no arithmetic, no device needed.

Every operator that autograd really starts passes the dispatcher, forward and backward, and is counted under its
family. Two batch sizes separate what grows with the batch from what every step pays. This module imports torch; the
rest of the cost model does not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from devprof.costmodel.features import FAMILIES, Features
from devprof.costmodel.operators import classify, count_elements, is_free, tensors_in
from devprof.errors import CostModelError

__all__ = ["MakeBatch", "trace_training"]

_log = logging.getLogger(__name__)

MakeBatch = Callable[[int], tuple[Any, torch.Tensor]]

_SMALL, _LARGE = 2, 4


@dataclass(slots=True)
class _Counts:
    """What one traced step did."""

    work: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FAMILIES, 0.0))
    operators: int = 0
    saved_bytes: float = 0.0
    largest_bytes: float = 0.0


class _Counter(TorchDispatchMode):
    """Counts every operator that passes the dispatcher."""

    def __init__(self, counts: _Counts) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts = counts

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        schema = func._schema  # noqa: SLF001 - the only place where an operator says which results are views
        view = any(value.alias_info is not None and not value.alias_info.is_write for value in schema.returns)
        name = schema.name.partition("::")[2]
        if view or is_free(name):
            return result
        family, amount = classify(name, args, result)
        self.counts.work[family] += amount
        if family.endswith("_macs"):
            self.counts.work["product_elements"] += float(count_elements(args) + count_elements(result))
        self.counts.operators += 1
        for tensor in tensors_in(result):
            self.counts.largest_bytes = max(self.counts.largest_bytes, float(tensor.numel() * tensor.element_size()))
        return result


class _Saved:
    """Adds up what autograd keeps for the backward pass: each storage once, parameters and buffers not at all."""

    def __init__(self, model: nn.Module) -> None:
        # The tensors are kept so that no storage is freed and its address given to another one.
        self._kept: list[torch.Tensor] = [*model.parameters(), *model.buffers()]
        self._seen = {self._key(tensor) for tensor in self._kept}
        self.total_bytes = 0.0

    @staticmethod
    def _key(tensor: torch.Tensor) -> int:
        # Storages on the meta device have no address and no other identity.
        return int(tensor.untyped_storage()._cdata)  # noqa: SLF001

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        key = self._key(tensor)
        if key not in self._seen:
            self._seen.add(key)
            self._kept.append(tensor)
            self.total_bytes += tensor.untyped_storage().nbytes()
        return tensor


def _trace_step(model: nn.Module, inputs: Any, targets: torch.Tensor, loss_fn: Callable[..., torch.Tensor]) -> _Counts:
    counts = _Counts()
    saved = _Saved(model)
    model.zero_grad(set_to_none=True)
    with _Counter(counts):
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            loss = loss_fn(model(inputs), targets)
        counts.saved_bytes = saved.total_bytes
        loss.backward()
    model.zero_grad(set_to_none=True)
    return counts


def _split(small: float, large: float) -> tuple[float, float]:
    """Per-sample and constant part of a count; a count that is not affine gives tiny negatives, which become 0."""
    per_sample = max(0.0, (large - small) / (_LARGE - _SMALL))
    return per_sample, max(0.0, small - _SMALL * per_sample)


def trace_training(model: nn.Module, make_batch: MakeBatch, loss_fn: Callable[..., torch.Tensor]) -> Features:
    """Counts the work of one training step of a model.

    Args:
        model: A module on the ``meta`` device, in the mode it trains in; frozen parameters have
            ``requires_grad=False``.
        make_batch: Gives the inputs and targets of a batch size, on the ``meta`` device.
        loss_fn: From outputs and targets to a scalar loss.

    Returns:
        The work by operator family (multiply-accumulates, elements), numbers of parameters, and bytes kept for the
        backward pass.

    Raises:
        CostModelError: If the model cannot run on the meta device or has nothing to train; the text says why.
    """
    parameters = list(model.parameters())
    if any(parameter.device.type != "meta" for parameter in parameters):
        raise CostModelError(f"{type(model).__name__} is not on the meta device: build it under torch.device('meta')")
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    if not trainable:
        raise CostModelError(f"{type(model).__name__} has no trainable parameter: there is no training step to trace")
    try:
        small, large = (_trace_step(model, *make_batch(size), loss_fn) for size in (_SMALL, _LARGE))
    # A model is foreign code, which may fail in any way on tensors without data; the reason is kept.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise CostModelError(
            f"{type(model).__name__} cannot be traced without data ({type(error).__name__}: {reason}): "
            "remove what depends on values from its forward pass"
        ) from error
    if small.operators != large.operators:
        _log.info("%s starts more operators for a larger batch; the larger count is used", type(model).__name__)
    parts = [_split(small.work[family], large.work[family]) for family in FAMILIES]
    saved = _split(small.saved_bytes, large.saved_bytes)
    largest = _split(small.largest_bytes, large.largest_bytes)
    return Features(
        per_sample=tuple(part[0] for part in parts),
        constant=tuple(part[1] for part in parts),
        parameters=float(sum(parameter.numel() for parameter in parameters)),
        trainable_parameters=float(trainable),
        operators=float(max(small.operators, large.operators)),
        saved_per_sample_bytes=saved[0],
        saved_constant_bytes=saved[1],
        largest_per_sample_bytes=largest[0],
        largest_constant_bytes=largest[1],
    )
