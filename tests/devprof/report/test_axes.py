from __future__ import annotations

import itertools

import altair as alt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.report import axes

GIB = 1 << 30


def test_log_ticks_are_one_two_five():
    assert axes.log_ticks(0.02, 1.0) == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1.0])


def test_log_ticks_thin_out_over_many_decades():
    assert axes.log_ticks(0.0005, 20.0) == pytest.approx([0.001, 0.01, 0.1, 1.0, 10.0])


def test_memory_ticks_are_binary():
    assert axes.bytes_ticks(1.6 * GIB) == [GIB // 4 * i for i in range(8)]


@given(st.floats(1, 1e15))
def test_memory_ticks_cover_the_value_in_few_steps(high):
    ticks = axes.bytes_ticks(high)
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 9
    assert len({b - a for a, b in itertools.pairwise(ticks)}) == 1


@pytest.mark.parametrize(
    ("high_s", "title", "ticks"),
    [
        (0.5, "t (s)", [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (76, "t (s)", [0, 10, 20, 30, 40, 50, 60, 70]),
        (930, "t (min)", [0, 120, 240, 360, 480, 600, 720, 840]),
        (7200, "t (h)", [0, 1800, 3600, 5400, 7200]),
    ],
)
def test_time_axis_uses_the_unit_a_person_would(high_s, title, ticks):
    axis, values = axes.time_axis(alt, high_s, "t")
    assert axis.to_dict()["title"] == title
    assert values == pytest.approx(ticks)


@given(st.floats(1e-4, 1e9))
def test_time_axis_never_has_a_crowd_of_ticks(high_s):
    _, values = axes.time_axis(alt, high_s, "t")
    assert 1 <= len(values) <= 22
    assert values[0] == 0
    assert values[-1] <= high_s * 1.001


def test_row_axis_keeps_keys_apart_where_labels_repeat():
    axis = axes.row_axis(alt, {"r0": "same", "r1": "same"}).to_dict()
    assert axis["scale"]["domain"] == ["r0", "r1"]
    assert '"r1": "same"' in axis["axis"]["labelExpr"]
