from __future__ import annotations

import math

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from devprof.device.identity import identify
from strategies.client import Budget, MonotonicClock, examples_in, use_clock
from strategies.compat import task_identity
from strategies.telemetry import RECORD_NAME, read_telemetry


class StepClock:
    """A client's clock on which each step takes a fixed time."""

    real = False

    def __init__(self, step_s: float = 1.0, startup_s: float = 0.0, received_s: float = 0.0) -> None:
        self.step_s = step_s
        self.received = received_s
        self.now = received_s + startup_s
        self.steps: list[int] = []

    def received_s(self) -> float:
        return self.received

    def now_s(self) -> float:
        return self.now

    def step_done(self, examples: int) -> None:
        self.steps.append(examples)
        self.now += self.step_s


def message(config: dict | None, name: str = "config") -> Message:
    records = {} if config is None else {name: ConfigRecord(config)}
    with task_identity():
        return Message(RecordDict(records), 5, "train")


def context(**node_config) -> Context:
    return Context(1, 5, node_config, RecordDict(), {})


def batches(count: int, size: int = 4) -> list[np.ndarray]:
    return [np.zeros(size) for _ in range(count)]


def test_without_limits_everything_is_done():
    budget = Budget(clock=StepClock())
    assert len(list(budget.limit(batches(7)))) == 7
    assert (budget.steps_done, budget.examples_done, budget.cut) == (7, 28, False)


def test_the_cutoff_is_kept_and_not_just_noticed():
    budget = Budget(cutoff_s=4.5, clock=StepClock(step_s=1.0))
    list(budget.limit(batches(10)))
    assert budget.steps_done == 4
    assert budget.elapsed_s <= 4.5
    assert budget.cut


def test_start_up_counts_towards_the_cutoff():
    budget = Budget(cutoff_s=5.0, clock=StepClock(step_s=1.0, startup_s=3.0))
    list(budget.limit(batches(10)))
    assert budget.steps_done == 2


def test_time_counts_from_the_arrival_of_the_message():
    budget = Budget(cutoff_s=3.0, clock=StepClock(received_s=100.0, startup_s=1.0))
    list(budget.limit(batches(10)))
    assert budget.steps_done == 2
    assert budget.elapsed_s == 3.0


@pytest.mark.parametrize(("step_s", "steps"), [(0.1, 3), (0.1, 7), (0.7, 10), (1 / 3, 9)])
def test_steps_that_fit_exactly_are_done_whatever_the_rounding(step_s, steps):
    budget = Budget(cutoff_s=step_s * steps, clock=StepClock(step_s=step_s))
    list(budget.limit(batches(steps + 5)))
    assert budget.steps_done == steps


def test_one_step_is_done_even_if_there_is_no_time_for_it():
    budget = Budget(cutoff_s=0.0, clock=StepClock(step_s=50.0, startup_s=9.0))
    list(budget.limit(batches(3)))
    assert budget.steps_done == 1
    assert budget.cut


def test_all_planned_steps_are_complete_work():
    budget = Budget(local_steps=3, cutoff_s=100.0, clock=StepClock())
    list(budget.limit(batches(10)))
    assert budget.steps_done == 3
    assert not budget.cut


def test_planned_steps_that_the_clock_prevented_are_cut():
    budget = Budget(local_steps=8, cutoff_s=3.0, clock=StepClock())
    list(budget.limit(batches(10)))
    assert (budget.steps_done, budget.cut) == (3, True)


def test_data_that_ends_at_the_cutoff_is_complete_work():
    budget = Budget(cutoff_s=3.0, clock=StepClock())
    list(budget.limit(batches(3)))
    assert (budget.steps_done, budget.cut) == (3, False)


def test_epochs_share_one_budget():
    budget = Budget(local_steps=5, local_epochs=3, clock=StepClock())
    for _ in range(budget.local_epochs):
        list(budget.limit(batches(3)))
    assert budget.steps_done == 5
    assert not budget.cut


def test_a_loop_that_is_left_early_counts_the_finished_steps_only():
    clock = StepClock()
    budget = Budget(clock=clock)
    for index, _ in enumerate(budget.limit(batches(10))):
        if index == 2:
            break
    assert budget.steps_done == 2
    assert clock.steps == [4, 4]


def test_a_budget_without_data_has_done_nothing():
    budget = Budget(clock=StepClock())
    assert list(budget.limit([])) == []
    assert (budget.steps_done, budget.train_s, budget.cut) == (0, 0.0, False)


@given(
    step_s=st.floats(0.001, 10),
    startup_s=st.floats(0, 10),
    cutoff_s=st.floats(0, 100),
    count=st.integers(1, 50),
    local_steps=st.one_of(st.none(), st.integers(1, 60)),
)
def test_a_budget_never_overruns_and_always_works(step_s, startup_s, cutoff_s, count, local_steps):
    budget = Budget(cutoff_s=cutoff_s, local_steps=local_steps, clock=StepClock(step_s, startup_s))
    list(budget.limit(batches(count)))
    assert 1 <= budget.steps_done <= min(count, local_steps or count)
    if budget.steps_done > 1:
        assert budget.elapsed_s <= cutoff_s * (1 + 1e-8)
    if budget.steps_done < min(count, local_steps or count):
        assert budget.cut
        assert budget.elapsed_s + step_s > cutoff_s * (1 - 1e-8)


@pytest.mark.parametrize(
    "limits",
    [{"cutoff_s": -1.0}, {"cutoff_s": math.nan}, {"local_steps": 0}, {"local_epochs": 0}],
)
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(ValueError, match=next(iter(limits))):
        Budget(**limits)


def test_the_budget_is_read_from_the_config():
    budget = Budget.from_message(message({"cutoff-s": 12.5, "local-steps": 7, "local-epochs": 3}))
    assert (budget.cutoff_s, budget.local_steps, budget.local_epochs) == (12.5, 7, 3)


@pytest.mark.parametrize("config", [None, {}, {"lr": 0.1}, {"cutoff-s": math.inf}, {"cutoff-s": "soon"}])
def test_without_a_usable_limit_in_the_config_there_is_none(config):
    budget = Budget.from_message(message(config), local_epochs=2)
    assert (budget.cutoff_s, budget.local_steps, budget.local_epochs) == (None, None, 2)


def test_truth_values_are_no_numbers():
    assert Budget.from_message(message({"local-steps": True, "cutoff-s": True})).local_steps is None


def test_a_budget_takes_the_clock_of_the_engine():
    clock = StepClock()
    with use_clock(clock):
        budget = Budget()
        list(budget.limit(batches(2)))
    assert clock.steps == [4, 4]
    assert Budget()._clock is not clock


def test_an_own_clock_goes_before_the_engines():
    engine, own = StepClock(), StepClock()
    with use_clock(engine):
        list(Budget(clock=own).limit(batches(1)))
    assert (engine.steps, own.steps) == ([], [4])


def test_clocks_nest_and_an_error_does_not_leave_one_behind():
    outer, inner = StepClock(), StepClock()
    with use_clock(outer):
        with pytest.raises(KeyError), use_clock(inner):
            raise KeyError
        assert Budget()._clock is outer


def test_telemetry_says_what_was_done_and_is_believed():
    budget = Budget(cutoff_s=6.0, clock=StepClock(step_s=1.0, startup_s=2.5))
    list(budget.limit([np.zeros(8), np.zeros(8), np.zeros(3), np.zeros(8)]))
    told = budget.telemetry(context(device="pi-4", processor="cpu"), 8)
    assert (told.device, told.processor) == ("pi-4", "cpu")
    assert (told.steps_done, told.examples_done, told.batch_size) == (3, 19, 8)
    assert (told.startup_s, told.train_s, told.total_s) == (2.5, 3.0, 5.5)
    assert told.cut
    assert read_telemetry(RecordDict({RECORD_NAME: told.to_record()}), elapsed_s=5.5) == told


def test_a_client_that_starts_at_once_has_no_start_up():
    budget = Budget(clock=StepClock(step_s=1.0, startup_s=0.0))
    list(budget.limit(batches(4)))
    told = budget.telemetry(context(), 4)
    assert (told.startup_s, told.train_s, told.total_s) == (0.0, 4.0, 4.0)


def test_before_the_first_step_all_time_is_start_up():
    told = Budget(clock=StepClock(startup_s=2.0)).telemetry(context(), 4)
    assert (told.startup_s, told.train_s, told.total_s) == (2.0, 0.0, 2.0)


def test_memory_is_reported_by_a_real_client_only():
    assert Budget(clock=StepClock()).telemetry(context(), 4).rss_peak_bytes is None
    real = Budget(clock=MonotonicClock()).telemetry(context(), 4).rss_peak_bytes
    assert real is None or real > 0


def test_a_node_config_without_names_leaves_it_to_the_fingerprint():
    board = identify()
    told = Budget(clock=StepClock()).telemetry(context(), 4)
    assert (told.device, told.processor) == (board.name, board.processor)


def test_a_process_that_was_started_for_the_message_counts_from_its_start(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/flwr-clientapp"])
    monkeypatch.setattr("strategies.compat._counted", set())
    monkeypatch.setattr("strategies.compat.process_age_s", lambda: 7.0)
    first, second = Budget(cutoff_s=9.0), Budget()
    assert 7.0 <= first.elapsed_s < 60.0
    assert second.elapsed_s < 7.0


def test_real_time_moves_by_itself():
    clock = MonotonicClock()
    clock.step_done(3)
    assert clock.now_s() >= clock.received_s()
    assert clock.real


@pytest.mark.parametrize(
    ("batch", "examples"),
    [
        ((np.zeros((5, 2)), np.zeros(5)), 5),
        ([np.zeros(3)], 3),
        ({"x": np.zeros((6, 1)), "y": np.zeros(6)}, 6),
        (np.zeros((4, 2)), 4),
        ({}, 1),
        ((), 0),
        (7, 1),
        ((np.float64(3.0), 2), 1),
        ((np.array(3.0), 2), 1),
    ],
)
def test_examples_are_counted_in_the_first_part_of_a_batch(batch, examples):
    assert examples_in(batch) == examples


def test_a_tensor_without_dimensions_is_one_example():
    torch = pytest.importorskip("torch")
    assert examples_in((torch.tensor(3.0), torch.tensor(1))) == 1
    assert examples_in((torch.zeros(5, 3), torch.zeros(5))) == 5
