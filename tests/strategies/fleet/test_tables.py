"""Tables on their way from a node: what is sent, and that no bytes do anything but being read or refused."""

import functools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fleet_parts import KEYS, make_node_run, tables_of
from flwr.app import ArrayRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from makers import make_operator_time

from devprof.records import OperatorTime, StepTime
from devprof.store.folder import read_table, write_records, write_run
from devprof.store.schema import arrow_schema
from strategies.fleet import tables
from strategies.fleet.tables import Wanted, gather, received, unpack
from strategies.fleet.wire import FleetError

WANTED = Wanted("key-board", KEYS, 1, operators=False)


def parquet(rows, **options):
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, **options)
    return sink.getvalue().to_pybytes()


@functools.cache
def sent_bytes(folder):
    record = tables_of(folder, [make_node_run(0), make_node_run(1)])
    return {name: record[name].data for name in record}


def test_what_is_sent_is_what_arrives(tmp_path):
    record = tables_of(tmp_path, [make_node_run(0), make_node_run(1, status="oom", step_s=None, error="out of memory")])
    found = received(record)
    assert list(found) == ["runs", "steps"]
    for table, data in found.items():
        assert unpack(table, data).equals(read_table(tmp_path, table)[0])


def test_a_folder_that_was_kept_sends_only_what_was_asked_for(tmp_path):
    wanted = make_node_run(0)
    others = [
        make_node_run(1, configuration="another"),
        make_node_run(1, run_id="20260101T000009-00000000", repeat=1),
        make_node_run(1, run_id="20260101T000008-00000000", device_key="another power mode"),
    ]
    record = tables_of(tmp_path, [wanted, *others])
    assert unpack("runs", record["runs"].data).column("run_id").to_pylist() == [wanted.run_id]
    assert set(unpack("steps", record["steps"].data).column("run_id").to_pylist()) == {wanted.run_id}


def test_operators_are_sent_when_a_calibration_was_asked_for(tmp_path):
    rows = [make_operator_time("a", device_key="key-board"), make_operator_time("b", device_key="other")]
    write_records(tmp_path, "operators", "c1", rows)
    assert gather(tmp_path, WANTED) == ArrayRecord()
    record = gather(tmp_path, Wanted("key-board", KEYS, 1, operators=True))
    found = unpack("operators", record["operators"].data).drop_columns(["schema_version"]).to_pylist()
    assert [OperatorTime(**row) for row in found] == rows[:1]


def test_nothing_measured_is_nothing_sent(tmp_path):
    assert received(gather(tmp_path, WANTED)) == received(None) == {}


def test_other_names_are_passed_over_and_too_many_bytes_refused(tmp_path, monkeypatch):
    record = tables_of(tmp_path, [make_node_run()])
    foreign = ArrayRecord({"rounds": record["runs"], "../runs": record["runs"]})
    assert received(foreign) == {}
    monkeypatch.setattr(tables, "_MOST_BYTES", 100)
    with pytest.raises(FleetError, match="more than the 100 that are read"):
        received(record)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cannot be read"),
        (b"PAR1", "cannot be read"),
        (b"no parquet at all" * 10, "cannot be read"),
        (parquet(pa.table({"run_id": ["a"]})), "not written by devprof"),
        (parquet(pa.table({"x": [[1]]}, metadata={"devprof.schema_version": "1"})), "lists or structures"),
        (
            parquet(arrow_schema("runs").with_metadata({"devprof.schema_version": "999"}).empty_table()),
            "upgrade devprof",
        ),
        (
            parquet(pa.table({"batch_size": ["four"]}, metadata={"devprof.schema_version": "4"})),
            "the column batch_size is not int64",
        ),
    ],
)
def test_what_is_no_table_is_refused_with_the_reason(data, said):
    with pytest.raises(FleetError, match=said):
        unpack("runs", data)


def test_columns_of_an_older_devprof_become_nulls():
    old = pa.table({"run_id": ["a"], "model": ["m"]}, metadata={"devprof.schema_version": "1"})
    assert unpack("runs", parquet(old)).column("step_s").to_pylist() == [None]


def test_too_many_rows_and_texts_that_grow_are_refused(tmp_path, monkeypatch):
    write_run(tmp_path, make_node_run(), [StepTime("x" * 100, index, "measured", 1) for index in range(1000)])
    steps = parquet(read_table(tmp_path, "steps")[0])
    assert len(steps) < 20_000
    monkeypatch.setattr(tables, "_MOST_UNPACKED_BYTES", 50_000)
    with pytest.raises(FleetError, match="texts unpack to more than"):
        unpack("steps", steps)
    monkeypatch.setattr(tables, "_MOST_UNPACKED_BYTES", 10)
    with pytest.raises(FleetError, match="it unpacks to"):
        unpack("steps", steps)
    monkeypatch.setattr(tables, "_MOST_SERIES_ROWS", 999)
    with pytest.raises(FleetError, match="1000 rows, more than the 999"):
        unpack("steps", steps)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_damaged_bytes_are_read_or_refused(tmp_path_factory, data):
    sent = sent_bytes(tmp_path_factory.getbasetemp() / "damaged")
    table = data.draw(st.sampled_from(sorted(sent)))
    damaged = bytearray(sent[table])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))
    try:
        rows = unpack(table, bytes(damaged[:length]))
    except FleetError:
        return
    assert rows.schema.names == arrow_schema(table).names


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises(FleetError):
        unpack("runs", data)
