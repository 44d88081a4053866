from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.plan.affine import estimate_from_points, fit_line


def test_line_through_two_points_is_exact():
    constant_s, per_sample_s = fit_line({8: 0.5 + 8 * 0.02, 32: 0.5 + 32 * 0.02})
    assert constant_s == pytest.approx(0.5)
    assert per_sample_s == pytest.approx(0.02)


def test_line_never_has_a_negative_constant():
    constant_s, per_sample_s = fit_line({8: 0.1, 16: 0.4})
    assert constant_s == 0.0
    assert per_sample_s > 0


def test_line_never_falls_with_the_batch_size():
    constant_s, per_sample_s = fit_line({8: 0.4, 16: 0.1})
    assert per_sample_s == 0.0
    assert 0.1 < constant_s < 0.4


def test_one_point_is_no_line():
    with pytest.raises(ValueError, match="two batch sizes"):
        fit_line({8: 0.1})


def test_known_batch_size_is_returned_as_it_was_observed():
    estimate = estimate_from_points({8: 0.1, 16: 0.15}, 16, log_sd=0.0)
    assert (estimate.step_s, estimate.step_s_lo, estimate.step_s_hi) == (0.15, 0.15, 0.15)
    assert estimate.basis == "observed"


def test_one_point_spans_constant_and_proportional_time():
    larger = estimate_from_points({8: 0.1}, 16, log_sd=0.0)
    assert (larger.step_s_lo, larger.step_s, larger.step_s_hi) == pytest.approx((0.1, 0.15, 0.2))
    smaller = estimate_from_points({8: 0.1}, 4, log_sd=0.0)
    assert (smaller.step_s_lo, smaller.step_s, smaller.step_s_hi) == pytest.approx((0.05, 0.075, 0.1))


def test_interval_widens_away_from_the_points():
    points = {8: 0.1, 16: 0.2}
    near, far = (estimate_from_points(points, size, log_sd=0.05) for size in (20, 256))
    assert far.step_s_hi / far.step_s > near.step_s_hi / near.step_s


@pytest.mark.parametrize("points", [{}, {8: 0.0}, {8: math.nan}, {0: 1.0}])
def test_nonsense_points_are_refused(points):
    with pytest.raises(ValueError, match="step times must be positive"):
        estimate_from_points(points, 8, log_sd=0.1)


def test_batch_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="batch_size"):
        estimate_from_points({8: 0.1}, 0, log_sd=0.1)


@given(
    st.dictionaries(st.integers(1, 512), st.floats(1e-4, 1e3), min_size=1, max_size=6),
    st.integers(1, 1024),
    st.floats(0, 1),
)
def test_estimates_are_positive_and_ordered(points, batch_size, log_sd):
    estimate = estimate_from_points(points, batch_size, log_sd=log_sd)
    assert 0 < estimate.step_s_lo <= estimate.step_s <= estimate.step_s_hi < math.inf
