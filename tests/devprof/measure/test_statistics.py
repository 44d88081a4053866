import itertools
import math
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devprof.measure.statistics import quantile, summarize

times = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=80)


def test_figures_of_a_known_series():
    figures = summarize([float(value) for value in range(1, 102)])
    assert (figures.median, figures.mean, figures.minimum, figures.mad) == (51, 51, 1, 25)
    assert (figures.p05, figures.p25, figures.p75, figures.p95, figures.p99) == (6, 26, 76, 96, 100)
    assert (figures.iqr, figures.outliers) == (50, 0)
    assert figures.std == pytest.approx(math.sqrt(101 * 102 / 12))
    assert figures.cv == pytest.approx(figures.std / 51)
    assert figures.autocorrelation == pytest.approx(0.97, abs=0.01)
    assert figures.steady is False
    assert figures.change_points


def test_a_single_step_has_no_spread():
    figures = summarize([2.0])
    assert (figures.std, figures.cv, figures.autocorrelation, figures.steady) == (None, None, None, None)
    assert (figures.ci_low, figures.ci_high, figures.ci_method, figures.ci_half_width_rel) == (
        2,
        2,
        "order-statistics",
        0,
    )


@pytest.mark.parametrize("series", [[], [1.0, 0.0], [1.0, -2.0], [1.0, math.inf], [1.0, math.nan]])
def test_a_series_that_cannot_be_is_refused(series):
    with pytest.raises(ValueError, match="positive and finite"):
        summarize(series)


def test_outliers_are_counted_and_kept():
    series = [1.0, 1.01, 0.99, 1.02, 0.98] * 6
    figures = summarize([*series, 5.0, 6.0])
    assert figures.outliers == 2
    assert figures.mean > summarize(series).mean
    assert figures.median == pytest.approx(1.0, abs=0.011)


def test_without_spread_nothing_is_an_outlier():
    assert summarize([1.0] * 20 + [9.0]).outliers == 0


def test_a_huge_outlier_does_not_hide_that_steps_go_together():
    waves = [1.0 + 0.1 * math.sin(index / 4) for index in range(100)]
    spiked = [*waves[:50], 100.0, *waves[51:]]
    assert summarize(waves).autocorrelation > 0.9
    assert summarize(spiked).autocorrelation > 0.9


@pytest.mark.parametrize(
    ("series", "steady"), [([1.0] * 9, None), ([1.0] * 20, True), ([1.0] * 10 + [1.2] * 10, False)]
)
def test_a_run_that_changes_its_level_is_not_steady(series, steady):
    assert summarize(series).steady is steady


@given(times)
@settings(max_examples=60)
def test_figures_are_ordered(series):
    figures = summarize(series)
    ladder = [
        figures.minimum,
        figures.p05,
        figures.p25,
        figures.median,
        figures.p75,
        figures.p95,
        figures.p99,
        max(series),
    ]
    assert all(low <= high * (1 + 1e-12) for low, high in itertools.pairwise(ladder))
    assert figures.ci_low <= figures.median <= figures.ci_high
    assert figures.median == median(series)
    assert figures.autocorrelation is None or -1 <= figures.autocorrelation <= 1
    assert (figures.steady is False) == bool(figures.change_points)


@given(times, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_what_has_no_order_does_not_depend_on_it(series, draw):
    shuffled = draw.sample(series, len(series))
    one, other = summarize(series), summarize(shuffled)
    for name in ("median", "mean", "mad", "minimum", "p05", "p25", "p75", "p95", "p99", "outliers", "iqr"):
        assert getattr(one, name) == getattr(other, name)
    assert one.std == (None if other.std is None else pytest.approx(other.std))


@given(times, st.integers(-20, 20))
@settings(max_examples=60)
def test_figures_scale_with_the_unit(series, power):
    scale = 2.0**power
    one, other = summarize(series), summarize([value * scale for value in series])
    for name in ("median", "mean", "mad", "minimum", "p05", "p99", "ci_low", "ci_high"):
        assert getattr(other, name) == getattr(one, name) * scale
    for name in ("outliers", "autocorrelation", "change_points", "steady", "ci_method", "ci_half_width_rel"):
        assert getattr(other, name) == getattr(one, name)


@given(times, st.floats(0, 1))
def test_a_quantile_lies_in_the_series(series, q):
    ordered = sorted(series)
    assert ordered[0] <= quantile(ordered, q) <= ordered[-1] * (1 + 1e-12)


def test_whole_nanoseconds_are_a_series_too():
    steps = [1_000_000 + 1000 * (index % 7) for index in range(40)]
    in_seconds = summarize([step / 1e9 for step in steps])
    assert summarize(steps).median / 1e9 == pytest.approx(in_seconds.median)
    assert summarize(steps).change_points == in_seconds.change_points
