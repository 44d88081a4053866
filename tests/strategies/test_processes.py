"""A federation of real processes, as a user runs it: SuperLink, SuperNodes, the app of this repository."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiny_datasets import write_idx

from devprof.device.emulate import Limits, check
from devprof.errors import DevprofError, UnknownNameError
from devprof.records import Evaluation, RoundLog
from devprof.store.folder import read_records
from strategies.processes import SUPERLINK, LocalFederation, NodeSpec, TlsFiles

ROOT = Path(__file__).parents[2]
FEDAVG = {"strategy": "fedavg", "num-server-rounds": 1}
CUTOFF = {"strategy": "cutoff", "cutoff-per-processor": "cpu=200", "inner": "fedprox", "proximal-mu": 0.01}


def spec(name, partition, **options):
    return NodeSpec(name, {"device": name, "partition-id": partition, "num-partitions": 2}, **options)


def one_cpu():
    """The limit where control groups can be made here, none elsewhere."""
    try:
        check(Limits(cpus=1.0))
    except DevprofError:
        return None
    return 1.0


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def everybody(federation, *names):
    return [pid for name in (SUPERLINK, *names) for pid in federation.processes(name)]


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    nodes = [spec("fast", 0), spec("slow", 1, cpus=one_cpu())]
    with LocalFederation(tmp_path_factory.mktemp("federation"), nodes) as running:
        yield running


@pytest.mark.slow
class TestFederation:
    def test_all_nodes_are_online_when_the_block_begins(self, federation):
        assert federation.online() == {federation.node_id("fast"), federation.node_id("slow")}
        assert len(federation.processes("fast")) == len(federation.processes("slow")) == 2

    def test_a_run_comes_to_its_end_and_strings_arrive_as_they_are(self, federation, tmp_path):
        output = tmp_path / """it's "quoted" = a # name"""
        write_idx(tmp_path / "mnist", packed=True)
        data = {"data": "mnist", "data-dir": str(tmp_path), "split": "digits", "classes-per-client": 5, "partitions": 2}
        config = data | CUTOFF | {"evaluate": "both", "num-server-rounds": 1, "learning-rate": 0.01}
        ended = federation.run(ROOT, {**config, "output": str(output)}, timeout_s=240)
        assert ended.ok, ended.log
        rounds = [(one.strategy, one.server_round) for one in read_records(output, "evaluations", Evaluation)]
        assert rounds == [("cutoff", 0), ("cutoff", 1), ("cutoff, on clients", 1)]
        rows = read_records(output, "rounds", RoundLog)
        assert [(row.outcome, row.cutoff_s, row.processor) for row in rows] == [("used", 200.0, "cpu")] * 2
        # What the nodes' own configuration says is what their telemetry tells.
        assert {row.device for row in rows} == {"fast", "slow"}
        assert federation.logs("run-1").is_file()

    def test_a_run_that_fails_says_so(self, federation):
        ended = federation.run(ROOT, {"strategy": "nonsense"}, timeout_s=120)
        assert (ended.ok, ended.status) == (False, "finished:failed")
        assert "unknown strategy 'nonsense'" in ended.log

    def test_a_run_that_is_refused_says_why(self, federation):
        ended = federation.run(ROOT, {"no-such-key": 1}, timeout_s=60)
        assert (ended.ok, ended.status, ended.run_id) == (False, "refused", None)
        assert "Invalid run configuration" in ended.log

    def test_a_run_out_of_time_is_stopped(self, federation):
        with pytest.raises(DevprofError, match=r"did not end within 2 s and was stopped; the end of .*run-\d+\.log"):
            federation.run(ROOT, FEDAVG, timeout_s=2)

    def test_a_stopped_node_stands_still_and_goes_on(self, federation):
        pids = federation.processes("slow")
        federation.stop("slow")
        assert {psutil.Process(pid).status() for pid in pids} == {psutil.STATUS_STOPPED}
        federation.resume("slow")
        assert psutil.STATUS_STOPPED not in {psutil.Process(pid).status() for pid in pids}

    def test_two_nodes_of_one_name_do_not_run(self, federation):
        with pytest.raises(ValueError, match="is running"):
            federation.start_node(spec("slow", 1))

    def test_an_unknown_name_finds_the_closest(self, federation):
        with pytest.raises(UnknownNameError, match="closest: slow"):
            federation.kill("slo")

    def test_a_killed_node_is_gone_may_come_back_and_says_goodbye_when_it_leaves(self, federation):
        pids, first_id = federation.processes("fast"), federation.node_id("fast")
        federation.kill("fast")
        assert federation.processes("fast") == []
        assert not any(map(alive, pids))
        federation.start_node(spec("fast", 0))
        second_id = federation.node_id("fast")
        assert second_id != first_id
        assert second_id in federation.online()
        federation.stop_node("fast")
        assert second_id not in federation.online()


@pytest.mark.slow
def test_an_error_in_the_block_leaves_nothing_behind(tmp_path):
    pids = []

    def fail_inside():
        with LocalFederation(tmp_path, [spec("a", 0)]) as federation:
            federation.stop("a")
            pids.extend(everybody(federation, "a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert len(pids) == 4
    assert not any(map(alive, pids))


@pytest.mark.slow
def test_a_killed_program_leaves_nothing_behind(tmp_path):
    script = (
        "import os, signal; from pathlib import Path; from strategies.processes import LocalFederation, SUPERLINK\n"
        f"with LocalFederation(Path({str(tmp_path)!r}), []) as federation:\n"
        "    print(*federation.processes(SUPERLINK), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(word) for word in done.stdout.split()]
    assert pids
    end = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, pids))


@pytest.mark.slow
def test_a_superlink_that_cannot_start_shows_its_log(tmp_path):
    for name in ("ca.crt", "server.crt", "server.key"):
        (tmp_path / name).write_text("no certificate")
    federation = LocalFederation(tmp_path / "home", [], tls=TlsFiles.in_folder(tmp_path))
    with (
        pytest.raises(DevprofError, match=r"(?s)superlink ended with exit code 1 .*the end of .*superlink\.log:.+"),
        federation,
    ):
        pytest.fail("it must not come up")
    assert federation.processes(SUPERLINK) == []


def test_each_node_needs_a_name_of_its_own(tmp_path):
    with pytest.raises(ValueError, match="a name of its own: a, a"):
        LocalFederation(tmp_path, [NodeSpec("a"), NodeSpec("a")])


def test_with_tls_each_node_needs_a_key(tmp_path):
    with pytest.raises(ValueError, match="node a needs a private_key"):
        LocalFederation(tmp_path, [NodeSpec("a")], tls=TlsFiles.in_folder(tmp_path))


def test_without_flower_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    federation = LocalFederation(tmp_path, [], environment={"PATH": str(tmp_path)})
    with pytest.raises(DevprofError, match=r"devprof\[fl\]"), federation:
        pytest.fail("it must not come up")
