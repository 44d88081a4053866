import itertools
import threading

import pytest

from devprof.device.state import State
from devprof.measure import monitor
from devprof.measure.monitor import Watched, watched_states


class Sensor:
    """Counts its readings in the temperature, and tells when enough were taken."""

    def __init__(self, enough=1):
        self.numbers, self.enough, self.reached = itertools.count(), enough, threading.Event()

    def __call__(self, processor):
        number = next(self.numbers)
        if number >= self.enough:
            self.reached.set()
        return State(temperature_c=float(number))


def temperatures(states):
    return [state.temperature_c for state in states]


def test_a_short_block_has_its_first_and_last_reading():
    with watched_states("cpu", period_s=3600.0, read=Sensor()) as watched:
        assert temperatures(watched.states) == [0.0]
    assert temperatures(watched.states) == [0.0, 1.0]


def test_readings_are_taken_while_the_block_lasts():
    sensor = Sensor(enough=5)
    with watched_states("cpu", period_s=0.001, read=sensor) as watched:
        assert sensor.reached.wait(10.0)
    assert len(watched.states) >= 6
    assert temperatures(watched.states) == sorted(temperatures(watched.states))
    assert watched.t_ns == sorted(watched.t_ns)


def test_a_long_block_keeps_its_ends_and_a_bounded_number(monkeypatch):
    monkeypatch.setattr(monitor, "_KEPT", 16)
    sensor = Sensor(enough=200)
    with watched_states("cpu", period_s=0.0001, read=sensor) as watched:
        assert sensor.reached.wait(10.0)
    assert len(watched.states) == len(watched.t_ns) <= 18
    assert watched.states[0].temperature_c == 0.0
    assert watched.states[-1].temperature_c >= 201.0


def test_the_last_reading_is_taken_when_the_block_fails():
    with pytest.raises(KeyboardInterrupt), watched_states("cpu", period_s=3600.0, read=Sensor()) as watched:
        raise KeyboardInterrupt
    assert len(watched.states) == 2


def test_what_was_read_in_some_spans_is_left_out_but_not_the_ends():
    watched = Watched([State(temperature_c=float(number)) for number in range(6)], [10, 20, 30, 40, 50, 60])
    assert temperatures(watched.outside([(5, 20), (40, 45), (55, 65)])) == [0.0, 2.0, 4.0, 5.0]
    assert temperatures(watched.outside(())) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
