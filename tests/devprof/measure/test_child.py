"""What becomes of children that are small scripts instead of trainings."""

import json
import os
import sys

import pytest

from devprof.measure import child
from devprof.measure.child import run_child
from devprof.measure.protocol import Request
from devprof.records import Workload

REQUEST = Request(Workload("seed:cnn"), "cpu", 1, 1.0, 5, None, 60.0)
READY = {
    "event": "ready",
    **dict.fromkeys(("rss_baseline_bytes", "rss_model_bytes", "rss_optimizer_bytes", "rss_build_peak_bytes")),
    "pss_start_bytes": None,
    "startup_s": 1.0,
    "parameters": 5,
    "trainable_parameters": 3,
    "image_size": None,
    "num_classes": 10,
    "interop_threads": 1,
    "affinity": [0],
    "versions": {},
}
FINISHED = {
    "event": "finished",
    "warmup_ns": [1],
    "step_ns": [2, 3],
    "phase_ns": [],
    "warmup_capped": False,
    "threads_changed": False,
    "memory": {"reset": True},
    "window": {},
}


def run(body, timeout_s=20.0):
    """Run a child whose script may ``send`` events and use ``signal``, ``os``, ``sys`` and ``time``."""
    script = (
        "import json, os, signal, sys, time\n"
        "def send(event): os.write(int(sys.argv[2]), (json.dumps(event) + '\\n').encode())\n" + body
    )
    return run_child(REQUEST, timeout_s, worker=(sys.executable, "-c", script))


def test_events_are_read_to_the_end():
    end = run(f"send({READY!r}); send({json.loads(json.dumps(FINISHED))!r})")
    assert (end.status, end.error) == ("ok", None)
    assert end.ready.parameters == 5
    assert end.finished.step_ns == [2, 3]


def test_more_steps_than_a_pipe_holds():
    end = run(f"event = {FINISHED!r}; event['step_ns'] = list(range(200_000)); send(event)")
    assert len(end.finished.step_ns) == 200_000


def test_a_result_counts_even_if_the_child_crashes_afterwards():
    end = run(f"send({FINISHED!r}); os.kill(os.getpid(), signal.SIGSEGV)")
    assert end.status == "ok"


def test_an_incomplete_line_is_no_result():
    end = run('os.write(int(sys.argv[2]), b\'{"event": "finished", "step_ns": [1,\'); os._exit(3)')
    assert end.status == "crashed"
    assert "exit code 3" in end.error


def test_the_last_words_explain_a_crash():
    end = run("print('some text'); print('cannot find libfoo', file=sys.stderr); sys.exit(1)")
    assert (end.status, end.ready) == ("crashed", None)
    assert "cannot find libfoo" in end.error


def test_a_child_that_waits_for_ever_is_ended_with_what_it_started(tmp_path):
    note = tmp_path / "pid"
    body = f"pid = os.fork()\nif pid: open({str(note)!r}, 'w').write(str(pid))\ntime.sleep(3600)\n"
    end = run(body, timeout_s=1.0)
    assert end.status == "timeout"
    grandchild = int(note.read_text())
    try:
        os.kill(grandchild, 0)
        with open(f"/proc/{grandchild}/stat") as stat:  # noqa: PTH123 - a kernel file
            assert stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        pass


@pytest.mark.parametrize(
    ("kills", "status"),
    [
        ([(5, None), (5, None)], "killed"),
        ([(5, None), (6, None)], "oom"),
        ([(5, 1), (5, 2)], "oom"),
        ([(None, None), (None, None)], "killed"),
    ],
)
def test_a_kill_is_out_of_memory_only_if_the_kernel_counted_one(monkeypatch, kills, status):
    counts = list(kills)
    monkeypatch.setattr(child, "_oom_kills", lambda: counts.pop(0))
    assert run("os.kill(os.getpid(), signal.SIGKILL)").status == status


def test_thread_pools_are_told_before_they_load():
    end = run("print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS']); sys.exit(1)")
    assert end.error.endswith("1 1")
