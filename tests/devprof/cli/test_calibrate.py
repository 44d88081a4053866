"""``devprof calibrate`` as a user types it: once for real, otherwise with a child that needs no torch."""

import functools
import importlib.util
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import devprof
from devprof.cli import calibrate, main
from devprof.measure import calibrate as measure_calibrate
from devprof.measure.calibrate import Calibration, trace_operators
from devprof.records import OperatorTime
from devprof.store.folder import read_records

STUB = (sys.executable, str(Path(__file__).parents[2] / "support" / "stub_calibrator.py"))


@pytest.fixture
def run(tmp_path):
    def invoke(*arguments, code=0):
        words = ["calibrate", *(str(argument) for argument in arguments), "-o", str(tmp_path / "c")]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def stub(run, monkeypatch):
    """The command with the stub as its child; any name is a model."""
    monkeypatch.setattr(calibrate, "trace_operators", functools.partial(trace_operators, worker=STUB))
    monkeypatch.setattr(calibrate, "Calibration", functools.partial(Calibration, worker=STUB))
    monkeypatch.setattr(calibrate, "require_known_models", lambda names: None)
    monkeypatch.setattr(calibrate, "CHAINS", ())
    for module in (calibrate, measure_calibrate):
        monkeypatch.setattr(module, "STEPS", ())
    return run


@pytest.fixture
def rows(tmp_path):
    return lambda: read_records(tmp_path / "c", "operators", OperatorTime)


@pytest.mark.slow
def test_operators_of_a_real_model_are_timed_and_stored(run, tmp_path, monkeypatch):
    for module in (calibrate, measure_calibrate):
        monkeypatch.setattr(module, "STEPS", measure_calibrate.STEPS[:1])
    monkeypatch.setattr(calibrate, "CHAINS", measure_calibrate.CHAINS[:1])
    told = json.loads(run("seed:mlp", "--time", "40s", "--batch-size", "2", "--device", "board", "--json").stdout)
    frame = devprof.load_operators(tmp_path / "c")
    assert told["timed"] == len(frame) - 1 == told["operators"] > 10
    assert told["steps"] == (frame["family"] == "step").sum() == 1
    assert (told["failed"], told["missing"], told["device"]) == (0, 0, "board")
    assert set(frame["status"]) == {"ok"}
    assert sum(entry["operators"] for entry in told["families"].values()) == told["timed"]
    assert frame["seconds"].between(1e-7, 10).all()


class TestFolder:
    def test_a_second_calibration_times_only_what_is_new(self, stub, rows, tmp_path):
        assert json.loads(stub("a", "--json").stdout)["timed"] == 3
        second = stub("a", "b", "--json")
        assert "3 of 6 operators were timed already" in second.stderr
        assert json.loads(second.stdout)["timed"] == 3
        assert len({row.signature for row in rows()}) == len(rows()) == 6
        assert len(list((tmp_path / "c" / "operators").iterdir())) == 2

    def test_again_times_everything(self, stub, rows):
        stub("a")
        stub("a", "--again")
        assert len(rows()) == 6

    def test_nothing_new_adds_no_file(self, stub, tmp_path):
        stub("a")
        assert "0 of 3 operators timed now" in stub("a").stdout
        assert len(list((tmp_path / "c" / "operators").iterdir())) == 1

    def test_another_number_of_threads_is_another_device(self, stub, rows):
        stub("a", "--threads", 1)
        assert "timed already" not in stub("a", "--threads", 3).stderr
        assert len({row.device_key for row in rows()}) == 2

    def test_what_is_timed_is_stored_now_and_then(self, stub, rows, monkeypatch):
        stored = []
        real = calibrate.write_records
        monkeypatch.setattr(calibrate, "_SAVE_EVERY_S", -1.0)
        monkeypatch.setattr(calibrate, "write_records", lambda *args: stored.append(len(args[3])) or real(*args))
        stub("a")
        assert stored == [1, 2, 3, 3]
        assert len(rows()) == 3


class TestSummary:
    def test_families_and_failures_by_reason(self, stub):
        result = stub("a", "odd", "--batch-size", "1,2")
        assert "conv" in result.stdout
        assert "too odd" in result.stdout
        assert "6 of 12 operators timed now, 6 failed" in result.stdout
        told = json.loads(stub("a", "odd", "--batch-size", "1,2", "--again", "--json").stdout)
        assert told["failures"] == [{"status": "error", "error": "too odd", "operators": 6}]
        assert told["families"] == {"conv": {"operators": 6, "seconds": 3.0}}

    def test_models_without_operators_are_named(self, stub):
        result = stub("a", "bad", "--json")
        assert "left out bad: it cannot be traced" in result.stderr
        assert json.loads(result.stdout)["left_out"] == {"bad": "it cannot be traced"}

    def test_without_models_the_reference_models_are_timed(self, stub):
        assert json.loads(stub("--json").stdout)["timed"] == 3 * 19

    def test_what_does_not_fit_into_the_time_is_counted(self, stub, monkeypatch):
        # All of the time is spent on tracing.
        real = calibrate.trace_operators
        monkeypatch.setattr(
            calibrate, "trace_operators", lambda *args, stop_s, **rest: real(*args, stop_s=1e12, **rest)
        )
        result = stub("a", "--time", "0s", "--json")
        assert json.loads(result.stdout)["missing"] == 3
        assert "3 are not timed yet: the same command goes on with them" in result.stderr


class TestEnds:
    def test_an_interruption_keeps_what_is_timed(self, stub, rows):
        result = stub("a", "interrupted", "--json", code=1)
        told = json.loads(result.stdout)
        assert told["interrupted"] is True
        assert told["missing"] == 6 - len(rows())
        assert "what is timed is kept" in result.stderr
        assert all(row.status == "ok" for row in rows())

    def test_a_killed_child_costs_its_operator_only(self, stub, rows):
        stub("a", "killed", "b")
        assert sorted(row.status for row in rows()) == ["error"] * 3 + ["ok"] * 6

    def test_no_operator_at_all_is_an_error(self, stub):
        assert "no model could be traced" in stub("bad", code=1).stderr

    def test_a_mistyped_model_finds_the_closest(self, run):
        assert "closest: seed:cnn" in run("seed:cn", code=2).stderr

    def test_without_torch_the_command_that_installs_it_is_named(self, run, monkeypatch):
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
        assert "pip install 'devprof[train]'" in run("seed:cnn", code=1).stderr

    def test_a_folder_that_cannot_be_written_is_found_first(self, tmp_path):
        (tmp_path / "file").write_text("")
        result = CliRunner().invoke(main, ["calibrate", "seed:cnn", "-o", str(tmp_path / "file" / "c")])
        assert result.exit_code == 1
        assert "cannot be written" in result.stderr
