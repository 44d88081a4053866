"""Planned rounds on real Flower processes: TLS, registered keys, and four SuperNodes on emulated devices; one dies, one stands still."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits

from devprof.device.emulate import Limits, check
from devprof.errors import DevprofError
from devprof.records import Evaluation, RoundLog
from devprof.store.folder import read_records
from strategies.processes import LocalFederation, NodeSpec, TlsFiles

ROOT = Path(__file__).parents[2]
APP = Path(__file__).parent / "numpy_app"
SPEEDS = (1.0, 0.5, 0.25, 0.25)
NAMES = tuple(f"board-{index}" for index in range(len(SPEEDS)))
LIMIT_S = 400.0
# At least; less than two heartbeats, after which Flower gives a node up.
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
    told = {"device-id": NAMES[index], "device": f"emulated-{SPEEDS[index]}"}
    told |= {"partition-id": index, "num-partitions": len(SPEEDS)}
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
    return lambda: log.exists() and f"[ROUND {number}/" in log.read_text()


@pytest.fixture
def digits(tmp_path):
    path = tmp_path / "digits.npz"
    found = load_digits()
    np.savez(path, images=found.data / 16, labels=found.target)
    return path


def test_dead_and_stopped_boards_cost_their_part_and_no_more(tmp_path, keys, digits):
    output = tmp_path / "out"
    slow = can_be_slow()
    specs = [board(index, keys, cpus if slow else None) for index, cpus in enumerate(SPEEDS)]
    # Looking for work ten times a second would take a quarter of what the slowest boards have.
    patient = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ended = []
    with LocalFederation(
        tmp_path / "federation", specs, tls=TlsFiles.in_folder(keys), environment=patient
    ) as federation:
        config = {"data": str(digits), "output": str(output)}
        thread = threading.Thread(target=lambda: ended.append(federation.run(APP, config, timeout_s=LIMIT_S)))
        thread.start()
        log = federation.home / "run-1.log"
        wait_for("round 2", in_a_round(2, log))
        wait_for("work on board-1", lambda: handles_a_message(federation, "board-1"))
        wait_for("work on board-3", lambda: handles_a_message(federation, "board-3"))
        federation.kill("board-3")
        federation.stop("board-1")
        time.sleep(STOPPED_S)
        # It has missed its deadline, and the server goes on without it.
        wait_for("round 3", in_a_round(3, log))
        federation.resume("board-1")
        thread.join(LIMIT_S)
    assert ended, "the run did not end"
    assert ended[0].ok, ended[0].log[-4000:]
    rows = read_records(output, "rounds", RoundLog)
    by_board = {name: {row.server_round: row for row in rows if row.client == name} for name in NAMES}
    # Nodes said what they are before the first round; what was learned in it planned the others.
    assert all(by_board.values())
    assert all(row.predicted_s > 0 and row.cutoff_s > 0 for row in rows if row.server_round >= 2)
    used = {number for number, row in by_board["board-0"].items() if row.outcome in {"used", "partial"}}
    assert used == {1, 2, 3, 4}
    # The dead one is named.
    dead = [row for row in by_board["board-3"].values() if row.outcome in {"missing", "error"}]
    assert dead
    assert dead[0].device == "emulated-0.25"
    assert "board-3 (node" in ended[0].log
    # The one that stood still answers too late to be used, and what it says is learned: its next part is predicted to be longer.
    stood, after = by_board["board-1"][2], by_board["board-1"][4]
    assert stood.outcome == "late"
    assert stood.finished_s - stood.sent_s > max(STOPPED_S, stood.deadline_s)
    assert stood.steps_done >= 1
    assert after.predicted_s > stood.predicted_s + 1
    evaluations = read_records(output, "evaluations", Evaluation)
    assert evaluations[0].accuracy < 0.3
    assert evaluations[-1].accuracy > 0.8
