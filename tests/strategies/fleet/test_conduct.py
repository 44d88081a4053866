"""The course of a fleet command on a clock that never really waits."""

import math
import re

import pytest
from fleet_parts import FleetGrid, FleetNode, content_of, delivery, make_node_run, make_order, make_status, tables_of
from flwr.app import Error, RecordDict

from devprof.errors import StoreError
from devprof.records import Measurement
from devprof.store.folder import read_records
from strategies.compat import APP_NOT_LOADED, CLIENT_APP_RAISED
from strategies.fleet.conduct import Conductor
from strategies.fleet.wire import JOB, Job, Report, from_content
from strategies.virtual import VirtualClock

GONE = Error(5, "node unavailable")


@pytest.fixture
def server(tmp_path):
    return tmp_path / "server"


@pytest.fixture
def healthy(tmp_path):
    """Makes a node that delivers everything."""

    def make(device, **changes):
        parts = {"query": content_of(make_status(device, device_id=f"id-{device}"))}
        return FleetNode(**parts | {"job": delivery(tmp_path / device, device, device_id=f"id-{device}")} | changes)

    return make


def conduct(server, there, *, online_from_s=None, **order):
    """Runs the command: its result by node, everything that was said, and the grid."""
    clock = VirtualClock()
    grid = FleetGrid(clock, there, online_from_s or {})
    said = []
    result = Conductor(grid, make_order(server, **order), clock=clock, say=said.append).run()
    return {row["node"]: row for row in result["nodes"]}, said, grid


def rows(server):
    return read_records(server, "runs", Measurement)


def test_every_node_delivers_and_the_run_ends_with_the_last(server, healthy):
    result, said, grid = conduct(server, {1: healthy("a"), 2: healthy("b", job_delay_s=50.0)})
    assert {name: row["delivered"] for name, row in result.items()} == {"id-a": True, "id-b": True}
    assert len(rows(server)) == 4
    assert [event["event"] for event in said] == ["note", "note", "node", "node", "result"]
    assert [event["node"] for event in said[2:4]] == ["id-a", "id-b"]
    assert 52.0 <= grid.clock.now_s() < 53.0


def test_rows_are_stored_as_they_come(server, healthy):
    clock = VirtualClock()
    grid = FleetGrid(clock, {1: healthy("a"), 2: healthy("b", job_delay_s=300.0)})
    stored = []

    def say(event):
        if event["event"] == "node":
            stored.append((event["node"], round(clock.now_s()), len(rows(server))))

    Conductor(grid, make_order(server), clock=clock, say=say).run()
    assert stored == [("id-a", 32, 2), ("id-b", 302, 4)]


def test_a_job_says_what_to_do_and_for_how_long(server, healthy):
    order = {"measure_options": ("--min-time", "1"), "calibration_s": 60.0, "repeats": 2, "deadline_s": 602.0}
    _, _, grid = conduct(server, {1: healthy("a")}, **order)
    query, job = grid.pushed
    assert query.metadata.message_type == "query.status"
    assert from_content(query.content, JOB, Job).measure_options == ("--min-time", "1")
    told = from_content(job.content, JOB, Job)
    assert (told.models, told.measure_options, told.calibration_s, told.repeats) == (
        ("seed:net",),
        ("--min-time", "1"),
        60.0,
        2,
    )
    assert len(told.configurations) == 2
    # Two seconds for the query, a twentieth for the ways.
    assert told.budget_s == pytest.approx(600.0 * 0.95, abs=0.5)
    assert job.metadata.ttl > 602.0


def test_a_node_that_refuses_gets_no_job_and_owes_its_rows(server, healthy):
    refusing = FleetNode(query=content_of(make_status("b", refusal="torch is not installed there")))
    result, _, grid = conduct(server, {1: healthy("a"), 2: refusing})
    assert grid.jobs() == [1]
    assert not result["2"]["delivered"]
    assert result["2"]["message"] == "it refuses: torch is not installed there"
    failed = [run for run in rows(server) if run.device == "b"]
    assert [(run.status, run.device_key) for run in failed] == [("error", "key-b")] * 2


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (GONE, "crashed", "died"),
        (Error(8, "app crashed"), "crashed", "died"),
        (Error(4, ""), "timeout", "expired .error 4: no reason given"),
        (Error(APP_NOT_LOADED, "No module named 'strategies'"), "error", r"devprof\[fl,train\]"),
        (Error(CLIENT_APP_RAISED, "boom"), "error", "error 2: boom"),
    ],
)
@pytest.mark.parametrize("phase", ["query", "job"])
def test_a_node_that_flower_answers_for_is_failed_rows(server, healthy, phase, error, status, said):  # noqa: PLR0917
    result, _, grid = conduct(server, {1: healthy("a"), 2: healthy("b", **{phase: error})})
    assert grid.jobs() == ([1] if phase == "query" else [1, 2])
    lost = result["2" if phase == "query" else "id-b"]
    assert not lost["delivered"]
    failed = [run for run in rows(server) if run.status != "ok"]
    assert {run.status for run in failed} == {status}
    assert all(re.search(said, run.error) for run in failed)
    # Who said who it is before it died is known by its device.
    assert {run.device_key for run in failed} == {"unknown" if phase == "query" else "key-b"}


def test_a_late_reply_is_taken_until_the_deadline_of_the_whole(server, healthy):
    result, _, grid = conduct(server, {1: healthy("a", job_delay_s=95.0)}, deadline_s=100.0)
    assert result["id-a"]["delivered"]
    assert grid.clock.now_s() <= 98.0
    assert len(rows(server)) == 2


def test_a_node_that_never_replies_is_a_timeout_at_the_deadline(server, healthy):
    result, _, grid = conduct(server, {1: healthy("a", job_delay_s=math.inf)}, deadline_s=100.0)
    assert grid.clock.now_s() == pytest.approx(100.0, abs=0.01)
    assert result["id-a"]["message"] == "no reply within the 100 s of the whole run"
    assert {run.status for run in rows(server)} == {"timeout"}


def test_a_busy_node_that_does_not_say_who_it_is_gets_its_job_all_the_same(server, healthy):
    result, _, grid = conduct(server, {1: healthy("a", query_delay_s=math.inf)})
    assert grid.jobs() == [1]
    assert result["1"]["delivered"]
    assert result["1"]["device"] == "a"


def test_an_answer_to_the_query_that_comes_late_still_says_who_it_is(server, healthy):
    node = healthy("a", query_delay_s=160.0, job_delay_s=math.inf)
    conduct(server, {1: node})
    assert {run.device_key for run in rows(server)} == {"key-a"}


def test_a_query_answered_with_nonsense_is_failed_rows(server):
    result, _, grid = conduct(server, {1: FleetNode(query=RecordDict())})
    assert grid.jobs() == []
    assert "its reply is not understood" in result["1"]["message"]


def test_registered_names_win_over_what_nodes_say(server, healthy):
    result, _, _ = conduct(server, {1: healthy("a", name="pi4-03")})
    assert list(result) == ["pi4-03"]


def test_two_nodes_of_one_name_are_told_apart(server, healthy):
    result, _, _ = conduct(server, {1: healthy("a", name="pi"), 2: healthy("b", name="pi")})
    assert list(result) == ["pi (1)", "pi (2)"]


@pytest.mark.parametrize("wanted", ["pi4-03", "id-a", "a", "1"])
def test_nodes_are_chosen_by_any_of_their_names(server, healthy, wanted):
    there = {1: healthy("a", name="pi4-03"), 2: healthy("b")}
    result, _, grid = conduct(server, there, nodes=(wanted,))
    assert grid.jobs() == [1]
    assert list(result) == ["pi4-03"]


def test_a_name_that_no_node_has_is_a_line(server, healthy):
    result, _, _ = conduct(server, {1: healthy("a"), 2: healthy("b")}, nodes=("id-a", "pi9"))
    assert [row["delivered"] for row in result.values()] == [True, False]
    assert result["pi9"]["message"] == "no such node is connected; there are: id-a, id-b"


def test_nodes_are_waited_for(server, healthy):
    nodes = {1: healthy("a"), 2: healthy("b")}
    result, said, _ = conduct(server, nodes, online_from_s={2: 7.0}, min_nodes=2)
    assert len(result) == 2
    assert said[0]["text"] == "asking 2 nodes who they are"


def test_the_wait_for_nodes_has_an_end(server, healthy):
    nodes = {1: healthy("a"), 2: healthy("b")}
    result, said, _ = conduct(server, nodes, online_from_s={2: math.inf}, min_nodes=2)
    assert list(result) == ["id-a"]
    assert said[0]["text"] == "connected: 1 of 2 nodes; going on without the rest"


def test_without_nodes_there_is_a_result_without_nodes(server):
    result, said, grid = conduct(server, {})
    assert result == {}
    assert said[-1]["event"] == "result"
    assert grid.pushed == []


def test_a_folder_that_cannot_be_written_is_found_out_before_any_work(server, healthy):
    server.write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        conduct(server, {1: healthy("a")})


def test_the_status_of_a_fleet(server, healthy):
    nodes = {1: healthy("a"), 2: FleetNode(query=GONE, query_delay_s=49.0), 3: FleetNode(query=None)}
    result, _, grid = conduct(server, nodes, action="status", output="", deadline_s=90.0)
    assert grid.jobs() == []
    assert not server.exists()
    assert result["id-a"]["delivered"]
    assert (result["id-a"]["device_key"], result["id-a"]["facts"]) == ("key-a", {"cpu": "x"})
    assert (result["2"]["delivered"], result["3"]["delivered"]) == (False, False)
    assert "died" in result["2"]["message"]
    assert result["3"]["message"] == "no reply in time"
    assert grid.clock.now_s() == pytest.approx(90.0, abs=0.01)


def test_a_node_that_delivered_a_part_is_told_apart_from_a_complete_one(server, tmp_path, healthy):
    part = content_of(
        make_status("b"),
        Report("timeout", 500.0, "ended"),
        tables_of(tmp_path / "b", [make_node_run(0, device="b")], device="b"),
    )
    result, _, _ = conduct(server, {1: healthy("a"), 2: healthy("b", job=part)})
    assert (result["id-b"]["delivered"], result["id-b"]["rows_ok"], result["id-b"]["rows_failed"]) == (False, 1, 1)
