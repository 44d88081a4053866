import dataclasses
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makers import make_operator_time, make_run

import devprof
from devprof.errors import StoreError
from devprof.records import Measurement, OperatorTime, StepTime
from devprof.store import schema
from devprof.store.folder import (
    count_rows,
    ensure_writable,
    measured_operators,
    read_finished,
    read_records,
    read_table,
    write_records,
    write_run,
)


def test_a_run_comes_back_as_it_was(tmp_path):
    run = make_run(steady=True, rss_peak_bytes=123, warnings='["few-steps"]')
    steps = [StepTime("r1", 0, "warmup", 9), StepTime("r1", 1, "phases", 6, 1, 2, 3)]
    write_run(tmp_path, run, steps)
    assert read_records(tmp_path, "runs", Measurement) == [run]
    assert read_records(tmp_path, "steps", StepTime) == steps


def test_columns_are_the_contract():
    named = (
        "schema_version run_id started_utc devprof_version device device_key processor power_mode threads suite model task mode "
        "optimizer precision memory_format image_size num_classes batch_size data status error repeat warmup_steps steps step_s "
        "step_s_mean step_s_p05 step_s_p95 step_s_mad step_s_ci_low step_s_ci_high steady throttled forward_s backward_s "
        "optimizer_s data_s startup_s rss_baseline_bytes rss_peak_bytes accelerator_peak_bytes energy_source energy_j "
        "energy_per_step_j energy_error_rel power_w idle_power_w power_coverage temp_start_c temp_end_c versions warnings source"
    )
    assert set(named.split()) <= set(schema.arrow_schema("runs").names)


def test_not_measured_is_null_in_the_file(tmp_path):
    write_run(tmp_path, make_run())
    table, _ = read_table(tmp_path, "runs")
    assert table.column("energy_j").null_count == 1
    assert table.column("step_s").to_pylist() == [0.25]


def test_every_file_says_its_version(tmp_path):
    path = write_records(tmp_path, "runs", "x", [make_run()])
    file = pq.ParquetFile(path)
    assert file.schema_arrow.metadata[schema.METADATA_KEY] == b"5"
    assert file.read().column("schema_version").to_pylist() == [5]


def test_frames_of_the_public_api(tmp_path):
    write_run(tmp_path, make_run(), [StepTime("r1", 0, "measured", 5)])
    assert devprof.load_runs(tmp_path)["step_s"].tolist() == [0.25]
    assert devprof.load_steps(str(tmp_path))["step_ns"].tolist() == [5]
    assert devprof.load_power(tmp_path).empty
    write_records(tmp_path, "operators", "c1", [make_operator_time(seconds=0.5)])
    assert devprof.load_operators(tmp_path)["seconds"].tolist() == [0.5]


def test_a_folder_that_is_not_there_says_how_to_make_one(tmp_path):
    with pytest.raises(StoreError, match="devprof measure"):
        read_table(tmp_path / "none", "runs")


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "foreign", "newer", "older"])
def test_a_bad_file_is_named_and_costs_nothing_else(tmp_path, caplog, damage):
    write_run(tmp_path, make_run("good"))
    bad = tmp_path / "runs" / "bad.parquet"
    path = write_records(tmp_path, "runs", "bad", [make_run("bad")])
    reason = ""
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("run_id,step_s\n1,2\n")
    elif damage == "foreign":
        pq.write_table(pa.table({"a": [1]}), path)
        reason = "not written by devprof"
    else:
        version = {"newer": b"99", "older": b"0"}[damage]
        table = pq.read_table(path).replace_schema_metadata({schema.METADATA_KEY: version})
        pq.write_table(table, path)
        reason = {"newer": "upgrade devprof", "older": "too old"}[damage]
    assert [run.run_id for run in read_records(tmp_path, "runs", Measurement)] == ["good"]
    assert str(bad) in caplog.text
    assert reason in caplog.text


def test_an_older_file_is_migrated_when_read(tmp_path, monkeypatch):
    path = write_records(tmp_path, "runs", "old", [make_run()])
    table = pq.read_table(path).rename_columns(
        ["milliseconds" if name == "step_s" else name for name in schema.arrow_schema("runs").names]
    )
    pq.write_table(table.replace_schema_metadata({schema.METADATA_KEY: b"0"}), path)

    def to_seconds(name, rows):
        assert name == "runs"
        values = [value / 1000 for value in rows.column("milliseconds").to_pylist()]
        return rows.append_column("step_s", pa.array(values))

    monkeypatch.setitem(schema.MIGRATIONS, 0, to_seconds)
    assert read_records(tmp_path, "runs", Measurement) == [make_run(step_s=0.00025)]


def as_version_1(path):
    """Rewrite a file of runs as version 1 had it: without the later columns, with seconds of making one batch as ``data_s``."""
    later = {"latency_valid", "state", "rss_model_bytes"}
    table = pq.read_table(path)
    table = table.drop_columns(sorted(later))
    table = table.set_column(table.column_names.index("data_s"), "data_s", pa.array([1.5] * table.num_rows))
    table = table.set_column(0, "schema_version", pa.array([1] * table.num_rows))
    pq.write_table(table.replace_schema_metadata({schema.METADATA_KEY: b"1"}), path)


def test_version_1_is_read_with_nulls_for_what_it_did_not_measure(tmp_path):
    old, new = make_run("old", startup_s=2.0), make_run("new", data_s=0.25, latency_valid=True)
    as_version_1(write_records(tmp_path, "runs", "old", [old]))
    write_run(tmp_path, new)
    assert read_records(tmp_path, "runs", Measurement) == [new, old]
    table, _ = read_table(tmp_path, "runs")
    assert table.column("schema_version").to_pylist() == [5, 5]


def test_version_2_is_read_as_it_is(tmp_path):
    path = write_records(tmp_path, "runs", "old", [make_run(data_s=0.25)])
    table = pq.read_table(path).set_column(0, "schema_version", pa.array([2]))
    pq.write_table(table.replace_schema_metadata({schema.METADATA_KEY: b"2"}), path)
    assert read_records(tmp_path, "runs", Measurement) == [make_run(data_s=0.25)]


def test_operators_of_version_3_have_no_memory_peak(tmp_path):
    path = write_records(tmp_path, "operators", "old", [make_operator_time(rss_peak_bytes=5)])
    table = pq.read_table(path).drop_columns(["rss_peak_bytes"]).set_column(0, "schema_version", pa.array([3]))
    pq.write_table(table.replace_schema_metadata({schema.METADATA_KEY: b"3"}), path)
    write_records(tmp_path, "operators", "new", [make_operator_time("b", rss_peak_bytes=7)])
    found = {row.signature: row.rss_peak_bytes for row in read_records(tmp_path, "operators", OperatorTime)}
    assert found == {"a": None, "b": 7}


@pytest.mark.parametrize("columns", [["step_s", "model"], ["run_id"], ["schema_version", "warnings", "step_s"], []])
def test_a_projection_is_a_selection_of_the_whole(tmp_path, columns):
    write_records(tmp_path, "runs", "copy", [make_run(), make_run("r2", step_s=0.5)])
    as_version_1(write_records(tmp_path, "runs", "old", [make_run("r0")]))
    write_run(tmp_path, make_run(warnings="[]"))
    whole, _ = read_table(tmp_path, "runs")
    some, _ = read_table(tmp_path, "runs", columns)
    assert some.equals(whole.select(columns))
    write_records(tmp_path, "steps", "x", [StepTime("r", 0, "measured", 1)])
    assert read_table(tmp_path, "steps", ["step_ns"])[0].to_pylist() == [{"step_ns": 1}]
    assert read_table(tmp_path, "power", ["t_ns"])[0].column_names == ["t_ns"]


def test_a_sweep_learns_what_is_finished(tmp_path):
    write_run(tmp_path, make_run("a", configuration="c1", repeat=0))
    write_run(tmp_path, make_run("b", configuration="c1", repeat=1, status="oom"))
    write_run(tmp_path, make_run("c"))
    assert read_finished(tmp_path) == {("k", "c1", 0), ("k", "c1", 1), ("k", None, None)}
    assert read_finished(tmp_path, ok_only=True) == {("k", "c1", 0), ("k", None, None)}


def test_a_calibration_learns_what_this_device_has_timed(tmp_path):
    rows = [make_operator_time("a"), make_operator_time("b", status="oom"), make_operator_time("c", device_key="other")]
    write_records(tmp_path, "operators", "c1", rows)
    write_records(tmp_path, "operators", "c2", [make_operator_time("d")])
    assert measured_operators(tmp_path, "k") == {"a", "b", "d"}
    assert measured_operators(tmp_path, "new") == frozenset()
    assert read_records(tmp_path, "operators", OperatorTime)[0] == rows[0]


def test_the_parent_of_a_sweep_reads_without_pandas(tmp_path):
    write_run(tmp_path, make_run())
    script = (
        "import sys; from pathlib import Path; from devprof.store.folder import read_finished\n"
        f"assert len(read_finished(Path({str(tmp_path)!r}))) == 1\n"
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_rows_are_counted_without_reading_them(tmp_path):
    write_records(tmp_path, "steps", "a", [StepTime("a", index, "measured", 1) for index in range(3)])
    write_records(tmp_path, "steps", "b", [StepTime("b", 0, "measured", 1)])
    (tmp_path / "steps" / "broken.parquet").write_text("")
    assert count_rows(tmp_path, "steps") == 4
    assert count_rows(tmp_path, "power") == 0


def test_a_file_with_fewer_columns_reads_with_nulls_and_unknown_ones_are_left_out(tmp_path):
    path = write_records(tmp_path, "runs", "x", [make_run(threads=2)])
    table = pq.read_table(path).drop_columns(["threads"]).append_column("brand_new", pa.array([1]))
    pq.write_table(table, path)
    assert read_records(tmp_path, "runs", Measurement) == [make_run()]


def test_a_run_that_was_copied_twice_counts_once(tmp_path):
    write_run(tmp_path, make_run())
    write_records(tmp_path, "runs", "copy", [make_run(), make_run("r2")])
    assert [run.run_id for run in read_records(tmp_path, "runs", Measurement)] == ["r1", "r2"]


def test_a_disk_that_fills_up_leaves_no_partial_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    write_run(tmp_path, make_run("before"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write_run(tmp_path, make_run("after"))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["before.parquet"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=str(tmp_path / "file")):
        ensure_writable(tmp_path / "file" / "runs")


def test_a_writer_killed_in_the_middle_leaves_nothing_to_read(tmp_path):
    script = (
        "import os, pyarrow.parquet as pq\n"
        "from pathlib import Path\n"
        "from devprof.store.folder import write_records\n"
        "from devprof.records import StepTime\n"
        "real = os.fsync\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), 9)\n"
        f"write_records(Path({str(tmp_path)!r}), 'steps', 'x', [StepTime('r', 0, 'measured', 1)])\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    table, skipped = read_table(tmp_path, "steps")
    assert (table.num_rows, skipped) == (0, ())


def test_a_record_of_another_table_is_refused(tmp_path):
    with pytest.raises(TypeError, match="holds StepTime"):
        read_records(tmp_path, "steps", Measurement)


@pytest.mark.parametrize("table", schema.TABLES)
def test_every_table_has_a_schema_of_its_records_fields(table):
    fields = [field.name for field in dataclasses.fields(schema.TABLES[table])]
    assert schema.arrow_schema(table).names == ["schema_version", *fields]
