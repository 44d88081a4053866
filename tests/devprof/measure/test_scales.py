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


@pytest.mark.parametrize("count", [230, 4096])
def test_a_short_series_cannot_exclude_a_level_that_wanders_but_does_not_invent_much_of_it(count):
    # 1.2533 sigma / sqrt(n) is the standard error of a median of normal values.
    expected = 1.96 * 1.2533 * 0.02 / np.sqrt(count)
    widths = [half_width(white(count, seed)) for seed in range(50)]
    assert expected < np.median(widths) < 5 * expected


def test_a_level_that_wanders_is_known_much_worse():
    generator = np.random.default_rng(0)
    assert half_width(wandering(1000, generator)) > 5 * half_width(white(1000) * 0.25)


def flicker(count, generator):
    """Noise with the same power in each octave of time: sums of white noise held for 1, 2, 4... steps."""
    held = [np.repeat(generator.standard_normal(count // dwell + 1), dwell)[:count] for dwell in 2 ** np.arange(14)]
    return 1 + 0.01 * np.sum(held, axis=0)


def test_flicker_noise_is_covered_for_the_median_of_a_run_twenty_times_as_long():
    generator = np.random.default_rng(3)
    covered = []
    for _ in range(100):
        long = flicker(20 * 500, generator)
        short = long[(begin := generator.integers(19 * 500)) : begin + 500]
        covered.append(abs(np.median(short) - np.median(long)) <= half_width(short))
    assert 0.85 <= np.mean(covered) <= 0.99


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
