import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.recent import Recent


def seen(*values):
    recent = Recent()
    for value in values:
        recent.add(value)
    return recent


def test_nothing_seen_is_nothing():
    recent = Recent()
    assert not recent
    assert (recent.centre_s, recent.sd_s) == (0.0, 0.0)


def test_one_slow_start_is_not_the_rule():
    assert seen(2.0, 2.0, 30.0).centre_s == 2.0
    assert seen(*[2.0] * 7, 30.0).sd_s < 0.5


def test_the_last_eight_count():
    assert seen(*[100.0] * 5, *[2.0] * 8).centre_s == 2.0


def test_spread_shrinks_as_values_agree():
    spreads = [seen(*[4.0] * count).sd_s for count in (1, 3, 5, 8)]
    assert spreads[0] == pytest.approx(1.0)
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] >= 0.2


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_centre_lies_among_the_values_and_the_spread_is_positive(values):
    recent = seen(*values)
    assert min(values) <= recent.centre_s <= max(values)
    assert recent.sd_s > 0
