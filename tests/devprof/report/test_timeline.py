from __future__ import annotations

from devprof.records import RoundLog
from devprof.report.timeline import MOST_CLIENTS, timeline


def log(client, outcome="used", *, number=1, sent=0.0, finished=10.0, end=10.0, device="pi", **changes) -> RoundLog:
    values = {"download_s": 1.0, "startup_s": 2.0, "train_s": 5.0, "upload_s": 2.0} | changes
    return RoundLog("s", number, client, device, "cpu", outcome, None, sent, finished, end, **values)


def bars_of(shown, label):
    key = next(key for key, text in shown.labels.items() if text == label)
    return [(bar["phase"], bar["start_s"], bar["end_s"]) for bar in shown.bars if bar["row"] == key]


def test_times_count_from_the_start_of_the_round_and_idle_fills_it():
    shown = timeline([log("a", sent=100.0, finished=110.0, end=130.0)])
    assert bars_of(shown, "a · pi") == [
        ("download", 0.0, 1.0),
        ("start-up", 1.0, 3.0),
        ("compute", 3.0, 8.0),
        ("upload", 8.0, 10.0),
        ("idle", 10.0, 30.0),
    ]
    assert shown.headings[0]["detail"] == "round 1: 30 s, 1 of 1 results used"


def test_late_work_is_marked_and_runs_past_the_end():
    shown = timeline([log("a"), log("b", "late", finished=18.0, train_s=13.0, deadline_s=10.0)])
    late = bars_of(shown, "b · pi")
    assert {phase for phase, _, _ in late} == {"unused work"}
    assert late[-1][2] == 18.0
    assert [(remark["text"], remark["at_s"]) for remark in shown.remarks] == [("late", 18.0)]


def test_client_that_was_not_asked_is_idle():
    shown = timeline([log("a"), log("b"), log("a", number=2, sent=10.0, finished=20.0, end=20.0)])
    assert bars_of(shown, "b · pi") == [("idle", 0.0, 10.0)]
    assert [remark["text"] for remark in shown.remarks] == ["not asked"]


def test_client_still_at_an_earlier_round_is_shown_at_work():
    logs = [
        log("a"),
        log("b", "late", finished=14.0, train_s=9.0),
        log("a", number=2, sent=10.0, finished=20.0, end=20.0),
    ]
    shown = timeline(logs)
    assert bars_of(shown, "b · pi") == [("unused work", 0.0, 2.0), ("unused work", 2.0, 4.0), ("idle", 4.0, 10.0)]
    assert [remark["text"] for remark in shown.remarks] == ["still at round 1"]


def test_limits_count_from_sending_and_from_receipt():
    shown = timeline([log("a", deadline_s=9.0, cutoff_s=7.0)])
    assert [(limit["limit"], limit["at_s"]) for limit in shown.limits] == [("deadline", 9.0), ("cut-off", 8.0)]


def test_far_time_out_does_not_squeeze_the_round():
    assert timeline([log("a", deadline_s=3600.0)]).limits == ()


def test_cut_work_says_how_far_it_came():
    shown = timeline([log("a", "partial", local_steps=40, steps_done=13)])
    assert [remark["text"] for remark in shown.remarks] == ["cut at 13 of 40 steps"]


def test_clients_are_grouped_by_device_in_natural_order():
    shown = timeline([log("c10", device="5x"), log("c2", device="5x"), log("c3", device="1x")])
    assert [label for label in shown.labels.values() if label] == ["c3 · 1x", "c2 · 5x", "c10 · 5x"]


def test_large_fleet_is_sampled_and_says_so():
    shown = timeline([log(f"c{i}", device=f"{i % 4}x") for i in range(100)])
    labels = [label for label in shown.labels.values() if label]
    assert len(labels) == len(set(labels)) == MOST_CLIENTS
    assert shown.hidden == 80
    assert {label.split()[-1] for label in labels} == {"0x", "1x", "2x", "3x"}
