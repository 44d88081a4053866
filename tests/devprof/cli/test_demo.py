"""The demo: its calculations exactly, and the whole of it once, for real."""

import importlib.util
import json
import math
import subprocess
import sys

import pytest
from click.testing import CliRunner
from makers import make_run

from devprof.cli import main
from devprof.cli.demo_board import BOARD
from devprof.cli.demo_parts import (
    CLASSES,
    FITTED,
    HELD_OUT,
    calibration_frame,
    headline,
    repeats_of_federated,
    virtual_fleet,
)
from devprof.costmodel.model import CostModel
from devprof.errors import DevprofError
from devprof.measure.harness import configuration_key
from devprof.records import Evaluation, Measurement, Prediction, RoundLog, StepTime
from devprof.store.folder import read_records
from strategies.baselines import DROP, PLANNED, TAU, WAIT
from strategies.compare import Comparison, Outcome


def run_of(configuration):
    workload = configuration.workload
    key = configuration_key(workload)
    return make_run(
        f"{key}-{configuration.repeat}",
        device="here",
        model=workload.model,
        batch_size=workload.batch_size,
        configuration=key,
        repeat=configuration.repeat,
        step_s=0.001,
    )


RUNS = [run_of(configuration) for configuration in (*FITTED, *HELD_OUT)]


def test_nothing_that_is_held_out_is_fitted():
    assert not {one.workload for one in FITTED} & {one.workload for one in HELD_OUT}
    assert {one.workload.model for one in HELD_OUT} - {one.workload.model for one in FITTED} == {"seed:mlp"}


def test_the_cost_model_sees_first_repeats_and_each_class_at_its_factor():
    frame = calibration_frame(RUNS)
    assert set(frame["device"]) == {"here", *(one.name for one in CLASSES)}
    assert set(frame["repeat"]) == {0}
    assert not set(frame["configuration"]) & {configuration_key(one.workload) for one in HELD_OUT}
    for one in CLASSES:
        assert frame[frame["device"] == one.name]["step_s"].unique().tolist() == pytest.approx([0.001 * one.factor])


def test_the_true_times_are_those_of_the_second_repeat():
    second = repeats_of_federated(RUNS)
    assert {run.repeat for run in second} == {1}
    steps = [StepTime(run.run_id, index, "measured", 2_000_000) for run in second for index in range(3)]
    steps += [StepTime(run.run_id, 9, "warmup", 99_000_000_000) for run in second]
    fleet = virtual_fleet(second, steps)
    assert len(fleet) == 10
    assert [device.step_s.median_s(16) for device in fleet] == pytest.approx([0.002] * 4 + [0.005] * 3 + [0.010] * 3)


def comparison(planned_time, planned_accuracy, wait_time=2.0):
    outcomes = (
        Outcome(WAIT, 8, 0.95, wait_time, 0.0),
        Outcome(DROP, 20, 0.70, None, 0.5),
        Outcome(TAU, 20, 0.95, 1.0, 0.0),
        Outcome(PLANNED, 30, planned_accuracy, planned_time, 0.0),
    )
    return Comparison(3.0, 0.9, outcomes, (), ())


@pytest.mark.parametrize(
    ("time", "accuracy", "kept", "said"),
    [
        (0.5, 0.96, True, "in 500 ms against 2 s"),
        (0.5, 0.941, True, "end at 94.1 % against 95.0 %"),
        (0.5, 0.93, False, "less accurate in this run"),
        (2.5, 0.96, False, "were not faster"),
        (None, 0.96, False, "were not faster"),
    ],
)
def test_the_verdict_says_what_happened_good_or_bad(time, accuracy, kept, said):
    result = headline(comparison(time, accuracy))
    assert result.kept is kept
    assert said in result.verdict


def test_who_never_reaches_the_target_has_no_time_and_no_speed_up():
    rows = {row[0]: row for row in headline(comparison(0.5, 0.96)).rows}
    assert rows[DROP][3:5] == ("–", "–")
    assert rows[PLANNED][4] == "4.0x"
    assert headline(comparison(0.5, 0.96, wait_time=None)).kept


def test_what_is_missing_is_said_before_anything_is_measured(tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "altair" else real(name))
    result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "demo")])
    assert result.exit_code == 1
    assert "pip install 'devprof[report]'" in result.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_the_whole_way(tmp_path, monkeypatch):
    output = tmp_path / "demo"
    script = "import sys; from devprof.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "demo", "-o", str(output), "--rounds", "2", "--min-time", "50ms", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    wait, *_, planned = told["outcomes"]
    assert [wait["strategy"], planned["strategy"]] == [WAIT, PLANNED]
    faster = planned["time_to_target_s"] is not None and planned["time_to_target_s"] < (
        wait["time_to_target_s"] or math.inf
    )
    assert told["kept"] == (faster and planned["accuracy"] >= wait["accuracy"] - 0.01)
    assert len(read_records(output, "predictions", Prediction)) == len(HELD_OUT)
    assert {row.strategy for row in read_records(output, "rounds", RoundLog)} == {WAIT, DROP, TAU, PLANNED}
    assert max(row.time_s for row in read_records(output, "evaluations", Evaluation)) == told["time_s"]
    figures = {path.stem for path in (output / "report" / "figures").glob("*.png")}
    assert figures == {
        "step_time",
        "memory",
        "phases_vs_batch",
        "memory_vs_batch",
        "predicted_vs_measured",
        "accuracy_over_time",
        "round_timeline",
        "device_time",
    }
    assert (output / "cost.skops").is_file()
    # Again, up to the fit: what is measured is not measured again.
    monkeypatch.setattr(CostModel, "fit", stop_here)
    again = CliRunner().invoke(main, command[3:])
    assert "stopped by the test" in again.stderr
    assert "18 of 18 configurations were finished already" in again.stderr
    runs = read_records(output, "runs", Measurement)
    board = {run.batch_size: run.status for run in runs if run.device == BOARD}
    assert len(runs) - len(board) == 18
    # A board is emulated where control groups can be made; else the demo says why not.
    assert board == {4: "ok", 64: "oom"} or "No board is emulated here" in again.stderr


def stop_here(*_, **__):
    raise DevprofError("stopped by the test")
