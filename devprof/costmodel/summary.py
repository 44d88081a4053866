"""What a fitted cost model says about itself: what it was made from, how wrong it is, and what a device is slow at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from devprof.costmodel.base import COLUMNS, UNITS, BaseModel, shares, work_matrix
from devprof.costmodel.dataused import DeviceData
from devprof.costmodel.evaluate import ErrorReport, NewDeviceError
from devprof.costmodel.leftout import LeftOut
from devprof.costmodel.samples import Observation, Samples
from devprof.units import format_seconds

__all__ = ["Coefficient", "CostReport", "describe_coefficients", "nothing_left"]


@dataclass(frozen=True, slots=True)
class Coefficient:
    """What one unit of work costs on a device in a mode.

    Attributes:
        device: Name of the device.
        mode: ``full`` or ``head``.
        name: Operator family or overhead.
        seconds_per_unit: Seconds per unit.
        unit: The unit: multiply-accumulate, element, parameter, byte, sample, operator, tensor or step.
        share: Mean share of a step that it explains, over the fitted configurations.
    """

    device: str
    mode: str
    name: str
    seconds_per_unit: float
    unit: str
    share: float

    def __str__(self) -> str:
        return f"{self.name}: {_format_small(self.seconds_per_unit)} per {self.unit}, {self.share:.0%} of a step"


@dataclass(frozen=True, slots=True)
class CostReport:
    """The report of a fit.

    Attributes:
        total_rows: Rows of the table.
        used_rows: Rows that were learned from, repeats included.
        rejected: Number of rows left out, by reason.
        dropped_models: Models that cannot be traced, with the reason.
        errors: Errors on left-out families and models, by device and mode.
        memory_errors: The same for peak memory, by device.
        energy_errors: The same for energy per step, of devices with power measurements.
        power_errors: The same for mean power.
        coefficients: What work costs on each device in each mode.
        suspects: Measurements that nothing else of their device agrees with.
        kin: For each device, the others that it was fitted together with.
        interval_notes: How interval widths were found where residuals were too few, by device and mode.
        power_rejected: Number of rows whose time was used and whose power was not, by reason.
        data: What was learned from, by device.
        new_device: Errors on devices that were treated as new.
        left_out: Step times beside what was predicted without them.
        not_for: What the model must not be used for, a sentence each.
        made_by: Version of devprof that made it.
    """

    total_rows: int
    used_rows: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    dropped_models: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[ErrorReport, ...] = ()
    memory_errors: tuple[ErrorReport, ...] = ()
    energy_errors: tuple[ErrorReport, ...] = ()
    power_errors: tuple[ErrorReport, ...] = ()
    coefficients: tuple[Coefficient, ...] = ()
    suspects: tuple[str, ...] = ()
    kin: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    interval_notes: Mapping[str, str] = field(default_factory=dict)
    power_rejected: Mapping[str, int] = field(default_factory=dict)
    data: tuple[DeviceData, ...] = ()
    new_device: tuple[NewDeviceError, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    not_for: tuple[str, ...] = ()
    made_by: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CostReport:
        """The report that :meth:`to_dict` wrote."""
        return cls(
            total_rows=int(data["total_rows"]),
            used_rows=int(data["used_rows"]),
            rejected=dict(data["rejected"]),
            dropped_models=dict(data["dropped_models"]),
            errors=tuple(ErrorReport(**one) for one in data["errors"]),
            memory_errors=tuple(ErrorReport(**one) for one in data["memory_errors"]),
            energy_errors=tuple(ErrorReport(**one) for one in data["energy_errors"]),
            power_errors=tuple(ErrorReport(**one) for one in data["power_errors"]),
            coefficients=tuple(Coefficient(**one) for one in data["coefficients"]),
            suspects=tuple(data["suspects"]),
            kin={device: tuple(others) for device, others in data["kin"].items()},
            interval_notes=dict(data["interval_notes"]),
            power_rejected=dict(data["power_rejected"]),
            data=tuple(DeviceData.from_dict(one) for one in data["data"]),
            new_device=tuple(NewDeviceError(**one) for one in data["new_device"]),
            left_out=tuple(LeftOut(**one) for one in data["left_out"]),
            not_for=tuple(data["not_for"]),
            made_by=data["made_by"],
        )


def describe_coefficients(
    device: str, mode: str, base: BaseModel, observations: Sequence[Observation]
) -> list[Coefficient]:
    """The coefficients of a base with the share of a step that each explains, largest share first."""
    seconds = np.array(base.seconds)
    parts = work_matrix((one.features, one.batch_size) for one in observations) * seconds
    moved = shares(parts, base.overlap).mean(axis=0)
    rows = [
        Coefficient(device, mode, name, float(cost), UNITS[name], float(share))
        for name, cost, share in zip(COLUMNS, seconds, moved, strict=True)
    ]
    return sorted(rows, key=lambda row: -row.share)


def _format_small(seconds: float) -> str:
    """Seconds down to femtoseconds: a product on a GPU takes less than the nanosecond where everyday units end."""
    if seconds >= 1e-9 or seconds == 0:
        return format_seconds(seconds)
    return f"{seconds * 1e12:.3g} ps" if seconds >= 1e-12 else f"{seconds * 1e15:.3g} fs"


def nothing_left(collected: Samples) -> str:
    """Why there is nothing to learn from, and what would be."""
    reasons = [f"{count} x {reason}" for reason, count in collected.rejected.items()]
    reasons += [f"{model}: {reason}" for model, reason in list(collected.dropped_models.items())[:3]]
    detail = "; ".join(reasons) or "the table is empty"
    return (
        f"none of {collected.total_rows} rows can be learned from ({detail}). "
        "A cost model needs rows with status ok, task train and a positive step_s"
    )
