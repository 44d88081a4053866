import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devprof.measure.changes import change_points

times = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=120)


@pytest.mark.parametrize("half", [5, 6, 10, 500])
def test_a_clear_step_is_found_where_it_is(half):
    assert change_points([1.0] * half + [1.2] * half) == (half,)
    assert change_points([1.2] * half + [1.0] * half) == (half,)


def test_every_level_is_found():
    assert change_points([1.0] * 40 + [1.3] * 30 + [1.1] * 50) == (40, 70)


def test_a_level_that_comes_and_goes_is_found():
    generator = np.random.default_rng(0)
    levels = np.tile(np.repeat([1.0, 1.1], 50), 4)
    found = change_points(list(levels + 0.005 * generator.standard_normal(400)))
    assert len(found) == 7
    assert all(abs(point - place) <= 5 for point, place in zip(found, range(50, 400, 50), strict=True))


def test_a_few_slow_steps_at_the_end_are_a_level_and_fewer_are_outliers():
    assert change_points([1.0] * 60 + [1.3] * 5) == (60,)
    assert change_points([1.0] * 60 + [1.3] * 2) == ()


def test_a_shift_within_five_percent_is_none():
    assert change_points([1.0] * 50 + [1.04] * 50) == ()
    assert change_points([1.0] * 50 + [1.06] * 50) == (50,)


def test_levels_differ_by_more_than_five_percent_from_their_neighbours():
    generator = np.random.default_rng(5)
    series = np.linspace(1.0, 1.5, 300) + 0.01 * generator.standard_normal(300)
    points = change_points(list(series))
    medians = np.array([np.median(level) for level in np.split(series, points)])
    assert len(points) >= 2
    assert np.all(np.abs(np.diff(medians)) / np.minimum(medians[1:], medians[:-1]) > 0.05)


def test_a_drift_is_found():
    assert change_points(list(np.linspace(1.0, 1.3, 200)))


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_values_have_no_levels(count):
    assert change_points([1.0, 9.0, 1.0, 9.0, 1.0, 9.0, 1.0, 9.0, 9.0][:count]) == ()


@given(st.floats(1e-9, 1e9), st.integers(1, 300))
def test_a_constant_series_has_one_level(value, count):
    assert change_points([value] * count) == ()


@pytest.mark.parametrize("count", [10, 30, 200])
def test_white_noise_has_no_change_points_in_99_of_100_series(count):
    generator = np.random.default_rng(count)
    alarms = sum(bool(change_points(list(generator.lognormal(0, 0.3, count)))) for _ in range(1000))
    assert alarms <= 10


@given(times)
def test_change_points_are_ordered_and_leave_five_steps_to_each_level(series):
    points = change_points(series)
    assert all(length >= 5 for length in np.diff([0, *points, len(series)])) or not points
    assert points == change_points(series)


@given(times, st.integers(-20, 20))
def test_change_points_do_not_depend_on_the_unit(series, power):
    assert change_points(series) == change_points([value * 2.0**power for value in series])


@given(times)
@settings(max_examples=50)
def test_levels_in_reverse_are_levels_of_the_reverse(series):
    backwards = change_points(series[::-1])
    # The same evidence either way, though ties between places may be broken differently.
    assert bool(backwards) == bool(change_points(series))
