"""Rows of replies go into the folder once each, and what is owed and missing is a row that says why."""

import json

import pytest
from fleet_parts import KEYS, content_of, delivery, make_node_run, make_order, make_status, refill, tables_of
from flwr.app import RecordDict
from makers import make_operator_time

from devprof.records import Measurement, OperatorTime, StepTime
from devprof.store.folder import read_finished, read_records, read_table, write_records
from strategies.fleet.ledger import Ledger, Node
from strategies.fleet.tables import TABLES_RECORD
from strategies.fleet.wire import Report


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "server"
    path.mkdir()
    return path


@pytest.fixture
def ledger(folder):
    return Ledger(folder, make_order(folder))


def runs(folder):
    return read_records(folder, "runs", Measurement)


def test_a_complete_reply_is_stored_with_the_nodes_name(ledger, folder, tmp_path):
    node = Node(7, "pi-1")
    result = ledger.take(node, delivery(tmp_path / "node"))
    assert (result.delivered, result.rows_ok, result.rows_failed, result.message) == (True, 2, 0, None)
    assert (result.node, result.device, result.device_key, result.seconds) == ("pi-1", "board", "key-board", 12.5)
    assert node.device == "board"
    stored = runs(folder)
    assert [run.run_id for run in stored] == [make_node_run(0).run_id, make_node_run(1).run_id]
    assert [json.loads(run.facts) for run in stored] == [{"cpu": "x", "fleet_node": "pi-1"}] * 2
    assert stored[0].step_s == 0.25
    assert {step.run_id for step in read_records(folder, "steps", StepTime)} == {run.run_id for run in stored}
    assert read_finished(folder) == {("key-board", key, 0) for key in KEYS}


def test_files_have_names_of_the_servers_own(ledger, folder, tmp_path):
    ledger.take(Node(7, "../pi"), delivery(tmp_path / "node"))
    names = {path.name for path in folder.rglob("*.parquet")}
    assert len(names) == 1
    assert make_node_run(0).run_id not in names.pop()


def test_a_missing_row_is_a_failed_row(ledger, folder, tmp_path):
    tables = tables_of(tmp_path / "node", [make_node_run(0)])
    content = content_of(make_status(threads=3), Report("timeout", 90.0, "devprof measure was ended"), tables)
    result = ledger.take(Node(7, "pi-1"), content)
    assert (result.delivered, result.rows_ok, result.rows_failed) == (False, 1, 1)
    assert result.message == "devprof measure was ended; 1 of 2 rows are missing"
    failed = next(run for run in runs(folder) if run.status != "ok")
    assert (failed.status, failed.error) == ("timeout", "node pi-1: devprof measure was ended")
    assert (failed.device, failed.device_key, failed.threads) == ("board", "key-board", 3)
    assert (failed.configuration, failed.model, failed.batch_size, failed.image_size) == (KEYS[1], "seed:net", 8, 8)
    assert failed.step_s is None


def test_a_failed_calibration_is_not_a_delivery_though_all_rows_are_there(ledger, tmp_path):
    tables = tables_of(tmp_path / "node", [make_node_run(0), make_node_run(1)])
    result = ledger.take(
        Node(7, "pi-1"), content_of(make_status(), Report("done", 9.0, "devprof calibrate ended"), tables)
    )
    assert (result.delivered, result.rows_ok, result.message) == (False, 2, "devprof calibrate ended")


def test_a_model_that_the_node_left_out_has_its_own_reason(ledger, folder):
    printed = "left out seed:net: it needs a newer torch\n"
    result = ledger.take(Node(7, "pi-1"), content_of(make_status(), Report("done", 1.0, output=printed)))
    assert not result.delivered
    assert {(run.status, run.error) for run in runs(folder)} == {("error", "node pi-1: it needs a newer torch")}


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_node_that_never_answered_owes_every_repeat(folder, repeats):
    ledger = Ledger(folder, make_order(folder, repeats=repeats, processor="cuda"))
    result = ledger.absent(Node(7, "pi-1"), "crashed", "the node\ndied")
    assert (result.delivered, result.rows_ok, result.rows_failed) == (False, 0, 2 * repeats)
    assert (result.device, result.seconds, result.message) == (None, None, "the node died")
    stored = runs(folder)
    assert {(run.configuration, run.repeat) for run in stored} == {(k, r) for k in KEYS for r in range(repeats)}
    assert {run.status for run in stored} == {"crashed"}
    assert {run.error for run in stored} == {"node pi-1: the node died"}
    assert {(run.device, run.device_key, run.processor) for run in stored} == {("pi-1", "unknown", "cuda")}
    assert len({run.run_id for run in stored}) == len(stored)


def test_rows_that_are_sent_again_are_not_stored_again(folder, tmp_path):
    content = delivery(tmp_path / "node")
    for _ in range(2):
        result = Ledger(folder, make_order(folder)).take(Node(7, "pi-1"), content)
        assert (result.delivered, result.rows_ok) == (True, 2)
    assert len(runs(folder)) == 2
    assert len(read_records(folder, "steps", StepTime)) == 4


def test_a_node_cannot_take_another_ones_runs(folder, ledger, tmp_path):
    ledger.take(Node(7, "pi-1"), delivery(tmp_path / "one"))
    stolen = [make_node_run(n, device="other", run_id=make_node_run(n).run_id) for n in (0, 1)]
    tables = tables_of(tmp_path / "two", stolen, device="other")
    result = ledger.take(Node(8, "thief"), content_of(make_status("other"), Report("done", 1.0), tables))
    assert not result.delivered
    assert "is another device's" in result.message
    assert {run.error for run in runs(folder) if run.status == "error"} == {"node thief: it sent no such row"}


def test_a_row_that_cannot_be_true_is_left_out_and_named(ledger, folder, tmp_path):
    tables = tables_of(tmp_path / "node", [make_node_run(0), make_node_run(1, step_s=-1.0)])
    result = ledger.take(Node(7, "pi-1"), content_of(make_status(), Report("done", 1.0), tables))
    assert (result.delivered, result.rows_ok, result.rows_failed) == (False, 1, 1)
    assert "1 rows of runs are not believed: a run that ended ok must have a positive step_s" in result.message


def test_a_broken_table_costs_that_table_only(ledger, folder, tmp_path):
    content = delivery(tmp_path / "node")
    content[TABLES_RECORD] = refill(content[TABLES_RECORD], steps=b"broken")
    result = ledger.take(Node(7, "pi-1"), content)
    assert (result.delivered, result.rows_ok) == (False, 2)
    assert result.message.startswith("the table steps cannot be read")
    assert len(runs(folder)) == 2
    assert read_table(folder, "steps")[0].num_rows == 0


def test_broken_runs_are_failed_rows_and_their_steps_are_not_stored(ledger, folder, tmp_path):
    content = delivery(tmp_path / "node")
    content[TABLES_RECORD] = refill(content[TABLES_RECORD], runs=b"broken")
    result = ledger.take(Node(7, "pi-1"), content)
    assert (result.delivered, result.rows_ok, result.rows_failed) == (False, 0, 2)
    assert {run.status for run in runs(folder)} == {"error"}
    assert read_table(folder, "steps")[0].num_rows == 0


@pytest.mark.parametrize("content", [RecordDict(), content_of(make_status())])
def test_a_reply_that_says_nothing_is_failed_rows(ledger, folder, content):
    result = ledger.take(Node(7, "pi-1"), content)
    assert not result.delivered
    assert "its reply is not understood" in result.message
    assert {run.status for run in runs(folder)} == {"error"}


def test_operators_are_stored_once_and_only_those_of_the_device(folder, tmp_path):
    rows = [make_operator_time(name, device_key="key-board") for name in ("a", "b")]
    (tmp_path / "node").mkdir()
    write_records(tmp_path / "node", "operators", "c1", rows)
    write_records(folder, "operators", "before", rows[:1])
    order = make_order(folder, workloads=(), models=(), calibration_s=9.0)
    content = content_of(make_status(), Report("done", 9.0), tables_of(tmp_path / "node", [], operators=True))
    for _ in range(2):
        result = Ledger(folder, order).take(Node(7, "pi-1"), content)
        assert (result.delivered, result.operators, result.rows_ok, result.rows_failed) == (True, 2, 0, 0)
    assert [row.signature for row in read_records(folder, "operators", OperatorTime)] == ["b", "a"]
    assert not (folder / "runs").exists()


def test_a_full_disk_is_the_results_message(ledger, folder, tmp_path):
    (folder / "runs").write_text("in the way")
    for result in (
        ledger.take(Node(7, "a"), delivery(tmp_path / "node")),
        ledger.absent(Node(8, "b"), "crashed", "gone"),
    ):
        assert not result.delivered
        assert "cannot be written" in result.message
