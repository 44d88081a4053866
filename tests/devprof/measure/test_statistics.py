import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.measure.checks import Warn, check_run
from devprof.measure.statistics import is_steady, median_interval, quantile, summarize

times = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=200)


def test_figures_of_a_known_series():
    figures = summarize([float(value) for value in range(1, 102)])
    assert (figures.median, figures.mean, figures.p05, figures.p95, figures.mad) == (51, 51, 6, 96, 25)
    # Ranks 41 and 61 of 101 by the binomial distribution, one wider on each side.
    assert (figures.ci_low, figures.ci_high) == (40, 62)


@pytest.mark.parametrize("series", [[], [1.0, 0.0], [1.0, -2.0]])
def test_a_series_that_cannot_be_is_refused(series):
    with pytest.raises(ValueError, match="non-empty and positive"):
        summarize(series)


@given(times)
def test_figures_are_ordered(series):
    figures = summarize(series)
    assert min(series) <= figures.p05 <= figures.p95 <= max(series)
    assert figures.ci_low <= figures.median <= figures.ci_high
    assert figures.median == median(series)


@given(times, st.floats(0, 1))
def test_a_quantile_lies_in_the_series(series, q):
    ordered = sorted(series)
    assert ordered[0] <= quantile(ordered, q) <= ordered[-1] * (1 + 1e-12)


def test_the_interval_covers_the_median_as_often_as_it_says():
    draw = random.Random(1)
    hits = 0
    for _ in range(2000):
        low, high = median_interval(sorted(draw.lognormvariate(0, 1) for _ in range(40)))
        hits += low <= 1.0 <= high
    assert 0.95 <= hits / 2000 <= 0.99


@pytest.mark.parametrize(
    ("series", "steady"), [([1.0] * 7, None), ([1.0] * 20, True), ([1.0] * 10 + [1.2] * 10, False)]
)
def test_a_run_whose_halves_differ_is_not_steady(series, steady):
    assert is_steady(series) is steady


def test_warnings_have_codes_and_say_what_to_try():
    figures = summarize([1.0, 2.0, 3.0])
    found = check_run(figures, 3, peak_reset=False)
    assert [warning.code for warning in found] == ["few-steps", "wide-interval", "peak-not-reset"]
    assert all("--" in warning.value or "kernel" in warning.value or "cool" in warning.value for warning in Warn)


def test_a_good_run_has_no_warnings():
    assert not check_run(summarize([1.0] * 30), 30, peak_reset=True)
