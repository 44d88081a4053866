"""Real children: what a run and each kind of failure becomes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devprof.device.identity import identify
from devprof.measure.harness import MeasureOptions, measure_workload
from devprof.measure.runspans import RunSpans
from devprof.meters.sampling import Sampling
from devprof.records import Workload

SUPPORT = Path(__file__).parents[2] / "support"
QUICK = MeasureOptions(min_time_s=0.05, timeout_s=60.0)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _support_on_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))


def measure(model, options=QUICK, sampling=None, **changes):
    workload = Workload(model, **{"batch_size": 2} | changes)
    return measure_workload(workload, identify(threads=1), options, sampling=sampling)


def test_a_run_has_raw_steps_and_figures_that_follow_from_them():
    run, steps, _ = measure("seed:cnn", batch_size=3)
    assert run.status == "ok", run.error
    measured = [step.step_ns / 1e9 for step in steps if step.kind == "measured"]
    assert run.steps == len(measured) >= 5
    assert min(measured) <= run.step_s <= max(measured)
    assert run.warmup_steps == sum(step.kind == "warmup" for step in steps) >= 5
    phases = [step for step in steps if step.kind == "phases"]
    assert len(phases) == 10
    for step in phases:
        assert step.step_ns == step.data_ns + step.forward_ns + step.backward_ns + step.optimizer_ns
    assert (run.image_size, run.num_classes, run.parameters, run.trainable_parameters) == (28, 10, 47226, 47226)
    assert run.rss_peak_bytes == max(run.rss_first_step_bytes, run.rss_steady_bytes)
    assert run.rss_peak_bytes > run.rss_optimizer_bytes >= run.rss_model_bytes > run.rss_baseline_bytes > 50e6
    assert run.rss_build_peak_bytes >= run.rss_optimizer_bytes
    assert 0 < run.pss_start_bytes <= run.pss_end_bytes * 1.2
    assert run.first_step_s == steps[0].step_ns / 1e9
    assert run.latency_valid
    assert run.step_s_min <= run.step_s_p05 <= run.step_s_p25 <= run.step_s <= run.step_s_p75 <= run.step_s_p99
    assert 0.0 <= run.other_cpu_share <= 1.0
    assert run.energy_source == "none"
    assert run.energy_j is None
    assert "torch" in json.loads(run.versions)
    spans = RunSpans.from_json(run.spans)
    assert list(spans.timed_ns) == ["warm-up", "window", "phases"]
    begin, end = spans.timed_ns["window"]
    assert sum(measured) <= (end - begin) / 1e9 < sum(measured) + 1.0
    assert (spans.loads_ns, len(spans.clocks_ns)) == ({}, 2)


def test_a_pattern_comes_before_the_window_and_after_it_and_its_steps_are_not_measured():
    options = MeasureOptions(min_time_s=0.05, timeout_s=60.0, sync_s=0.1, idle_s=0.1)
    run, steps, _ = measure("seed:net", options, image_size=8)
    assert run.status == "ok", run.error
    spans = RunSpans.from_json(run.spans)
    names = ["idle-before", "warm-up", "sync-before", "settle", "window", "phases", "sync-after", "idle-after"]
    assert list(spans.timed_ns) == names
    worked_ns = {kind: sum(step.step_ns for step in steps if step.kind == kind) for kind in ("warmup", "measured")}
    begin, end = spans.timed_ns["window"]
    assert worked_ns["measured"] <= end - begin
    warm = sum(end - begin for begin, end in (spans.timed_ns["warm-up"], spans.timed_ns["settle"]))
    assert worked_ns["warmup"] <= warm


def test_a_pattern_is_shown_beside_a_meter_as_well(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("power\n")
    over = threading.Event()

    def write():
        with log.open("a") as file:
            while not over.wait(0.02):
                file.write("7.5\n")
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        options = MeasureOptions(min_time_s=0.5, timeout_s=60.0, idle_s=0.3, max_window_s=2.0, sync_s=0.1)
        with Sampling(f"csv:{log}") as sampling:
            os.kill(sampling.pid, signal.SIGKILL)
            os.waitid(os.P_PID, sampling.pid, os.WEXITED | os.WNOWAIT)
            # A sampler that has ended is started again for the next run.
            run, _, power = measure("seed:net", options, sampling, image_size=8)
    finally:
        over.set()
        writer.join()
    assert run.energy_source == "csv"
    assert run.power_w == pytest.approx(7.5)
    assert set(RunSpans.from_json(run.spans).loads_ns) == {"sync-before", "sync-after"}
    first, last = RunSpans.from_json(run.spans).spans_ns["idle-before"][0], power[-1].t_ns
    assert power[0].t_ns < first < last


def test_an_inference_is_timed_without_phases():
    run, steps, _ = measure("seed:mlp", task="infer")
    assert (run.status, run.task, run.backward_s) == ("ok", "infer", None)
    assert {step.kind for step in steps} == {"warmup", "measured"}


def test_a_model_that_changes_the_whole_process_is_measured_with_the_threads_asked_for():
    run, _, _ = measure("faulty_models:takes_over_the_process")
    assert run.status == "ok", run.error
    assert json.loads(run.warnings).count("threads-changed") == 1


def test_a_child_is_bound_to_the_cpus_asked_for():
    cpu = min(os.sched_getaffinity(0))
    run, _, _ = measure("seed:net", MeasureOptions(min_time_s=0.05, timeout_s=60.0, affinity=(cpu,)))
    assert run.affinity == str(cpu)


def test_steps_are_counted_as_asked_for():
    options = MeasureOptions(min_time_s=0.05, timeout_s=60.0, min_steps=50, phase_steps=25)
    run, steps, _ = measure("seed:net", options)
    assert run.steps >= 50
    assert sum(step.kind == "phases" for step in steps) == 25


def test_what_a_model_prints_does_not_disturb():
    run, _, _ = measure("faulty_models:noisy")
    assert run.status == "ok", run.error


@pytest.mark.parametrize(
    ("model", "status", "reason"),
    [
        ("faulty_models:segfaults", "crashed", "SIGSEGV"),
        ("faulty_models:killed", "killed", "SIGKILL"),
        ("faulty_models:exits", "crashed", "exit code 7"),
        ("faulty_models:too_big", "oom", "can't allocate memory"),
        ("faulty_models:tegra_out_of_memory", "oom", "NVML_SUCCESS"),
        ("faulty_models:wrong_shape", "error", "shapes cannot be multiplied"),
        ("faulty_models:not_a_module", "error", "not a torch.nn.Module"),
        ("faulty_models:godo", "error", "closest: faulty_models:good"),
    ],
)
def test_a_failure_is_a_row_with_its_reason(model, status, reason):
    run, steps, _ = measure(model)
    assert (run.status, run.step_s, list(steps)) == (status, None, [])
    assert reason in run.error
    assert run.model == model


def test_an_image_size_that_does_not_fit_is_an_error_row():
    run, _, _ = measure("seed:lstm", image_size=32)
    assert run.status == "error"
    assert "takes no images" in run.error


def test_a_cuda_run_without_cuda_says_so():
    device = identify(processor="cuda", threads=1)
    run, _, _ = measure_workload(Workload("seed:cnn"), device, QUICK)
    if run.status == "ok":
        assert run.accelerator_peak_bytes > 0
    else:
        assert "no CUDA device" in run.error


def test_a_child_that_hangs_becomes_a_timeout_and_leaves_no_process():
    run, _, _ = measure("faulty_models:hangs", MeasureOptions(min_time_s=0.05, timeout_s=8.0))
    assert run.status == "timeout"
    assert "--timeout" in run.error
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "faulty_models:hangs" not in listed


def test_a_child_dies_with_its_parent():
    script = (
        "from devprof.measure.harness import *; from devprof.device.identity import identify; from devprof.records import Workload\n"
        "measure_workload(Workload('faulty_models:hangs', batch_size=61), identify(threads=1), MeasureOptions(timeout_s=60))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    child = _wait_for_child(parent.pid)
    parent.kill()
    parent.wait()
    assert _gone(child)


def _wait_for_child(parent):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines()[1:]:
            pid, ppid, args = line.split(None, 2)
            if (
                int(ppid) == parent
                and "measure.worker" in args
                and Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
            ):
                return int(pid)
        threading.Event().wait(0.05)
    raise AssertionError("the child never started")


def _gone(pid):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, signal.SIG_DFL)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        threading.Event().wait(0.05)
    return False
