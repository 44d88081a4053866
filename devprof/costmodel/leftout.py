"""Predictions of measurements that the fit did not see, row by row: what an honest picture of a cost model shows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from devprof.costmodel.interval import Groups, Residuals, half_width
from devprof.costmodel.samples import Observation

__all__ = ["LeftOut", "left_out_rows"]

# Groups from which an interval can be made of the others.
_ENOUGH_GROUPS = 3
# What was left out, and as what such a prediction counts.
_BASES = (("families", "new-family"), ("models", "known-family"), ("kin", "known-model"))
_SIZES = (("pairs", "known-pair"), ("between", "known-pair"))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One measured step, and what was predicted for it without it.

    Attributes:
        device: Name of the device.
        model: Name of the model.
        mode: ``full`` or ``head``.
        batch_size: Samples per step.
        image_size: Height and width of the input; ``None`` where the table does not say.
        num_classes: Outputs of the classifier; ``None`` where the table does not say.
        basis: What was left out: ``new-family`` (the family, on all kin devices), ``known-family`` (the model, on all kin
            devices), ``known-model`` (the model on this device) or ``known-pair`` (this batch size of the model).
        measured_s: Seconds per step.
        predicted_s: Seconds per step.
        low_s: Lower bound of the 90 % interval made from the residuals of the other groups; ``None`` below three groups.
        high_s: Upper bound.
    """

    device: str
    model: str
    mode: str
    batch_size: int
    image_size: int | None
    num_classes: int | None
    basis: str
    measured_s: float
    predicted_s: float
    low_s: float | None = None
    high_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return asdict(self)


def left_out_rows(observations: Sequence[Observation], modes: Mapping[str, Residuals]) -> list[LeftOut]:
    """The residuals of a device joined with what they belong to.

    A model without a sibling is left out with its family only: both are the same question.

    Args:
        observations: What was measured on the device.
        modes: Its residuals by mode.
    """
    siblings: defaultdict[str, set[str]] = defaultdict(set)
    for one in observations:
        siblings[one.family].add(one.configuration.model)
    found: list[LeftOut] = []
    for mode, residuals in modes.items():
        own = [one for one in observations if one.configuration.mode == mode]
        for name, basis in (*_BASES, *_SIZES):
            groups: Groups = getattr(residuals, name)
            rows = _rows(own, name, basis, groups, residuals.costs.get(name, ()))
            if name == "models":
                families = {one.configuration.model: one.family for one in own}
                rows = [row for row in rows if len(siblings[families[row.model]]) > 1]
            found += rows
    return found


def _rows(
    observations: Sequence[Observation], name: str, basis: str, groups: Groups, costs: Sequence[float]
) -> list[LeftOut]:
    """One row for each residual; what was measured tells to which observation of its group it belongs."""
    waiting: defaultdict[tuple[str, float], list[Observation]] = defaultdict(list)
    for one in observations:
        waiting[one.family if name == "families" else one.configuration.model, one.value].append(one)
    pairs = ((group, value) for group, values in groups.items() for value in values)
    rows = []
    for (group, residual), cost in zip(pairs, costs, strict=True):
        one = waiting[group, cost].pop(0)
        predicted = cost / math.exp(residual)
        width = _width(groups, group)
        rows.append(
            LeftOut(
                device=one.device,
                model=one.configuration.model,
                mode=one.configuration.mode,
                batch_size=one.batch_size,
                image_size=one.configuration.image_size,
                num_classes=one.configuration.num_classes,
                basis=basis,
                measured_s=cost,
                predicted_s=predicted,
                low_s=None if width is None else predicted * math.exp(-width),
                high_s=None if width is None else predicted * math.exp(width),
            )
        )
    return rows


def _width(groups: Groups, group: str) -> float | None:
    """The half width that the other groups give: that of all would have seen what it is to cover."""
    if len(groups) < _ENOUGH_GROUPS:
        return None
    return half_width({other: values for other, values in groups.items() if other != group})[0]
