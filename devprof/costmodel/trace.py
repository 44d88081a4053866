"""Traces one training step on torch's ``meta`` device: shapes only, no weights, no arithmetic, no device needed.

Every operator that autograd really starts passes the dispatcher, forward and backward, and is recorded with the shapes
it was called with; every storage is followed until it is freed. Two batch sizes separate what grows with the batch from
what every step pays. This module imports torch; the rest of the cost model does not.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from devprof.costmodel.features import Features, summarize_steps
from devprof.costmodel.operators import classify, is_convolution, is_free, tensors_in
from devprof.costmodel.signature import encode_signature
from devprof.costmodel.step import Operator, Step
from devprof.errors import CostModelError

__all__ = ["MakeBatch", "trace_step", "trace_training"]

_log = logging.getLogger(__name__)

MakeBatch = Callable[[int], tuple[Any, torch.Tensor]]

_SMALL, _LARGE = 2, 4


class _Recorder(TorchDispatchMode):
    """Records every operator that passes the dispatcher, and what is alive after it."""

    def __init__(self, kept: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: Counter[Operator] = Counter()
        self.live: list[int] = []
        self.storages: list[int] = []
        self.backward = False
        self._kept = kept
        self._references: dict[int, weakref.ref[Any]] = {}
        self._alive = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        for tensor in tensors_in(result):
            self._follow(tensor)
        self.live.append(self._alive)
        schema = func._schema  # noqa: SLF001 - the only place where an operator says which results are views
        view = any(value.alias_info is not None and not value.alias_info.is_write for value in schema.returns)
        name = schema.name.partition("::")[2]
        if view or is_free(name):
            return result
        family, macs, elements = classify(name, args, result)
        self.operators[
            Operator(encode_signature(str(func), args, kwargs), self.backward, family, float(macs), float(elements))
        ] += 1
        if is_convolution(name):
            # Libraries of convolutions work on copies in a layout of their own, made and freed within the call.
            self.storages += [tensor.untyped_storage().nbytes() for tensor in tensors_in([args[:3], result])]
        return result

    def _follow(self, tensor: torch.Tensor) -> None:
        """Counts a new storage until it is freed."""
        storage = tensor.untyped_storage()
        key = _key(storage)
        if key in self._kept or key in self._references:
            return
        size = int(storage.nbytes())
        self._alive += size
        self.storages.append(size)

        def freed(_: Any) -> None:
            del self._references[key]
            self._alive -= size

        self._references[key] = weakref.ref(storage, freed)

    def forget(self) -> None:
        """Stop following: what is freed after the step is no part of it."""
        self._references.clear()


class _Fused(TorchFunctionMode):
    """Takes the fused attention that torch takes on a CPU; the meta device would fall back to single products."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            return _attention(func, args, kwargs)
        return func(*args, **kwargs)


_ATTENTION_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


def _attention(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = dict(zip(_ATTENTION_ARGUMENTS, args, strict=False)) | kwargs
    query, key, value = (given[name] for name in _ATTENTION_ARGUMENTS[:3])
    mask = given.get("attn_mask")
    masked = mask is not None and (mask.requires_grad or mask.dtype == torch.bool or mask.dim() == 3)
    alike = query.dim() == 4 and query.shape[-1] == key.shape[-1] == value.shape[-1]
    if masked or given.get("dropout_p") or given.get("enable_gqa") or not alike:
        return func(*args, **kwargs)
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - no public name
    causal = bool(given.get("is_causal"))
    return fused(query, key, value, 0.0, causal, attn_mask=mask, scale=given.get("scale"))[0]


class _Saved:
    """Adds up what autograd keeps for the backward pass: each storage once, parameters and buffers not at all."""

    def __init__(self, kept: set[int]) -> None:
        # The tensors are held so that no storage is freed and its address given to another one.
        self._held: list[torch.UntypedStorage] = []
        self._seen = set(kept)
        self.total_bytes = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        key = _key(storage)
        if key not in self._seen:
            self._seen.add(key)
            self._held.append(storage)
            self.total_bytes += int(storage.nbytes())
        return tensor

    def release(self) -> None:
        """Let go of what was kept: from here on only autograd holds it."""
        self._held.clear()


def _key(storage: torch.UntypedStorage) -> int:
    # Storages on the meta device have no address and no other identity.
    return int(storage._cdata)  # noqa: SLF001


def trace_step(
    model: nn.Module, inputs: Any, targets: torch.Tensor, loss_fn: Callable[..., torch.Tensor], batch_size: int
) -> Step:
    """Records one training step of a model.

    Args:
        model: A module on the ``meta`` device, in the mode it trains in; frozen parameters have
            ``requires_grad=False``.
        inputs: A batch on the ``meta`` device.
        targets: What the loss compares the outputs with.
        loss_fn: From outputs and targets to a scalar loss.
        batch_size: Samples in the batch.

    Raises:
        CostModelError: If the model cannot run on the meta device or has nothing to train; the text says why.
    """
    parameters = list(model.parameters())
    if any(parameter.device.type != "meta" for parameter in parameters):
        raise CostModelError(f"{type(model).__name__} is not on the meta device: build it under torch.device('meta')")
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise CostModelError(f"{type(model).__name__} has no trainable parameter: there is no training step to trace")
    lasting = [*parameters, *model.buffers()]
    batch = tensors_in([inputs, targets])
    model.zero_grad(set_to_none=True)
    recorder = _Recorder({_key(tensor.untyped_storage()) for tensor in (*lasting, *batch)})
    saved = _Saved({_key(tensor.untyped_storage()) for tensor in lasting})
    try:
        with recorder:
            with _Fused(), torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
                loss = loss_fn(model(inputs), targets)
            saved.release()
            recorder.backward = True
            loss.backward()
    # A model is foreign code, which may fail in any way on tensors without data; the reason is kept.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise CostModelError(
            f"{type(model).__name__} cannot be traced without data ({type(error).__name__}: {reason}): "
            "remove what depends on values from its forward pass"
        ) from error
    finally:
        recorder.forget()
        model.zero_grad(set_to_none=True)
    return Step(
        batch_size=batch_size,
        operators=recorder.operators,
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable_parameters=sum(parameter.numel() for parameter in trained),
        trainable_tensors=len(trained),
        buffer_bytes=sum(int(buffer.untyped_storage().nbytes()) for buffer in model.buffers()),
        batch_bytes=sum(int(tensor.untyped_storage().nbytes()) for tensor in batch),
        saved_bytes=saved.total_bytes,
        live_bytes=tuple(recorder.live),
        storages=tuple(recorder.storages),
    )


def trace_training(model: nn.Module, make_batch: MakeBatch, loss_fn: Callable[..., torch.Tensor]) -> Features:
    """Counts the work of one training step of a model, whatever the batch size.

    Args:
        model: A module on the ``meta`` device, in the mode it trains in; frozen parameters have
            ``requires_grad=False``.
        make_batch: Gives the inputs and targets of a batch size, on the ``meta`` device.
        loss_fn: From outputs and targets to a scalar loss.

    Raises:
        CostModelError: If the model cannot run on the meta device or has nothing to train; the text says why.
    """
    small, large = (trace_step(model, *make_batch(size), loss_fn, size) for size in (_SMALL, _LARGE))
    if small.operators.total() != large.operators.total():
        _log.info("%s starts more operators for a larger batch; the larger count is used", type(model).__name__)
    return summarize_steps(small, large)
