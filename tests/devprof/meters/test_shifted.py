import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters.base import Channel, Reading
from devprof.meters.energy import integrate
from devprof.meters.shifted import with_clock_error

NS = 10**9
SENSOR = (Channel("device", "sensor"),)
COUNTER = (Channel("device", "counter"),)
WINDOW = (10 * NS, 20 * NS)


def sensed(power, step_ns=NS // 10, shift_ns=0):
    return [Reading(t - shift_ns, "device", power_w=power(t)) for t in range(0, 30 * NS, step_ns)]


def energy(readings, channels=SENSOR):
    return integrate(readings, channels, WINDOW, period_s=0.1)


def test_power_that_is_the_same_throughout_costs_nothing():
    readings = sensed(lambda t: 9.0 if t < 25 * NS else 5.0)
    found = energy(readings)
    assert with_clock_error(found, readings, SENSOR, WINDOW, 1.0) == found


def test_each_edge_costs_the_time_by_what_the_power_around_it_differs_from_the_mean():
    readings = sensed(lambda t: 5.0 if t <= 10 * NS or t > 20.3 * NS else 9.0)
    found = energy(readings)
    assert found.power_w == pytest.approx(9.0, abs=0.05)
    wider = with_clock_error(found, readings, SENSOR, WINDOW, 0.5)
    assert (wider.error_rel - found.error_rel) * found.energy_j == pytest.approx(2 * 0.5 * (found.power_w - 5.0))
    assert wider.window_error_rel - found.window_error_rel == pytest.approx(wider.error_rel - found.error_rel)
    assert wider.energy_j == found.energy_j


def test_of_a_counter_it_is_the_range_of_the_power_between_readings():
    readings = [Reading(t * NS, "device", energy_j=5.0 * t + 4.0 * max(0, t - 10)) for t in range(30)]
    found = integrate(readings, COUNTER, WINDOW, period_s=1.0)
    wider = with_clock_error(found, readings, COUNTER, WINDOW, 0.1)
    assert found.power_w == pytest.approx(9.0)
    assert (wider.error_rel - found.error_rel) * found.energy_j == pytest.approx(0.1 * 4.0)


def test_a_clock_that_is_known_and_an_energy_that_is_not_stay_as_they_are():
    readings = sensed(lambda t: t / NS)
    assert with_clock_error(energy(readings), readings, SENSOR, WINDOW, 0.0) == energy(readings)
    nothing = energy(readings[:20])
    assert with_clock_error(nothing, readings, SENSOR, WINDOW, 1.0) == nothing


@given(
    st.lists(st.tuples(st.integers(0, 300), st.floats(0.0, 50.0)), min_size=1, max_size=8),
    st.integers(-20, 20),
)
def test_stamps_that_are_off_stay_within_the_bound(steps, tenths):
    levels = dict(steps)

    def power(t_ns):
        return levels[max((at for at in levels if at <= t_ns * 10 // NS), default=min(levels))] + 1.0

    true, shifted = sensed(power), sensed(power, shift_ns=tenths * NS // 10)
    found = with_clock_error(energy(shifted), shifted, SENSOR, WINDOW, abs(tenths) / 10)
    assert abs(found.energy_j - energy(true).energy_j) <= found.error_rel * found.energy_j + 1e-9
