from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.records import RoundLog
from devprof.report.rounds import DeviceTime, Span, choose_rounds, device_time, natural_key, spans


def log(
    client="a", outcome="used", *, number=1, sent=0.0, finished=10.0, end=10.0, strategy="s", **changes
) -> RoundLog:
    values = {"download_s": 1.0, "startup_s": 2.0, "train_s": 5.0, "upload_s": 2.0} | changes
    return RoundLog(strategy, number, client, "pi", "cpu", outcome, None, sent, finished, end, **values)


def test_phases_follow_each_other_from_the_sending_on():
    assert spans(log(sent=100.0, finished=110.0)) == [
        Span("download", 100.0, 101.0),
        Span("start-up", 101.0, 103.0),
        Span("compute", 103.0, 108.0),
        Span("upload", 108.0, 110.0),
    ]


def test_unexplained_time_before_known_transfers_is_earlier_work():
    assert spans(log(finished=14.0))[:2] == [Span("still busy", 0.0, 4.0), Span("download", 4.0, 5.0)]


def test_unrecorded_transfers_share_the_rest():
    found = spans(log(finished=11.0, download_s=None, upload_s=None))
    assert [(span.phase, span.end_s - span.start_s) for span in found] == [
        ("download", 2.0),
        ("start-up", 2.0),
        ("compute", 5.0),
        ("upload", 2.0),
    ]


def test_client_that_never_answered_occupies_its_round():
    lost = log(outcome="missing", finished=None, end=30.0, download_s=None, startup_s=None, train_s=None, upload_s=None)
    assert spans(lost) == [Span("not itemised", 0.0, 30.0)]


def test_device_time_is_exact():
    logs = [
        log("a", finished=10.0, end=20.0),
        log("b", "late", finished=28.0, end=20.0, train_s=23.0),
        log("c", finished=20.0, end=20.0, train_s=15.0),
    ]
    # b works for 20 of its 28 seconds before the run ends; a idles for 10.
    assert device_time(logs) == (DeviceTime("s", compute_s=20.0, overhead_s=10.0, wasted_s=20.0, idle_s=10.0),)


def test_waiting_for_earlier_work_is_not_counted_twice():
    logs = [
        log("a", "late", finished=14.0, train_s=9.0),
        log("a", number=2, sent=10.0, finished=24.0, end=24.0),
    ]
    assert device_time(logs) == (DeviceTime("s", compute_s=5.0, overhead_s=5.0, wasted_s=14.0, idle_s=0.0),)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["used", "partial", "late", "missing", "error"]),
            *([st.none() | st.floats(0, 50)] * 4),
            st.none() | st.floats(0, 300),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_no_time_is_lost_or_invented(rows):
    logs = []
    for index, (outcome, download, startup, train, upload, extra) in enumerate(rows):
        known = sum(value or 0.0 for value in (download, startup, train, upload))
        finished = None if extra is None else known + extra
        phases = {"download_s": download, "startup_s": startup, "train_s": train, "upload_s": upload}
        logs.append(log(f"c{index}", outcome, finished=finished, end=100.0, **phases))
        found = spans(logs[-1])
        assert all(a.end_s == pytest.approx(b.start_s) for a, b in itertools.pairwise(found))
        assert all(span.end_s >= span.start_s for span in found)
    (account,) = device_time(logs)
    assert min(dataclasses.astuple(account)[1:]) >= 0
    assert account.total_s == pytest.approx(100.0 * len(logs))


def test_last_common_complete_round_is_chosen():
    logs = [log(number=n, strategy=s) for s, last in (("x", 3), ("y", 5)) for n in range(1, last + 1)]
    assert choose_rounds(logs) == {"x": 3, "y": 3}
    logs[2] = dataclasses.replace(logs[2], outcome="late", finished_s=None)
    assert choose_rounds(logs) == {"x": 2, "y": 2}


def test_asked_round_falls_back_to_the_last_of_a_strategy_without_it():
    logs = [log(number=n, strategy=s) for s, last in (("x", 3), ("y", 5)) for n in range(1, last + 1)]
    assert choose_rounds(logs, 5) == {"x": 3, "y": 5}
    assert choose_rounds([]) == {}


def test_natural_order_of_names():
    assert sorted(["10x", "2.5x", "1x"], key=natural_key) == ["1x", "2.5x", "10x"]
    assert sorted(["client 10", "client 2"], key=natural_key) == ["client 2", "client 10"]
    assert sorted(["7", "a", ""], key=natural_key)
