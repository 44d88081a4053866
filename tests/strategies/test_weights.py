from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.weights import tempered_weights


def test_gamma_zero_is_averaging_by_data():
    assert tempered_weights([10, 30], [1, 100], gamma=0.0, max_ratio=5.0) == [10, 30]


def test_gamma_one_gives_each_client_the_same_pull_per_sample():
    weights = tempered_weights([10, 30], [4, 8], gamma=1.0, max_ratio=100.0)
    assert weights[0] * 4 / 10 == pytest.approx(weights[1] * 8 / 30)


def test_gamma_between_is_the_geometric_middle():
    none, half, full = (tempered_weights([10, 30], [4, 8], gamma=g, max_ratio=100.0) for g in (0.0, 0.5, 1.0))
    assert half == pytest.approx([math.sqrt(a * b) for a, b in zip(none, full, strict=True)])


def test_ratio_is_capped_both_ways():
    weights = tempered_weights([1, 1], [1, 1000], gamma=1.0, max_ratio=5.0)
    assert weights == [5.0, pytest.approx(0.5005)]
    assert tempered_weights([1, 99], [1000, 1], gamma=1.0, max_ratio=5.0)[0] == 0.2


def test_unknown_work_counts_as_mean_work():
    assert tempered_weights([10, 20], [None, None], gamma=1.0, max_ratio=5.0) == [10.0, 20.0]
    assert tempered_weights([10, 20, 10], [4, None, 4], gamma=1.0, max_ratio=5.0) == [10.0, 20.0, 10.0]


@pytest.mark.parametrize(("gamma", "max_ratio"), [(-0.1, 5), (1.1, 5), (math.nan, 5), (0.5, 0.9), (0.5, math.inf)])
def test_tempering_out_of_range_is_refused(gamma, max_ratio):
    with pytest.raises(ValueError, match=r"gamma|max_ratio"):
        tempered_weights([1], [1], gamma=gamma, max_ratio=max_ratio)


def test_work_and_samples_must_be_positive():
    with pytest.raises(ValueError, match="samples"):
        tempered_weights([0], [1], gamma=0.5, max_ratio=5)
    with pytest.raises(ValueError, match="work"):
        tempered_weights([1], [0], gamma=0.5, max_ratio=5)


@given(
    st.lists(st.tuples(st.floats(1, 1e6), st.none() | st.floats(1e-3, 1e6)), max_size=20),
    st.floats(0, 1),
    st.floats(1, 100),
)
def test_weights_are_positive_and_within_the_cap(clients, gamma, max_ratio):
    samples, work = [size for size, _ in clients], [done for _, done in clients]
    for weight, size in zip(tempered_weights(samples, work, gamma=gamma, max_ratio=max_ratio), samples, strict=True):
        assert 0 < size / max_ratio * (1 - 1e-9) <= weight <= size * max_ratio * (1 + 1e-9)
