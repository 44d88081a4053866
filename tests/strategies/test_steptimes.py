from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.records import Link
from strategies.steptimes import ReplayedStepTimes, VirtualDevice


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_measured_batch_size_replays_its_own_times():
    times = ReplayedStepTimes({8: [0.1, 0.2, 0.3], 16: [1.0]})
    drawn = {times.sample(8, generator) for generator in [rng()] for _ in range(100)}
    assert drawn == {0.1, 0.2, 0.3}
    assert times.batch_sizes == (8, 16)


def test_the_factor_multiplies_every_time():
    times = ReplayedStepTimes({8: [0.1], 16: [0.2]}, factor=3.0)
    assert times.sample(8, rng()) == pytest.approx(0.3)
    assert times.sample(12, rng()) == pytest.approx(0.45)


@pytest.mark.parametrize(("batch_size", "seconds"), [(12, 0.7), (24, 1.3), (1, 0.15), (64, 3.3), (100, 5.1)])
def test_between_and_beyond_the_measured_sizes_time_is_affine(batch_size, seconds):
    times = ReplayedStepTimes({8: [0.5], 16: [0.9], 32: [1.7]})
    assert times.sample(batch_size, rng()) == pytest.approx(seconds)


def test_another_batch_size_has_the_relative_noise_of_the_nearest():
    times = ReplayedStepTimes({8: [0.8, 1.0, 1.2], 32: [4.0]})
    generator = rng()
    drawn = {round(times.sample(9, generator) / times.median_s(9), 9) for _ in range(100)}
    assert drawn == {0.8, 1.0, 1.2}


def test_a_step_below_the_smallest_size_is_never_free():
    times = ReplayedStepTimes({8: [0.1], 16: [1.0]})
    assert times.sample(2, rng()) == pytest.approx(0.025)


def test_time_never_falls_with_the_batch_size():
    times = ReplayedStepTimes({8: [1.0], 16: [0.5]})
    assert times.sample(12, rng()) == pytest.approx(1.0)
    assert times.median_s(64) >= times.median_s(16)


def test_a_single_measured_size_is_taken_as_proportional_and_says_so_once(caplog):
    times = ReplayedStepTimes({16: [0.8]})
    with caplog.at_level(logging.INFO):
        assert times.sample(4, rng()) == pytest.approx(0.2)
        assert times.sample(32, rng()) == pytest.approx(1.6)
    assert caplog.text.count("proportional") == 1


@pytest.mark.parametrize("samples", [{}, {8: []}, {8: [0.0]}, {8: [-1.0]}, {8: [float("nan")]}, {0: [1.0]}])
def test_without_usable_data_there_is_a_clear_error(samples):
    with pytest.raises(ValueError, match="step time"):
        ReplayedStepTimes(samples)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_a_factor_that_makes_no_sense_is_refused(factor):
    with pytest.raises(ValueError, match="factor"):
        ReplayedStepTimes({8: [1.0]}, factor)


def test_a_step_without_samples_is_refused():
    with pytest.raises(ValueError, match="batch_size"):
        ReplayedStepTimes({8: [1.0]}).sample(0, rng())


@given(
    samples=st.dictionaries(st.integers(1, 512), st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=5), min_size=1),
    batch_size=st.integers(1, 2048),
    seed=st.integers(0, 100),
)
def test_every_batch_size_has_a_positive_time_that_the_seed_determines(samples, batch_size, seed):
    times = ReplayedStepTimes(samples)
    drawn = times.sample(batch_size, rng(seed))
    assert 0 < drawn < float("inf")
    assert drawn == ReplayedStepTimes(samples).sample(batch_size, rng(seed))


@pytest.mark.parametrize("startup_s", [-1.0, float("nan"), float("inf")])
def test_a_device_cannot_start_before_it_is_asked(startup_s):
    with pytest.raises(ValueError, match="startup_s of pi"):
        VirtualDevice("pi", "cpu", Link(1, 1), startup_s, ReplayedStepTimes({8: [1.0]}))
