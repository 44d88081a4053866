import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.store.intervals import _left_out, process_interval

medians = st.floats(1e-6, 1e4)


def test_one_process_has_its_own_interval():
    assert process_interval([1.0], [(0.9, 1.2)]) == (0.9, 1.2, "one process")
    assert process_interval([1.0], []) == (None, None, "one process")


def test_two_processes_span_both_of_their_intervals():
    assert process_interval([1.0, 2.0], [(0.9, 1.2), (1.9, 2.2)]) == (0.9, 2.2, "range of two processes")
    assert process_interval([1.0, 2.0], [(0.9, 1.2)]) == (None, None, "range of two processes")


def test_three_processes_have_students_interval_of_their_logarithms():
    low, high, basis = process_interval([1.0, math.e, math.e**2], [])
    # Logarithms 0, 1, 2: mean 1, standard deviation 1.
    assert math.log(low) == pytest.approx(1 - 4.303 / math.sqrt(3))
    assert math.log(high) == pytest.approx(1 + 4.303 / math.sqrt(3))
    assert basis == "t of 3 processes"


def test_many_processes_have_order_statistics():
    assert process_interval([6.0, 1.0, 3.0, 2.0, 5.0, 4.0], []) == (1.0, 6.0, "order statistics of 6 processes")
    assert process_interval([float(value) for value in range(9)], [])[:2] == (1.0, 7.0)


@pytest.mark.parametrize("count", [6, 7, 8, 9, 20, 101, 1500])
def test_the_level_is_just_reached(count):
    def missed(left_out):
        return 2 * sum(math.comb(count, rank) for rank in range(left_out + 1)) / 2**count

    assert missed(_left_out(count)) <= 0.05 < missed(_left_out(count) + 1)


@given(st.lists(medians, min_size=3, max_size=12))
def test_an_interval_of_processes_holds_their_median_and_is_positive(values):
    low, high, _ = process_interval(values, [])
    middle = sorted(values)[len(values) // 2]
    assert 0 < low * (1 - 1e-9) <= middle <= high * (1 + 1e-9)
