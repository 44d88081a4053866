"""One operator call as text: its name and the shapes and options it was called with, enough to call it again.

Two calls with the same signature do the same work, so a device needs to be asked once for its time. The text is
canonical JSON ``[name, arguments, options]``, in which a tensor is ``{"t": shape, "d": type}`` and, where its elements
do not lie one after the other, its strides under ``"s"``. No torch here: tensors are only looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "decode_signature",
    "encode_signature",
    "is_tensor",
    "step_of",
    "step_signature",
    "tensor_shapes",
]

# Whole steps of small networks stand in a table of operators, too: they show what a step costs beyond its operators.
_STEP = "devprof.step"


def encode_signature(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The signature of a call.

    Args:
        name: Name of the operator with its name space and overload, such as ``aten.addmm.default``.
        args: Positional arguments as the dispatcher sees them.
        kwargs: Named arguments. ``device`` and ``pin_memory`` are left out: where an operator runs is not what it does.
    """
    options = {key: _encode(value) for key, value in sorted(kwargs.items()) if key not in ("device", "pin_memory")}
    return json.dumps([name, [_encode(value) for value in args], options], separators=(",", ":"))


def decode_signature(signature: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Name, arguments and options of a signature; tensors are dictionaries, see :func:`is_tensor`.

    Raises:
        ValueError: If the text is no signature.
    """
    parts = json.loads(signature)
    types = (str, list, dict)
    if isinstance(parts, list) and len(parts) == 3 and all(map(isinstance, parts, types)):
        return parts[0], parts[1], parts[2]
    raise ValueError(f"not the signature of an operator: {signature[:80]!r}")


def step_signature(model: str, mode: str, batch_size: int) -> str:
    """The signature under which a whole training step stands in a table of operators."""
    return encode_signature(_STEP, (model, mode, batch_size), {})


def step_of(signature: str) -> tuple[str, str, int] | None:
    """Model, mode and batch size of a whole step; ``None`` for an operator."""
    if not signature.startswith(f'["{_STEP}"'):
        return None
    model, mode, batch_size = decode_signature(signature)[1]
    return str(model), str(mode), int(batch_size)


def is_tensor(value: Any) -> bool:
    """Whether a decoded argument is a tensor."""
    return isinstance(value, dict) and "t" in value


def tensor_shapes(value: Any) -> list[tuple[int, ...]]:
    """The shapes of all tensors in a decoded argument, lists opened."""
    if is_tensor(value):
        return [tuple(value["t"])]
    return [shape for part in value for shape in tensor_shapes(part)] if isinstance(value, list) else []


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_encode(part) for part in value]
    if hasattr(value, "untyped_storage"):
        return _encode_tensor(value)
    # Types, layouts and memory formats of torch print as "torch.float32", "torch.strided", "torch.channels_last".
    return {"x": str(value)}


def _encode_tensor(tensor: Any) -> dict[str, Any]:
    shape = [int(size) for size in tensor.shape]
    encoded: dict[str, Any] = {"t": shape, "d": str(tensor.dtype).removeprefix("torch.")}
    strides = [int(stride) for stride in tensor.stride()]
    if strides != _contiguous(shape):
        encoded["s"] = strides
    return encoded


def _contiguous(shape: Sequence[int]) -> list[int]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return strides[::-1]
