"""Whether a row from a node can be true and was asked for. Pure functions."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from devprof.records import STATUSES, Measurement, OperatorTime, Workload
from strategies.fleet.wire import FleetError, NodeStatus, clean

__all__ = ["NODE_FACT", "checked_operator", "checked_run"]

NODE_FACT = "fleet_node"
"""The name in the column ``facts`` under which a row says which node it came from."""

_RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
_CALIBRATION_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_OPERATOR_STATUSES = ("ok", "oom", "error", "unsupported")
_JSON = {"warnings": "list", "throttle_reasons": "list", "facts": "object", "versions": "object", "state": "object"}
_MOST_CHARACTERS = 1 << 16
_MOST_SHOWN = 2000
# What may be below zero: temperatures on a cold day, and a statistic of dependence.
_SIGNED = {"temp_start_c", "temp_max_c", "temp_end_c", "autocorrelation"}


def checked_run(row: Mapping[str, Any], owed: Mapping[str, Workload], repeats: int, status: NodeStatus) -> Measurement:
    """A row of ``runs`` as a record.

    Args:
        row: Values by column, without ``schema_version``.
        owed: The workloads that were asked for, by the key of their configuration.
        repeats: Rows of each that were asked for.
        status: What the node says of itself; its rows must be about it.

    Raises:
        FleetError: If the row was not asked for, is about another device, or cannot be true.
    """
    if not _RUN_ID.fullmatch(str(row["run_id"])):
        raise FleetError(f"run_id {clean(str(row['run_id']), 40)!r} is none")
    workload = owed.get(str(row["configuration"]))
    if workload is None or row["repeat"] not in range(repeats):
        raise FleetError(f"the run {row['run_id']} was not asked for")
    for name in ("model", "task", "mode", "batch_size"):
        if row[name] != getattr(workload, name):
            raise FleetError(f"the run {row['run_id']} is not of the workload that it says it is of")
    _check_device(row, status)
    if row["status"] not in STATUSES:
        raise FleetError(f"status {clean(str(row['status']), 40)!r} is none of {', '.join(STATUSES)}")
    if row["status"] == "ok" and not (row["step_s"] is not None and row["step_s"] > 0):
        raise FleetError("a run that ended ok must have a positive step_s")
    _check_values(row, Measurement)
    if row["source"] != "devprof":
        raise FleetError(f"the run {row['run_id']} was not measured by devprof")
    for name, kind in _JSON.items():
        _check_json(name, row[name], kind)
    return Measurement(**_one_line_texts(row))


def checked_operator(row: Mapping[str, Any], status: NodeStatus) -> OperatorTime:
    """A row of ``operators`` as a record.

    Raises:
        FleetError: If it is about another device or cannot be true.
    """
    if not _CALIBRATION_ID.fullmatch(str(row["calibration_id"])):
        raise FleetError("calibration_id is none")
    _check_device(row, status)
    if row["status"] not in _OPERATOR_STATUSES:
        raise FleetError(f"status {clean(str(row['status']), 40)!r} is none of {', '.join(_OPERATOR_STATUSES)}")
    _check_values(row, OperatorTime)
    _check_json("versions", row["versions"], "object")
    return OperatorTime(**_one_line_texts(row))


def _check_device(row: Mapping[str, Any], status: NodeStatus) -> None:
    if (row["device"], row["device_key"]) != (status.device, status.device_key):
        raise FleetError("a row is about another device than the node is")


def _check_values(row: Mapping[str, Any], record: type) -> None:
    for field in dataclasses.fields(record):
        value = row[field.name]
        if value is None:
            if field.default is dataclasses.MISSING:
                raise FleetError(f"{field.name} is missing")
        elif isinstance(value, str):
            if len(value) > _MOST_CHARACTERS:
                raise FleetError(f"{field.name} has more than {_MOST_CHARACTERS} characters")
        elif not math.isfinite(value) or (value < 0 and field.name not in _SIGNED):
            raise FleetError(f"{field.name} cannot be {value}")


def _one_line_texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """Reasons and names are shown to people: no control characters. JSON is left as it is."""
    return {
        name: clean(value, _MOST_SHOWN) if isinstance(value, str) and name not in _JSON else value
        for name, value in row.items()
    }


def _check_json(name: str, text: str | None, kind: str) -> None:
    """Columns that hold JSON are parsed by whoever reads the row."""
    if text is None:
        return
    try:
        parsed: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FleetError(f"{name} is not JSON: {error}") from error
    if not isinstance(parsed, dict if kind == "object" else list):
        raise FleetError(f"{name} must be a JSON {kind}")
    if isinstance(parsed, list) and not all(isinstance(entry, str) for entry in parsed):
        raise FleetError(f"{name} must be a JSON list of texts")
