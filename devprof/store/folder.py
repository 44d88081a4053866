"""A folder of tables: atomic writing, tolerant reading.

``DIR/runs/``, ``DIR/steps/`` and so on hold one file per finished unit of work and table, and merged files, which stand for
many of those. A file is written under a temporary name in the same folder, synced, and renamed: it is there whole or not at
all. A row in ``runs`` is written last, so that a finished run always has its steps. Reading skips what it cannot read and names
it; nothing else is lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from devprof.errors import MissingExtraError, StoreError
from devprof.records import Measurement, PowerSample, StepTime
from devprof.store.files import (
    Listing,
    SkippedFile,
    list_files,
    open_file,
    read_open_file,
    reading_threads,
    until_stable,
    write_file,
)
from devprof.store.schema import SCHEMA_VERSION, TABLES, arrow_schema

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "FinishedKey",
    "SkippedFile",
    "count_rows",
    "ensure_writable",
    "first_of_each_run",
    "load_operators",
    "load_power",
    "load_runs",
    "load_steps",
    "map_table",
    "measured_operators",
    "read_finished",
    "read_records",
    "read_table",
    "write_records",
    "write_run",
]

Record = TypeVar("Record")
Result = TypeVar("Result")
# Device key, configuration and repeat of a run.
FinishedKey = tuple[str, str | None, int | None]
_SINGLES_PER_PIECE = 64
_log = logging.getLogger(__name__)


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
        name: The file's name without suffix; an existing file of that name is replaced. Never used twice in ``runs``, ``steps``
            and ``power``, whose files are merged: a name that a merged file stands for is not read again.
        records: Records of the table's type.

    Returns:
        The file's path.

    Raises:
        StoreError: If the folder cannot be written or the disk is full; no partial file is left.
    """
    import pyarrow as pa

    rows = [{"schema_version": SCHEMA_VERSION, **dataclasses.asdict(record)} for record in records]
    target = folder / table / f"{name}.parquet"
    write_file(target, pa.Table.from_pylist(rows, schema=arrow_schema(table)))
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


def map_table(
    folder: Path, table: str, function: Callable[[pa.Table], Result], columns: Sequence[str] | None = None
) -> tuple[list[Result], tuple[SkippedFile, ...]]:
    """Apply a function to a table piece by piece, oldest file name first, in threads: for tables larger than the memory.

    A run's rows in ``steps`` and ``power`` lie in one piece; a run that was copied may appear in two pieces of ``runs``.

    Args:
        folder: The measurement folder.
        table: A key of :data:`devprof.store.schema.TABLES`.
        function: What to make of a piece, whose rows are in the present schema. It may be called again for the same rows, when
            a compaction of the folder forces a second listing, and must have no effect of its own.
        columns: The columns to read; all if ``None``.

    Returns:
        What the function made of each piece, and the files that could not be read.

    Raises:
        StoreError: If the folder does not exist or is no folder.
    """
    if not folder.is_dir():
        raise StoreError(f"there is no folder {folder}; measurements are made with: devprof measure MODEL -o {folder}")

    def work(paths: Sequence[Path]) -> tuple[Result | None, list[SkippedFile]]:
        piece, skipped = _read_piece(paths, table, columns)
        return (None if piece is None else function(piece)), skipped

    def attempt() -> list[tuple[Result | None, list[SkippedFile]]]:
        with reading_threads() as pool:
            return list(pool.map(work, _pieces(list_files(folder, table))))

    done = until_stable(attempt)
    results = [result for result, _ in done if result is not None]
    return results, tuple(file for _, skipped in done for file in skipped)


def _pieces(listing: Listing) -> list[list[Path]]:
    """A merged file is a piece of its own; single files, which are small, are taken together."""
    merged = {file.path for file in listing.merged}
    pieces: list[list[Path]] = []
    room = False
    for path in listing.in_order:
        if path in merged or not room or len(pieces[-1]) == _SINGLES_PER_PIECE:
            pieces.append([])
        pieces[-1].append(path)
        room = path not in merged
    return pieces


def _read_piece(
    paths: Sequence[Path], table: str, columns: Sequence[str] | None
) -> tuple[pa.Table | None, list[SkippedFile]]:
    import pyarrow as pa

    parts: list[pa.Table] = []
    skipped: list[SkippedFile] = []
    for path in paths:
        try:
            with open_file(path) as file:
                parts.append(read_open_file(file, table, columns))
        except (StoreError, OSError, pa.ArrowException) as error:
            skipped.append(SkippedFile.because(path, error))
    # A table of one row and many columns takes a hundred times its values: they are copied into one.
    return (pa.concat_tables(parts).combine_chunks() if parts else None), skipped


def read_table(
    folder: Path, table: str, columns: Sequence[str] | None = None
) -> tuple[pa.Table, tuple[SkippedFile, ...]]:
    """All rows of a table, in the present schema, oldest file name first; each run once.

    Args:
        folder: The measurement folder.
        table: A key of :data:`devprof.store.schema.TABLES`.
        columns: The columns to read, in this order; all if ``None``.

    Returns:
        The rows and the files that could not be read.

    Raises:
        StoreError: If the folder does not exist or is no folder.
    """
    import pyarrow as pa

    wanted = columns if columns is None or table != "runs" else list(dict.fromkeys([*columns, "run_id"]))
    parts, skipped = map_table(folder, table, lambda piece: piece, wanted)
    # Not empty_table(): where pandas is installed, pyarrow loads it to make an array, some 40 MB in the parent of a sweep.
    empty = pa.Table.from_batches([], arrow_schema(table))
    rows = pa.concat_tables(parts or [empty if wanted is None else empty.select(wanted)])
    if table == "runs":
        rows = first_of_each_run(rows)
    return (rows if columns is None else rows.select(list(columns))), skipped


def first_of_each_run(rows: pa.Table) -> pa.Table:
    """The first row of each ``run_id``, in their order: a folder that was copied into another one counts once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.count_distinct(rows.column("run_id"), mode="all").as_py() == rows.num_rows:
        return rows
    numbered = rows.select(["run_id"]).append_column("row", pa.array(range(rows.num_rows), pa.int64()))
    first = numbered.group_by("run_id", use_threads=False).aggregate([("row", "min")]).column("row_min")
    return rows.take(first.take(pc.sort_indices(first)))


def read_finished(folder: Path, *, ok_only: bool = False) -> frozenset[FinishedKey]:
    """What a sweep needs to know of the finished runs to go on where it stopped; unreadable files are named in the log.

    Piece by piece and without pandas, which pyarrow loads to compare with a text: the parent of a sweep has to stay small, and
    100,000 runs take it some 15 MB.

    Args:
        folder: The measurement folder.
        ok_only: Leave out the runs that failed, so that they are measured again.

    Returns:
        Device key, configuration and repeat of each finished run.

    Raises:
        StoreError: If the folder does not exist.
    """
    import pyarrow as pa

    def keys(piece: pa.Table) -> set[FinishedKey]:
        rows = zip(*map(_shared, piece.columns), strict=True)
        return {tuple(key) for *key, status in rows if status == "ok" or not ok_only}

    found, skipped = map_table(folder, "runs", keys, ("device_key", "configuration", "repeat", "status"))
    _report(skipped)
    pa.default_memory_pool().release_unused()
    return frozenset().union(*found)


def measured_operators(folder: Path, device_key: str) -> frozenset[str]:
    """Signatures of the operators that have a row of this device, a failed one too; what cannot be read is in the log.

    Raises:
        StoreError: If the folder does not exist.
    """

    def signatures(piece: pa.Table) -> set[str]:
        rows = zip(*map(_shared, piece.columns), strict=True)
        return {signature for key, signature in rows if key == device_key}

    found, skipped = map_table(folder, "operators", signatures, ("device_key", "signature"))
    _report(skipped)
    return frozenset().union(*found)


def _shared(column: pa.ChunkedArray) -> list[Any]:
    """A column's values, equal ones as one object."""
    codes = column.combine_chunks().dictionary_encode(null_encoding="encode")
    values = codes.dictionary.to_pylist()
    return [values[code] for code in codes.indices.to_pylist()]


def count_rows(folder: Path, table: str) -> int:
    """Rows of a table from the files' footers alone; files that cannot be read count nothing."""
    import pyarrow as pa

    def attempt() -> int:
        listing = list_files(folder, table)
        rows = sum(file.rows for file in listing.merged)
        for path in listing.singles:
            with contextlib.suppress(OSError, pa.ArrowException), open_file(path) as file:
                rows += file.metadata.num_rows
        return rows

    return until_stable(attempt)


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


def load_operators(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """The operators that calibrations timed, a row each, in seconds; errors as :func:`load_runs`."""
    return _load(folder, "operators")
