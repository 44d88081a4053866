"""Honest errors: every number comes from measurements that the fit did not see.

Leave-one-family-out answers for a model that is really new, leave-one-model-out for a sibling of measured ones.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from devprof.costmodel.interval import Groups, Residuals, half_width

__all__ = [
    "ELSEWHERE",
    "FAMILY_OUT",
    "KNOWN_MODELS",
    "MODEL_OUT",
    "UNSEEN_FAMILY",
    "ErrorReport",
    "NewDeviceError",
    "error_reports",
    "kendall_tau",
    "summarize_new_device",
]

FAMILY_OUT, MODEL_OUT = "leave-one-family-out", "leave-one-model-out"
ELSEWHERE = "known on kin devices only"
KNOWN_MODELS, UNSEEN_FAMILY = "models known on kin", "family seen nowhere"


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """Errors on measurements that were left out of the fit.

    Attributes:
        device: Name of the device.
        mode: ``full`` or ``head``.
        scheme: ``leave-one-family-out``, ``leave-one-model-out``, or ``known on kin devices only``: the model was left
            out on this device only.
        rows: Measured configurations.
        groups: Families or models, each left out once.
        mape: Mean of |predicted / measured - 1|; ``None`` where nothing could be left out.
        median: Median of the same.
        within_10: Share of configurations predicted within 10 %.
        within_20: Share within 20 %.
        coverage_90: Share inside 90 % intervals made from the residuals of the other groups; ``None`` below three
            groups.
        kendall_tau: Rank correlation of predicted and measured (Kendall's tau-b); ``None`` below two rows.
        note: Why there is no number; empty where there is one.
    """

    device: str
    mode: str
    scheme: str
    rows: int
    groups: int
    mape: float | None = None
    median: float | None = None
    within_10: float | None = None
    within_20: float | None = None
    coverage_90: float | None = None
    kendall_tau: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return asdict(self)


def error_reports(device: str, mode: str, residuals: Residuals, rows: int) -> list[ErrorReport]:
    """The errors behind the residuals of one device and mode.

    Args:
        device: Name of the device.
        mode: ``full`` or ``head``, or what else the rows have in common.
        residuals: Of what was left out.
        rows: Measured configurations.
    """
    reports = [
        _summarize(
            ErrorReport(device, mode, FAMILY_OUT, rows, 1), residuals.families, residuals.costs.get("families", ())
        ),
        _summarize(ErrorReport(device, mode, MODEL_OUT, rows, 1), residuals.models, residuals.costs.get("models", ())),
    ]
    if residuals.kin:
        blank = ErrorReport(device, mode, ELSEWHERE, rows, 1)
        reports.append(_summarize(blank, residuals.kin, residuals.costs.get("kin", ())))
    return reports


def _summarize(blank: ErrorReport, groups: Groups, costs: Sequence[float]) -> ErrorReport:
    if not groups:
        unit = "family" if blank.scheme == FAMILY_OUT else "model"
        note = f"{blank.device} has one {unit} only in mode {blank.mode}: nothing can be left out"
        return replace(blank, note=f"{note}; measure models of other families")
    logs = [value for values in groups.values() for value in values]
    errors = [abs(math.exp(-value) - 1) for value in logs]
    tau = None
    if len(costs) == len(logs) > 1:
        tau = kendall_tau(costs, [cost / math.exp(log) for cost, log in zip(costs, logs, strict=True)])
    return replace(
        blank,
        rows=len(errors),
        groups=len(groups),
        mape=statistics.fmean(errors),
        median=statistics.median(errors),
        within_10=statistics.fmean(error <= 0.1 for error in errors),
        within_20=statistics.fmean(error <= 0.2 for error in errors),
        coverage_90=_coverage(groups),
        kendall_tau=tau,
    )


def kendall_tau(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Kendall's tau-b: pairs in the same order less pairs in the other, over all, ties corrected (Biometrika 33, 1945).

    Returns:
        ``None`` where one side is constant.
    """
    a, b = (np.sign(np.subtract.outer(np.asarray(side), np.asarray(side))) for side in (left, right))
    norm = math.sqrt(float(np.abs(a).sum()) * float(np.abs(b).sum()))
    return float((a * b).sum()) / norm if norm else None


def _coverage(groups: Groups) -> float | None:
    """Share of residuals inside the interval that the other groups would have given; groups weigh the same."""
    if len(groups) < 3:
        return None
    shares = []
    for name, values in groups.items():
        width, _ = half_width({other: own for other, own in groups.items() if other != name})
        shares.append(statistics.fmean(abs(value) <= width for value in values))
    return statistics.fmean(shares)


@dataclass(frozen=True, slots=True)
class NewDeviceError:
    """Mean errors on a device that was treated as new.

    Attributes:
        device: Name of the device.
        scheme: ``models known on kin`` devices or ``family seen nowhere``.
        probes: Random rows of the device that were kept; with 0, its calibration.
        draws: How often probes (or families) were drawn.
        rows: Predictions that were compared, over all draws.
        mape: Mean of |predicted / measured - 1|; ``None`` where nothing could be tried.
        median: Median of the same.
        within_20: Share within 20 %.
        note: Why there is no number; empty where there is one.
    """

    device: str
    scheme: str
    probes: int
    draws: int = 0
    rows: int = 0
    mape: float | None = None
    median: float | None = None
    within_20: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The error as plain JSON types."""
        return asdict(self)


def summarize_new_device(
    device: str, scheme: str, probes: int, draws: int, logs: Sequence[float], *, empty: str
) -> NewDeviceError:
    """The error of many predictions.

    Args:
        device: Name of the device.
        scheme: What was known of the models.
        probes: Rows of the device that were kept.
        draws: How often they were drawn.
        logs: Logarithms of measured over predicted.
        empty: Why there are none, if there are none.
    """
    if not logs:
        return NewDeviceError(device, scheme, probes, note=empty)
    errors = np.abs(np.expm1(-np.array(logs)))
    within = float((errors <= 0.2).mean())
    return NewDeviceError(
        device, scheme, probes, draws, len(logs), float(errors.mean()), float(np.median(errors)), within
    )
