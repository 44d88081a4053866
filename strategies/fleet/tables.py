"""Measured tables on their way from a node: Parquet bytes in an ArrayRecord, which Flower cuts into chunks.

The bytes come from a node and are read as such: sizes are looked at before anything is unpacked, and whatever is wrong with
them is one kind of error.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Array, ArrayRecord

from devprof.errors import StoreError
from devprof.store.files import read_open_file
from devprof.store.folder import map_table
from devprof.store.schema import arrow_schema
from strategies.fleet.wire import FleetError, clean

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["TABLES_RECORD", "Wanted", "gather", "received", "unpack"]

TABLES_RECORD = "tables"
_SENT = ("runs", "steps", "power", "operators")
_STYPE = "parquet"
# A sweep of hundreds of configurations is some tens of megabytes; what is unpacked from it must fit into the server's memory.
_MOST_BYTES = 256 << 20
_MOST_UNPACKED_BYTES = 2 << 30
_MOST_ROWS = {"runs": 100_000, "operators": 100_000}
_MOST_SERIES_ROWS = 20_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows of a node's folder are sent.

    Attributes:
        device_key: The device they were measured on: a folder that is kept may hold another power mode's, too.
        configurations: Keys of the configurations that were asked for.
        repeats: Rows of each.
        operators: Whether the device's timed operators are sent, too.
    """

    device_key: str
    configurations: Collection[str]
    repeats: int
    operators: bool


def gather(folder: Path, wanted: Wanted) -> ArrayRecord:
    """The rows of a folder that are wanted, with their raw series; tables without such rows are absent.

    Raises:
        StoreError: If the folder does not exist.
    """
    import pyarrow.compute as pc

    run_ids: set[str] = set()

    def own_runs(piece: pa.Table) -> pa.Table:
        own = pc.equal(piece.column("device_key"), wanted.device_key)
        asked = pc.is_in(piece.column("configuration"), _values(wanted.configurations))
        return piece.filter(pc.and_(pc.and_(own, asked), pc.less(piece.column("repeat"), wanted.repeats)))

    def of_runs(piece: pa.Table) -> pa.Table:
        return piece.filter(pc.is_in(piece.column("run_id"), _values(run_ids)))

    def own_operators(piece: pa.Table) -> pa.Table:
        return piece.filter(pc.equal(piece.column("device_key"), wanted.device_key))

    packed: dict[str, Array] = {}
    ways = {"runs": own_runs, "steps": of_runs, "power": of_runs}
    for table, way in (ways | ({"operators": own_operators} if wanted.operators else {})).items():
        pieces, _ = map_table(folder, table, way)
        rows = _joined(table, pieces)
        if table == "runs":
            run_ids.update(rows.column("run_id").to_pylist())
        if rows.num_rows:
            packed[table] = _packed(rows)
    return ArrayRecord(packed)


def _values(texts: Collection[str]) -> pa.Array:
    import pyarrow as pa

    return pa.array(sorted(texts), pa.string())


def _joined(table: str, pieces: list[pa.Table]) -> pa.Table:
    import pyarrow as pa

    schema = arrow_schema(table)
    rows = pa.concat_tables([pa.Table.from_batches([], schema), *pieces])
    return rows.replace_schema_metadata(schema.metadata)


def _packed(rows: pa.Table) -> Array:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    return Array(dtype="uint8", shape=(len(data),), stype=_STYPE, data=data)


def received(record: ArrayRecord | None) -> Mapping[str, bytes]:
    """The bytes of the tables in a reply, by name; names that are no table of a measurement are passed over.

    Raises:
        FleetError: If there is more than may be read.
    """
    found = {name: record[name].data for name in _SENT if name in record} if record is not None else {}
    size = sum(len(data) for data in found.values())
    if size > _MOST_BYTES:
        raise FleetError(f"the tables have {size} bytes, more than the {_MOST_BYTES} that are read")
    return found


def unpack(table: str, data: bytes) -> pa.Table:
    """The rows of a table in the present schema, read as the store reads files.

    Raises:
        FleetError: If they are no such table, of a newer devprof, damaged, or too many.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pa.py_buffer(data)
        with pq.ParquetFile(pa.BufferReader(source)) as file:
            texts = _check_size(table, file)
        with pq.ParquetFile(pa.BufferReader(source), read_dictionary=texts) as file:
            _check_texts(file, texts)
        with pq.ParquetFile(pa.BufferReader(source)) as file:
            rows = read_open_file(file, table)
        rows.validate(full=True)
    except (pa.ArrowException, StoreError, OSError, ValueError, TypeError, KeyError, MemoryError) as error:
        raise FleetError(f"the table {table} cannot be read: {clean(str(error))}") from error
    return rows


def _check_size(table: str, file: pq.ParquetFile) -> list[str]:
    """Look at what the footer promises; the names of the columns that hold texts."""
    import pyarrow as pa

    footer = file.metadata
    most_rows = _MOST_ROWS.get(table, _MOST_SERIES_ROWS)
    if footer.num_rows > most_rows:
        raise StoreError(f"it has {footer.num_rows} rows, more than the {most_rows} that are read")
    size = sum(footer.row_group(index).total_byte_size for index in range(footer.num_row_groups))
    if not 0 <= size <= _MOST_UNPACKED_BYTES:
        raise StoreError(f"it unpacks to {size} bytes, more than the {_MOST_UNPACKED_BYTES} that are read")
    nested = [field.name for field in file.schema_arrow if pa.types.is_nested(field.type)]
    if nested:
        raise StoreError(f"its columns {nested} hold lists or structures")
    return [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]


def _check_texts(file: pq.ParquetFile, texts: list[str]) -> None:
    """A text that stands once in the file and in every row of the table is small here and large there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    size = 0
    for name in texts:
        for chunk in file.read(columns=[name], use_threads=False).column(name).chunks:
            if pa.types.is_dictionary(chunk.type):
                lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
            else:
                lengths = pc.binary_length(chunk)
            size += pc.sum(lengths).as_py() or 0
            if size > _MOST_UNPACKED_BYTES:
                raise StoreError(f"its texts unpack to more than the {_MOST_UNPACKED_BYTES} bytes that are read")
