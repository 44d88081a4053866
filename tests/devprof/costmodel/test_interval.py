import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.interval import calibrate, half_width


def groups(count, value=float):
    return {str(number): [value(number)] for number in range(1, count + 1)}


def test_nine_groups_give_the_largest_residual():
    assert half_width(groups(9)) == (9.0, "")


def test_nineteen_groups_give_the_eighteenth_residual():
    # ceil(0.9 * 20) of 19.
    assert half_width(groups(19)) == (18.0, "")


def test_sign_does_not_matter():
    assert half_width(groups(19, lambda number: -float(number)))[0] == 18.0


def test_too_few_groups_inflate_the_largest_residual_and_say_so():
    width, note = half_width(groups(4))
    assert width == pytest.approx(4.0 * math.sqrt(9 / 4))
    assert note == "4 groups: largest residual times 1.50"


def test_a_big_group_does_not_dominate():
    residuals = {str(number): [1.0] for number in range(19)} | {"big": [0.01] * 1000}
    assert half_width(residuals)[0] == 1.0


def test_widths_use_their_own_residuals():
    widths = calibrate(
        groups(9, lambda n: n / 100),
        groups(9, lambda n: n / 50),
        groups(9, lambda n: n / 10),
        groups(9, lambda n: n / 200),
    )
    assert (widths.known_pair, widths.known_family, widths.new_family) == pytest.approx((0.09, 0.18, 0.9))
    assert widths.note == ""
    assert widths.of("new-family") == widths.new_family


def test_one_family_only_widens_threefold_and_says_so():
    widths = calibrate({}, groups(9, lambda n: n / 50), {}, {})
    assert widths.new_family == pytest.approx(0.54)
    assert "three times the width of known-family" in widths.note


def test_without_any_residual_a_factor_of_three_is_assumed_and_said():
    widths = calibrate({}, {}, {}, {})
    assert widths.known_pair == widths.new_family == math.log(3)
    assert "factor of three either way is assumed" in widths.note


def test_few_families_never_promise_a_narrow_interval():
    widths = calibrate({}, {}, groups(3, lambda n: n / 100), {})
    assert widths.new_family == 0.4
    assert "at least 0.4 with fewer than 9 families" in widths.note


def test_without_two_batch_sizes_a_known_pair_is_as_wide_as_its_family():
    widths = calibrate({}, groups(9, lambda n: n / 100), groups(9, lambda n: n / 10), {})
    assert widths.known_pair == pytest.approx(0.09)
    assert "known-pair: no pair has two batch sizes" in widths.note


residuals = st.dictionaries(st.text(max_size=3), st.lists(st.floats(-2, 2), min_size=1, max_size=4), max_size=12)


@given(residuals, residuals, residuals, residuals)
def test_widths_never_shrink_with_less_knowledge(pairs, models, families, between):
    widths = calibrate(pairs, models, families, between)
    assert 0 <= widths.between <= widths.known_pair <= widths.known_family <= widths.new_family


def test_between_measured_batch_sizes_residuals_of_three_sizes_decide():
    widths = calibrate(groups(9, lambda n: n / 10), {}, {}, groups(9, lambda n: n / 100))
    assert (widths.between, widths.known_pair) == pytest.approx((0.09, 0.9))


def test_few_models_at_three_batch_sizes_never_promise_a_narrow_interval_between_them():
    for few in ({}, {"one": [0.01]}):
        widths = calibrate(groups(9, lambda n: n / 10), {}, {}, few)
        assert widths.between == 0.35
        assert "between batch sizes: at least 0.35 with fewer than 9 models at three sizes" in widths.note
    assert calibrate(groups(9, lambda n: n / 100), {}, {}, {}).between == pytest.approx(0.09)
