"""Timing against a clock that only steps move."""

import pytest

from devprof.measure import timing
from devprof.measure.timing import Timer

MS = 1_000_000


class Clock:
    def __init__(self):
        self.now = 0

    def perf_counter_ns(self):
        return self.now

    def step(self, *durations_ms):
        """A step that takes the given times, one after the other, the last for ever."""
        left = list(durations_ms)

        def step():
            self.now += round((left.pop(0) if len(left) > 1 else left[0]) * MS)

        return step


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def make_timer(clock, *, min_time_s=1.0, min_steps=5, stop_s=1000.0, synchronise=lambda: None):
    return Timer(synchronise, min_time_s=min_time_s, min_steps=min_steps, stop_ns=round(stop_s * 1e9))


def test_a_step_is_over_when_the_accelerator_is(clock):
    def synchronise():
        clock.now += 3 * MS

    assert make_timer(clock, synchronise=synchronise).once(clock.step(10)) == 13 * MS


def test_steady_steps_are_measured_for_one_window(clock):
    times = make_timer(clock).measure(clock.step(10))
    assert times == [10 * MS] * 100


def test_slow_steps_are_measured_five_times(clock):
    assert make_timer(clock).measure(clock.step(5000)) == [5000 * MS] * 5


def test_unsteady_steps_are_measured_for_three_windows(clock):
    times = make_timer(clock).measure(clock.step(*([10, 20] * 1000)))
    assert 3.0 <= sum(times) / 1e9 <= 3.3


def test_no_new_step_begins_when_time_is_up(clock):
    assert len(make_timer(clock, stop_s=7.0).measure(clock.step(5000))) == 2


def test_warm_up_of_steady_steps_takes_the_window_if_it_is_shorter_than_three_seconds(clock):
    times = []
    assert make_timer(clock, min_time_s=0.5).warm_up(clock.step(10), times)
    assert len(times) == 50


def test_warm_up_goes_on_while_steps_become_faster(clock):
    times = []
    falling = [100 - index for index in range(60)]
    assert make_timer(clock, min_time_s=0.5).warm_up(clock.step(*falling, 40), times)
    assert times[-5:] == [40 * MS] * 5


def test_warm_up_is_capped_and_says_so(clock):
    times = []
    rising = [10 * 1.05**index for index in range(2000)]
    assert not make_timer(clock, min_time_s=0.2).warm_up(clock.step(*rising), times)
    assert sum(times) <= 25 * 0.2e9


def test_a_device_that_needs_a_minute_per_step_is_warmed_up_by_two_steps(clock):
    times = [60_000 * MS]
    assert not make_timer(clock).warm_up(clock.step(61_000), times)
    assert len(times) == 2


def phased(clock, *durations_ms):
    def step(mark):
        for duration in durations_ms:
            clock.now += duration * MS
            mark()

    return step


def test_phases_are_the_times_between_marks(clock):
    rows = make_timer(clock).phases(phased(clock, 1, 2, 3, 4), 7)
    assert rows == [[1 * MS, 2 * MS, 3 * MS, 4 * MS]] * 7


@pytest.mark.parametrize(("step_ms", "count"), [(1, 10), (200, 6), (5000, 3)])
def test_without_a_number_phases_take_no_longer_than_a_window_but_three_steps(clock, step_ms, count):
    assert len(make_timer(clock).phases(phased(clock, step_ms), None)) == count
