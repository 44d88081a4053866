"""A folder of tables: atomic writing, tolerant reading.

``DIR/runs/``, ``DIR/steps/`` and so on hold one file per finished unit of work and table. A file is written under a temporary
name in the same folder, synced, and renamed: it is there whole or not at all. A row in ``runs`` is written last, so that a
finished run always has its steps. Reading skips what it cannot read and names it; nothing else is lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from devprof.atomic import write_atomically
from devprof.errors import MissingExtraError, StoreError
from devprof.records import Measurement, PowerSample, StepTime
from devprof.store.schema import METADATA_KEY, SCHEMA_VERSION, TABLES, arrow_schema, migrate

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "SkippedFile",
    "ensure_writable",
    "load_power",
    "load_runs",
    "load_steps",
    "read_records",
    "read_table",
    "write_records",
    "write_run",
]

Record = TypeVar("Record")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was not read, and why."""

    path: Path
    reason: str


def ensure_writable(folder: Path) -> None:
    """Make the folder and prove that it takes files, before hours of work depend on it.

    Raises:
        StoreError: If it cannot be made or written; names the folder and the reason.
    """
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"devprof")
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink()
        raise StoreError(f"the folder {folder} cannot be written: {error.strerror}. Choose another with -o") from error


def write_records(folder: Path, table: str, name: str, records: Iterable[Any]) -> Path:
    """Write one file of a table atomically.

    Args:
        folder: The measurement folder.
        table: A key of :data:`devprof.store.schema.TABLES`.
        name: The file's name without suffix; an existing file of that name is replaced.
        records: Records of the table's type.

    Returns:
        The file's path.

    Raises:
        StoreError: If the folder cannot be written or the disk is full; no partial file is left.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"schema_version": SCHEMA_VERSION, **dataclasses.asdict(record)} for record in records]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(table)), sink, compression="zstd")
    target = folder / table / f"{name}.parquet"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, memoryview(sink.getvalue()))
    except OSError as error:
        raise StoreError(
            f"{target} cannot be written: {error.strerror or error}. What was finished before is kept"
        ) from error
    return target


def write_run(
    folder: Path, run: Measurement, steps: Sequence[StepTime] = (), power: Sequence[PowerSample] = ()
) -> None:
    """Write a finished run with its raw series; the row in ``runs`` comes last and makes the run count.

    Raises:
        StoreError: As :func:`write_records`.
    """
    if steps:
        write_records(folder, "steps", run.run_id, steps)
    if power:
        write_records(folder, "power", run.run_id, power)
    write_records(folder, "runs", run.run_id, [run])


def read_table(folder: Path, table: str) -> tuple[pa.Table, tuple[SkippedFile, ...]]:
    """All rows of a table, in the present schema, oldest file name first; each run once.

    Returns:
        The rows and the files that could not be read.

    Raises:
        StoreError: If the folder does not exist or is no folder.
    """
    import pyarrow as pa

    if not folder.is_dir():
        raise StoreError(f"there is no folder {folder}; measurements are made with: devprof measure MODEL -o {folder}")
    parts: list[pa.Table] = []
    skipped: list[SkippedFile] = []
    for path in sorted((folder / table).glob("*.parquet")):
        if path.name.startswith("."):
            continue
        try:
            parts.append(_read_file(path, table))
        except (StoreError, OSError, pa.ArrowException) as error:
            skipped.append(SkippedFile(path, " ".join(str(error).split())))
    rows = pa.concat_tables(parts) if parts else arrow_schema(table).empty_table()
    return (_first_of_each_run(rows) if table == "runs" else rows), tuple(skipped)


def _read_file(path: Path, table: str) -> pa.Table:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    version = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
    if version is None or not version.isdigit():
        raise StoreError("not written by devprof (the schema version is missing); import tables of other tools as CSV")
    return migrate(table, file.read(), int(version))


def _first_of_each_run(rows: pa.Table) -> pa.Table:
    seen: set[str] = set()
    keep = []
    for position, run_id in enumerate(rows.column("run_id").to_pylist()):
        if run_id not in seen:
            seen.add(run_id)
            keep.append(position)
    return rows if len(keep) == rows.num_rows else rows.take(keep)


def read_records(folder: Path, table: str, kind: type[Record]) -> list[Record]:
    """All rows of a table as records; files that cannot be read are named in the log.

    Raises:
        StoreError: If the folder does not exist.
        TypeError: If ``kind`` is not the table's record type.
    """
    if TABLES[table] is not kind:
        raise TypeError(f"the table {table} holds {TABLES[table].__name__}, not {kind.__name__}")
    rows, skipped = read_table(folder, table)
    _report(skipped)
    return [kind(**row) for row in rows.drop_columns(["schema_version"]).to_pylist()]


def _report(skipped: Iterable[SkippedFile]) -> None:
    for file in skipped:
        _log.warning("skipped %s: %s", file.path, file.reason)


def _load(folder: str | os.PathLike[str], table: str) -> pd.DataFrame:
    if importlib.util.find_spec("pandas") is None:
        raise MissingExtraError("model", "pandas", "loading measurements as a table")
    rows, skipped = read_table(Path(folder), table)
    _report(skipped)
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def load_runs(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """The runs of a measurement folder, a row each; the columns are described in ``docs/measuring.md``.

    Raises:
        StoreError: If the folder does not exist. Files that cannot be read are skipped and named in the log.
        MissingExtraError: If pandas is not installed.
    """
    return _load(folder, "runs")


def load_steps(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """The raw steps of all runs of a folder, a row each, in nanoseconds; errors as :func:`load_runs`."""
    return _load(folder, "steps")


def load_power(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """The raw power readings of all runs of a folder, a row each; errors as :func:`load_runs`."""
    return _load(folder, "power")
