from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.metrics import finite_metrics, is_finite, metric_shape


@pytest.mark.parametrize("value", [0, -1.5, 10**300, [], [1, 2.0]])
def test_numbers_and_lists_of_them_are_finite(value):
    assert is_finite(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, [1.0, math.nan], "1", None, True, b"1"])
def test_everything_else_is_not(value):
    assert not is_finite(value)


def test_shape_is_names_and_lengths_without_the_weight():
    assert metric_shape({"n": 3, "loss": 0.5, "per-class": [1, 2]}, "n") == {("loss", None), ("per-class", 2)}
    assert metric_shape({"loss": 0.5}, "n") != metric_shape({"loss": [0.5]}, "n")


def test_good_metrics_stay_as_they_are():
    given_metrics = [{"loss": 0.5, "hits": [1, 2]}, {"loss": 2, "hits": [0, 0]}]
    made, touched = finite_metrics(given_metrics, [1.0, 2.0])
    assert (made, touched) == (given_metrics, [])
    assert made[0] is not given_metrics[0]


def test_value_that_is_none_drops_out_of_the_average():
    made, touched = finite_metrics([{"loss": 1.0}, {"loss": math.nan}, {"loss": 4.0}], [1.0, 7.0, 2.0])
    assert made == [{"loss": 1.0}, {"loss": pytest.approx(3.0)}, {"loss": 4.0}]
    assert touched == ["loss"]


def test_lists_drop_out_whole():
    made, _ = finite_metrics([{"hits": [1, 2]}, {"hits": [math.inf, 5]}], [3.0, 1.0])
    assert made == [{"hits": [1, 2]}, {"hits": [1.0, 2.0]}]


def test_metric_that_nobody_has_is_dropped():
    made, touched = finite_metrics([{"loss": math.nan, "a": 1}, {"loss": math.inf, "a": 2}], [1.0, 1.0])
    assert (made, touched) == ([{"a": 1}, {"a": 2}], ["loss"])


def test_no_replies_have_no_metrics():
    assert finite_metrics([], []) == ([], [])


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, 10**400]), st.floats(1e-3, 1e3)),
        min_size=1,
        max_size=8,
    )
)
def test_average_is_that_of_those_who_gave_a_number(clients):
    weights = [weight for _, weight in clients]
    made, _ = finite_metrics([{"loss": value} for value, _ in clients], weights)
    good = [(value, weight) for value, weight in clients if is_finite(value)]
    if not good:
        assert made == [{}] * len(clients)
        return
    average = sum(own["loss"] * weight for own, weight in zip(made, weights, strict=True)) / sum(weights)
    assert average == pytest.approx(sum(v * w for v, w in good) / sum(w for _, w in good), abs=1e-6)
