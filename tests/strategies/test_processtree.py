"""Trees of small real processes: a shell that starts others."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from strategies.processtree import ProcessTree, guarded

# The shell ends on SIGTERM; the sleeper that it leaves behind is its orphan then.
FAMILY = ["sh", "-c", "sleep 600 & sleep 600 & echo ready; wait"]
STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 600; done"]


@pytest.fixture
def grow(tmp_path):
    trees = []

    def make(command, mark=None, **options):
        log = tmp_path / f"{len(trees)}.log"
        mark = mark or f"{os.getpid()}-{time.monotonic_ns()}/"
        trees.append(ProcessTree(command, mark=mark, environment=os.environ, log=log, **options))
        until(lambda: "ready" in log.read_text())
        return trees[-1]

    yield make
    for tree in trees:
        tree.kill()


def until(happened, limit_s=20.0):
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def states(pids):
    return {psutil.Process(pid).status() for pid in pids}


def test_a_tree_is_the_process_and_what_it_started(grow):
    tree = grow(FAMILY)
    until(lambda: len(tree.members()) == 3)
    first, *others = tree.members()
    assert {psutil.Process(pid).ppid() for pid in others} == {first}
    assert tree.exit_code is None


def test_killing_leaves_nobody(grow):
    tree = grow(FAMILY)
    until(lambda: len(tree.members()) == 3)
    pids = tree.members()
    tree.kill()
    assert tree.members() == []
    assert tree.exit_code == -signal.SIGKILL
    assert not [pid for pid in pids if psutil.pid_exists(pid) and states([pid]) != {psutil.STATUS_ZOMBIE}]


def test_an_orphan_still_belongs_to_its_tree(grow):
    tree = grow(FAMILY)
    until(lambda: len(tree.members()) == 3)
    os.kill(tree.members()[0], signal.SIGKILL)
    until(lambda: tree.exit_code is not None)
    assert len(tree.members()) == 2
    tree.end()
    assert tree.members() == []


def test_stopped_processes_stand_still_until_they_are_resumed(grow):
    tree = grow(FAMILY)
    until(lambda: len(tree.members()) == 3)
    pids = tree.members()
    tree.stop()
    until(lambda: states(pids) == {psutil.STATUS_STOPPED})
    tree.resume()
    until(lambda: psutil.STATUS_STOPPED not in states(pids))
    assert tree.members() == pids


def test_a_stopped_tree_can_be_asked_to_end(grow):
    tree = grow(FAMILY)
    tree.stop()
    tree.end()
    assert tree.exit_code == -signal.SIGTERM
    assert tree.members() == []


def test_who_does_not_listen_is_killed(grow):
    tree = grow(STUBBORN)
    tree.end(limit_s=0.1)
    assert tree.exit_code == -signal.SIGKILL


def test_a_wrapper_is_no_member_and_ends_by_itself(grow):
    script = "import subprocess, sys; print('ready', flush=True); sys.exit(subprocess.run(['sleep', '600']).returncode % 100)"
    tree = grow([sys.executable, "-c", script], wrapped=True)
    until(lambda: len(tree.members()) == 1)
    tree.kill()
    assert tree.exit_code == -signal.SIGKILL % 100


def test_trees_do_not_touch_each_other(grow):
    first, second = grow(FAMILY), grow(FAMILY)
    first.kill()
    assert len(second.members()) >= 1
    assert second.exit_code is None


def test_a_guarded_block_ends_what_is_left_in_it(grow):
    mark = f"guarded-{os.getpid()}-"
    with guarded(mark):
        tree = grow(FAMILY, mark=f"{mark}1/")
        stopped = grow(FAMILY, mark=f"{mark}2/")
        stopped.stop()
    assert tree.members() == stopped.members() == []


def test_the_guardian_acts_when_its_process_is_killed(tmp_path):
    mark = f"orphaned-{os.getpid()}-{time.monotonic_ns()}"
    script = (
        "import os, signal; from pathlib import Path; from strategies.processtree import ProcessTree, guarded\n"
        f"with guarded({mark!r}):\n"
        f"    tree = ProcessTree(['sleep', '600'], mark={mark!r}, environment=os.environ, log=Path({str(tmp_path / 'log')!r}))\n"
        "    print(tree.members()[0], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    until(lambda: not psutil.pid_exists(pid) or states([pid]) == {psutil.STATUS_ZOMBIE})
