import math
import random

import pytest
from fake_meters_kernel import Steps
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devprof.meters.base import Channel, Reading
from devprof.meters.energy import integrate

S = 1_000_000_000
RAIL = Channel("rail", "sensor")
ZONE = Channel("zone", "counter")


def ns(t_s):
    return round(t_s * S)


def sensed(power, times, domain="rail"):
    return [Reading(ns(t), domain, power_w=power(t)) for t in times]


def counted(energy, times, domain="zone"):
    return [Reading(ns(t), domain, energy_j=energy(t)) for t in times]


def every(period_s, begin_s, end_s):
    return [begin_s + place * period_s for place in range(round((end_s - begin_s) / period_s) + 1)]


def window(begin_s, end_s):
    return ns(begin_s), ns(end_s)


def test_a_counter_is_read_by_difference_over_the_window():
    energy = integrate(counted(lambda t: 7 * t, [0, 1, 2, 3]), [ZONE], window(1, 3), period_s=1.0)
    assert energy.energy_j == pytest.approx(14)
    assert energy.power_w == pytest.approx(7)
    assert energy.coverage == 1
    assert energy.error_rel == pytest.approx(0, abs=1e-12)


def test_edges_between_readings_are_interpolated_and_cost_certainty():
    energy = integrate(counted(lambda t: 7 * t, [0, 1, 2, 3]), [ZONE], window(0.75, 2.25), period_s=1.0)
    assert energy.energy_j == pytest.approx(10.5)
    assert energy.error_rel == pytest.approx(7 * 0.5 / 10.5)


def test_a_sensor_is_integrated_by_the_trapezoidal_rule_clipped_to_the_window():
    energy = integrate(sensed(lambda t: 2 * t, [0, 1, 2, 3]), [RAIL], window(0.5, 2.5), period_s=1.0)
    assert energy.energy_j == pytest.approx(2.5**2 - 0.5**2)


def test_the_total_is_made_of_headline_channels_only():
    channels = [Channel("a", "counter"), Channel("b", "sensor"), Channel("c", "counter", headline=False)]
    readings = [*counted(lambda t: 5 * t, [0, 1], "a"), *sensed(lambda _: 3.0, [0, 0.5, 1], "b")]
    energy = integrate(readings + counted(lambda t: 90 * t, [0, 1], "c"), channels, window(0, 1), period_s=0.5)
    assert energy.energy_j == pytest.approx(8)
    assert energy.channels["c"].energy_j == pytest.approx(90)


def test_a_gap_of_a_sensor_is_lost_and_not_bridged():
    times = [t for t in every(0.1, 0, 10) if not 4 < t < 4.4]
    energy = integrate(sensed(lambda _: 6.0, times), [RAIL], window(0, 10), period_s=0.1)
    assert energy.coverage == pytest.approx(0.96)
    assert energy.energy_j == pytest.approx(60)
    wide = [t for t in every(0.1, 0, 10) if not 4 < t < 4.7]
    lost = integrate(sensed(lambda _: 6.0, wide), [RAIL], window(0, 10), period_s=0.1)
    assert lost.coverage == pytest.approx(0.93)
    assert (lost.energy_j, lost.power_w, lost.error_rel) == (None, None, None)
    assert lost.channels["rail"].power_w == pytest.approx(6)


def test_what_happened_in_a_gap_is_in_the_bound():
    times = [t for t in every(0.1, 0, 10) if not 4 < t < 4.4]
    power = Steps(2.0, (5, 8.0)).power_w
    energy = integrate(sensed(power, times), [RAIL], window(0, 10), period_s=0.1)
    # 0.4 s in which the power may have been 3 W above or below the mean.
    assert energy.error_rel * energy.energy_j >= 0.4 * 3


def test_two_missed_readings_of_a_sensor_are_no_gap():
    times = [t for t in every(0.1, 0, 1) if not 0.45 < t < 0.65]
    assert integrate(sensed(lambda _: 6.0, times), [RAIL], window(0, 1), period_s=0.1).coverage == pytest.approx(1)


def test_a_slow_source_has_gaps_of_its_own_length():
    slow = Channel("rail", "sensor", update_s=2.0)
    energy = integrate(sensed(lambda _: 6.0, [0, 5, 10]), [slow], window(0, 10), period_s=0.1)
    assert energy.coverage == 1


def test_a_break_costs_what_lies_around_it():
    readings = [*counted(lambda t: 5 * t, [0, 1, 2]), Reading(ns(2.5), "zone"), *counted(lambda t: 5 * t, [3, 99])]
    energy = integrate(readings, [ZONE], window(0, 99), period_s=1.0)
    assert energy.coverage == pytest.approx(98 / 99)
    assert energy.energy_j == pytest.approx(5 * 99)


def test_a_window_that_nobody_saw_has_no_energy():
    for readings in ([], sensed(lambda _: 1.0, [0, 1])):
        energy = integrate(readings, [RAIL], window(5, 6), period_s=1.0)
        assert (energy.energy_j, energy.coverage, energy.channels["rail"].power_w) == (None, 0.0, None)


def test_one_headline_channel_that_is_lost_takes_the_total_with_it():
    channels = [Channel("a", "counter"), Channel("b", "counter")]
    energy = integrate(counted(lambda t: t, [0, 1], "a"), channels, window(0, 1), period_s=1.0)
    assert (energy.energy_j, energy.coverage) == (None, 0.0)


def test_staleness_quantum_gain_and_zero_are_in_the_bound():
    counter = Channel("zone", "counter", update_s=0.01, quantum=0.5, gain_rel=0.01, offset_w=0.1)
    energy = integrate(counted(lambda t: 10 * t, [0, 10]), [counter], window(0, 10), period_s=1.0)
    assert energy.error_rel * 100 == pytest.approx(2 * 10 * 0.01 + 0.5 + 0.01 * 100 + 0.1 * 10)
    assert energy.window_error_rel * 100 == pytest.approx(2 * 10 * 0.01 + 0.5)


def test_a_coarse_sensor_is_as_good_as_its_steps_only_where_the_power_moves():
    coarse = Channel("rail", "sensor", quantum=0.4)
    still = integrate(sensed(lambda _: 10.0, every(0.1, 0, 10)), [coarse], window(0, 10), period_s=0.1)
    assert still.error_rel == pytest.approx(0.2 / 10)
    draw = random.Random(1)
    moving = integrate(
        sensed(lambda _: 0.4 * round((10 + draw.gauss(0, 0.5)) / 0.4), every(0.1, 0, 60)),
        [coarse],
        window(0, 60),
        period_s=0.1,
    )
    assert moving.error_rel < 0.01
    assert abs(moving.energy_j - 600) < moving.error_rel * moving.energy_j


@pytest.mark.parametrize(("begin", "end", "period"), [(1, 1, 1.0), (2, 1, 1.0), (0, 1, 0.0)])
def test_windows_and_periods_that_cannot_be_are_refused(begin, end, period):
    with pytest.raises(ValueError, match=r"window|period"):
        integrate([], [RAIL], (begin, end), period_s=period)


profiles = st.builds(
    lambda base, changes: Steps(base, *[(sum(d for d, _ in changes[: i + 1]), w) for i, (_, w) in enumerate(changes)]),
    st.floats(0.5, 50),
    st.lists(st.tuples(st.floats(0.5, 8), st.floats(0.5, 50)), max_size=5),
)
edges = st.tuples(st.floats(1, 5), st.floats(4, 30), st.floats(0, 0.002), st.floats(0, 0.002))


@settings(deadline=None)
@given(profiles, edges, st.floats(0, 0.05))
@example(Steps(1.0, (5.0, 3.0)), (1.0, 4.0, 0.0, 0.001953125), 0.03125)
def test_the_energy_of_a_counter_is_within_its_bound(profile, edge, phase):
    begin, length, before, after = edge
    times = sorted([*every(0.05, phase, begin + length + 1), begin - before, begin + length + after])
    energy = integrate(counted(profile.energy_j, times), [ZONE], window(begin, begin + length), period_s=0.05)
    true = profile.energy_j(begin + length) - profile.energy_j(begin)
    assert abs(energy.energy_j - true) <= energy.error_rel * energy.energy_j + 1e-6
    assert energy.error_rel < 0.05


@settings(deadline=None)
@given(profiles, edges, st.floats(0, 0.05))
def test_the_energy_of_a_sensor_is_within_its_bound(profile, edge, phase):
    begin, length, before, after = edge
    times = sorted([*every(0.05, phase, begin + length + 1), begin - before, begin + length + after])
    energy = integrate(sensed(profile.power_w, times), [RAIL], window(begin, begin + length), period_s=0.05)
    true = profile.energy_j(begin + length) - profile.energy_j(begin)
    assert abs(energy.energy_j - true) <= energy.error_rel * energy.energy_j + 1e-6


@given(st.lists(st.tuples(st.floats(0.001, 5), st.none() | st.floats(0, 100)), max_size=20), st.booleans())
def test_no_energy_is_ever_negative_and_no_coverage_beyond_the_whole(rows, is_counter):
    t_s, level, readings = 0.0, 0.0, []
    for gap, value in rows:
        t_s += gap
        level += value or 0.0
        known = {} if value is None else {"energy_j": level} if is_counter else {"power_w": value}
        readings.append(Reading(ns(t_s), "x", **known))
    channel = Channel("x", "counter" if is_counter else "sensor")
    energy = integrate(readings, [channel], window(1, 9), period_s=0.5)
    assert 0 <= energy.coverage <= 1
    assert energy.energy_j is None or energy.energy_j >= 0
    assert energy.error_rel is None or (energy.error_rel >= 0 and math.isfinite(energy.error_rel))
