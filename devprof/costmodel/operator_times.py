"""How long a device takes for one operator: as it was timed, or as its neighbours in shape were.

A calibration times some thousand operators alone (``devprof calibrate``). An operator that was not among them is predicted
in two steps: a law of its kind, ``a + b * macs + c * elements`` with non-negative constants fitted to relative errors, and
a Gaussian process over the logarithms of its sizes for what the law leaves, which falls back to the law far from everything
that was timed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from devprof.costmodel.signature import decode_signature, is_tensor, tensor_shapes
from devprof.costmodel.solver import solve_non_negative

__all__ = ["OperatorTimes", "TimedOperator", "operator_kind", "operator_sizes"]

Array = npt.NDArray[np.float64]

# Correlation length in octaves of a size, standard deviation of what the law leaves, and of a timing, in log space.
_LENGTH = 2.5
_LAW_SD, _TIMING_SD = 0.5, 0.07
_CLIP = 1.5
# A kind with fewer timed operators shares the law of its family.
_OWN_LAW = 8
_MOST_NEIGHBOURS = 600


@dataclass(frozen=True, slots=True)
class TimedOperator:
    """An operator as it was timed alone."""

    signature: str
    family: str
    macs: float
    elements: float
    seconds: float


def operator_kind(signature: str, family: str) -> str:
    """What shares a law: the operator's name, and of convolutions which kind."""
    name = str(decode_signature(signature)[0])
    return f"{name} {family}"


def operator_sizes(signature: str) -> Array:
    """Logarithms (to base 2) of what the time of an operator may depend on, beside its work; always of one length."""
    name, args, _ = decode_signature(signature)
    if "convolution" in name:
        return _convolution_sizes(name, args)
    shapes = [shape for argument in args for shape in tensor_shapes(argument)] or [(1,)]
    largest = max(shapes, key=math.prod)
    strided = sum(1 for argument in args if is_tensor(argument) and "s" in argument)
    sizes = [
        math.log2(math.prod(largest) + 1),
        math.log2((largest[-1] if largest else 1) + 1),
        math.log2((largest[-2] if len(largest) > 1 else 1) + 1),
        math.log2((largest[1] if len(largest) > 2 else 1) + 1),
        math.log2(math.prod(shapes[-1]) + 1),
        2.0 * strided,
        2.0 * len(shapes),
        1.0 * len(largest),
    ]
    return np.array(sizes)


def _convolution_sizes(name: str, args: Sequence[Any]) -> Array:
    shapes = [tuple(one["t"]) for one in args if is_tensor(one)]
    gradient = "backward" in name
    # A backward call has the gradient of the output before the operands of the forward one.
    inputs, weight, stride = (shapes[1], shapes[2], args[4]) if gradient else (shapes[0], shapes[1], args[3])
    flags = 2.0 * bool(args[10][0]) + bool(args[10][1]) if gradient else 0.0
    return np.array(
        [
            math.log2(math.prod(inputs[2:]) * inputs[0]),
            math.log2(inputs[1]),
            math.log2(weight[0]),
            math.log2(max(1, inputs[1] // max(1, weight[1]))),
            math.log2(math.prod(weight[2:])),
            math.log2(inputs[-1]),
            2.0 * math.log2(max(1, stride[0])),
            2.0 * flags,
        ]
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """The law of a kind and the Gaussian process over what it leaves."""

    law: Array
    sizes: Array
    weights: Array

    def log_seconds(self, macs: float, elements: float, sizes: Array) -> float:
        left = float(np.clip(_kernel(sizes[None, :], self.sizes)[0] @ self.weights, -_CLIP, _CLIP))
        return math.log(_by_law(self.law, macs, elements)) + left


def _by_law(law: Array, macs: float, elements: float) -> float:
    """Seconds of an operator by the law of its kind."""
    return float(law @ np.array([1.0, macs, elements]))


def _kernel(left: Array, right: Array) -> Array:
    distance = np.sqrt(((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=2)) / _LENGTH
    similar: Array = _LAW_SD**2 * (1 + distance) * np.exp(-distance)
    return similar


class OperatorTimes:
    """Times of a device's operators.

    Args:
        timed: What was timed; repeats are joined by their median.

    Attributes:
        timed: The same.
    """

    def __init__(self, timed: Sequence[TimedOperator]) -> None:
        self.timed = tuple(timed)
        groups: dict[str, list[TimedOperator]] = defaultdict(list)
        for one in timed:
            groups[one.signature].append(one)
        self._known = {signature: float(np.median([one.seconds for one in own])) for signature, own in groups.items()}
        distinct = [own[0] for own in groups.values()]
        by_family: dict[str, list[TimedOperator]] = defaultdict(list)
        by_kind: dict[str, list[TimedOperator]] = defaultdict(list)
        for one in distinct:
            by_family[one.family].append(one)
            by_kind[operator_kind(one.signature, one.family)].append(one)
        self._families = {family: self._law(own) for family, own in by_family.items()}
        self._kinds: Mapping[str, _Kind] = {kind: self._fit(own) for kind, own in by_kind.items()}

    def seconds(self, signature: str, family: str, macs: float, elements: float) -> float:
        """Seconds of one call alone."""
        known = self._known.get(signature)
        if known is not None:
            return known
        kind = self._kinds.get(operator_kind(signature, family))
        if kind is not None:
            return math.exp(kind.log_seconds(macs, elements, operator_sizes(signature)))
        law = self._families.get(family)
        if law is None:
            law = np.median(np.array(list(self._families.values())), axis=0)
        return _by_law(law, macs, elements)

    def _law(self, own: Sequence[TimedOperator]) -> Array:
        rows = np.array([[1.0, one.macs, one.elements] for one in own])
        seconds = np.array([self._known[one.signature] for one in own])
        unit = np.array([seconds.mean() / max(column, 1e-30) for column in rows.mean(axis=0)])
        law = solve_non_negative(rows * unit / seconds[:, None], np.ones(len(own))) * unit
        # Something must be left of every operator, however small.
        floor = np.array([0.1 * seconds.min(), 0.0, 0.0])
        bounded: Array = np.maximum(law, floor)
        return bounded

    def _fit(self, own: Sequence[TimedOperator]) -> _Kind:
        law = self._law(own) if len(own) >= _OWN_LAW else self._families[own[0].family]
        chosen = own[:_MOST_NEIGHBOURS]
        sizes = np.stack([operator_sizes(one.signature) for one in chosen])
        left = np.array([math.log(self._known[one.signature] / _by_law(law, one.macs, one.elements)) for one in chosen])
        kernel = _kernel(sizes, sizes) + _TIMING_SD**2 * np.eye(len(chosen))
        return _Kind(law, sizes, np.linalg.solve(kernel, left))
