"""Which family an operator of torch belongs to, and how much work it is.

Names are those of ATen, as the dispatcher sees them below autograd. What computes something and is not named here is
elementwise.
This module needs no torch: it only looks at shapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["FAMILIES", "PRODUCTS", "classify", "count_elements", "is_convolution", "is_free", "tensors_in"]

# Products, whose cost is multiply-accumulates and elements, and what only touches elements.
PRODUCTS: tuple[str, ...] = (
    "conv",  # kernel larger than 1, all channels connected
    "conv_1x1",
    "conv_depthwise",
    "conv_grouped",
    "matmul",
    "attention",  # batched products and fused attention
)
FAMILIES: tuple[str, ...] = (
    *PRODUCTS,
    "norm",
    "elementwise",
    "transcendental",  # exp, tanh, erf and the like: many instructions per element
    "pooling",
    "moved",  # copies, concatenation, gather, padding, rolling; views are free
)

# Results without arithmetic or traffic: allocations, and views that the schema does not mark as such.
_FREE = re.compile(r"_unsafe_view|_reshape_alias|(?:new_)?empty(?:_like|_strided)?|detach|lift_fresh")

_NORM = re.compile(r".*(?:batch|layer|group|instance|rms)_norm.*")
_POOL = re.compile(r".*pool.*|upsample.*|grid_sampler.*")
_MOVE = re.compile(
    r"""
    cat | stack | clone | (?:_to_)?copy_? | contiguous | roll | flip | repeat | repeat_interleave | im2col | col2im
    | index | index_(?:select|put|add|copy)_? | gather | scatter(?:_add|_reduce)?_? | where | masked_fill_?
    | tril | triu
    | .*_pad(?:\dd|_nd)(?:_backward)? | embedding(?:_dense_backward)?
    | (?:select|slice|unfold|as_strided)_(?:backward|scatter)
    | pixel_(?:un)?shuffle | channel_shuffle | unsafe_split | split_with_sizes_copy
    | (?:new_)?(?:zeros|ones|full)(?:_like)? | zero_ | fill_
    """,
    re.VERBOSE,
)
_TRANSCENDENTAL = re.compile(
    r"""
    exp | expm1 | log | log1p | logsumexp | sqrt | rsqrt | pow | sin | cos | tan | tanh | atan2 | hypot | erf | sigmoid
    | gelu | silu | mish | elu | selu | celu | softplus | softmax | log_softmax | safe_softmax
    | log_sigmoid(?:_forward)? | bernoulli | normal | uniform | rand(?:n)?(?:_like)? | native_dropout
    """,
    re.VERBOSE,
)

Counter = Callable[[Sequence[Any], Any], tuple[str, float]]


def is_free(name: str) -> bool:
    """Whether an operator neither computes nor moves anything."""
    return _FREE.fullmatch(name) is not None


def tensors_in(values: Any) -> list[Any]:
    """The tensors among arguments or results, lists and tuples opened."""
    if isinstance(values, (list, tuple)):
        return [tensor for value in values for tensor in tensors_in(value)]
    return [values] if hasattr(values, "untyped_storage") else []


def count_elements(values: Any) -> int:
    """Elements of all tensors among arguments or results."""
    return sum(int(tensor.numel()) for tensor in tensors_in(values))


def is_convolution(name: str) -> bool:
    """Whether an operator is a convolution or its gradient."""
    return name in ("convolution", "convolution_backward")


def classify(name: str, args: Sequence[Any], result: Any) -> tuple[str, float, float]:
    """Family and amount of work of one operator.

    Args:
        name: Name of the ATen operator without name space and overload.
        args: Its positional arguments.
        result: What it returned.

    Returns:
        One of :data:`FAMILIES`, multiply-accumulates (0 for what is no product), and elements read plus written.
    """
    elements = float(count_elements(args) + count_elements(result))
    counter = _PRODUCTS.get(name)
    if counter is not None:
        return *counter(args, result), elements
    if name.startswith("_scaled_dot_product"):
        return "attention", _attention_macs(args, backward="backward" in name), elements
    return _element_family(name), 0.0, elements


def _element_family(name: str) -> str:
    if _NORM.fullmatch(name):
        return "norm"
    if _POOL.fullmatch(name):
        return "pooling"
    if _MOVE.fullmatch(name):
        return "moved"
    stem = name.strip("_").removesuffix("_data").removesuffix("_backward")
    return "transcendental" if _TRANSCENDENTAL.fullmatch(stem) else "elementwise"


def _conv_family(weight: Any, groups: int) -> str:
    if groups > 1:
        return "conv_depthwise" if weight.shape[1] == 1 else "conv_grouped"
    return "conv_1x1" if math.prod(weight.shape[2:]) == 1 else "conv"


def _conv_macs(inputs: Any, weight: Any, outputs: Any, transposed: bool) -> float:
    """Multiply-accumulates of a forward convolution; each gradient of it needs as many."""
    positions = inputs if transposed else outputs
    return float(positions.numel() * math.prod(weight.shape[1:]))


def _convolution(args: Sequence[Any], result: Any) -> tuple[str, float]:
    inputs, weight, transposed, groups = args[0], args[1], args[6], args[8]
    return _conv_family(weight, groups), _conv_macs(inputs, weight, result, transposed)


def _convolution_backward(args: Sequence[Any], _result: Any) -> tuple[str, float]:
    gradient, inputs, weight, transposed, groups, wanted = args[0], args[1], args[2], args[7], args[9], args[10]
    # A frozen layer wants no weight gradient, the first layer no input gradient: only what is asked for costs.
    products = int(wanted[0]) + int(wanted[1])
    return _conv_family(weight, groups), products * _conv_macs(inputs, weight, gradient, transposed)


def _product(family: str, left: int) -> Counter:
    """A matrix product whose left operand is the argument at the given position."""

    def count(args: Sequence[Any], result: Any) -> tuple[str, float]:
        return family, float(result.numel() * args[left].shape[-1])

    return count


def _attention_macs(args: Sequence[Any], *, backward: bool) -> float:
    query, key, value = args[1:4] if backward else args[0:3]
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    depth, depth_value = query.shape[-1], value.shape[-1]
    # Fused backward passes compute the scores again, then four gradients (FlashAttention, arXiv:2205.14135).
    return float(pairs * (3 * depth + 2 * depth_value) if backward else pairs * (depth + depth_value))


_PRODUCTS: Mapping[str, Counter] = {
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "mm": _product("matmul", 0),
    "mv": _product("matmul", 0),
    "dot": _product("matmul", 0),
    "addmm": _product("matmul", 1),
    "addmv": _product("matmul", 1),
    "_addmm_activation": _product("matmul", 1),
    "bmm": _product("attention", 0),
    "baddbmm": _product("attention", 1),
}
