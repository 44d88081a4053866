"""The files of a table: which of them count, how one is read, how one is written.

A table is made of single files, one per finished unit of work, and of merged files, into which :mod:`devprof.store.compact`
gathered single ones. A merged file names in its metadata every file that it stands for. A file that is named there is never
read, whether it was deleted already or not: that alone makes each row count once, at every moment of a compaction.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from devprof.atomic import write_atomically
from devprof.errors import StoreError
from devprof.store.schema import METADATA_KEY, SCHEMA_VERSION, arrow_schema, migrate

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = [
    "MERGED_KEY",
    "MERGED_PREFIX",
    "Listing",
    "MergedFile",
    "SkippedFile",
    "VanishedError",
    "list_files",
    "merged_names",
    "open_file",
    "read_open_file",
    "reading_threads",
    "until_stable",
    "write_file",
]

MERGED_PREFIX = "merged-"
# Names without suffix, separated by the one character (besides NUL) that no file name can hold.
MERGED_KEY = b"devprof.merged"
_ROW_GROUP_ROWS = 1 << 17
Result = TypeVar("Result")
_log = logging.getLogger(__name__)
_SUFFIX = ".parquet"
_LISTING_ATTEMPTS = 5
_MOST_THREADS = 4


class VanishedError(Exception):
    """A listed file was merged into another by a compaction meanwhile: list again. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was not read, and why."""

    path: Path
    reason: str

    @classmethod
    def because(cls, path: Path, error: Exception) -> SkippedFile:
        """The reason is the error's text on one line."""
        return cls(path, " ".join(str(error).split()))


@dataclass(frozen=True, slots=True)
class MergedFile:
    """A merged file: its path, the first of the names it stands for (its place in the order), and its number of rows."""

    path: Path
    first: str
    rows: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a table at one moment.

    Attributes:
        singles: Single files that count, by name; also merged ones whose footer cannot be read.
        merged: Merged files that count, by the first name they stand for.
        leftovers: Files that a merged file stands for; a compaction that was cut short did not delete them.
    """

    singles: tuple[Path, ...]
    merged: tuple[MergedFile, ...]
    leftovers: tuple[Path, ...]

    @property
    def in_order(self) -> list[Path]:
        """What a reader reads, oldest name first."""
        keyed = [(path.stem, path) for path in self.singles] + [(file.first, file.path) for file in self.merged]
        return [path for _, path in sorted(keyed)]


def until_stable(attempt: Callable[[], Result]) -> Result:
    """Try again while compactions delete files under a reader; each of them ends, and leaves fewer files than it found."""
    while True:
        try:
            return attempt()
        except VanishedError as error:
            _log.debug("%s was merged while it was read: listing the folder again", error)


def reading_threads() -> ThreadPoolExecutor:
    """Threads to read files with; reading is decompression, so more than a few wait for the disk or for each other."""
    return ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))


def list_files(folder: Path, table: str) -> Listing:
    """The files of a table; a table that has none yet is empty.

    Raises:
        VanishedError: If a compaction deleted a file between its listing and its reading.
        StoreError: If the folder cannot be listed.
    """
    directory = folder / table
    names = _names(directory)
    singles = {name for name in names if not name.startswith(MERGED_PREFIX)}
    merged: list[MergedFile] = []
    swallowed: set[str] = set()
    for name in names - singles:
        found = _inspect(directory / f"{name}{_SUFFIX}")
        if found is None:
            singles.add(name)
            continue
        merged.append(found[0])
        swallowed |= names.intersection(found[1])
    return Listing(
        singles=tuple(directory / f"{name}{_SUFFIX}" for name in sorted(singles - swallowed)),
        merged=tuple(sorted((file for file in merged if file.path.stem not in swallowed), key=lambda file: file.first)),
        leftovers=tuple(directory / f"{name}{_SUFFIX}" for name in sorted(swallowed)),
    )


def _names(directory: Path) -> set[str]:
    """Names without suffix. A folder that changes under a listing may hide a file that is there: it is listed again."""
    names: set[str] = set()
    try:
        for _ in range(_LISTING_ATTEMPTS):
            before = directory.stat().st_mtime_ns
            with os.scandir(directory) as entries:
                names = {
                    entry.name.removesuffix(_SUFFIX)
                    for entry in entries
                    if entry.name.endswith(_SUFFIX) and not entry.name.startswith(".")
                }
            if directory.stat().st_mtime_ns == before:
                break
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise StoreError(f"the folder {directory} cannot be read: {error.strerror}") from error
    return names


def _inspect(path: Path) -> tuple[MergedFile, list[str]] | None:
    """A merged file and the names it stands for, ``None`` if its footer cannot be read or has no names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        _raise_if_vanished(path, error)
        return None
    names = merged_names(footer)
    return (MergedFile(path, min(names), footer.num_rows), names) if names else None


def _raise_if_vanished(path: Path, error: Exception) -> None:
    if isinstance(error, FileNotFoundError) and not os.path.lexists(path):
        raise VanishedError(str(path)) from error


def merged_names(footer: pq.FileMetaData) -> list[str]:
    """Names without suffix of the files that a file stands for; none for a single file."""
    names = (footer.metadata or {}).get(MERGED_KEY, b"")
    return [os.fsdecode(name) for name in names.split(b"/") if name]


@cache
def _present_schema(table: str) -> pa.Schema:
    return arrow_schema(table)


def open_file(path: Path) -> pq.ParquetFile:
    """Open a file of any table.

    Raises:
        VanishedError: If it was deleted since it was listed.
        OSError: If it cannot be opened (or ``pyarrow.ArrowException``, if it is no Parquet file).
    """
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except FileNotFoundError as error:
        _raise_if_vanished(path, error)
        raise


def read_open_file(file: pq.ParquetFile, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of an open file in the present schema, all columns or those asked for.

    Raises:
        StoreError: If it was not written by devprof, or in a version that cannot be read.
    """
    version = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
    if version is None or not version.isdigit():
        raise StoreError("not written by devprof (the schema version is missing); import tables of other tools as CSV")
    present = _present_schema(table)
    if int(version) == SCHEMA_VERSION and file.schema_arrow.equals(present, check_metadata=False):
        rows = file.read(columns=None if columns is None else list(columns), use_threads=False)
        rows = rows.replace_schema_metadata(present.metadata)
    else:
        # Slower, as it reads and converts all columns: an older version, or a file that lacks columns or has further ones.
        rows = migrate(table, file.read(use_threads=False), int(version))
    return rows if columns is None else rows.select(list(columns))


def write_file(target: Path, rows: pa.Table) -> None:
    """Write a file of a table atomically; an existing one is replaced.

    Raises:
        StoreError: If the folder cannot be written or the disk is full; no partial file is left.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", row_group_size=_ROW_GROUP_ROWS)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, memoryview(sink.getvalue()))
    except OSError as error:
        raise StoreError(
            f"{target} cannot be written: {error.strerror or error}. What was finished before is kept"
        ) from error
