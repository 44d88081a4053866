"""A finished run's row is completed in the file where it lies; nothing else changes, whatever happens."""

import contextlib
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makers import make_run

from devprof.errors import StoreError, UnknownNameError
from devprof.records import Measurement, PowerSample
from devprof.store import schema
from devprof.store.compact import compact, folder_lock
from devprof.store.complete import complete_run, find_run
from devprof.store.folder import read_records, read_table, write_records, write_run

COLUMNS = {"energy_source": "csv", "energy_j": 12.5, "warnings": '["idle-drift"]'}


def samples(run_id, source="csv", count=3, watts=9.0):
    return [PowerSample(run_id, number, source, "device", power_w=watts) for number in range(count)]


def fill(folder, names="abc", **changes):
    for name in names:
        write_run(folder, make_run(name, **changes), power=samples(name, "rapl", 2, 1.0))


def runs(folder):
    return {run.run_id: run for run in read_records(folder, "runs", Measurement)}


def power(folder, run_id=None):
    found = read_records(folder, "power", PowerSample)
    return [one for one in found if run_id in {None, one.run_id}]


@contextlib.contextmanager
def killed_at(operation):
    """The process ends right before its n-th operation on the file system."""
    left = operation

    class Killed(BaseException):
        pass

    def counted(real):
        def call(*arguments, **named):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", counted(lambda _descriptor: None))
        for name in ("open", "replace"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        with contextlib.suppress(Killed):
            yield


@pytest.mark.parametrize("compacted", [False, True])
def test_columns_are_written_and_everything_else_stays(tmp_path, compacted):
    fill(tmp_path)
    if compacted:
        compact(tmp_path)
    before = runs(tmp_path)
    files = sorted(tmp_path.glob("*/*.parquet"))
    complete_run(tmp_path, "b", COLUMNS, samples("b"))
    after = runs(tmp_path)
    assert (after["b"].energy_j, after["b"].energy_source, after["b"].warnings) == (12.5, "csv", '["idle-drift"]')
    assert after["b"].step_s == before["b"].step_s
    assert {name: after[name] for name in "ac"} == {name: before[name] for name in "ac"}
    assert list(after) == ["a", "b", "c"]
    assert sorted(tmp_path.glob("*/*.parquet")) == files
    # Readings of another source are kept beside the new ones.
    assert power(tmp_path, "b") == samples("b", "rapl", 2, 1.0) + samples("b")
    assert len(power(tmp_path)) == 9
    assert not list(tmp_path.glob("*/.*"))


@pytest.mark.parametrize("compacted", [False, True])
def test_a_run_without_readings_gets_them(tmp_path, compacted):
    for name in "ab":
        write_run(tmp_path, make_run(name))
    if compacted:
        compact(tmp_path)
    complete_run(tmp_path, "a", COLUMNS, samples("a"))
    compact(tmp_path)
    assert power(tmp_path) == samples("a")
    assert runs(tmp_path)["a"].energy_j == 12.5


def test_a_name_for_which_a_merged_file_stands_is_not_used_again(tmp_path):
    fill(tmp_path, "ab")
    compact(tmp_path)
    (merged,) = (tmp_path / "power").glob("merged-*")
    # Somebody took the readings of a run out.
    table = pq.read_table(merged)
    pq.write_table(table.filter(pa.compute.not_equal(table.column("run_id"), "a")), merged)
    complete_run(tmp_path, "a", COLUMNS, samples("a"))
    assert power(tmp_path, "a") == samples("a")
    compact(tmp_path)
    assert power(tmp_path, "a") == samples("a")


def test_a_completed_file_is_compacted_like_any_other(tmp_path):
    fill(tmp_path)
    complete_run(tmp_path, "a", COLUMNS, samples("a"))
    before = runs(tmp_path), power(tmp_path)
    compact(tmp_path)
    assert (runs(tmp_path), power(tmp_path)) == before
    assert len(list((tmp_path / "runs").glob("*.parquet"))) == 1


def test_an_energy_is_replaced_only_by_force_and_its_readings_once(tmp_path):
    fill(tmp_path)
    complete_run(tmp_path, "b", COLUMNS, samples("b"))
    compact(tmp_path)
    with pytest.raises(StoreError, match="the run b has energy already, of csv: --force"):
        complete_run(tmp_path, "b", COLUMNS | {"energy_j": 3.0}, samples("b", count=5))
    assert runs(tmp_path)["b"].energy_j == 12.5
    complete_run(tmp_path, "b", COLUMNS | {"energy_j": 3.0}, samples("b", count=5), force=True)
    assert runs(tmp_path)["b"].energy_j == 3.0
    assert power(tmp_path, "b") == samples("b", "rapl", 2, 1.0) + samples("b", count=5)


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("point", range(12))
def test_whenever_it_is_killed_the_row_is_the_old_or_the_new_one(tmp_path, point, compacted):
    fill(tmp_path)
    if compacted:
        compact(tmp_path)
    old = runs(tmp_path)
    with killed_at(point):
        complete_run(tmp_path, "b", COLUMNS, samples("b"))
    now = runs(tmp_path)
    assert {name: now[name] for name in "ac"} == {name: old[name] for name in "ac"}
    assert now["b"].energy_j in {None, 12.5}
    if now["b"].energy_j is not None:
        assert len(power(tmp_path, "b")) == 5
    complete_run(tmp_path, "b", COLUMNS, samples("b"), force=True)
    compact(tmp_path)
    assert runs(tmp_path)["b"].energy_j == 12.5
    assert len(power(tmp_path, "b")) == 5
    assert len(power(tmp_path)) == 9


def test_a_run_that_was_copied_is_completed_wherever_it_lies(tmp_path):
    fill(tmp_path)
    shutil.copy(tmp_path / "runs" / "b.parquet", tmp_path / "runs" / "again.parquet")
    complete_run(tmp_path, "b", COLUMNS, ())
    for name in ("b", "again"):
        assert pq.read_table(tmp_path / "runs" / f"{name}.parquet").column("energy_j").to_pylist() == [12.5]


def test_a_row_of_an_older_version_becomes_one_of_the_present(tmp_path):
    path = write_records(tmp_path, "runs", "a", [make_run("a")])
    table = pq.read_table(path).drop_columns(["energy_rule", "spans"])
    pq.write_table(table.replace_schema_metadata({schema.METADATA_KEY: b"4"}), path)
    complete_run(tmp_path, "a", COLUMNS | {"energy_rule": "rows-sum/1"}, ())
    assert pq.read_schema(path).metadata[schema.METADATA_KEY] == str(schema.SCHEMA_VERSION).encode()
    assert (runs(tmp_path)["a"].energy_rule, runs(tmp_path)["a"].step_s) == ("rows-sum/1", 0.25)


def test_a_file_with_columns_of_another_devprof_stays_as_it_is(tmp_path):
    fill(tmp_path)
    path = tmp_path / "runs" / "b.parquet"
    pq.write_table(pq.read_table(path).append_column("brand_new", pa.array([1])), path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"b\.parquet has columns that this devprof does not know: brand_new"):
        complete_run(tmp_path, "b", COLUMNS, samples("b"))
    assert path.read_bytes() == before
    assert len(power(tmp_path, "b")) == 2


def test_a_full_disk_costs_nothing(tmp_path, monkeypatch):
    fill(tmp_path)
    before = runs(tmp_path), power(tmp_path)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        complete_run(tmp_path, "b", COLUMNS, samples("b"))
    assert (runs(tmp_path), power(tmp_path)) == before


def test_while_a_folder_is_compacted_no_row_is_changed(tmp_path):
    fill(tmp_path)
    with folder_lock(tmp_path), pytest.raises(StoreError, match="try again"):
        complete_run(tmp_path, "b", COLUMNS, ())


def test_a_broken_file_is_named_and_does_not_disturb(tmp_path, caplog):
    fill(tmp_path)
    (tmp_path / "runs" / "broken.parquet").write_text("no")
    complete_run(tmp_path, "b", COLUMNS, ())
    assert runs(tmp_path)["b"].energy_j == 12.5
    assert "broken.parquet" in caplog.text
    assert find_run(tmp_path, "b").run_id == "b"


def test_a_run_that_is_not_there(tmp_path):
    fill(tmp_path)
    with pytest.raises(StoreError, match="the run x is not in"):
        complete_run(tmp_path, "x", COLUMNS, ())


class TestFind:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        for name, hour in (("20260101T1-aa", 1), ("20260101T2-ab", 9), ("20260101T2-b", 3), ("20260101T2", 2)):
            write_run(tmp_path, make_run(name, started_utc=f"2026-01-01T0{hour}:00:00+00:00"))

    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("latest", "20260101T2-ab"),
            ("20260101T1", "20260101T1-aa"),
            ("20260101T2-b", "20260101T2-b"),
            ("20260101T2", "20260101T2"),
        ],
    )
    def test_by_name_beginning_or_time(self, tmp_path, name, found):
        run = find_run(tmp_path, name)
        assert run == runs(tmp_path)[found]

    def test_several_are_named(self, tmp_path):
        with pytest.raises(StoreError, match="2 runs begin with '20260101T2-', such as 20260101T2-ab, 20260101T2-b"):
            find_run(tmp_path, "20260101T2-")

    def test_none_comes_with_the_closest(self, tmp_path):
        with pytest.raises(UnknownNameError, match=r"unknown run '20260101T1-ax'; closest: 20260101T1-aa.*latest"):
            find_run(tmp_path, "20260101T1-ax")

    def test_an_empty_folder(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(StoreError, match="holds no runs"):
            find_run(tmp_path / "empty", "latest")
        with pytest.raises(StoreError, match="there is no folder"):
            find_run(tmp_path / "none", "latest")


def test_reading_afterwards_sees_the_new_columns(tmp_path):
    fill(tmp_path)
    complete_run(tmp_path, "b", COLUMNS, samples("b"))
    table, skipped = read_table(tmp_path, "runs", ["run_id", "energy_j"])
    assert skipped == ()
    assert table.to_pylist()[1] == {"run_id": "b", "energy_j": 12.5}
