"""Planned rounds on real Flower processes: TLS, registered keys, and four SuperNodes on emulated devices; one dies, one stands still."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest
from tiny_datasets import write_idx

from devprof.device.emulate import Limits, check
from devprof.errors import DevprofError
from devprof.records import Evaluation, RoundLog
from devprof.store.folder import read_records
from strategies.processes import LocalFederation, NodeSpec, TlsFiles

ROOT = Path(__file__).parents[2]
SPEEDS = (1.0, 0.5, 0.5, 0.5)
NAMES = tuple(f"board-{index}" for index in range(len(SPEEDS)))
LIMIT_S = 400.0
# Shorter than two heartbeats, after which Flower gives a node up.
STOPPED_S = 20.0

pytestmark = pytest.mark.slow


def can_be_slow():
    """Whether this user may make control groups."""
    try:
        check(Limits(cpus=0.5))
    except DevprofError as error:
        logging.getLogger(__name__).warning("boards are not slowed down: %s", error)
        return False
    return True


@pytest.fixture
def keys(tmp_path):
    folder = tmp_path / "keys"
    subprocess.run([ROOT / "deploy" / "make-keys", "--folder", folder, "--host", "localhost", *NAMES], check=True)
    return folder


def board(index, keys, cpus):
    told = {"device-id": NAMES[index], "device": f"emulated-{SPEEDS[index]}", "partition-id": index, "threads": 1}
    return NodeSpec(NAMES[index], told, cpus=cpus, private_key=keys / "nodes" / NAMES[index])


def wait_for(what, condition):
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not happen"
        time.sleep(0.1)


def handles_a_message(federation, name):
    for pid in federation.processes(name):
        try:
            if any("flwr-clientapp" in word for word in psutil.Process(pid).cmdline()):
                return True
        except psutil.Error:
            continue
    return False


def in_a_round(number, log):
    return lambda: log().exists() and f"[ROUND {number}/" in log().read_text()


def test_dead_and_stopped_boards_cost_their_part_and_no_more(tmp_path, keys):
    output, data = tmp_path / "out", tmp_path / "mnist"
    write_idx(data, counts={"train": 1600, "t10k": 200})
    config = {"strategy": "planned", "data": "mnist", "data-dir": str(data), "partitions": 4, "split": "iid"}
    config |= {"num-server-rounds": 3, "local-epochs": 3, "learning-rate": 0.02, "output": str(output), "min-nodes": 3}
    slow = can_be_slow()
    specs = [board(index, keys, cpus if slow else None) for index, cpus in enumerate(SPEEDS)]
    # Looking for work ten times a second would take a quarter of what the slowest boards have.
    patient = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5"}
    ended = []
    with LocalFederation(
        tmp_path / "federation", specs, tls=TlsFiles.in_folder(keys), environment=patient
    ) as federation:
        thread = threading.Thread(target=lambda: ended.append(federation.run(ROOT, config, timeout_s=LIMIT_S)))
        thread.start()
        wait_for("round 2", in_a_round(2, lambda: federation.home / "run-1.log"))
        wait_for("work on board-2", lambda: handles_a_message(federation, "board-2"))
        wait_for("work on board-3", lambda: handles_a_message(federation, "board-3"))
        federation.kill("board-3")
        federation.stop("board-2")
        time.sleep(STOPPED_S)
        federation.resume("board-2")
        thread.join(LIMIT_S)
    assert ended, "the run did not end"
    assert ended[0].ok, ended[0].log[-4000:]
    rows = read_records(output, "rounds", RoundLog)
    by_board = {name: [row for row in rows if row.client == name] for name in NAMES}
    # Nodes said what they are before the first round; what was learned in it planned the others.
    assert all(by_board.values())
    assert all(row.predicted_s > 0 and row.cutoff_s > 0 for row in rows if row.server_round >= 3)
    used = [row.server_round for row in by_board["board-0"] if row.outcome in {"used", "partial"}]
    assert used == [1, 2, 3]
    # The dead one is named.
    dead = [row for row in by_board["board-3"] if row.outcome in {"missing", "error"}]
    assert dead
    assert dead[0].device == "emulated-0.5"
    assert "board-3 (node" in ended[0].log
    # The one that stood still answers, in time or late, and its round shows how long that took.
    (stood,) = [row for row in by_board["board-2"] if row.server_round == 2]
    assert stood.outcome in {"used", "partial", "late"}
    assert stood.finished_s - stood.sent_s > STOPPED_S
    assert stood.steps_done >= 1
    evaluations = read_records(output, "evaluations", Evaluation)
    assert max(evaluations, key=lambda one: one.server_round).accuracy > 0.2
