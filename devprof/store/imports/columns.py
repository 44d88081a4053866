"""Reading CSV, and from the texts of a row to the values of columns of ``runs``."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devprof.errors import StoreError
from devprof.records import MODES, STATUSES, TASKS
from devprof.store.schema import column_types

__all__ = ["LARGEST_INTEGER", "REQUIRED", "CsvRow", "parse_columns", "parse_number", "read_csv"]

REQUIRED = ("device", "processor", "model", "mode", "batch_size")
_CHOICES = {"mode": MODES, "status": STATUSES, "task": TASKS}
# What importing decides, not the table.
_OWN = {"run_id", "started_utc", "devprof_version", "device_key"}
_MISSING = {"", "nan", "na", "n/a", "null", "none"}
# The largest that a column of whole numbers can hold.
LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class CsvRow:
    """A row as it stands in the file.

    Attributes:
        line: Where it ends in the file, from 1.
        cells: Text by column; without the cells that are empty or say that there is no value.
        too_long: Whether it has more fields than the header.
    """

    line: int
    cells: Mapping[str, str]
    too_long: bool

    def texts(self) -> Mapping[str, str]:
        """The cells, if each of them belongs to a column.

        Raises:
            ValueError: If the row has more fields than the header.
        """
        if self.too_long:
            raise ValueError("the row has more fields than the header")
        return self.cells


def read_csv(path: Path) -> tuple[list[str], list[CsvRow]]:
    """Header and rows of a CSV file in UTF-8.

    Raises:
        StoreError: If the file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or [])
            rows = [_row(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path} cannot be read as CSV: {error}") from error
    return header, rows


def _row(line: int, row: Mapping[str | None, Any]) -> CsvRow:
    # The csv module puts surplus fields under None, and None into columns that a short row does not reach.
    cells = {column: text.strip() for column, text in row.items() if column is not None and text is not None}
    present = {column: text for column, text in cells.items() if text.lower() not in _MISSING}
    return CsvRow(line, present, None in row)


def parse_columns(texts: Mapping[str, str]) -> dict[str, Any]:
    """The values of the columns of ``runs`` that a row's texts name; what is no such column is left out.

    Without a ``task`` and a ``status`` a row is a training run that went well.

    Raises:
        ValueError: If a value makes no sense or one that every run needs is missing; says which.
    """
    kinds = column_types("runs")
    values = {
        column: _parse_value(column, texts[column], kind)
        for column, kind in kinds.items()
        if column in texts and column not in _OWN
    }
    for column in REQUIRED:
        if column not in values:
            raise ValueError(f"{column} is missing")
    values.setdefault("task", "train")
    values.setdefault("status", "ok")
    for column, choices in _CHOICES.items():
        if values[column] not in choices:
            raise ValueError(f"{column} is {values[column]!r}, not one of {', '.join(choices)}")
    return values


def parse_number(column: str, text: str) -> float:
    """A finite number that is not negative, or is a temperature.

    Raises:
        ValueError: If the text is no such number; names the column.
    """
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{column} is {text!r}, not a number") from None
    if not math.isfinite(number) or (number < 0 and not column.endswith("_c")):
        raise ValueError(f"{column} is {text}, which cannot be")
    return number


def _parse_value(column: str, text: str, kind: type) -> Any:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in {"true", "false", "1", "0"}:
            raise ValueError(f"{column} is {text!r}, not true or false")
        return text.lower() in {"true", "1"}
    number = parse_number(column, text)
    if column in {"step_s", "batch_size"} and number == 0:
        raise ValueError(f"{column} is 0, which cannot be")
    if kind is int:
        if number != int(number):
            raise ValueError(f"{column} is {text}, not a whole number")
        if number > LARGEST_INTEGER:
            raise ValueError(f"{column} is {text}, which is too large to be kept")
        return int(number)
    return number
