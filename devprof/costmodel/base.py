"""The base of the time model: seconds per step as a sum over kinds of work, each with its own cost on a device.

``work_s = sum_f c_f * work_f(B)`` and ``overhead_s = sum_o c_o * count_o``, where the work of each kind is affine in the
batch size (see :mod:`devprof.costmodel.features`). A processor that starts its own operators pays both, one after the
other. An accelerator works while the host prepares what comes next, so its step lies between the longer of the two
and their sum: ``(work_s^p + overhead_s^p)^(1/p)`` with ``p > 1``. All costs are positive, so a prediction never falls
with the batch size, is never negative and reaches beyond what was measured.

A device has few measured models and many costs. Therefore the costs are drawn towards a profile, in log space: a level
for products, one for memory traffic, one for parameters and one for overheads; a deviation of each kind of operator from
its level; and one of its forward and its backward pass. Devices that are measured on the same models share all of this
and deviate from each other a little. :mod:`devprof.costmodel.pool` estimates it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from devprof.costmodel.features import WORK, Features
from devprof.costmodel.operators import FAMILIES, PRODUCTS

__all__ = [
    "COLUMNS",
    "OVERHEADS",
    "UNITS",
    "BaseModel",
    "Shape",
    "combine",
    "overlap_of",
    "parameter_shape",
    "shares",
    "start",
    "work",
    "work_matrix",
]

Array = npt.NDArray[np.float64]

# Paid one after the other with the work on a CPU, beside it on an accelerator.
OVERHEADS: tuple[str, ...] = ("forward_operators", "backward_operators", "trainable_tensors", "step")
COLUMNS: tuple[str, ...] = (*WORK, "trainable_parameters", "parameters", "mapped_bytes", "samples", *OVERHEADS)
_FIRST_OVERHEAD = len(COLUMNS) - len(OVERHEADS)


def _unit(name: str) -> str:
    if name.endswith("_macs"):
        return "multiply-accumulate"
    return name.rpartition("_")[2].removesuffix("s")


UNITS: dict[str, str] = {name: _unit(name) for name in COLUMNS}

# The profile: cost of one unit relative to one multiply-accumulate of a dense convolution, in round numbers. Only
# ratios count. On a Raspberry Pi and on desktop GPUs they come out alike, although the absolute costs differ by a
# factor of 500: a depthwise product or a touched element costs about what a hundred dense products cost, because it
# waits for memory. The optimizer touches gradient, momentum and parameter, each several times per step. The numbers
# were read off published tables of such devices, so errors on those tables are a little too good.
_PROFILE_MACS = {
    "conv": 1.0,
    "conv_1x1": 4.0,
    "conv_depthwise": 100.0,
    "conv_grouped": 6.0,
    "matmul": 0.5,
    "attention": 0.5,
}
_PROFILE_ELEMENTS = dict.fromkeys(PRODUCTS, 20.0) | {
    "norm": 100.0,
    "elementwise": 60.0,
    "transcendental": 80.0,
    "pooling": 80.0,
    "moved": 100.0,
}
_PROFILE_OTHERS = {"trainable_parameters": 300.0, "parameters": 30.0, "mapped_bytes": 30.0}
# What has no common ratio to the products starts as a share of the cheapest measured step.
_SHARES = {
    "samples": 0.01,
    "forward_operators": 0.1,
    "backward_operators": 0.1,
    "trainable_tensors": 0.05,
    "step": 0.05,
}
# The scale of the profile comes from the cheaper rows: in the others, overheads may dominate.
_SCALE_QUANTILE = 0.25

_ACCELERATOR_OVERLAP = 1.5


def overlap_of(processor: str | None) -> float:
    """The exponent with which work and overhead overlap on a kind of processor: 1 is not at all."""
    return 1.0 if processor is None or processor.startswith("cpu") else _ACCELERATOR_OVERLAP


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Seconds per unit of work on one device.

    Attributes:
        seconds: One cost for each of :data:`COLUMNS`, none negative.
        overlap: Exponent with which work and overhead overlap; 1 on a CPU.
    """

    seconds: tuple[float, ...]
    overlap: float = 1.0

    def curve(self, features: Features, batch_sizes: Array) -> Array:
        """The seconds of a step at each batch size; 0 asks for what every step pays."""
        return combine(work(features, batch_sizes) * np.array(self.seconds), self.overlap)


def combine(parts: Array, overlap: float) -> Array:
    """Seconds of steps from the seconds of their columns, shape (rows, columns)."""
    if overlap == 1.0:
        total: Array = parts.sum(axis=1)
        return total
    works, overheads = parts[:, :_FIRST_OVERHEAD].sum(axis=1), parts[:, _FIRST_OVERHEAD:].sum(axis=1)
    both: Array = (works**overlap + overheads**overlap) ** (1 / overlap)
    return both


def shares(parts: Array, overlap: float) -> Array:
    """How much of the logarithm of a step's seconds moves with the logarithm of each column, shape (rows, columns)."""
    if overlap == 1.0:
        whole: Array = parts / parts.sum(axis=1, keepdims=True)
        return whole
    works, overheads = parts[:, :_FIRST_OVERHEAD].sum(axis=1), parts[:, _FIRST_OVERHEAD:].sum(axis=1)
    total = works**overlap + overheads**overlap
    factors = np.repeat((works ** (overlap - 1) / total)[:, None], parts.shape[1], axis=1)
    factors[:, _FIRST_OVERHEAD:] = (overheads ** (overlap - 1) / total)[:, None]
    moved: Array = parts * factors
    return moved


def work(features: Features, batch_sizes: Array) -> Array:
    """The work of one step at each batch size, shape (sizes, columns), columns as in :data:`COLUMNS`."""
    sizes = np.asarray(batch_sizes, dtype=float)
    rest = np.empty((len(sizes), len(COLUMNS) - len(WORK)))
    rest[:, 0] = features.trainable_parameters
    rest[:, 1] = features.parameters
    rest[:, 2] = features.mapped_bytes(sizes)
    rest[:, 3] = sizes
    rest[:, 4] = features.forward_operators
    rest[:, 5] = features.backward_operators
    rest[:, 6] = features.trainable_tensors
    rest[:, 7] = 1.0
    return np.hstack([features.work(sizes), rest])


def work_matrix(rows: Iterable[tuple[Features, float]]) -> Array:
    """The work of several steps, shape (rows, columns)."""
    return np.vstack([work(features, np.array([batch_size])) for features, batch_size in rows])


def start(rows: Array, seconds: Array) -> Array:
    """Costs to start from: the profile scaled to measured steps, the rest as shares of the cheapest of them."""
    profile = np.array([_profile(name) for name in COLUMNS])
    costs: Array = profile * np.exp(np.quantile(np.log(seconds / (rows @ profile)), _SCALE_QUANTILE))
    for name, share in _SHARES.items():
        column = COLUMNS.index(name)
        costs[column] = share * np.min(seconds / np.maximum(rows[:, column], 1e-30))
    return costs


def _profile(name: str) -> float:
    if name in _PROFILE_OTHERS or name in _SHARES:
        return _PROFILE_OTHERS.get(name, 0.0)
    _, family = name.split("_", 1)
    if family.endswith("_macs"):
        return _PROFILE_MACS[family.removesuffix("_macs")]
    return _PROFILE_ELEMENTS[family.removesuffix("_elements")]


@dataclass(frozen=True, slots=True)
class Shape:
    """How the logarithms of the costs hang together: ``log c = log start + matrix @ parameters``.

    Attributes:
        matrix: Shape (columns, parameters).
        sds: Standard deviation of each parameter around 0, for devices in general.
        own_sds: The same for one device around its kin.
    """

    matrix: Array
    sds: Array
    own_sds: Array


# Standard deviations in log space, of a device in general and of one device around its kin: of the whole, of the levels
# (products, traffic, parameters), of overheads, of the kinds, and of forward and backward apart. Chosen by
# leave-one-family-out and leave-one-device-out over published tables of seven devices and one of our own, and rounded; a
# factor of two changes errors by a few tenths of a percent, so they are a little too good on those tables. Accelerators keep
# closer to the profile: all of them wait for memory where the libraries of processors differ by the instructions they use.
_SCALE_SDS = (5.0, 2.0)
_LEVEL_SDS = (3.0, 0.15)
_OVERHEAD_SDS = (3.0, 0.2)
_KIND_SDS, _ACCELERATOR_KIND_SDS = (3.0, 0.15), (0.8, 0.15)
_WAY_SDS, _ACCELERATOR_WAY_SDS = (1.5, 0.1), (0.5, 0.1)

_LEVELS: tuple[tuple[str, ...], ...] = (
    tuple(name for name in WORK if name.endswith("_macs")),
    tuple(name for name in WORK if name.endswith("_elements")),
    ("trainable_parameters", "parameters"),
)
_KINDS: tuple[tuple[str, str], ...] = tuple(
    (f"forward_{name}", f"backward_{name}")
    for name in (*(f"{one}_macs" for one in PRODUCTS), *(f"{one}_elements" for one in FAMILIES))
)


@lru_cache(maxsize=2)
def parameter_shape(overlap: float) -> Shape:
    """The hierarchy of the costs.

    Args:
        overlap: As :func:`overlap_of` says; it tells accelerators from processors.
    """
    kind, way = (_KIND_SDS, _WAY_SDS) if overlap == 1.0 else (_ACCELERATOR_KIND_SDS, _ACCELERATOR_WAY_SDS)
    groups: list[tuple[tuple[str, ...], tuple[float, float]]] = [(COLUMNS, _SCALE_SDS)]
    groups += [(names, _LEVEL_SDS) for names in _LEVELS]
    groups += [((name,), _OVERHEAD_SDS) for name in ("mapped_bytes", "samples", *OVERHEADS)]
    groups += [(OVERHEADS, _OVERHEAD_SDS)]
    groups += [(names, kind) for names in _KINDS]
    groups += [((name,), way) for name in (*WORK, "trainable_parameters", "parameters")]
    matrix = np.array([[float(name in names) for names, _ in groups] for name in COLUMNS])
    return Shape(matrix, np.array([sds[0] for _, sds in groups]), np.array([sds[1] for _, sds in groups]))
