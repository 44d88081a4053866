import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.metering import Metered, join_metered, read_metered

GOOD = {"energy_source": "rapl", "power_w": 5.0, "energy_per_step_j": 2.6, "idle_power_w": 2.0, "power_coverage": 1.0}


def test_a_good_row_is_read():
    assert read_metered(GOOD | {"energy_error_rel": 0.01}, 0.5) == (Metered(5.0, 2.6, 2.0, 0.01), "")


def test_power_and_energy_follow_from_each_other():
    assert read_metered(GOOD | {"energy_per_step_j": None}, 0.5)[0].energy_per_step_j == 2.5
    assert read_metered(GOOD | {"power_w": None}, 0.5)[0].power_w == 5.2


def test_columns_that_a_table_lacks_are_unknown():
    assert read_metered({"power_w": 5.0}, 0.5) == (Metered(5.0, 2.5, None, None), "")


@pytest.mark.parametrize(
    "row", [{}, {"energy_source": "none"}, GOOD | {"energy_source": "none"}, {"idle_power_w": 2.0}]
)
def test_a_row_without_a_meter_promises_nothing(row):
    assert read_metered(row, 0.5) == (None, "")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"power_coverage": 0.94}, "power_coverage is below 0.95"),
        ({"power_coverage": math.nan}, "power_coverage is below 0.95"),
        ({"power_w": 0.0}, "not positive"),
        ({"power_w": -3.0}, "not positive"),
        ({"energy_per_step_j": math.inf}, "not positive"),
        ({"power_w": "many"}, "not a number"),
    ],
)
def test_an_unusable_row_says_why(wrong, reason):
    metered, found = read_metered(GOOD | wrong, 0.5)
    assert metered is None
    assert reason in found


def test_impossible_side_figures_are_unknown():
    assert read_metered(GOOD | {"idle_power_w": -1.0, "energy_error_rel": math.inf}, 0.5)[0] == Metered(5.0, 2.6)


def test_repeats_are_their_medians():
    assert join_metered([None, Metered(1.0, 4.0, 0.5), Metered(3.0, 2.0), Metered(2.0, 9.0)]) == Metered(2.0, 4.0, 0.5)
    assert join_metered([None, None]) is None


numbers = st.none() | st.floats() | st.integers() | st.sampled_from(["", "5", "watts"])


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*GOOD, "energy_error_rel"], numbers)), st.floats(1e-6, 1e3))
def test_whatever_a_row_holds_power_and_energy_are_positive(row, step_s):
    metered, _ = read_metered(row, step_s)
    if metered is not None:
        assert 0 < metered.power_w < math.inf
        assert 0 < metered.energy_per_step_j < math.inf
        assert metered.idle_power_w is None or 0 <= metered.idle_power_w < math.inf
        assert metered.error_rel is None or 0 <= metered.error_rel < math.inf
