import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from devprof.measure.series import (
    autocorrelations,
    correlation_time,
    first_run_effect,
    lag_one_autocorrelation,
    side_of_median,
    warm_up_done,
)

times = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=80)


def autoregressive(generator, count, rho):
    return lfilter([1], [1, -rho], generator.standard_normal(count + 100))[100:]


def test_autocorrelations_are_those_of_the_definition():
    values = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])
    centred = values - values.mean()
    expected = [np.sum(centred[: len(values) - lag] * centred[lag:]) / np.sum(centred**2) for lag in range(8)]
    assert autocorrelations(values, 7) == pytest.approx(expected)


def test_values_that_do_not_vary_have_no_autocorrelation():
    assert autocorrelations(np.full(50, 0.1), 3) is None
    assert lag_one_autocorrelation(np.full(50, 0.1)) is None
    assert correlation_time(np.full(50, 0.1)) == 1.0


def test_few_values_have_no_autocorrelation():
    assert lag_one_autocorrelation(np.arange(9.0)) is None
    assert lag_one_autocorrelation(np.arange(10.0)) == pytest.approx(0.7)


def test_alternating_values_are_no_less_informative_than_independent_ones():
    assert correlation_time(np.tile([1.0, 2.0], 50)) == 1.0


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_correlation_time_of_an_autoregressive_process_is_found(rho):
    generator = np.random.default_rng(3)
    found = np.mean([correlation_time(autoregressive(generator, 4000, rho)) for _ in range(40)])
    assert found == pytest.approx((1 + rho) / (1 - rho), rel=0.1)


def test_a_drift_leaves_four_independent_values():
    assert correlation_time(np.arange(400.0)) == 100


@given(times)
def test_the_correlation_time_is_bounded(series):
    values = np.array(series)
    assert 1 <= correlation_time(side_of_median(values)) <= max(1, len(values) / 4)


def test_the_first_run_effect_compares_with_the_last_steps():
    assert first_run_effect([30.0, 12.0, 11.0, 10.0, 10.0, 10.0, 9.0, 10.0]) == 3.0
    assert first_run_effect([30.0, 10.0]) == 3.0
    assert first_run_effect([30.0]) is None
    assert first_run_effect([]) is None


def test_constant_steps_are_warm():
    assert warm_up_done([7] * 5)
    assert not warm_up_done([7] * 4)


def test_only_the_last_ten_steps_count():
    assert warm_up_done([900, 500, 200, *[100] * 10])
    assert not warm_up_done([100] * 10 + [100 - 3 * index for index in range(1, 11)])


def test_a_single_outlier_is_no_drift():
    assert warm_up_done([100, 100, 100, 100, 900, 100, 100, 100, 100, 100])


def test_steps_that_become_faster_are_not_warm():
    # 0.2 % per step, without noise: 2 % over ten steps, and no doubt about it.
    assert not warm_up_done([1000 - 2 * index for index in range(10)])


def test_a_drift_lost_in_noise_ends_the_warm_up():
    noisy = [100, 106, 97, 104, 95, 107, 99, 96, 108, 103]
    assert warm_up_done(noisy)


def test_a_drift_that_is_too_large_to_be_hidden_is_not_accepted():
    noisy = [100, 160, 90, 170, 110, 180, 100, 190, 120, 175]
    assert not warm_up_done(noisy)


def test_noisy_steps_end_the_warm_up_soon():
    draw = np.random.default_rng(0)
    waits = []
    for _ in range(200):
        times = (100 + 5 * draw.standard_normal(10)).tolist()
        while not warm_up_done(times):
            times.append(100 + 5 * float(draw.standard_normal()))
        waits.append(len(times))
    assert np.quantile(waits, 0.95) <= 30


@given(times, st.integers(-20, 20))
def test_being_warm_does_not_depend_on_the_unit(series, power):
    assert warm_up_done(series) == warm_up_done([value * 2.0**power for value in series])
