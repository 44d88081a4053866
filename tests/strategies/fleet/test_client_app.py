"""The ClientApp in this process: what a node says of itself, and what becomes of a job."""

import functools

import pytest
from fleet_parts import KEYS, make_node_run
from flwr.app import Context, Message, RecordDict

from devprof.records import Measurement
from devprof.store.folder import read_records, write_run
from strategies.fleet import client_app, nodestatus
from strategies.fleet.nodestatus import asked_options
from strategies.fleet.tables import TABLES_RECORD, unpack
from strategies.fleet.wire import (
    JOB,
    MEASURE,
    QUERY,
    REPORT,
    STATUS,
    FleetError,
    Job,
    NodeStatus,
    Report,
    from_content,
    to_record,
)
from strategies.fleet.work import Done

PLAIN = Job(60.0, models=("seed:net",), configurations=KEYS)


def send(kind, job=PLAIN, **node_config):
    message = Message(RecordDict({JOB: to_record(job)}), 7, kind)
    config = {name.replace("_", "-"): value for name, value in node_config.items()}
    return client_app.app(message, Context(1, 7, config, RecordDict(), {})).content


def told(content):
    return from_content(content, STATUS, NodeStatus)


def report(content):
    return from_content(content, REPORT, Report)


@pytest.fixture
def worked(monkeypatch):
    """What the node's commands were asked, in the place of running them; they leave one run and a line behind."""
    asked = []

    def work(commands, *, budget_s, log, outcome="done"):
        asked.extend(commands)
        folder = client_app.Path(commands[-1][commands[-1].index("--output") + 1])
        key = told(send(QUERY, device="board")).device_key
        write_run(folder, make_node_run(0, device_key=key))
        return Done(outcome, None if outcome == "done" else "why", "a line\n")

    monkeypatch.setattr(client_app, "work", work)
    asked_with = functools.partial(monkeypatch.setattr, client_app, "work")
    return asked, lambda outcome: asked_with(functools.partial(work, outcome=outcome))


def test_a_node_says_who_it_is_and_that_it_would_measure():
    status = told(send(QUERY, device="my pi", device_id="pi-7"))
    assert (status.device, status.device_id, status.refusal) == ("my pi", "pi-7", None)
    assert status.threads >= 1
    assert {"train", "fl"} <= set(status.extras)
    assert None not in {status.torch_version, status.flwr_version}


def test_a_node_is_who_it_would_be_with_the_options():
    one = told(send(QUERY, Job(60.0, measure_options=("--threads", "1"))))
    two = told(send(QUERY, Job(60.0, measure_options=("--threads", "2"))))
    assert (one.threads, two.threads) == (1, 2)
    assert one.device_key != two.device_key


@pytest.mark.parametrize("word", ["no", "No", "false", False])
def test_a_node_that_does_not_want_to_refuses(worked, word):
    for kind in (QUERY, MEASURE):
        assert "devprof-fleet" in told(send(kind, devprof_fleet=word)).refusal
    assert report(send(MEASURE, devprof_fleet=word)).outcome == "refused"
    assert worked[0] == []


def test_a_node_without_torch_refuses_with_the_command_that_helps(monkeypatch, worked):
    monkeypatch.setattr("devprof.cli.common.missing_modules", lambda extra: ["torch"])
    content = send(MEASURE)
    assert report(content).outcome == "refused"
    assert "pip install 'devprof[train]'" in report(content).message


@pytest.mark.parametrize("words", [("--from-the-future", "1"), ("--batch-size", "zero"), ("--help",)])
def test_options_that_this_devprof_does_not_take_are_a_refusal(worked, words):
    content = send(MEASURE, Job(60.0, models=("seed:net",), measure_options=words))
    assert report(content).outcome == "refused"
    assert told(content).device
    with pytest.raises(FleetError):
        asked_options(words)


def test_a_job_runs_devprofs_commands_and_sends_their_rows(worked):
    content = send(MEASURE, device="board")
    assert worked[0][0][:3] == ["measure", "--device", "board"]
    assert worked[0][0][-2:] == ["--", "seed:net"]
    assert (report(content).outcome, report(content).output) == ("done", "a line\n")
    rows = unpack("runs", content[TABLES_RECORD]["runs"].data)
    assert rows.column("run_id").to_pylist() == [make_node_run(0).run_id]


def test_what_was_finished_is_sent_however_it_ended(worked):
    worked[1]("timeout")
    content = send(MEASURE, device="board")
    assert (report(content).outcome, report(content).message) == ("timeout", "why")
    assert "runs" in content[TABLES_RECORD]


def test_a_folder_of_the_nodes_own_is_kept(worked, tmp_path):
    send(MEASURE, device="board", devprof_dir=str(tmp_path / "kept"))
    assert len(read_records(tmp_path / "kept", "runs", Measurement)) == 1


def test_a_folder_that_cannot_be_made_is_the_reason(worked, tmp_path):
    (tmp_path / "file").touch()
    content = send(MEASURE, devprof_dir=str(tmp_path / "file"))
    assert report(content).outcome == "error"
    assert "file" in report(content).message


def test_a_message_that_is_no_job_is_refused(worked):
    message = Message(RecordDict(), 7, MEASURE)
    content = client_app.app(message, Context(1, 7, {}, RecordDict(), {})).content
    assert report(content).outcome == "refused"
    assert "'config' is missing" in report(content).message


def test_a_hot_node_says_so(monkeypatch):
    from devprof.device.throttle import Throttling

    monkeypatch.setattr(nodestatus, "judge", lambda states: Throttling("confirmed", ("too hot",)))
    status = told(send(QUERY))
    assert (status.throttled, status.throttle_reasons) == ("confirmed", ("too hot",))


@pytest.mark.slow
def test_a_real_job_measures(tmp_path):
    options = ("--image-size", "8", "--batch-size", "4", "--min-time", "0.1")
    content = send(
        MEASURE, Job(120.0, measure_options=options, models=("seed:net",), configurations=KEYS), device="board"
    )
    assert report(content).outcome == "done", report(content)
    rows = unpack("runs", content[TABLES_RECORD]["runs"].data).to_pylist()
    assert [(row["configuration"], row["status"], row["device"]) for row in rows] == [(KEYS[0], "ok", "board")]
    assert unpack("steps", content[TABLES_RECORD]["steps"].data).num_rows > 5
