"""The base of the time model: seconds per step as a non-negative sum over operator families.

``step_s = sum_f c_f * work_f(B)``, where the work of each family is affine in the batch size (see
:mod:`devprof.costmodel.features`). All ``c_f >= 0``, so a prediction never falls with the batch size, is never
negative and reaches beyond what was measured. A device has few measured models and many coefficients. Therefore each
coefficient is drawn towards a profile: rough cost ratios between families, shared by all devices. What the device may
change freely are the levels of three groups (products, memory traffic, parameters) and the overheads; a single ratio
inside a group moves only as far as the measurements ask. All of it is one non-negative least-squares problem on
relative errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devprof.costmodel.features import FAMILIES, Features
from devprof.costmodel.lines import Line
from devprof.costmodel.solver import solve_non_negative
from devprof.errors import CostModelError

__all__ = ["COLUMNS", "UNITS", "BaseModel", "fit_base", "work"]

Array = npt.NDArray[np.float64]

# What a coefficient multiplies: the work of each family, then what does not depend on the batch size.
COLUMNS: tuple[str, ...] = (*FAMILIES, "operators", "trainable_parameters", "parameters", "step")

UNITS: dict[str, str] = {
    name: "multiply-accumulate" if name.endswith("_macs") else "element" if name.endswith("_elements") else "parameter"
    for name in COLUMNS
} | {"operators": "operator", "step": "step"}

# The profile: cost of one unit relative to one multiply-accumulate of a dense convolution, in round numbers. Only
# ratios count. On a Raspberry Pi and on desktop GPUs they come out alike, although the absolute costs differ by a
# factor of 500: a depthwise product or a touched element costs about what a hundred dense products cost, because it
# waits for memory. The optimizer touches gradient, momentum and parameter, each several times per step. The numbers
# were read off published tables of such devices, so errors on those tables are a little too good.
_PROFILE: dict[str, float] = {
    "conv_macs": 1.0,
    "conv_1x1_macs": 4.0,
    "conv_depthwise_macs": 100.0,
    "conv_grouped_macs": 6.0,
    "matmul_macs": 0.5,
    "attention_macs": 0.5,
    "product_elements": 20.0,
    "norm_elements": 100.0,
    "elementwise_elements": 60.0,
    "transcendental_elements": 80.0,
    "pooling_elements": 80.0,
    "moved_elements": 100.0,
    "trainable_parameters": 300.0,
    "parameters": 100.0,
}
_GROUPS: tuple[tuple[str, ...], ...] = (
    tuple(name for name in FAMILIES if name.endswith("_macs")),
    tuple(name for name in FAMILIES if name.endswith("_elements")),
    ("trainable_parameters", "parameters"),
)
# Overheads per operator and per step have no common ratio to the products (a GPU is hundreds of times faster at
# products, but not at starting operators), so they start from a share of the cheapest measured step and are almost
# free.
_OVERHEAD_SHARE: dict[str, float] = {"operators": 0.1, "step": 0.2}

# Squared relative error that a doubling may cost: of a group against the profile, of a family against its group, and
# of an overhead. Chosen by leave-one-family-out over published tables of seven devices; a factor of three changes
# little.
_GROUP_WEIGHT, _FAMILY_WEIGHT, _OVERHEAD_WEIGHT = 0.03, 0.1, 1e-3
# The profile helps where models are few. Beyond this number of models its weight falls with the square of their number.
_FEW_MODELS = 25
# The scale of the profile comes from the cheaper rows: in the others, overheads may dominate.
_SCALE_QUANTILE = 0.25


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Seconds per unit of work on one device in one mode.

    Attributes:
        seconds: One coefficient for each of :data:`COLUMNS`, none negative.
    """

    seconds: tuple[float, ...]

    def line(self, features: Features) -> Line:
        """The seconds of a step of a model as a line in the batch size."""
        coefficients = np.array(self.seconds)
        fixed = float(work(features, 0) @ coefficients)
        return Line(fixed, float(np.dot(features.per_sample, coefficients[: len(FAMILIES)])))


def work(features: Features, batch_size: float) -> Array:
    """The work of one step, in the order of :data:`COLUMNS`."""
    families = batch_size * np.array(features.per_sample) + np.array(features.constant)
    rest = [features.operators, features.trainable_parameters, features.parameters, 1.0]
    return np.concatenate([families, rest])


def fit_base(features: Sequence[Features], batch_sizes: Sequence[float], step_s: Sequence[float]) -> BaseModel:
    """Fits the coefficients to measured steps of one device in one mode.

    Args:
        features: The features of each measured configuration.
        batch_sizes: Samples per step of each.
        step_s: Measured seconds per step of each, positive.

    Raises:
        CostModelError: If there is no row.
        MissingExtraError: If scipy is not installed.
    """
    if not len(step_s):
        raise CostModelError("there is no measured step to fit a time model to: run `devprof measure` first")
    rows = np.stack([work(one, size) for one, size in zip(features, batch_sizes, strict=True)])
    times = np.asarray(step_s, dtype=float)
    prior = _prior(rows, times)
    # Steps far below the median run from the cache: they tell little about larger ones and must not outvote them.
    weights = np.sqrt(np.minimum(1.0, times / np.median(times)))
    relative = np.hstack([rows * prior / times[:, None], np.zeros((len(times), len(_GROUPS)))]) * weights[:, None]
    trust = min(1.0, (_FEW_MODELS / len(set(features))) ** 2)
    penalty, wanted = (np.sqrt(trust) * part for part in _penalty())
    solution = solve_non_negative(np.vstack([relative, penalty]), np.concatenate([weights, wanted]))
    return BaseModel(tuple(float(value) for value in solution[: len(COLUMNS)] * prior))


def _prior(rows: Array, times: Array) -> Array:
    """Where the coefficients start: the profile scaled to the rows, and overheads as shares of the cheapest steps."""
    profile = np.array([_PROFILE.get(name, 0.0) for name in COLUMNS])
    prior: Array = profile * np.exp(np.quantile(np.log(times / (rows @ profile)), _SCALE_QUANTILE))
    for name, share in _OVERHEAD_SHARE.items():
        column = COLUMNS.index(name)
        prior[column] = share * np.min(times / rows[:, column])
    return prior


def _penalty() -> tuple[Array, Array]:
    """Rows that hold the solution near the prior, and what they want.

    The unknowns are one factor on the prior for each column, then one level for each group. A level wants to be 1, a
    factor wants to equal the level of its group.
    """
    width = len(COLUMNS) + len(_GROUPS)
    rows, wanted = [], []
    for number, group in enumerate(_GROUPS):
        level = len(COLUMNS) + number
        rows.append(np.sqrt(_GROUP_WEIGHT) * np.eye(1, width, level)[0])
        wanted.append(np.sqrt(_GROUP_WEIGHT))
        for name in group:
            difference = np.eye(1, width, COLUMNS.index(name))[0] - np.eye(1, width, level)[0]
            rows.append(np.sqrt(_FAMILY_WEIGHT) * difference)
            wanted.append(0.0)
    for name in _OVERHEAD_SHARE:
        rows.append(np.sqrt(_OVERHEAD_WEIGHT) * np.eye(1, width, COLUMNS.index(name))[0])
        wanted.append(np.sqrt(_OVERHEAD_WEIGHT))
    return np.stack(rows), np.array(wanted)
