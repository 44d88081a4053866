from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.logfilter import LogFilter


@given(st.lists(st.floats(-20, 20), max_size=30), st.floats(0, 2))
def test_filter_stays_finite_and_between_what_it_saw(values, sd):
    believed = LogFilter.with_prior(0.0, sd)
    for value in values:
        believed.observe(value)
        assert 0 < believed.sd < 10
        assert min([0.0, *values]) - 1e-9 <= believed.mean <= max([0.0, *values]) + 1e-9


def test_a_value_within_the_guard_is_weighed_by_the_variances():
    believed = LogFilter(mean=0.0, variance=0.03, noise=0.01, drift=0.0)
    assert believed.observe(0.1) is True
    assert believed.mean == pytest.approx(0.075)
    assert believed.variance == pytest.approx(0.0075)


def test_a_noisier_observation_counts_less():
    believed = LogFilter(mean=0.0, variance=0.03, noise=0.01, drift=0.0)
    assert believed.observe(0.1, noise=0.03) is True
    assert believed.mean == pytest.approx(0.05)


def test_a_value_beyond_the_guard_moves_as_far_as_one_at_it_and_widens_nothing():
    believed = LogFilter(mean=0.0, variance=0.03, noise=0.01, drift=0.005, observations=3)
    assert believed.observe(100.0) is False
    assert believed.mean == pytest.approx(0.035 / 0.045 * 3 * math.sqrt(0.045))
    assert (believed.variance, believed.suspect) == (0.03, 100.0)


def test_a_second_value_that_agrees_is_believed():
    believed = LogFilter(mean=0.0, variance=0.01, noise=0.01, drift=0.0)
    assert [believed.observe(2.0), believed.observe(2.1)] == [False, False]
    assert believed.mean == pytest.approx(2.05)
    assert believed.suspect is None
