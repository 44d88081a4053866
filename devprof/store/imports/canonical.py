"""CSV with devprof's own column names: the format for measurements of any tool.

A row that makes no sense is reported with its line and left out, the others are taken; columns that devprof does not know
are reported and left out. Importing the same rows again adds nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devprof.errors import StoreError
from devprof.store.imports.collect import Collector, ImportReport
from devprof.store.imports.columns import REQUIRED, parse_columns, read_csv
from devprof.store.schema import column_types

__all__ = ["import_canonical"]

# Columns of published tables that belong into the column ``versions``.
_VERSION_COLUMNS = ("framework",)


def import_canonical(path: Path, folder: Path, *, version: str) -> ImportReport:
    """Import a CSV table of runs into a measurement folder.

    Args:
        path: The table; its header names columns of ``runs``.
        folder: The measurement folder, made if absent.
        version: devprof's version, kept with the rows.

    Raises:
        StoreError: If the file cannot be read, is no such table, or the folder cannot be written.
    """
    header, rows = read_csv(path)
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise StoreError(
            f"{path} lacks the columns {', '.join(missing)}; the columns are described in docs/measuring.md"
        )
    collector = Collector(folder, version=version)
    for row in rows:
        try:
            texts = row.texts()
            build = {column: texts[column] for column in _VERSION_COLUMNS if column in texts}
            values = _values(texts, build)
        except ValueError as error:
            collector.reject(str(error), line=row.line)
        else:
            collector.add(values, build=build)
    known = {*column_types("runs"), *_VERSION_COLUMNS}
    return collector.finish("devprof", unknown_columns=[column for column in header if column not in known])


def _values(texts: Mapping[str, str], build: Mapping[str, str]) -> dict[str, Any]:
    values = parse_columns(texts)
    if values["status"] == "ok" and "step_s" not in values:
        raise ValueError("step_s is missing, though the status is ok")
    if build:
        values.setdefault("versions", json.dumps(build, sort_keys=True))
    return values
