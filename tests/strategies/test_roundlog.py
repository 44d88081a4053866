from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.records import RoundLog
from strategies.roundlog import wasted_work


def row(outcome: str, *parts: float | None) -> RoundLog:
    download_s, startup_s, train_s, upload_s = parts or (None,) * 4
    return RoundLog(
        strategy="s",
        server_round=1,
        client="c",
        device=None,
        processor=None,
        outcome=outcome,
        detail=None,
        sent_s=0.0,
        finished_s=None,
        round_end_s=1.0,
        download_s=download_s,
        startup_s=startup_s,
        train_s=train_s,
        upload_s=upload_s,
    )


def test_work_that_was_used_in_part_is_not_wasted():
    assert wasted_work([row("used", 1, 1, 7, 1), row("partial", 1, 1, 2, 1)]) == 0.0


def test_late_and_failed_work_is_wasted():
    rows = [row("used", 1, 1, 7, 1), row("late", 1, 1, 17, 1), row("error", 2, 2, 6, None)]
    assert wasted_work(rows) == pytest.approx(30 / 40)


def test_a_client_of_which_nothing_is_known_adds_nothing_by_itself():
    assert wasted_work([row("used", 1, 1, 7, 1), row("missing")]) == 0.0


def test_the_engines_account_counts_what_the_rows_do_not_know():
    assert wasted_work([row("used", 1, 1, 7, 1), row("missing")], device_s=40.0) == pytest.approx(0.75)


def test_without_work_nothing_is_wasted():
    assert wasted_work([]) == 0.0
    assert wasted_work([row("missing")], device_s=0.0) == 0.0


def test_an_account_smaller_than_the_used_work_is_refused():
    with pytest.raises(ValueError, match="device_s"):
        wasted_work([row("used", 1, 1, 7, 1)], device_s=5.0)


@given(st.lists(st.tuples(st.sampled_from(["used", "partial", "late", "error", "missing"]), st.floats(0, 1e6))))
def test_the_share_is_a_share(parts):
    rows = [row(outcome, 0.0, 0.0, seconds, 0.0) for outcome, seconds in parts]
    assert 0.0 <= wasted_work(rows) <= 1.0
    assert 0.0 <= wasted_work(rows, device_s=sum(seconds for _, seconds in parts)) <= 1.0
