import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.base import (
    COLUMNS,
    OVERHEADS,
    UNITS,
    BaseModel,
    combine,
    overlap_of,
    parameter_shape,
    shares,
    work,
)
from devprof.costmodel.features import WORK

costs = st.lists(st.floats(0, 1e3), min_size=len(COLUMNS), max_size=len(COLUMNS)).map(tuple)
parts = st.lists(st.floats(1e-6, 1e3), min_size=len(COLUMNS), max_size=len(COLUMNS)).map(np.array)


def test_work_grows_with_the_batch_only_where_it_should(tracer):
    one = tracer("plain1")
    small, large = (dict(zip(COLUMNS, row, strict=True)) for row in work(one, np.array([1, 3])))
    assert large["forward_conv_macs"] == 3 * small["forward_conv_macs"] > 0
    for name in (*OVERHEADS, "parameters", "trainable_parameters"):
        assert small[name] == large[name]
    assert (small["samples"], large["samples"], large["step"]) == (1, 3, 1)


def test_every_column_has_a_unit():
    assert UNITS["forward_conv_macs"] == "multiply-accumulate"
    assert {UNITS[name] for name in COLUMNS[len(WORK) :]} == {
        "parameter",
        "byte",
        "sample",
        "operator",
        "tensor",
        "step",
    }


@pytest.mark.parametrize(
    ("processor", "overlaps"), [(None, False), ("cpu", False), ("cuda", True), ("jetson-orin-gpu@15W", True)]
)
def test_accelerators_work_while_the_host_prepares(processor, overlaps):
    assert (overlap_of(processor) > 1) is overlaps


@given(parts)
def test_overlapping_parts_take_no_longer_than_their_sum_and_no_less_than_the_longest(seconds):
    one = seconds[None, :]
    total = combine(one, 1.5)[0]
    overhead = seconds[-len(OVERHEADS) :].sum()
    works = seconds.sum() - overhead
    assert max(works, overhead) * (1 - 1e-9) <= total <= (works + overhead) * (1 + 1e-9)
    assert combine(one, 1.0)[0] == pytest.approx(seconds.sum())


@pytest.mark.parametrize("overlap", [1.0, 1.5])
def test_shares_are_the_slopes_of_the_logarithm(overlap):
    seconds = np.random.default_rng(0).uniform(0.1, 1.0, (1, len(COLUMNS)))
    slopes = shares(seconds, overlap)[0]
    for column in (0, 20, len(COLUMNS) - 1):
        moved = seconds.copy()
        moved[0, column] *= 1.0001
        numeric = np.log(combine(moved, overlap) / combine(seconds, overlap))[0] / np.log(1.0001)
        assert slopes[column] == pytest.approx(numeric, rel=1e-3)
    assert slopes.sum() == pytest.approx(1.0)


@given(costs, st.sampled_from([1.0, 1.5]))
def test_predictions_never_fall_with_the_batch(tracer, seconds, overlap):
    steps = BaseModel(seconds, overlap).curve(tracer("cross3"), np.array([1, 2, 8, 1024]))
    assert (np.diff(steps) >= -1e-9 * steps[1:]).all()
    assert (steps >= 0).all()


@pytest.mark.parametrize("overlap", [1.0, 1.5])
def test_every_cost_hangs_on_the_scale_and_on_something_of_its_own(overlap):
    shape = parameter_shape(overlap)
    assert shape.matrix.shape == (len(COLUMNS), len(shape.sds))
    assert (shape.matrix[:, 0] == 1).all()
    assert np.linalg.matrix_rank(shape.matrix) == len(COLUMNS)
    assert (shape.own_sds < shape.sds).all()


def test_a_base_is_a_sum(tracer):
    base = BaseModel(tuple(float(number) for number in range(len(COLUMNS))))
    one = tracer("thin2")
    expected = work(one, np.array([7])) @ np.arange(len(COLUMNS))
    assert base.curve(one, np.array([7])) == pytest.approx(expected)
