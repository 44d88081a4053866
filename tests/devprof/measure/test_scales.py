import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from devprof.measure.interval import median_interval
from devprof.measure.scales import FEWEST_FOR_SCALES, half_width


def white(count, seed=0):
    return 1 + 0.02 * np.random.default_rng(seed).standard_normal(count)


def wandering(count, generator, dwell=100):
    """Two levels 3 % apart, each kept for ``dwell`` steps on average."""
    level = np.cumsum(generator.random(count) < 1 / dwell) % 2
    return 1 + 0.03 * level + 0.005 * generator.standard_normal(count)


def coverage(make, truth, runs=150):
    found = [median_interval(make()) for _ in range(runs)]
    return np.mean([one.low <= truth <= one.high for one in found])


def test_independent_steps_are_known_as_well_as_the_root_of_their_number_says():
    # 1.2533 sigma / sqrt(n) is the standard error of a median of normal values.
    expected = 1.96 * 1.2533 * 0.02 / np.sqrt(4096)
    widths = [half_width(white(4096, seed)) for seed in range(50)]
    assert expected < np.median(widths) < 2 * expected


def test_a_level_that_wanders_is_known_much_worse():
    generator = np.random.default_rng(0)
    assert half_width(wandering(1000, generator)) > 5 * half_width(white(1000) * 0.25)


def test_a_wandering_level_is_covered():
    generator = np.random.default_rng(1)
    assert coverage(lambda: wandering(700, generator), 1.015) >= 0.85


def test_independent_steps_are_covered_and_not_much_too_often():
    generator = np.random.default_rng(2)
    assert 0.92 <= coverage(lambda: 1 + 0.02 * generator.standard_normal(230), 1.0) <= 1.0


@pytest.mark.parametrize("values", [np.ones(500), white(FEWEST_FOR_SCALES - 1)])
def test_where_nothing_can_be_said_nothing_is_added(values):
    assert half_width(values) == 0.0


SERIES = arrays.arrays(np.float64, st.integers(1, 400), elements=st.floats(1e-6, 1e3))


@given(SERIES)
def test_any_series_has_a_finite_width(values):
    assert np.isfinite(half_width(values))
    assert half_width(values) >= 0


@given(SERIES, st.sampled_from([2.0, 0.25, 1024.0]))
def test_the_width_has_the_unit_of_the_series(values, factor):
    assert half_width(values * factor) == pytest.approx(half_width(values) * factor, rel=1e-6)
