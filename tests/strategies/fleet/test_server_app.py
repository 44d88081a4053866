"""The ServerApp with nodes that answer at once: what the operator reads in the log and finds beside the rows."""

import json

import pytest
from fleet_parts import FleetGrid, FleetNode, content_of, delivery, make_order, make_status
from flwr.app import Context, RecordDict

from devprof.errors import DevprofError
from devprof.records import Measurement
from devprof.store.folder import read_records
from strategies.clocks import WallClock
from strategies.fleet.lines import probe_file, read_event, result_file
from strategies.fleet.server_app import main


@pytest.fixture
def serve(tmp_path, capsys):
    """Runs an order on one node; the events in the log."""

    def run(order):
        node = FleetNode(content_of(make_status()), delivery(tmp_path / "node"), query_delay_s=0.0, job_delay_s=0.0)
        context = Context(1, 0, {}, RecordDict(), {"order": order if isinstance(order, str) else order.to_text()})
        try:
            main(FleetGrid(WallClock(), {7: node}), context)
        finally:
            run.events = [event for line in capsys.readouterr().out.splitlines() if (event := read_event("t0", line))]
        return run.events

    return run


@pytest.mark.parametrize("shared", [True, False])
def test_the_result_is_in_the_log_and_beside_the_rows(serve, tmp_path, shared):
    server = tmp_path / "server"
    server.mkdir()
    if shared:
        probe_file(server, "t0").touch()
    events = serve(make_order(server))
    assert [event["event"] for event in events] == ["note", "note", "node", "result"]
    assert (events[-1]["shared"], events[-1]["output"], events[-1]["nodes"][0]["rows_ok"]) == (shared, str(server), 2)
    assert json.loads(result_file(server, "t0").read_text()) == events[-1]
    assert len(read_records(server, "runs", Measurement)) == 2


def test_a_status_writes_nothing(serve, tmp_path):
    events = serve(make_order("", action="status", workloads=(), models=()))
    assert events[-1]["nodes"][0]["device"] == "board"
    assert [path.name for path in tmp_path.iterdir()] == ["node"]


def test_a_folder_that_cannot_be_written_is_told_before_the_run_fails(serve, tmp_path):
    (tmp_path / "server").write_text("in the way")
    with pytest.raises(DevprofError):
        serve(make_order(tmp_path / "server"))
    assert serve.events[-1]["event"] == "error"
    assert "cannot be written" in serve.events[-1]["text"]


def test_a_run_that_was_not_started_by_devprof_fleet_says_so(serve):
    with pytest.raises(DevprofError, match="start the run with 'devprof fleet'"):
        serve("")
