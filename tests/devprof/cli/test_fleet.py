"""``devprof fleet`` as a user types it, with a stand-in for the run itself; the whole way is in tests/strategies/fleet."""

import json

import pytest
from click.testing import CliRunner

from devprof.cli import main
from devprof.cli.measure import command as measure_command
from devprof.errors import DevprofError
from devprof.records import Workload
from strategies.fleet import launch as launching
from strategies.fleet.order import Order

NODE = {
    "node": "pi-1",
    "node_id": 7,
    "device": "pi4",
    "device_key": "abc",
    "delivered": True,
    "rows_ok": 2,
    "rows_failed": 0,
    "operators": 0,
    "seconds": 61.0,
    "message": None,
}
STATUS = {
    "node": "pi-1",
    "node_id": 7,
    "delivered": True,
    "message": None,
    "device": "pi4",
    "device_key": "abc",
    "processor": "cpu",
    "threads": 4,
    "power_mode": None,
    "memory_bytes": 4 << 30,
    "free_memory_bytes": 1 << 30,
    "temperature_c": 61.4,
    "throttled": "suspected",
    "throttle_reasons": ["the thermal zone cpu is hot"],
    "devprof_version": "0.1.0",
    "torch_version": None,
    "flwr_version": "1.41.0",
    "refusal": None,
}
GONE = {
    **NODE,
    "node": "pi-2",
    "delivered": False,
    "rows_ok": 0,
    "rows_failed": 2,
    "seconds": None,
    "message": "it died",
}


@pytest.fixture
def fleet(monkeypatch, tmp_path):
    """Types a fleet command; returns its output, and the order and superlink that it came to."""
    seen = {}

    def invoke(*words, nodes=(NODE,), shared=True, code=0, events=()):
        def launch(order, *, superlink, on_event, on_line):
            seen.update(order=order, superlink=superlink)
            on_line("INFO : flower says")
            for event in events:
                on_event(event)
            if isinstance(nodes, Exception):
                raise nodes
            return {"event": "result", "nodes": list(nodes), "host": "server", "output": order.output, "shared": shared}

        monkeypatch.setattr(launching, "launch", launch)
        result = CliRunner().invoke(main, ["fleet", *map(str, words)])
        assert result.exit_code == code, result.output
        return result, seen

    return invoke


def order_of(fleet, tmp_path, *words):
    _, seen = fleet("measure", *words, "-o", tmp_path / "runs")
    return seen["order"]


def test_the_order_is_what_was_typed(fleet, tmp_path):
    words = (
        "seed:net",
        "--batch-size",
        "4,8",
        "--mode",
        "full,head",
        "--image-size",
        "8",
        "--repeats",
        "2",
        "--min-time",
        "200ms",
    )
    order = order_of(fleet, tmp_path, *words, "--nodes", "a,b", "--deadline", "2h", "--wait", "5s", "--min-nodes", "3")
    assert order.models == ("seed:net",)
    assert order.repeats == 2
    assert set(order.workloads) == {
        Workload("seed:net", mode=mode, batch_size=size, image_size=8) for mode in ("full", "head") for size in (4, 8)
    }
    assert (order.nodes, order.deadline_s, order.wait_s, order.min_nodes) == (("a", "b"), 7200.0, 5.0, 3)
    assert order.output == str(tmp_path / "runs")
    assert order.calibration_s is None


def test_nodes_are_given_the_words_that_were_typed_and_no_defaults(fleet, tmp_path):
    words = (
        "--batch-size",
        "4,8",
        "--affinity",
        "0-2",
        "--min-time",
        "200ms",
        "--max-start-temp",
        "55C",
        "--retry-failed",
    )
    order = order_of(fleet, tmp_path, "seed:net", *words)
    assert order.measure_options == (
        *(
            "--batch-size",
            "4,8",
            "--affinity",
            "0,1,2",
            "--min-time",
            "0.2",
            "--max-start-temp",
            "55.0",
            "--retry-failed",
        ),
    )
    # The words mean the same to the node's own command line.
    meant = measure_command.make_context("measure", [*order.measure_options, "-o", ".", "x"]).params
    assert (meant["batch_sizes"], meant["affinity"], meant["min_time"]) == ((4, 8), (0, 1, 2), 0.2)
    assert (meant["max_start_temp"], meant["retry_failed"]) == (55.0, True)


def test_every_option_of_measure_is_there_or_is_about_this_machine():
    from devprof.cli.fleet import measure

    here = {param.name for param in measure.params}
    assert {param.name for param in measure_command.params} - here == {"device_name"}


def test_a_suite_of_ones_own_travels_as_text(fleet, tmp_path):
    suite = tmp_path / "mine.toml"
    suite.write_text('models = ["seed:net"]\nbatch_sizes = [2]\nrepeats = 3\n')
    order = order_of(fleet, tmp_path, "--suite", suite)
    assert (order.suite, order.suite_toml, order.repeats) == ("mine", suite.read_text(), 3)
    assert order.workloads == (Workload("seed:net", batch_size=2),)


def test_a_suite_that_every_devprof_has_travels_by_name(fleet, tmp_path):
    order = order_of(fleet, tmp_path, "--suite", "quick")
    assert (order.suite, order.suite_toml) == ("quick", None)
    assert order.workloads


def test_a_calibration_may_be_all_there_is_to_do(fleet, tmp_path):
    order = order_of(fleet, tmp_path, "--calibrate", "--calibration-time", "30s", "--threads", "1", "--batch-size", "4")
    assert (order.calibration_s, order.workloads, order.models) == (30.0, (), ())
    assert order.calibrate_options == ("--threads", "1")


@pytest.mark.parametrize(
    "words", [(), ("seed:net", "--suite", "quick"), ("seed:net", "--deadline", "0"), ("seed:nte",)]
)
def test_wrong_usage_is_found_before_anything_runs(fleet, tmp_path, words):
    _, seen = fleet("measure", *words, "-o", tmp_path / "runs", code=2)
    assert seen == {}


def test_the_table_says_who_did_not_deliver_and_the_exit_code_is_one(fleet, tmp_path):
    events = ({"event": "note", "text": "asking 2 nodes"}, {"event": "node", **GONE}, {"event": "later", "x": 1})
    result, seen = fleet(
        "measure", "seed:net", "--superlink", "site", "-o", tmp_path / "runs", nodes=(NODE, GONE), events=events, code=1
    )
    assert seen["superlink"] == "site"
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert lines["pi-1"].split()[1:5] == ["pi4", "yes", "2", "0"]
    assert "no" in lines["pi-2"].split()
    assert "it died" in lines["pi-2"]
    assert "asking 2 nodes" in result.stderr
    assert "pi-2: 0 rows ok, 2 failed: it died" in result.stderr
    assert "flower says" in result.stderr
    assert "flower says" not in result.stdout


def test_rows_on_another_host_are_said_to_be_there(fleet, tmp_path):
    result, _ = fleet("measure", "seed:net", "-o", tmp_path / "runs", shared=False)
    assert f"on the SuperLink's host, server, in {tmp_path / 'runs'}, not on this machine" in result.stderr


def test_json_is_the_result_and_nothing_else(fleet, tmp_path):
    result, _ = fleet("measure", "seed:net", "-o", tmp_path / "runs", "--json")
    told = json.loads(result.stdout)
    assert told == {"nodes": [NODE], "host": "server", "output": str(tmp_path / "runs"), "shared": True}


def test_no_node_is_an_error(fleet, tmp_path):
    result, _ = fleet("measure", "seed:net", "-o", tmp_path / "runs", nodes=(), code=1)
    assert "no node is connected" in result.stderr


def test_a_run_without_a_result_is_an_error(fleet, tmp_path):
    result, _ = fleet("measure", "seed:net", "-o", tmp_path / "runs", nodes=DevprofError("flwr run ended"), code=1)
    assert "Error: flwr run ended" in result.stderr


def test_the_status_of_nodes_is_a_line_each(fleet):
    refusing = {**STATUS, "node": "pi-3", "refusal": "no torch", "message": "no torch"}
    silent = {"node": "pi-2", "node_id": 8, "delivered": False, "message": "no reply in time"}
    result, seen = fleet("status", nodes=(STATUS, refusing, silent), code=1)
    assert isinstance(seen["order"], Order)
    assert (seen["order"].action, seen["order"].output) == ("status", "")
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    for part in ("pi4", "4 threads", "4 GiB", "61 °C", "suspected", "0.1.0", "1.41.0", "yes"):
        assert part in lines["pi-1"]
    assert "no torch" in lines["pi-3"]
    assert "no reply in time" in lines["pi-2"]


def test_the_status_as_json(fleet):
    result, _ = fleet("status", "--json", nodes=(STATUS,))
    assert json.loads(result.stdout)["nodes"] == [STATUS]


def test_without_flower_the_extra_is_named(fleet, monkeypatch, tmp_path):
    monkeypatch.setattr("devprof.cli.fleet.missing_modules", lambda extra: ["flwr"] if extra == "fl" else [])
    result, _ = fleet("status", code=1)
    assert "pip install 'devprof[fl]'" in result.stderr
