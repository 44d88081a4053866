import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.corrections import Correction, fit_correction


def test_one_batch_size_scales_the_base():
    assert fit_correction(1.0, [5.0], [10.0]) == Correction(2.0, 2.0)


def test_repeats_of_one_batch_size_scale_by_their_geometric_mean():
    assert fit_correction(0.0, [4.0, 4.0], [2.0, 8.0]).growing == pytest.approx(1.0)


def test_two_batch_sizes_overrule_a_wrong_base():
    # The base says 10 + 0.01 B, the truth is 1 + 0.1 B.
    correction = fit_correction(10.0, [10.04, 10.16], [1.4, 2.6])
    assert correction.apply(10.0, np.array([10.04, 10.64])) == pytest.approx([1.4, 7.4], rel=0.02)


def test_a_bend_of_the_base_is_kept():
    bases = np.array([2.0, 3.0, 7.0])
    correction = fit_correction(1.0, bases[:2], 2 * bases[:2])
    assert correction.apply(1.0, bases) == pytest.approx(2 * bases)


positive = st.floats(1e-4, 1e4)


@given(positive, st.lists(st.tuples(st.floats(0, 1e4), positive), min_size=1, max_size=6))
def test_a_corrected_cost_never_falls_and_is_never_negative(fixed, points):
    correction = fit_correction(fixed, [fixed + grown for grown, _ in points], [cost for _, cost in points])
    assert correction.fixed >= 0
    assert correction.growing >= 0
    assert np.isfinite([correction.fixed, correction.growing]).all()
    assert correction.apply(fixed, np.array([fixed + 1.0]))[0] > 0
