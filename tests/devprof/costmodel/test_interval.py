import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.interval import Residuals, calibrate, half_width


def groups(count, value=float):
    return {str(number): [value(number)] for number in range(1, count + 1)}


def test_nineteen_groups_give_the_eighteenth_residual():
    # ceil(0.9 * 20) of 19.
    assert half_width(groups(19)) == (18.0, "")


def test_sign_does_not_matter():
    assert half_width(groups(19, lambda number: -float(number)))[0] == 18.0


def test_few_groups_give_the_interval_of_student_and_say_so():
    width, note = half_width(groups(4))
    # The root of the mean of 1, 4, 9 and 16; 2.132 of Student's distribution with four degrees of freedom.
    assert width == pytest.approx(math.sqrt(7.5) * 2.132 * math.sqrt(5 / 4))
    assert note == "4 groups: root mean square times 2.38"


@pytest.mark.parametrize("count", [1, 2, 5, 9, 18])
def test_the_interval_of_student_covers_what_it_says_of_normal_groups(count):
    random = np.random.default_rng(count)
    values = random.normal(0, 0.2, (4000, count + 1))
    inside = [abs(row[-1]) <= half_width({str(n): [one] for n, one in enumerate(row[:-1])})[0] for row in values]
    assert 0.89 <= np.mean(inside) <= 0.96


def test_from_nine_groups_on_nothing_is_amiss():
    assert half_width(groups(8))[1] != ""
    assert half_width(groups(9))[1] == ""


def test_a_big_group_does_not_dominate():
    residuals = {str(number): [1.0] for number in range(19)} | {"big": [0.01] * 1000}
    assert half_width(residuals)[0] == 1.0


def test_widths_use_their_own_residuals():
    widths = calibrate(
        Residuals(
            between=groups(19, lambda n: n / 200),
            pairs=groups(19, lambda n: n / 100),
            kin=groups(19, lambda n: n / 75),
            models=groups(19, lambda n: n / 50),
            families=groups(19, lambda n: n / 10),
        )
    )
    found = (widths.between, widths.known_pair, widths.known_model, widths.known_family, widths.new_family)
    assert found == pytest.approx((0.09, 0.18, 0.24, 0.36, 1.8))
    assert widths.note == ""
    assert widths.of("new-family") == widths.new_family


def test_one_family_only_widens_threefold_and_says_so():
    widths = calibrate(Residuals(models=groups(19, lambda n: n / 50)))
    assert widths.new_family == pytest.approx(1.08)
    assert "three times the width of known-family" in widths.note


def test_without_any_residual_a_factor_of_three_is_assumed_and_said():
    widths = calibrate(Residuals())
    assert widths.known_pair == widths.known_model == widths.new_family == math.log(3)
    assert "factor of three either way is assumed" in widths.note


def test_few_families_never_promise_a_narrow_interval():
    widths = calibrate(Residuals(families=groups(3, lambda n: n / 100)))
    assert widths.new_family == 0.4
    assert "at least 0.4 with fewer than 9 families" in widths.note


def test_without_two_batch_sizes_a_known_pair_is_as_wide_as_its_family():
    widths = calibrate(Residuals(models=groups(19, lambda n: n / 100), families=groups(19, lambda n: n / 10)))
    assert widths.known_pair == pytest.approx(0.18)
    assert "known-pair: no pair has two batch sizes" in widths.note


def test_a_model_known_nowhere_else_is_as_uncertain_as_its_family():
    assert calibrate(Residuals(models=groups(19, lambda n: n / 100))).known_model == pytest.approx(0.18)


residuals = st.dictionaries(st.text(max_size=3), st.lists(st.floats(-2, 2), min_size=1, max_size=4), max_size=12)


@given(residuals, residuals, residuals, residuals, residuals)
def test_widths_never_shrink_with_less_knowledge(pairs, kin, models, families, between):
    widths = calibrate(Residuals(between, pairs, kin, models, families))
    assert 0 <= widths.between <= widths.known_pair <= widths.known_family <= widths.new_family
    assert widths.known_model <= widths.known_family


def test_between_measured_batch_sizes_residuals_of_three_sizes_decide():
    widths = calibrate(Residuals(groups(19, lambda n: n / 100), groups(19, lambda n: n / 10)))
    assert (widths.between, widths.known_pair) == pytest.approx((0.18, 1.8))


def test_few_models_at_three_batch_sizes_never_promise_a_narrow_interval_between_them():
    for few in ({}, {"one": [0.01]}):
        widths = calibrate(Residuals(few, groups(19, lambda n: n / 10)))
        assert widths.between == 0.35
        assert "between batch sizes: at least 0.35 with fewer than 9 models at three sizes" in widths.note
    assert calibrate(Residuals(pairs=groups(19, lambda n: n / 100))).between == pytest.approx(0.18)
