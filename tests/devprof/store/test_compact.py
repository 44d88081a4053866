import contextlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import make_run

from devprof.errors import StoreError
from devprof.records import Measurement, PowerSample, StepTime
from devprof.store import compact as module
from devprof.store import folder as reading
from devprof.store import schema
from devprof.store.compact import compact, compact_if_many
from devprof.store.folder import count_rows, read_records, read_table, write_records, write_run


def fill(folder, names, *, steps=3, samples=2):
    for name in names:
        write_run(
            folder,
            make_run(name),
            [StepTime(name, index, "measured", 10 + index) for index in range(steps)],
            [PowerSample(name, index, "rapl", "package", power_w=float(index)) for index in range(samples)],
        )


def rows_of(folder):
    """All rows of all tables, as a multiset."""
    return {
        table: sorted(tuple(map(repr, row.values())) for row in read_table(folder, table)[0].to_pylist())
        for table in module.FULL_ROWS
    }


def files_of(folder, table="runs"):
    return sorted(path.name for path in (folder / table).iterdir())


@contextlib.contextmanager
def tiny_files():
    """Merged files are full with six rows, and two of like size are merged again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FULL_ROWS", {"runs": 6, "steps": 12, "power": 12})
        patch.setattr(module, "_TIER_BITS", 1)
        patch.setattr(module, "_FAN_IN", 2)
        patch.setattr(module, "_READ_AHEAD", 3)
        yield


class Killed(BaseException):
    """Like SIGKILL: no handler of errors sees it."""


@contextlib.contextmanager
def killed_at(operation):
    """The process ends right before its n-th operation on the file system."""
    left = operation

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
        for name in ("open", "replace", "unlink"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        with contextlib.suppress(Killed):
            yield


def test_many_files_become_one_with_the_same_rows(tmp_path):
    fill(tmp_path, ["c", "a", "b"])
    before = rows_of(tmp_path)
    report = compact(tmp_path)
    assert (report.merged, report.written, report.deleted, report.left_alone, report.busy) == (9, 3, 9, [], False)
    assert rows_of(tmp_path) == before
    assert [run.run_id for run in read_records(tmp_path, "runs", Measurement)] == ["a", "b", "c"]
    for table in module.FULL_ROWS:
        (name,) = files_of(tmp_path, table)
        assert name.startswith("merged-")
    assert count_rows(tmp_path, "steps") == 9


def test_a_second_compaction_has_nothing_to_do(tmp_path):
    fill(tmp_path, "ab")
    compact(tmp_path)
    assert (compact(tmp_path).merged, compact(tmp_path).deleted) == (0, 0)


def test_rows_of_a_run_stay_in_their_order(tmp_path):
    write_records(tmp_path, "steps", "x", [StepTime("z", 1, "measured", 7), StepTime("z", 0, "phases", 9)])
    write_records(tmp_path, "steps", "y", [StepTime("a", 5, "measured", 7), StepTime("a", 4, "warmup", 9)])
    compact(tmp_path)
    steps = read_records(tmp_path, "steps", StepTime)
    assert [(step.run_id, step.index) for step in steps] == [("a", 5), ("a", 4), ("z", 1), ("z", 0)]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdefghijkl"), unique=True, max_size=4), min_size=1, max_size=3),
    st.integers(0, 60),
)
def test_whenever_it_is_killed_each_row_is_there_once(tmp_path_factory, batches, point):
    folder = tmp_path_factory.mktemp("m")
    (folder / "runs").mkdir()
    with tiny_files():
        for number, batch in enumerate(batches):
            fill(folder, [f"{number}{name}" for name in batch])
            before = rows_of(folder)
            with killed_at(point):
                compact(folder)
            assert rows_of(folder) == before
            assert sum(map(len, before.values())) == sum(count_rows(folder, table) for table in before)
        compact(folder)
        assert rows_of(folder) == before
        left = [path for path in folder.glob("*/*") if path.name.startswith(".")]
        assert left == []


@pytest.mark.parametrize("point", range(18))
def test_every_operation_may_be_the_last(tmp_path, point):
    fill(tmp_path, "abcd", steps=2, samples=0)
    before = rows_of(tmp_path)
    with killed_at(point):
        compact(tmp_path)
    assert rows_of(tmp_path) == before
    compact(tmp_path)
    assert rows_of(tmp_path) == before
    assert len(files_of(tmp_path)) == 1


def test_small_merged_files_are_merged_again_and_full_ones_are_not(tmp_path):
    with tiny_files():
        fill(tmp_path, "abcdef")
        compact(tmp_path)
        full = files_of(tmp_path)
        for pair in ("gh", "ij"):
            fill(tmp_path, pair)
            compact(tmp_path)
        assert len(files_of(tmp_path)) == 3
        before = rows_of(tmp_path)
        assert compact(tmp_path).merged > 0
        assert rows_of(tmp_path) == before
        assert len(files_of(tmp_path)) == 2
        assert set(full) < set(files_of(tmp_path))


def test_a_large_single_file_stays_as_it_is(tmp_path):
    with tiny_files():
        write_records(tmp_path, "runs", "import", [make_run(str(index)) for index in range(6)])
        fill(tmp_path, "ab")
        assert compact(tmp_path).left_alone == []
        assert "import.parquet" in files_of(tmp_path)
        assert len(read_records(tmp_path, "runs", Measurement)) == 8


def test_a_file_that_is_copied_in_again_counts_once(tmp_path):
    fill(tmp_path / "board", "abc")
    shutil.copytree(tmp_path / "board", tmp_path / "all")
    before = rows_of(tmp_path / "all")
    compact(tmp_path / "all")
    shutil.copytree(tmp_path / "board", tmp_path / "all", dirs_exist_ok=True)
    assert rows_of(tmp_path / "all") == before
    assert count_rows(tmp_path / "all", "steps") == 9
    assert compact(tmp_path / "all").deleted == 9
    assert rows_of(tmp_path / "all") == before


def test_what_was_merged_twice_is_still_known_by_its_first_name(tmp_path):
    with tiny_files():
        for pair in ("ab", "cd"):
            fill(tmp_path / "board", pair)
            shutil.copytree(tmp_path / "board", tmp_path / "all", dirs_exist_ok=True)
            compact(tmp_path / "all")
        before = rows_of(tmp_path / "all")
        compact(tmp_path / "all")
        assert len(files_of(tmp_path / "all")) == 1
    shutil.copytree(tmp_path / "board", tmp_path / "all", dirs_exist_ok=True)
    assert rows_of(tmp_path / "all") == before


def test_a_broken_file_is_left_alone_and_named(tmp_path):
    fill(tmp_path, "ab")
    (tmp_path / "runs" / "broken.parquet").write_text("no")
    (tmp_path / "steps" / "merged-broken.parquet").write_text("no")
    report = compact(tmp_path)
    assert {file.path.name for file in report.left_alone} == {"broken.parquet", "merged-broken.parquet"}
    assert all(file.reason for file in report.left_alone)
    assert "broken.parquet" in files_of(tmp_path)
    _, skipped = read_table(tmp_path, "runs")
    assert [file.path.name for file in skipped] == ["broken.parquet"]
    assert len(read_records(tmp_path, "runs", Measurement)) == 2


def test_a_merged_file_that_breaks_gives_way_to_the_files_it_stood_for(tmp_path):
    fill(tmp_path, "abc")
    before = rows_of(tmp_path)
    with killed_at(3):
        compact(tmp_path)
    (merged,) = (tmp_path / "runs").glob("merged-*")
    assert len(files_of(tmp_path)) == 4
    merged.write_bytes(merged.read_bytes()[:-20])
    assert rows_of(tmp_path) == before


def test_older_versions_are_migrated_and_newer_ones_are_left_alone(tmp_path):
    for name, version in (("old", b"1"), ("new", b"99")):
        path = write_records(tmp_path, "runs", name, [make_run(name, data_s=1.5)])
        pq.write_table(pq.read_table(path).replace_schema_metadata({schema.METADATA_KEY: version}), path)
    fill(tmp_path, "x", steps=0, samples=0)
    report = compact(tmp_path)
    assert [(file.path.stem, "upgrade devprof" in file.reason) for file in report.left_alone] == [("new", True)]
    merged, new = files_of(tmp_path)
    assert new == "new.parquet"
    table = pq.read_table(tmp_path / "runs" / merged)
    assert table.schema.metadata[schema.METADATA_KEY] == str(schema.SCHEMA_VERSION).encode()
    assert table.column("schema_version").to_pylist() == [schema.SCHEMA_VERSION] * 2
    assert table.column("data_s").null_count == 2


def test_columns_that_only_another_devprof_knows_are_kept(tmp_path):
    fill(tmp_path, "ab")
    path = write_records(tmp_path, "runs", "c", [make_run("c")])
    pq.write_table(pq.read_table(path).append_column("brand_new", pa.array([1])), path)
    (left,) = compact(tmp_path).left_alone
    assert (left.path, "brand_new" in left.reason) == (path, True)
    assert len(read_records(tmp_path, "runs", Measurement)) == 3


def test_a_full_disk_costs_nothing(tmp_path, monkeypatch):
    fill(tmp_path, "abc")
    before = rows_of(tmp_path)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        compact(tmp_path)
    assert rows_of(tmp_path) == before
    assert files_of(tmp_path) == ["a.parquet", "b.parquet", "c.parquet"]


def test_a_disk_that_keeps_less_than_was_written_is_noticed_before_anything_is_deleted(tmp_path, monkeypatch):
    fill(tmp_path, "abc")
    monkeypatch.setattr(module, "write_file", lambda target, rows: pq.write_table(rows.slice(1), target))
    with pytest.raises(StoreError, match="Nothing was deleted"):
        compact(tmp_path)
    assert {"a.parquet", "b.parquet", "c.parquet"} < set(files_of(tmp_path))


def test_what_a_sweep_writes_meanwhile_is_kept(tmp_path, monkeypatch):
    fill(tmp_path, "abc")
    real = module.list_files

    def list_then_write(folder, table):
        listing = real(folder, table)
        fill(folder, [f"while-{table}"])
        return listing

    monkeypatch.setattr(module, "list_files", list_then_write)
    compact(tmp_path)
    runs = {run.run_id for run in read_records(tmp_path, "runs", Measurement)}
    assert runs == {"a", "b", "c", "while-runs", "while-steps", "while-power"}
    assert count_rows(tmp_path, "steps") == 18


def test_two_writers_and_a_compaction_lose_nothing(tmp_path):
    writers = [
        threading.Thread(target=fill, args=(tmp_path, [f"{writer}{index}" for index in range(12)])) for writer in "pq"
    ]
    tmp_path.joinpath("runs").mkdir()
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        compact(tmp_path)
    compact(tmp_path)
    assert len(read_records(tmp_path, "runs", Measurement)) == 24
    assert len(rows_of(tmp_path)["steps"]) == count_rows(tmp_path, "steps") == 72


@pytest.mark.parametrize("read", [rows_of, lambda folder: count_rows(folder, "steps")])
def test_a_reader_whose_files_are_merged_under_it_lists_again(tmp_path, monkeypatch, read):
    fill(tmp_path, "abc")
    before = read(tmp_path)
    real = reading.list_files
    compacted = []

    def list_then_compact(folder, table):
        listing = real(folder, table)
        if not compacted:
            compacted.append(compact(folder))
        return listing

    monkeypatch.setattr(reading, "list_files", list_then_compact)
    assert read(tmp_path) == before


def test_a_link_that_leads_nowhere_is_skipped_and_named(tmp_path):
    fill(tmp_path, "a")
    (tmp_path / "runs" / "gone.parquet").symlink_to(tmp_path / "nowhere")
    rows, skipped = read_table(tmp_path, "runs")
    assert (rows.num_rows, [file.path.name for file in skipped]) == (1, ["gone.parquet"])


def test_only_one_process_compacts_a_folder(tmp_path):
    fill(tmp_path, "ab")
    with module.folder_lock(tmp_path) as held:
        assert held
        assert compact(tmp_path).busy
    assert len(files_of(tmp_path)) == 2
    assert compact(tmp_path).merged == 6


def test_the_lock_of_a_dead_process_is_no_lock(tmp_path):
    fill(tmp_path, "ab")
    script = (
        "import os\nfrom pathlib import Path\nfrom devprof.store.compact import folder_lock\n"
        f"with folder_lock(Path({str(tmp_path)!r})) as held:\n    assert held\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert compact(tmp_path).merged == 6


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match="none cannot be locked"):
        compact(tmp_path / "none")


class TestIfMany:
    def test_few_files_are_left_as_they_are(self, tmp_path):
        fill(tmp_path, "ab")
        assert not compact_if_many(tmp_path, threshold=3)
        assert not compact_if_many(tmp_path / "none", threshold=1)
        assert len(files_of(tmp_path)) == 2

    def test_many_are_merged_in_a_process_of_its_own(self, tmp_path):
        fill(tmp_path, "abc")
        before = rows_of(tmp_path)
        assert compact_if_many(tmp_path, threshold=3)
        assert len(files_of(tmp_path)) == 1
        assert rows_of(tmp_path) == before
        assert not compact_if_many(tmp_path, threshold=1)

    def test_a_failure_is_named_and_does_not_stop_a_sweep(self, tmp_path, caplog):
        fill(tmp_path, "abc")
        (tmp_path / ".compact.lock").mkdir()
        assert not compact_if_many(tmp_path, threshold=3)
        assert "were not merged" in caplog.text
        assert "cannot be locked" in caplog.text
