"""Raw power readings by run: millions of rows of ``power`` become a few per run, piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from devprof.store.files import SkippedFile
from devprof.store.folder import map_table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["power_by_run"]

_KEYS = ["run_id", "source", "domain"]


def power_by_run(folder: Path) -> tuple[pa.Table, tuple[SkippedFile, ...]]:
    """Number and mean of the raw readings of each run, source and domain.

    The mean is that of the samples, without weights of time: a look at the raw data, not the run's measured power, which is the
    column ``power_w`` of ``runs``. Domains are kept apart, because some of them contain others.

    Returns:
        ``run_id``, ``source``, ``domain``, ``samples`` and ``mean_w``, the last null for a counter of energy; and the files
        that could not be read.

    Raises:
        StoreError: If the folder does not exist.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    sums = ("samples", "readings", "total_w")
    schema = pa.schema(
        [(name, pa.string()) for name in _KEYS] + list(zip(sums, (pa.int64(), pa.int64(), pa.float64()), strict=True))
    )
    pieces, skipped = map_table(folder, "power", _reduce, [*_KEYS, "power_w"])
    # A run lies in one piece, unless another tool wrote it.
    whole = pa.concat_tables([schema.empty_table(), *pieces])
    whole = whole.group_by(_KEYS, use_threads=False).aggregate([(name, "sum") for name in sums])
    readings = whole.column("readings_sum")
    mean_w = pc.if_else(pc.greater(readings, 0), pc.divide(whole.column("total_w_sum"), readings), None)
    columns = [*(whole.column(name) for name in _KEYS), whole.column("samples_sum"), mean_w]
    return pa.table(columns, names=[*_KEYS, "samples", "mean_w"]), skipped


def _reduce(piece: pa.Table) -> pa.Table:
    grouped = piece.group_by(_KEYS, use_threads=False).aggregate(
        [([], "count_all"), ("power_w", "count"), ("power_w", "sum")]
    )
    counts = ("count_all", "power_w_count", "power_w_sum")
    return grouped.select([*_KEYS, *counts]).rename_columns([*_KEYS, "samples", "readings", "total_w"])
