from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.plausibility import Asked, plausible
from strategies.telemetry import Telemetry

TOLD = Telemetry("pi", "cpu", 20, 200, 10, train_s=10.0, startup_s=1.0, total_s=11.5, cut=False)
ASKED = Asked(local_steps=20, local_epochs=2, batch_size=10, cutoff_s=12.0, samples=100)


def test_honest_telemetry_is_believed_as_it_is():
    credit = plausible(TOLD, ASKED)
    assert credit.telemetry == TOLD
    assert credit.faults == ()
    assert credit.bounded


def test_without_a_plan_there_is_only_the_clients_word():
    credit = plausible(TOLD, Asked())
    assert (credit.telemetry, credit.faults, credit.bounded) == (TOLD, (), False)


def test_steps_beyond_the_budget_count_as_the_budget_and_make_nobody_faster():
    credit = plausible(replace(TOLD, steps_done=20_000, examples_done=200_000), ASKED)
    assert (credit.telemetry.steps_done, credit.telemetry.examples_done) == (20, 200)
    assert credit.telemetry.step_s == 0.5
    assert credit.faults == (
        "steps-done 20000 counts as 20, which is all that it was asked for",
        "examples-done 200000 counts as 200, which is all that it was asked for",
    )


def test_larger_batch_counts_as_the_one_that_was_asked_for():
    credit = plausible(replace(TOLD, batch_size=40, examples_done=800), replace(ASKED, samples=None))
    assert (credit.telemetry.batch_size, credit.telemetry.examples_done) == (10, 200)


def test_smaller_batch_is_believed():
    told = replace(TOLD, batch_size=5, examples_done=100)
    assert plausible(told, ASKED).telemetry == told


def test_examples_are_at_most_the_passes_over_the_known_data():
    credit = plausible(replace(TOLD, examples_done=200), replace(ASKED, samples=70))
    assert credit.telemetry.examples_done == 140
    assert credit.faults == ("examples-done 200 counts as 140, which is all that it was asked for",)


def test_work_far_beyond_the_cut_off_is_named_and_believed():
    told = replace(TOLD, train_s=30.0, total_s=31.0)
    credit = plausible(told, ASKED)
    assert credit.telemetry == told
    assert credit.faults == ("31 s of work against a cut-off of 12 s: it did not keep to it",)


def test_first_step_may_take_however_long():
    assert plausible(replace(TOLD, steps_done=1, examples_done=10, train_s=30.0, total_s=31.0), ASKED).faults == ()


@pytest.mark.parametrize(
    ("asked", "examples"),
    [
        (Asked(), None),
        (Asked(local_steps=3), None),
        (Asked(local_epochs=3), None),
        (Asked(local_steps=3, batch_size=8), 24),
        (Asked(local_epochs=3, samples=7), 21),
        (Asked(local_epochs=3, samples=7, local_steps=2, batch_size=8), 16),
    ],
)
def test_most_examples_that_follow_from_what_was_asked(asked, examples):
    assert asked.examples == examples


def test_what_was_asked_is_read_from_the_config():
    config = {"local-steps": 4, "local-epochs": 2, "batch-size": 8, "cutoff-s": 3, "lr": 0.1}
    assert Asked.from_config(config, 50) == Asked(4, 2, 8, 3.0, 50)
    assert Asked.from_config({"local-steps": True, "batch-size": 8.5, "cutoff-s": math.inf}) == Asked()


telemetries = st.builds(
    Telemetry,
    device=st.just("d"),
    processor=st.just("cpu"),
    steps_done=st.integers(0, 10**9),
    examples_done=st.integers(0, 10**12),
    batch_size=st.integers(1, 10**6),
    train_s=st.floats(0, 1e6),
    startup_s=st.floats(0, 1e6),
    total_s=st.floats(0, 1e6),
    cut=st.booleans(),
)
limits = st.none() | st.integers(1, 10**4)
plans = st.builds(
    Asked,
    local_steps=limits,
    local_epochs=limits,
    batch_size=limits,
    cutoff_s=st.none() | st.floats(0, 1e4),
    samples=limits,
)


@settings(deadline=None)
@given(telemetries, plans)
def test_nobody_is_credited_with_more_than_was_asked(told, asked):
    credit = plausible(told, asked)
    for name in ("steps_done", "batch_size", "examples_done"):
        assert getattr(credit.telemetry, name) <= getattr(told, name)
    assert credit.telemetry.steps_done <= (asked.local_steps or math.inf)
    assert credit.telemetry.examples_done <= (math.inf if asked.examples is None else asked.examples)
    assert credit.telemetry.examples_done <= credit.telemetry.steps_done * credit.telemetry.batch_size
    if told.steps_done:
        assert credit.telemetry.step_s >= told.step_s
    assert plausible(credit.telemetry, asked).telemetry == credit.telemetry
