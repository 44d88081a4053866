from __future__ import annotations

import pytest

from devprof.report import Column, HeadlineTable, ReportContent


def test_table_refuses_a_row_of_the_wrong_length():
    with pytest.raises(ValueError, match="row 2 of the table has 1 cells for 2 columns"):
        HeadlineTable((Column("a"), Column("b", True)), (("x", "1"), ("y",)))


def test_target_must_be_an_accuracy():
    with pytest.raises(ValueError, match="between 0 and 1"):
        ReportContent("t", target_accuracy=80)


def test_strategies_keep_the_order_of_first_appearance(content):
    assert content.strategies == ("wait for all", "drop at deadline", "one tau per processor", "planned")
