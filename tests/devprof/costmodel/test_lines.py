import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.lines import Line, fit_line


def test_a_line_is_affine_in_the_batch_size():
    assert Line(2.0, 0.5).at(4) == 4.0
    assert Line(2.0, 0.5).scaled(3.0) == Line(6.0, 1.5)


def test_one_batch_size_scales_the_base():
    assert fit_line(Line(1.0, 0.5), [8], [10.0]) == Line(2.0, 1.0)


def test_repeats_of_one_batch_size_scale_by_their_geometric_mean():
    line = fit_line(Line(0.0, 1.0), [4, 4], [2.0, 8.0])
    assert line.at(4) == pytest.approx(4.0)


def test_two_batch_sizes_overrule_a_wrong_base():
    line = fit_line(Line(10.0, 0.01), [4, 16], [1.4, 2.6])
    assert line.at(64) == pytest.approx(7.4, rel=0.02)
    assert line.at(4) == pytest.approx(1.4, rel=0.01)


positive = st.floats(1e-4, 1e4)


@given(positive, positive, st.lists(st.tuples(st.integers(1, 256), positive), min_size=1, max_size=6))
def test_a_line_never_falls_and_is_never_negative(fixed, per_sample, points):
    line = fit_line(Line(fixed, per_sample), [size for size, _ in points], [cost for _, cost in points])
    assert line.fixed >= 0
    assert line.per_sample >= 0
    assert np.isfinite([line.fixed, line.per_sample]).all()
    assert line.at(1) > 0
