import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from devprof.meters.base import Channel, Reading
from devprof.meters.sieve import Sieve

RAIL = Channel("rail", "sensor", quantum=0.1, offset_w=0.05, most_w=100.0)
ZONE = Channel("zone", "counter", most_w=100.0)
S = 1_000_000_000


def watts(*values, begin=0):
    return [Reading((begin + place) * S, "rail", power_w=value) for place, value in enumerate(values, 1)]


def joules(*values):
    return [Reading(place * S, "zone", energy_j=value) for place, value in enumerate(values, 1)]


def test_values_that_cannot_be_are_rejected_and_counted():
    sieve = Sieve([RAIL])
    kept = sieve.accept(watts(5.0, math.nan, math.inf, -3.0, 1e6, 6.0))
    assert [one.power_w for one in kept] == [5.0, 6.0]
    assert sieve.rejected == {"not-a-number": 2, "negative": 1, "too-large": 1}


def test_a_zero_that_is_a_little_below_is_zero():
    sieve = Sieve([RAIL])
    assert [one.power_w for one in sieve.accept(watts(-0.14, 0.0))] == [0.0, 0.0]
    assert not sieve.rejected


def test_stamps_that_do_not_advance_are_rejected_by_channel():
    sieve = Sieve([RAIL, ZONE])
    late = Reading(S, "rail", power_w=9.0)
    kept = sieve.accept([*watts(5.0, 5.0), late, Reading(S, "zone", energy_j=1.0), *watts(7.0, begin=2)])
    assert [(one.domain, one.t_ns) for one in kept] == [("rail", S), ("rail", 2 * S), ("zone", S), ("rail", 3 * S)]
    assert sieve.rejected == {"time-backward": 1}


def test_a_counter_that_falls_or_jumps_is_a_break_and_goes_on():
    sieve = Sieve([ZONE])
    kept = sieve.accept(joules(10.0, 20.0, 15.0, 25.0, 1e6, 1e6 + 10))
    assert [one.energy_j for one in kept] == [10.0, 20.0, None, 15.0, 25.0, None, 1e6, 1e6 + 10]
    assert [one.t_ns for one in kept] == sorted(one.t_ns for one in kept)
    assert sieve.rejected == {"counter-fell": 1, "too-large": 1}


def test_a_counter_that_is_updated_now_and_then_may_rise_by_more_at_once():
    slow = Channel("zone", "counter", most_w=100.0, update_s=10.0)
    assert len(Sieve([slow]).accept(joules(0.0, 0.0, 1000.0))) == 3


def test_after_a_break_any_level_of_a_counter_is_believed():
    sieve = Sieve([ZONE])
    readings = [Reading(S, "zone", energy_j=5.0), Reading(2 * S, "zone"), Reading(3 * S, "zone", energy_j=9e5)]
    assert sieve.accept(readings) == readings
    assert not sieve.rejected


def test_channels_that_nobody_announced_are_rejected():
    sieve = Sieve([RAIL])
    assert sieve.accept([Reading(1, "other", power_w=1.0)]) == []
    assert sieve.rejected == {"unknown-channel": 1}


anything = st.floats() | st.none()


@given(st.lists(st.tuples(st.integers(-5, 5), st.sampled_from(["rail", "zone", "?"]), anything, anything), max_size=30))
def test_whatever_comes_what_is_kept_can_be_true(rows):
    sieve = Sieve([RAIL, ZONE])
    t_ns, readings = 0, []
    for step, domain, power_w, energy_j in rows:
        t_ns += step * S
        readings.append(Reading(t_ns, domain, power_w, energy_j))
    kept = sieve.accept(readings)
    for domain in ("rail", "zone"):
        own = [one for one in kept if one.domain == domain]
        assert all(a.t_ns < b.t_ns for a, b in itertools.pairwise(own) if b.power_w is not None)
        assert all(one.power_w is None or 0 <= one.power_w <= 100 for one in own)
        levels = [one.energy_j for one in own]
        assert all(a is None or b is None or b >= a for a, b in itertools.pairwise(levels))
