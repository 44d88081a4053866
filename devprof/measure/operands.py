"""How much memory the operands of a call take, from its signature alone. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from devprof.costmodel.operators import is_convolution
from devprof.costmodel.signature import decode_signature, is_tensor
from devprof.measure.calibration import OperatorCall

__all__ = ["extent", "needed_bytes"]


def extent(described: Mapping[str, Any]) -> int:
    """Elements from the first to the last of a described tensor, with those that its strides leave out."""
    shape: list[int] = described["t"]
    strides: list[int] | None = described.get("s")
    count = math.prod(shape)
    if strides is None or not count:
        return count
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def needed_bytes(operator: OperatorCall) -> int:
    """Roughly the memory of a call: operands, results, and the copies of both that libraries of convolutions work on.

    Raises:
        ValueError: If its signature is none.
    """
    name, args, options = decode_signature(operator.signature)
    tensors = list(_described([args, list(options.values())]))
    operands = sum(extent(tensor) * _item_bytes(tensor["d"]) for tensor in tensors)
    results = operator.elements - sum(math.prod(tensor["t"]) for tensor in tensors)
    total: float = operands + 4 * max(0.0, results)
    return round(2 * total if is_convolution(name.split(".")[1]) else total)


def _described(value: Any) -> Iterator[Mapping[str, Any]]:
    if is_tensor(value):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _described(part)


def _item_bytes(dtype: str) -> int:
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits[0]) // 8) if bits else 1
