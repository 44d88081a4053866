"""Tables, columns and versions. The columns of a table are the fields of its record, after ``schema_version``.

Every file says its version in the metadata of its schema and in a column (metadata is lost when tables are joined). A newer
devprof migrates older files when it reads them; files are never changed,
but small ones are merged into new ones of the present version.

History of ``SCHEMA_VERSION``:

- 1: the first.
- 2: columns for statistics, memory stages and device state joined ``runs``, ``data_ns`` joined ``steps``. ``data_s`` of
  version 1 was the time of making the one batch, not of waiting for data in a step: it is dropped.
- 3: the table ``operators``. The other tables are as they were.
- 4: the column ``rss_peak_bytes`` joined ``operators``.
- 5: columns for net energy, its rule and end, idle power before and after, the sampler, and ``spans`` joined ``runs``.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from devprof.errors import StoreError
from devprof.records import Evaluation, Measurement, OperatorTime, PowerSample, Prediction, RoundLog, StepTime

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["METADATA_KEY", "MIGRATIONS", "SCHEMA_VERSION", "TABLES", "arrow_schema", "column_types", "migrate"]

SCHEMA_VERSION = 5
METADATA_KEY = b"devprof.schema_version"

TABLES: Mapping[str, type] = {
    "runs": Measurement,
    "steps": StepTime,
    "power": PowerSample,
    "rounds": RoundLog,
    "evaluations": Evaluation,
    "predictions": Prediction,
    "operators": OperatorTime,
}


def _from_1(table: str, rows: pa.Table) -> pa.Table:
    """New columns become nulls by themselves; only a column whose meaning changed is touched."""
    return rows.drop_columns(["data_s"]) if table == "runs" and "data_s" in rows.column_names else rows


def _from_2(_table: str, rows: pa.Table) -> pa.Table:
    """A table joined; no column changed."""
    return rows


def _from_3(_table: str, rows: pa.Table) -> pa.Table:
    """A column joined ``operators``: it becomes null by itself."""
    return rows


def _from_4(_table: str, rows: pa.Table) -> pa.Table:
    """Columns joined ``runs``: they become nulls by themselves."""
    return rows


# From a version to the next: a pure function of (table name, rows as Arrow table).
MIGRATIONS: dict[int, Callable[[str, pa.Table], pa.Table]] = {1: _from_1, 2: _from_2, 3: _from_3, 4: _from_4}


def column_types(table: str) -> dict[str, type]:
    """Python type (``str``, ``int``, ``float`` or ``bool``) of each column of a table, without ``schema_version``."""
    record = TABLES[table]
    hints = typing.get_type_hints(record)
    return {field.name: _plain(hints[field.name]) for field in dataclasses.fields(record)}


def _plain(hint: Any) -> type:
    if isinstance(hint, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is Literal:
        return str
    if hint not in {str, int, float, bool}:
        raise TypeError(f"a column cannot hold {hint!r}")
    return typing.cast("type", hint)


def arrow_schema(table: str) -> pa.Schema:
    """The Arrow schema of a table in the present version."""
    import pyarrow as pa

    arrow = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    fields = [pa.field("schema_version", pa.int64())]
    fields += [pa.field(name, arrow[kind]) for name, kind in column_types(table).items()]
    return pa.schema(fields, metadata={METADATA_KEY: str(SCHEMA_VERSION).encode(), b"devprof.table": table.encode()})


def migrate(table: str, rows: pa.Table, version: int) -> pa.Table:
    """Rows of an older version in the present one's columns and types.

    Raises:
        StoreError: If the version is newer than this devprof, or so old that no migration is left.
    """
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"written by a newer devprof (schema {version}, this one reads up to {SCHEMA_VERSION}): upgrade devprof"
        )
    for step in range(version, SCHEMA_VERSION):
        if step not in MIGRATIONS:
            raise StoreError(f"schema {version} is too old to be read by this devprof (schema {SCHEMA_VERSION})")
        rows = MIGRATIONS[step](table, rows)
    return _conform(table, rows)


def _conform(table: str, rows: pa.Table) -> pa.Table:
    """Exactly the columns of the schema: absent ones become nulls, unknown ones are left out."""
    import pyarrow as pa

    schema = arrow_schema(table)
    columns = []
    for field in schema:
        if field.name == "schema_version":
            columns.append(pa.array([SCHEMA_VERSION] * rows.num_rows, field.type))
        elif field.name in rows.column_names:
            try:
                columns.append(rows.column(field.name).cast(field.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise StoreError(f"the column {field.name} is not {field.type}: {error}") from error
        else:
            columns.append(pa.nulls(rows.num_rows, field.type))
    return pa.table(columns, schema=schema)
