"""Measurements made by other tools, from a CSV with devprof's own column names.

A row that makes no sense is reported with its line and left out, the others are taken; columns that devprof does not know are
reported and left out. Importing the same rows again adds nothing.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from devprof.errors import StoreError
from devprof.records import MODES, STATUSES, TASKS, Measurement
from devprof.store.folder import read_table, write_records
from devprof.store.schema import column_types

__all__ = ["ImportReport", "RejectedRow", "import_csv"]

_REQUIRED = ("device", "processor", "model", "mode", "batch_size")
_CHOICES = {"mode": MODES, "status": STATUSES, "task": TASKS}
# What importing decides, not the table.
_OWN = {"run_id", "started_utc", "devprof_version", "device_key"}
# Columns of published tables that belong into the column ``versions``.
_VERSION_COLUMNS = ("framework",)
_MISSING = {"", "nan", "na", "n/a", "null", "none"}


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was not imported, by its line in the file, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What came of an import."""

    imported: int
    already_there: int
    rejected: tuple[RejectedRow, ...]
    unknown_columns: tuple[str, ...]


def import_csv(path: Path, folder: Path, *, version: str) -> ImportReport:
    """Import a CSV table of runs into a measurement folder.

    Args:
        path: The table; its header names columns of ``runs``.
        folder: The measurement folder, made if absent.
        version: devprof's version, kept with the rows.

    Raises:
        StoreError: If the file cannot be read, is no such table, or the folder cannot be written.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or [])
            lines = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path} cannot be read as CSV: {error}") from error
    missing = [column for column in _REQUIRED if column not in header]
    if missing:
        raise StoreError(
            f"{path} lacks the columns {', '.join(missing)}; the columns are described in docs/measuring.md"
        )

    existing = set(read_table(folder, "runs")[0].column("run_id").to_pylist()) if folder.is_dir() else set()
    runs: dict[str, Measurement] = {}
    rejected: list[RejectedRow] = []
    again = 0
    for line, row in lines:
        try:
            run = _parse_row(row, version)
        except ValueError as error:
            rejected.append(RejectedRow(line, str(error)))
            continue
        if run.run_id in existing or run.run_id in runs:
            again += 1
        else:
            runs[run.run_id] = run
    if runs:
        name = "import-" + hashlib.sha256("".join(runs).encode()).hexdigest()[:16]
        write_records(folder, "runs", name, runs.values())
    known = {*column_types("runs"), *_VERSION_COLUMNS}
    return ImportReport(len(runs), again, tuple(rejected), tuple(column for column in header if column not in known))


def _parse_row(row: Mapping[str | None, Any], version: str) -> Measurement:
    if None in row:
        raise ValueError("the row has more fields than the header")
    values: dict[str, Any] = {}
    for column, kind in column_types("runs").items():
        text = row.get(column)
        if column in _OWN or text is None or text.strip().lower() in _MISSING:
            continue
        values[column] = _parse_value(column, text.strip(), kind)
    for column in _REQUIRED:
        if column not in values:
            raise ValueError(f"{column} is missing")
    values.setdefault("task", "train")
    values.setdefault("status", "ok")
    for column, choices in _CHOICES.items():
        if values[column] not in choices:
            raise ValueError(f"{column} is {values[column]!r}, not one of {', '.join(choices)}")
    if values["status"] == "ok" and "step_s" not in values:
        raise ValueError("step_s is missing, though the status is ok")
    versions = {column: row[column] for column in _VERSION_COLUMNS if row.get(column)}
    if versions and "versions" not in values:
        values["versions"] = json.dumps(versions, sort_keys=True)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    identity = json.dumps([values["device"], values["processor"], values.get("power_mode"), versions], sort_keys=True)
    return Measurement(
        run_id=f"import-{digest[:16]}",
        started_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        devprof_version=version,
        device_key="import-" + hashlib.sha256(identity.encode()).hexdigest()[:12],
        **values,
    )


def _parse_value(column: str, text: str, kind: type) -> Any:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in {"true", "false", "1", "0"}:
            raise ValueError(f"{column} is {text!r}, not true or false")
        return text.lower() in {"true", "1"}
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{column} is {text!r}, not a number") from None
    if not math.isfinite(number) or (number < 0 and not column.endswith("_c")):
        raise ValueError(f"{column} is {text}, which cannot be")
    if column in {"step_s", "batch_size"} and number == 0:
        raise ValueError(f"{column} is 0, which cannot be")
    if kind is int:
        if number != int(number):
            raise ValueError(f"{column} is {text}, not a whole number")
        return int(number)
    return number
