from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.errors import DevprofError
from strategies.virtualtime import HorizonReached, VirtualClientClock, VirtualClock


def test_time_stands_still_until_it_is_moved():
    clock = VirtualClock(start_s=5.0)
    assert clock.now_s() == clock.now_s() == 5.0
    clock.advance(2.5)
    assert clock.now_s() == 7.5


def test_a_sleep_ends_at_the_next_arrival():
    clock = VirtualClock()
    for at_s in (8.0, 3.0):
        clock.schedule(at_s)
    clock.sleep(5.0)
    assert clock.now_s() == 3.0
    clock.sleep(math.inf)
    assert clock.now_s() == 8.0


def test_a_sleep_without_an_arrival_takes_its_time():
    clock = VirtualClock()
    clock.schedule(9.0)
    clock.sleep(5.0)
    assert clock.now_s() == 5.0


def test_an_arrival_of_the_past_wakes_nobody():
    clock = VirtualClock()
    clock.schedule(1.0)
    clock.advance(2.0)
    clock.sleep(3.0)
    assert clock.now_s() == 5.0


def test_an_endless_sleep_for_nothing_is_a_clear_error():
    clock = VirtualClock()
    clock.schedule(1.0)
    clock.sleep(math.inf)
    with pytest.raises(RuntimeError, match="no reply is to arrive"):
        clock.sleep(math.inf)


@pytest.mark.parametrize("seconds", [-1.0, math.nan])
def test_time_does_not_run_backwards(seconds):
    for move in (VirtualClock().sleep, VirtualClock().advance):
        with pytest.raises(ValueError, match="forward"):
            move(seconds)


def test_time_does_not_jump_to_infinity():
    with pytest.raises(ValueError, match="finite"):
        VirtualClock().advance(math.inf)


def test_the_horizon_can_be_reached_but_not_passed():
    clock = VirtualClock(horizon_s=10.0)
    clock.advance(10.0)
    with pytest.raises(HorizonReached, match=r"10\.0 s") as caught:
        clock.advance(0.5)
    assert clock.now_s() == 10.0
    assert isinstance(caught.value, DevprofError)


def test_a_sleep_past_the_horizon_ends_there():
    clock = VirtualClock(horizon_s=10.0)
    clock.schedule(12.0)
    with pytest.raises(HorizonReached):
        clock.sleep(math.inf)
    assert clock.now_s() == 10.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.floats(0, 1e5))
def test_endless_sleeps_visit_every_arrival_in_order(arrivals, start_s):
    clock = VirtualClock(start_s)
    for at_s in arrivals:
        clock.schedule(at_s)
    expected = sorted({at_s for at_s in arrivals if at_s > start_s})
    seen = []
    for _ in expected:
        clock.sleep(math.inf)
        seen.append(clock.now_s())
    assert seen == expected


class PerExample:
    def sample(self, batch_size, rng):
        return 0.1 * batch_size


class Broken:
    def __init__(self, value):
        self.value = value

    def sample(self, batch_size, rng):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def test_a_clients_time_moves_with_its_steps():
    clock = VirtualClientClock(2.0, PerExample(), np.random.default_rng(0))
    assert (clock.received_s(), clock.now_s(), clock.real) == (0.0, 2.0, False)
    clock.step_done(10)
    clock.step_done(5)
    assert clock.now_s() == pytest.approx(3.5)
    assert (clock.steps, clock.train_s) == (2, pytest.approx(1.5))


def test_a_batch_that_seems_empty_costs_at_least_one_sample():
    clock = VirtualClientClock(0.0, PerExample(), np.random.default_rng(0))
    clock.step_done(0)
    assert clock.train_s == pytest.approx(0.1)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, LookupError("no times for this batch size")])
def test_step_times_that_fail_are_kept_as_a_fault_of_the_simulation(value):
    clock = VirtualClientClock(0.0, Broken(value), np.random.default_rng(0))
    with pytest.raises((ValueError, LookupError)) as caught:
        clock.step_done(4)
    assert clock.failure is caught.value
    assert clock.steps == 0
