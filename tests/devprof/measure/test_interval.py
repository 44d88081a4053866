import random
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from devprof.measure.interval import block_length, bootstrap_interval, median_interval, order_interval, stop_interval

times = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=60)


def autoregressive(generator, count, rho):
    return lfilter([1], [1, -rho], generator.standard_normal(count + 100))[100:]


def white_with_outliers(generator, count):
    values = 1 + 0.01 * np.abs(generator.standard_normal(count))
    return values + (generator.random(count) < 0.03) * generator.exponential(0.3, count)


def quantised(generator, count):
    return np.round(white_with_outliers(generator, count), 2)


def dependent(generator, count):
    return 1 + 0.008 * autoregressive(generator, count, 0.6)


def two_levels(generator, count):
    switches = generator.random(count) < 1 / 5
    return 1 + 0.03 * (np.cumsum(switches) % 2) + 0.005 * generator.standard_normal(count)


def test_ranks_are_those_of_the_binomial_distribution():
    # Ranks 41 and 61 of 101, one wider on each side.
    assert order_interval(range(1, 102)) == (40, 62)


def test_dependence_widens_the_ranks():
    assert order_interval(range(1, 102), correlation_time=4.0) == (30, 72)


def test_few_values_give_the_whole_range():
    assert order_interval([1.0, 2.0, 3.0]) == (1.0, 3.0)


def test_the_interval_of_independent_values_covers_as_often_as_it_says():
    draw = random.Random(1)
    hits = 0
    for _ in range(2000):
        low, high = order_interval(sorted(draw.lognormvariate(0, 1) for _ in range(40)))
        hits += low <= 1.0 <= high
    assert 0.95 <= hits / 2000 <= 0.99


@pytest.mark.parametrize("process", [white_with_outliers, quantised, dependent, two_levels])
@pytest.mark.parametrize("count", [40, 200])
def test_the_interval_of_a_short_run_covers_the_median_of_a_long_one(process, count):
    generator = np.random.default_rng(7)
    hits, runs = 0, 120
    for _ in range(runs):
        interval = median_interval(list(process(generator, count)))
        hits += interval.low <= median(process(generator, 2000)) <= interval.high
    assert hits / runs >= 0.85


def test_without_allowance_for_dependence_it_would_not():
    generator = np.random.default_rng(7)
    runs = [dependent(generator, 40) for _ in range(300)]
    plain = sum(low <= 1 <= high for low, high in (order_interval(sorted(run)) for run in runs))
    allowed = sum(low <= 1 <= high for low, high in map(stop_interval, runs))
    assert plain / 300 < 0.85
    assert allowed / 300 > 0.9


def test_blocks_grow_with_dependence_and_never_fall_short_of_the_cube_root():
    generator = np.random.default_rng(2)
    lengths = [
        np.mean([block_length(autoregressive(generator, 1000, rho)) for _ in range(20)]) for rho in (0.0, 0.5, 0.9)
    ]
    assert 10 <= lengths[0] < lengths[1] < lengths[2] < 95
    assert block_length(np.ones(1000)) == 10


def test_the_bootstrap_agrees_with_order_statistics_on_independent_values():
    values = np.random.default_rng(4).lognormal(0, 0.1, 2000)
    found = bootstrap_interval(values, np.random.default_rng(0))
    assert found == pytest.approx(order_interval(sorted(values)), rel=0.005)


def test_a_long_series_is_resampled_in_pieces():
    values = np.random.default_rng(4).lognormal(0, 0.1, 3000)
    low, high = bootstrap_interval(values, np.random.default_rng(0), resamples=200)
    assert low < np.median(values) < high


def test_the_method_says_whether_the_bootstrap_took_part():
    distinct = [1.0 + index % 7 + index / 100 for index in range(30)]
    assert median_interval(distinct).method == "bootstrap"
    assert median_interval(distinct[:9]).method == "order-statistics"
    assert median_interval([round(value) for value in distinct]).method == "order-statistics"


@given(times)
@settings(max_examples=60)
def test_the_interval_holds_the_median_and_the_cheaper_interval(series):
    interval = median_interval(series)
    low, high = stop_interval(series)
    assert interval.low <= low <= median(series) <= high <= interval.high
    assert min(series) <= interval.low
    assert interval.high <= max(series)


@given(times, st.integers(-20, 20))
@settings(max_examples=60)
def test_the_interval_scales_with_the_unit(series, power):
    interval, scale = median_interval(series), 2.0**power
    scaled = median_interval([value * scale for value in series])
    assert (scaled.low, scaled.high, scaled.method) == (interval.low * scale, interval.high * scale, interval.method)


def test_the_same_series_and_seed_give_the_same_interval():
    values = list(np.random.default_rng(1).lognormal(0, 0.2, 100))
    assert median_interval(values, seed=3) == median_interval(values, seed=3)
    draws = [bootstrap_interval(np.array(values), np.random.default_rng(seed), resamples=50) for seed in (1, 2)]
    assert draws[0] != draws[1]
