"""Columns that are known only later are written into the row of a finished run, in the file where it lies.

The file, single or merged, is written anew beside itself and renamed: at every moment it is there whole, with the old row or
with the new one. Raw readings come first, the row in ``runs`` last, so a process that is killed in between leaves the row as it
was, and the same command completes it. No compaction runs meanwhile, because it needs the same lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devprof.errors import StoreError, UnknownNameError
from devprof.records import Measurement, PowerSample
from devprof.store.compact import folder_lock, unknown_columns
from devprof.store.files import MERGED_KEY, list_files, merged_names, open_file, read_open_file, write_file
from devprof.store.folder import map_table, read_table, write_records
from devprof.store.schema import SCHEMA_VERSION, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["complete_run", "find_run"]

_LATEST = "latest"
_log = logging.getLogger(__name__)
Rows = list[dict[str, Any]]


def find_run(folder: Path, name: str) -> Measurement:
    """A run of a folder.

    Args:
        folder: The measurement folder.
        name: Its ``run_id``, an unambiguous beginning of one, or ``latest`` for the one that started last.

    Raises:
        StoreError: If the folder does not exist or holds no run, or several runs begin so.
        UnknownNameError: If no run begins so.
    """
    table, skipped = read_table(folder, "runs", ["run_id", "started_utc"])
    for file in skipped:
        _log.warning("skipped %s: %s", file.path, file.reason)
    started = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
    if not started:
        raise StoreError(f"the folder {folder} holds no runs")
    latest = max(started, key=lambda one: (started[one], one))
    run_id = latest if name == _LATEST else _named(list(started), name)
    rows, _ = map_table(folder, "runs", lambda piece: piece.filter(_is_run(piece, run_id)).to_pylist())
    row = next(row for found in rows for row in found)
    return Measurement(**{column: value for column, value in row.items() if column != "schema_version"})


def _named(run_ids: Sequence[str], name: str) -> str:
    found = [one for one in run_ids if one.startswith(name)]
    if name in found or len(found) == 1:
        return name if name in found else found[0]
    if not found:
        raise UnknownNameError("run", name, run_ids, f"Say {_LATEST!r} for the one that started last")
    shown = ", ".join(sorted(found)[:3])
    raise StoreError(f"{len(found)} runs begin with {name!r}, such as {shown}: say more of it")


def complete_run(
    folder: Path, run_id: str, columns: Mapping[str, Any], power: Sequence[PowerSample], *, force: bool = False
) -> None:
    """Write a meter's figures into the row of a finished run, and its raw readings into the table ``power``.

    Readings that the run has from another source are kept; those of the same source are replaced.

    Args:
        folder: The measurement folder.
        run_id: The run.
        columns: New values by column of ``runs``; the others stay.
        power: Raw readings of one source.
        force: Whether an energy that the run has already is replaced.

    Raises:
        StoreError: If the run is not there, has energy already, lies in a file with columns that only another devprof knows, or
            the folder cannot be written or is being compacted. Nothing is lost then.
    """
    with folder_lock(folder) as held:
        if not held:
            raise StoreError(f"another process is merging the files of {folder}: try again when it is done")
        runs, readings = (_files_of_run(folder, table, run_id) for table in ("runs", "power"))
        if not runs:
            raise StoreError(f"the run {run_id} is not in {folder}")
        if not force:
            _refuse_energy(runs, run_id)
        _replace_power(folder, run_id, power, readings)
        for path in runs:
            _rewrite(path, "runs", run_id, lambda rows: [{**row, **columns} for row in rows])


def _files_of_run(folder: Path, table: str, run_id: str) -> list[Path]:
    """The files with rows of a run; a folder that was copied into another one may have several."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for path in list_files(folder, table).in_order:
        try:
            with open_file(path) as file:
                if not pc.any(_is_run(read_open_file(file, table, ["run_id"]), run_id)).as_py():
                    continue
                unknown = unknown_columns(file, table)
        except (StoreError, OSError, pa.ArrowException) as error:
            _log.warning("skipped %s: %s", path, error)
            continue
        if unknown:
            raise StoreError(
                f"{path} has columns that this devprof does not know: {', '.join(unknown)}. Upgrade devprof"
            )
        found.append(path)
    return found


def _is_run(rows: pa.Table, run_id: str) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.fill_null(pc.equal(rows.column("run_id"), run_id), fill_value=False)


def _refuse_energy(paths: Sequence[Path], run_id: str) -> None:
    for path in paths:
        with open_file(path) as file:
            rows = read_open_file(file, "runs", ["run_id", "energy_j", "energy_source"])
        for row in rows.filter(_is_run(rows, run_id)).to_pylist():
            if row["energy_j"] is not None:
                raise StoreError(f"the run {run_id} has energy already, of {row['energy_source']}: --force replaces it")


def _replace_power(folder: Path, run_id: str, power: Sequence[PowerSample], paths: Sequence[Path]) -> None:
    sources = {sample.source for sample in power}
    added = [{"schema_version": SCHEMA_VERSION, **asdict(sample)} for sample in power]
    for number, path in enumerate(paths):
        _rewrite(path, "power", run_id, partial(_replaced, sources=sources, added=added if number == 0 else []))
    if power and not paths:
        write_records(folder, "power", _free_name(folder, run_id), power)


def _replaced(rows: Rows, *, sources: Collection[str], added: Rows) -> Rows:
    return [*(row for row in rows if row["source"] not in sources), *added]


def _free_name(folder: Path, run_id: str) -> str:
    """A name of a file in ``power`` that no merged file stands for: such a file would not be read."""
    listing = list_files(folder, "power")
    taken = {path.stem for path in (*listing.singles, *listing.leftovers)}
    for merged in listing.merged:
        with open_file(merged.path) as file:
            taken |= set(merged_names(file.metadata))
    names = (f"{run_id}-{number}" if number else run_id for number in count())
    return next(name for name in names if name not in taken)


def _rewrite(path: Path, table: str, run_id: str, change: Callable[[Rows], Rows]) -> None:
    """Write a file anew with other rows of a run, in the place of the first old one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with open_file(path) as file:
        rows = read_open_file(file, table)
        merged = (file.metadata.metadata or {}).get(MERGED_KEY)
    metadata = rows.schema.metadata | ({MERGED_KEY: merged} if merged else {})
    of_run = _is_run(rows, run_id)
    place = pc.index(of_run, value=True).as_py()
    new = pa.Table.from_pylist(change(rows.filter(of_run).to_pylist()), schema=arrow_schema(table))
    others = rows.filter(pc.invert(of_run))
    parts = [part.replace_schema_metadata(metadata) for part in (others.slice(0, place), new, others.slice(place))]
    write_file(path, pa.concat_tables(parts).combine_chunks())
