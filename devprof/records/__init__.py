"""The records that travel between the parts of devprof. Layer 0: standard library only.

Frozen and inert: a record holds what was asked, measured, predicted or planned, in SI units with the unit in the name.
What was not measured is ``None``, never 0 and never a default.
"""

from __future__ import annotations

from devprof.records.federation import ClientPlan, Evaluation, Link, RoundLog, RoundPlan
from devprof.records.measurement import Measurement, PowerSample, StepTime
from devprof.records.operator import OperatorStatus, OperatorTime
from devprof.records.prediction import Estimate, Prediction
from devprof.records.workload import MODES, STATUSES, TASKS, Device, Mode, Status, Task, Workload

__all__ = [
    "MODES",
    "STATUSES",
    "TASKS",
    "ClientPlan",
    "Device",
    "Estimate",
    "Evaluation",
    "Link",
    "Measurement",
    "Mode",
    "OperatorStatus",
    "OperatorTime",
    "PowerSample",
    "Prediction",
    "RoundLog",
    "RoundPlan",
    "Status",
    "StepTime",
    "Task",
    "Workload",
]
