"""Merging the small files of a measurement folder, so that 100,000 runs open in seconds.

A merged file is written whole, checked, and names the files that it stands for; only then are those deleted. Readers leave out
what a merged file stands for, so a process that is killed at any moment neither loses a row nor doubles one: the next
compaction deletes what this one could not. Only files that were there at the beginning are touched, so sweeps may write to the
folder meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devprof.errors import StoreError
from devprof.store.files import (
    MERGED_KEY,
    MERGED_PREFIX,
    MergedFile,
    SkippedFile,
    VanishedError,
    list_files,
    merged_names,
    open_file,
    read_open_file,
    reading_threads,
    until_stable,
    write_file,
)
from devprof.store.schema import METADATA_KEY, SCHEMA_VERSION, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = [
    "FULL_ROWS",
    "CompactionReport",
    "compact",
    "compact_if_many",
    "folder_lock",
    "unknown_columns",
]

# The tables whose files carry run identifiers and are never replaced, with the rows of a full merged file. A row of runs is
# some 2 kB, one of the others 100 bytes: a full file takes some 30 MB of memory while it is made. ``operators`` is left out:
# a calibration of minutes writes one file, and replaces it while it grows.
FULL_ROWS = {"runs": 1 << 13, "steps": 1 << 17, "power": 1 << 17}
# That many merged files of like size (within a factor of 8) become one: a row is written again some five times in all.
_TIER_BITS = 3
_FAN_IN = 1 << _TIER_BITS
# Files that are read before their rows are copied together; a table of one row takes a hundred times its values.
_READ_AHEAD = 64
_LOCK_NAME = ".compact.lock"
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class CompactionReport:
    """What a compaction did.

    Attributes:
        merged: Files that were merged into others.
        written: Merged files that were written.
        rows: Rows in those.
        deleted: Files deleted because a merged one stands for them, those of an earlier compaction included.
        left_alone: Files that could not be read, and why.
        busy: Whether another process was compacting this folder, so that nothing was done.
    """

    merged: int = 0
    written: int = 0
    rows: int = 0
    deleted: int = 0
    left_alone: list[SkippedFile] = field(default_factory=list)
    busy: bool = False


def compact_if_many(folder: Path, *, threshold: int = 500) -> bool:
    """Compact a folder that holds at least ``threshold`` unmerged files in one table; else do nothing but list them.

    A process of its own does it and takes its memory along, so that the parent of a sweep stays small. A compaction that fails
    is named in the log and costs nothing: the files are read as they are.

    Returns:
        Whether a compaction ran to its end.
    """
    if not any(_holds(folder / table, threshold) for table in FULL_ROWS):
        return False
    # The system's allocator gives memory back, where those of pyarrow keep some 30 MB.
    environment = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, "-m", "devprof.store.compact", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2] or f"it ended with {done.returncode}"
        _log.warning("the files of %s were not merged: %s", folder, reason)
    return done.returncode == 0


def _holds(directory: Path, threshold: int) -> bool:
    """Whether a table has that many unmerged files; opens none of them."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        singles = (entry for entry in entries if not entry.name.startswith((".", MERGED_PREFIX)))
        return next(itertools.islice(singles, threshold - 1, None), None) is not None
    return False


def compact(folder: Path) -> CompactionReport:
    """Merge the files of ``runs``, ``steps`` and ``power`` into few; a kill at any moment loses and doubles no row.

    Rows of older schema versions are migrated to the present one, as a reader would. Files that cannot be read, and files with
    columns that this devprof does not know, stay as they are and are named. Memory is that of one merged file, and of the names
    of the files to merge. At most one process compacts a folder; a second one finds it busy.

    Raises:
        StoreError: If the folder does not exist or cannot be written; everything is kept, and nothing is counted twice.
    """
    import pyarrow as pa

    report = CompactionReport()
    with folder_lock(folder) as held:
        report.busy = not held
        for table in FULL_ROWS if held else ():
            _TableCompaction(folder, table, report).run()
            pa.default_memory_pool().release_unused()
    return report


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[bool]:
    """Whether this process alone may merge or rewrite files of the folder. The kernel drops the lock of a process that dies.

    Raises:
        StoreError: If the folder does not exist, or its file system has no locks.
    """
    try:
        descriptor = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StoreError(f"the folder {folder} cannot be locked: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = False
        except OSError as error:
            raise StoreError(f"the file system of {folder} has no locks, so its files stay as they are") from error
        yield held
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class _Batch:
    """Files whose rows become one merged file."""

    paths: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    parts: list[pa.Table] = field(default_factory=list)
    loose: list[pa.Table] = field(default_factory=list)
    rows: int = 0

    def add(self, path: Path, inherited: Sequence[str], rows: pa.Table) -> None:
        self.paths.append(path)
        self.names += [path.stem, *inherited]
        self.loose.append(rows)
        self.rows += rows.num_rows

    def shrink(self) -> None:
        """Copy what was added since the last time into one part."""
        import pyarrow as pa

        if self.loose:
            self.parts.append(pa.concat_tables(self.loose).combine_chunks())
            self.loose = []


class _TableCompaction:
    """One table's compaction; the caller holds the lock."""

    def __init__(self, folder: Path, table: str, report: CompactionReport) -> None:
        self._directory = folder / table
        self._table = table
        self._full = FULL_ROWS[table]
        self._report = report
        self._listing = until_stable(lambda: list_files(folder, table))

    def run(self) -> None:
        # Only compactions make these, and this one has the lock: they are what a killed one left.
        self._delete(self._directory.glob(f".{MERGED_PREFIX}*.tmp"))
        self._delete(self._listing.leftovers)
        self._merge(self._listing.singles)
        for tier in _tiers(self._listing.merged, self._full):
            self._merge(tier)

    def _merge(self, paths: Sequence[Path]) -> None:
        """Merge files, in this order, into full ones and a last one that may be smaller."""
        batch = _Batch()
        with reading_threads() as pool:
            for start in range(0, len(paths), _READ_AHEAD):
                chunk = paths[start : start + _READ_AHEAD]
                for path, found in zip(chunk, pool.map(self._read, chunk), strict=True):
                    if isinstance(found, SkippedFile):
                        self._report.left_alone.append(found)
                    elif found is not None:
                        names, rows = found
                        if batch.rows + rows.num_rows > self._full:
                            self._finish(batch)
                            batch = _Batch()
                        batch.add(path, names, rows)
                batch.shrink()
        self._finish(batch)

    def _read(self, path: Path) -> tuple[list[str], pa.Table] | SkippedFile | None:
        """The names a file stands for and its rows; why it is left alone; ``None`` if it is large enough, or gone."""
        import pyarrow as pa

        try:
            with open_file(path) as file:
                if file.metadata.num_rows >= self._full:
                    return None
                _refuse_unknown_columns(file, self._table)
                return merged_names(file.metadata), read_open_file(file, self._table)
        except VanishedError:
            return None
        except (StoreError, OSError, pa.ArrowException) as error:
            return SkippedFile.because(path, error)

    def _finish(self, batch: _Batch) -> None:
        """Write a batch's merged file, make sure that it is whole, and only then delete what it stands for."""
        import pyarrow as pa

        if len(batch.paths) < 2:
            return
        batch.shrink()
        rows = _by_run(pa.concat_tables(batch.parts))
        metadata = {**rows.schema.metadata, MERGED_KEY: b"/".join(os.fsencode(name) for name in batch.names)}
        digest = hashlib.sha256("/".join(sorted(path.stem for path in batch.paths)).encode(errors="surrogateescape"))
        target = self._directory / f"{MERGED_PREFIX}{digest.hexdigest()[:16]}.parquet"
        write_file(target, rows.replace_schema_metadata(metadata))
        with open_file(target) as written:
            if written.metadata.num_rows != batch.rows:
                raise StoreError(f"{target} does not hold what was written to it; check the disk. Nothing was deleted")
        self._report.merged += len(batch.paths)
        self._report.written += 1
        self._report.rows += batch.rows
        self._delete(batch.paths)

    def _delete(self, paths: Iterable[Path]) -> None:
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(
                    f"{path} cannot be deleted: {error.strerror}. A merged file stands for it, so it is not counted twice"
                ) from error
            self._report.deleted += 1


def unknown_columns(file: pq.ParquetFile, table: str) -> list[str]:
    """Columns of this version that only another devprof knows.

    Writing rows anew drops columns of an older version on purpose, but must never drop these.
    """
    schema = file.schema_arrow
    if (schema.metadata or {}).get(METADATA_KEY) != str(SCHEMA_VERSION).encode():
        return []
    return sorted(set(schema.names) - set(arrow_schema(table).names))


def _refuse_unknown_columns(file: pq.ParquetFile, table: str) -> None:
    if unknown := unknown_columns(file, table):
        raise StoreError(f"not merged: it has columns that this devprof does not know ({', '.join(unknown)})")


def _tiers(merged: Sequence[MergedFile], full: int) -> Iterator[list[Path]]:
    """Merged files of like size, where there are enough to be worth another merge; those half full are left for good."""
    tiers: dict[int, list[Path]] = {}
    for file in merged:
        if file.rows < full // 2:
            tiers.setdefault(file.rows.bit_length() // _TIER_BITS, []).append(file.path)
    return (paths for _, paths in sorted(tiers.items()) if len(paths) >= _FAN_IN)


def _by_run(rows: pa.Table) -> pa.Table:
    """Rows in the order of their run identifiers, those of a run in the order in which they were; most are so already."""
    import pyarrow.compute as pc

    runs = rows.column("run_id").combine_chunks()
    if len(runs) < 2 or pc.all(pc.less_equal(runs[:-1], runs[1:])).as_py():
        return rows
    return rows.take(pc.sort_indices(rows, sort_keys=[("run_id", "ascending")]))


if __name__ == "__main__":
    try:
        compact(Path(sys.argv[1]))
    except StoreError as failure:
        sys.exit(str(failure))
