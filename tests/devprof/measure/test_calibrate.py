"""Calibrations: with the real child on tiny models, and with a stub whose operators kill it, hang and fail."""

import itertools
import json
import sys
import time
from pathlib import Path

import pytest
from makers import make_run

from devprof.costmodel.signature import decode_signature
from devprof.errors import MeasureError
from devprof.measure import calibrate, child
from devprof.measure.calibrate import REFERENCE_MODELS, Calibration, in_random_order, trace_operators
from devprof.measure.calibration import (
    OperatorCall,
    Prepared,
    Timed,
    TimeRequest,
    TraceRequest,
    decode_message,
    encode_message,
)
from devprof.measure.calibrator import Pace
from devprof.measure.harness import Measured
from devprof.records import Device
from devprof.workloads.names import check_names

STUB = (sys.executable, str(Path(__file__).parents[2] / "support" / "stub_calibrator.py"))
BOARD = Device("board", "k", "cpu", "15W", 1)


def calls(*signatures):
    return [OperatorCall(signature, "conv", 2.0, 3.0) for signature in signatures]


def stubbed(*signatures):
    """Rows of the stub, by signature."""
    rows = list(Calibration(BOARD, worker=STUB).time_operators(calls(*signatures), stop_s=time.monotonic() + 60))
    assert [row.signature for row in rows] == list(signatures)[: len(rows)]
    return rows


class TestRows:
    def test_a_row_says_what_was_timed_where_and_when(self):
        first, second = stubbed("a", "b")
        assert (first.device, first.device_key, first.power_mode, first.threads) == ("board", "k", "15W", 1)
        assert (first.family, first.macs, first.elements) == ("conv", 2.0, 3.0)
        assert (first.seconds, first.seconds_first, first.faults, first.calls) == (0.5, 0.75, 1.0, 3)
        assert json.loads(first.versions) == {"torch": "stub"}
        assert first.calibration_id == second.calibration_id
        assert first.rss_peak_bytes is None

    def test_a_failed_operator_is_a_row_and_the_next_one_is_timed(self):
        odd, good = stubbed("odd", "good")
        assert (odd.status, odd.error, odd.seconds) == ("error", "too odd", None)
        assert good.status == "ok"

    def test_whole_steps_come_with_the_memory_peak_of_their_process(self, monkeypatch):
        runs = [make_run(rss_peak_bytes=700), make_run(status="oom", step_s=None, error="memory is out")]
        monkeypatch.setattr(calibrate, "STEPS", calibrate.STEPS[:2])
        monkeypatch.setattr(calibrate, "measure_workload", lambda *_: Measured(runs.pop(0)))
        good, bad = Calibration(BOARD).time_steps((), stop_s=time.monotonic() + 60)
        assert (good.family, good.status, good.seconds, good.rss_peak_bytes) == ("step", "ok", 0.25, 700)
        assert (bad.status, bad.error, bad.rss_peak_bytes) == ("oom", "memory is out", None)

    def test_when_the_time_is_over_nothing_is_started(self):
        assert list(Calibration(BOARD, worker=("/no/such/program",)).time_operators(calls("a"), stop_s=0.0)) == []


class TestChildrenThatEnd:
    def test_a_killed_child_loses_the_operator_that_it_was_at_and_no_other(self):
        rows = stubbed("a", "killed", "b", "c")
        assert [row.status for row in rows] == ["ok", "error", "ok", "ok"]
        assert "SIGKILL" in rows[1].error

    def test_a_kill_is_out_of_memory_if_the_kernel_counted_one(self, monkeypatch):
        counts = itertools.count()
        monkeypatch.setattr(child, "_oom_kills", lambda: (next(counts), None))
        assert [row.status for row in stubbed("killed", "a")] == ["oom", "ok"]

    def test_the_last_words_of_a_crash_are_kept(self):
        assert "the library gave up" in stubbed("crashed", "a")[0].error

    def test_a_child_that_hangs_is_replaced(self, monkeypatch):
        monkeypatch.setattr(calibrate, "_PATIENCE_S", 2.0)
        rows = stubbed("a", "hangs", "b")
        assert [row.status for row in rows] == ["ok", "error", "ok"]
        assert "nothing came" in rows[1].error

    def test_a_child_that_gives_up_between_two_operators_loses_none(self):
        assert [row.status for row in stubbed("last words", "a", "b")] == ["ok"] * 3

    def test_children_are_replaced_a_few_times_only(self, caplog):
        rows = stubbed(*(f"killed {number}" for number in range(9)))
        assert len(rows) == 6
        assert "no further one is started" in caplog.text

    def test_a_child_that_cannot_begin_is_an_error(self):
        with pytest.raises(MeasureError, match="no such accelerator"):
            stubbed("unable")


class TestTracing:
    def test_every_operator_comes_once_and_models_that_have_none_have_a_reason(self):
        seen = []
        until = time.monotonic() + 60
        traces = trace_operators(("m", "bad"), (1, 2), stop_s=until, on_model=seen.append, worker=STUB)
        assert len(traces.operators) == 6
        assert traces.left_out == {"bad": "it cannot be traced"}
        assert seen == ["m", "bad"]

    def test_what_is_not_traced_in_time_is_left_out_but_for_the_first(self):
        traces = trace_operators(("m", "slow", "n"), (1,), stop_s=time.monotonic() - 1, worker=STUB)
        assert len(traces.operators) == 3
        assert set(traces.left_out) == {"slow", "n"}
        assert "no time left" in traces.left_out["n"]

    def test_the_order_is_random_the_same_each_time_and_without_what_is_timed(self):
        operators = calls(*"abcdefghij")
        order = in_random_order(operators, {"c", "x"})
        assert order == in_random_order(operators, {"c"})
        assert sorted(call.signature for call in order) == list("abdefghij")
        assert order != sorted(order, key=lambda call: call.signature)

    @pytest.mark.slow
    def test_reference_models_are_all_there_and_of_many_families(self):
        assert check_names(REFERENCE_MODELS) == {}


@pytest.mark.slow
class TestTheRealChild:
    def test_operators_of_small_models_are_traced_and_timed(self):
        traces = trace_operators(("seed:cnn", "seed:mlp", "torchvision:googlenet"), (2,), stop_s=time.monotonic() + 60)
        assert list(traces.left_out) == ["torchvision:googlenet"]
        names = {decode_signature(signature)[0] for signature in traces.operators}
        assert {"aten.convolution.default", "aten.convolution_backward.default", "aten.addmm.default"} <= names
        # Enough time for every operator at its least, not for all of them at their best.
        rows = list(Calibration(BOARD).time_operators(list(traces.operators.values()), stop_s=time.monotonic() + 6))
        assert [row.status for row in rows] == ["ok"] * len(rows)
        assert {row.signature for row in rows} == set(traces.operators)
        assert all(row.seconds > 0 and row.seconds_first > 0 and row.calls >= 3 and row.faults >= 0 for row in rows)
        assert json.loads(rows[0].versions)["torch"]

    def test_what_cannot_be_timed_is_a_row(self):
        huge = '["aten.relu.default",[{"t":[1048576,1048576],"d":"float32"}],{}]'
        unknown = '["aten.no_such_operator.default",[],{}]'
        wrong = '["aten.mm.default",[{"t":[2,3],"d":"float32"},{"t":[2,3],"d":"float32"}],{}]'
        good = '["aten.relu.default",[{"t":[4],"d":"float32"}],{}]'
        operators = calls(huge, unknown, wrong, "no signature", good)
        rows = list(Calibration(BOARD).time_operators(operators, stop_s=time.monotonic() + 30))
        assert [row.status for row in rows] == ["oom", "unsupported", "error", "error", "ok"]
        assert "are free" in rows[0].error
        assert "no_such_operator" in rows[1].error


class TestPace:
    def clock(self):
        return self.now_s

    def test_what_operators_take_beyond_their_budgets_is_left_to_the_others(self):
        self.now_s = 0.0
        pace = Pace(10, 2.0, self.clock)
        assert pace.budget_s() == pytest.approx(0.2)
        for _ in range(10):
            assert not pace.is_over()
            budget_s = pace.budget_s()
            self.now_s += 0.1 + budget_s
            pace.record(budget_s, 0.1 + budget_s)
        assert self.now_s == pytest.approx(2.0, abs=0.15)

    def test_few_operators_do_not_take_all_the_time(self):
        self.now_s = 0.0
        assert Pace(2, 240.0, self.clock).budget_s() == 0.25

    def test_late_operators_get_no_more_than_the_least(self):
        self.now_s = 5.0
        pace = Pace(2, 3.0, self.clock)
        assert pace.is_over()
        assert pace.budget_s() == 0.0


class TestMessages:
    @pytest.mark.parametrize(
        "message",
        [
            TimeRequest(tuple(calls("a")), "cpu", 2, 3.0, (0, 1)),
            TraceRequest(("m",), ("full", "head"), (4, 16)),
            Prepared({"torch": "2"}),
            Timed(3, "ok", None, 0.5, 0.75, None, 3),
        ],
    )
    def test_they_come_back_as_they_were(self, message):
        assert decode_message(encode_message(message)) == message

    @pytest.mark.parametrize("line", ["", "{", '{"message": "Timed"}', '{"message": "Other"}', "[]", "3"])
    def test_an_incomplete_line_is_none(self, line):
        assert decode_message(line) is None
