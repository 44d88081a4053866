"""What a calibration leaves behind: how long a device needs for one operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["OperatorStatus", "OperatorTime"]

OperatorStatus = Literal["ok", "oom", "error", "unsupported"]


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """One operator as it was timed on a device: a row of the table ``operators``.

    Attributes:
        calibration_id: The calibration this row belongs to, which is also the name of its file.
        started_utc: When the calibration began.
        devprof_version: The devprof that measured it.
        device: Name of the board.
        device_key: Rows with one key may be compared; see :class:`~devprof.records.workload.Device`.
        processor: ``cpu`` or ``cuda``.
        signature: The call: name, shapes and options; see :mod:`devprof.costmodel.signature`.
        family: The family of the operator, such as ``conv_1x1`` or ``norm``.
        macs: Multiply-accumulates of one call; 0 for what is no product.
        elements: Elements that one call reads and writes.
        status: ``ok``, ``oom`` (memory was or would have been out), ``unsupported`` (it cannot be called again by itself) or
            ``error``.
        power_mode: The board's named power mode.
        threads: Intra-operator threads.
        seconds: One call that follows others like it: the median.
        seconds_first: One call whose operands were not lately touched: the shortest of three, of long operators the only one.
        faults: Minor page faults per call.
        calls: Calls in the timed window.
        rss_peak_bytes: Peak resident memory of the process, of whole steps only: each of them has a process of its own.
        error: The reason where the status is not ``ok``.
        versions: Versions and build facts of what ran, as JSON.
    """

    calibration_id: str
    started_utc: str
    devprof_version: str
    device: str
    device_key: str
    processor: str
    signature: str
    family: str
    macs: float
    elements: float
    status: OperatorStatus
    power_mode: str | None = None
    threads: int | None = None
    seconds: float | None = None
    seconds_first: float | None = None
    faults: float | None = None
    calls: int | None = None
    rss_peak_bytes: int | None = None
    error: str | None = None
    versions: str | None = None
