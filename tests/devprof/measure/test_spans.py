"""When the parts of a run were: what a child stamps, shows and says."""

import dataclasses
import json
import os

import pytest

from devprof.errors import MeasureError
from devprof.measure import pattern, spans
from devprof.measure.pattern import PART_S, pattern_s, show_pattern
from devprof.measure.protocol import Finished, MemoryPeaks, WindowCounts, decode_event, encode
from devprof.measure.rows import finished_columns
from devprof.measure.runspans import RunSpans
from devprof.measure.spans import Spans

S = 10**9


class Clock:
    """A clock that only sleeping and steps move."""

    def __init__(self):
        self.now = 100 * S

    def monotonic_ns(self):
        return self.now

    def monotonic(self):
        return self.now / S

    def time_ns(self):
        return self.now + 10**18

    def sleep(self, seconds):
        self.now += round(seconds * S)

    def step(self, seconds):
        def step():
            self.sleep(seconds)

        return step


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(spans, "time", clock)
    monkeypatch.setattr(pattern, "time", clock)
    return clock


def unheard(_edge):
    raise AssertionError("nobody listens without a meter")


def test_without_a_meter_spans_are_stamped_and_nothing_is_said(clock):
    kept = Spans(unheard, None)
    kept.idle("idle-before", 2.0)
    kept.idle("none", 0.0)
    with kept.span("window"):
        clock.sleep(5.0)
        assert kept.enough("window")
    found = kept.finish()
    assert found.spans_ns == {"idle-before": [100 * S, 102 * S], "window": [102 * S, 107 * S]}
    assert found.clocks_ns == [[100 * S, 10**18 + 100 * S], [107 * S, 10**18 + 107 * S]]
    assert found.boot_id is None or len(found.boot_id) == 36


def test_with_a_meter_it_is_read_before_and_after_a_span_but_not_around_a_load(clock):
    read_end, write_end = os.pipe()
    said = []

    def send(edge):
        said.append(edge)
        os.write(write_end, b"go\n")

    kept = Spans(send, read_end)
    with kept.stamped("warm-up"), kept.load("sync-before"):
        clock.sleep(1.0)
    assert said == []
    with kept.span("window"):
        clock.sleep(1.0)
    assert [(edge.kind, edge.t_ns) for edge in said] == [("read", 101 * S), ("read", 102 * S)]
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize(("step_s", "load_s"), [(0.3, 2.1), (1.0, 2.0), (5.0, 5.0)])
def test_a_pattern_is_idle_at_both_ends_and_loads_are_whole_steps(clock, step_s, load_s):
    kept = Spans(unheard, None)
    show_pattern("sync-before", clock.step(step_s), PART_S, kept)
    found = kept.finish()
    loads = found.loads_ns["sync-before"]
    assert [(end - begin) / S for begin, end in loads] == pytest.approx([load_s] * 3)
    begin, end = found.spans_ns["sync-before"]
    idle = [begin, *(moment for load in loads for moment in load), end]
    assert [(b - a) / S for a, b in zip(idle[::2], idle[1::2], strict=True)] == [2.0] * 4
    assert (end - begin) / S == pytest.approx(pattern_s(PART_S) + 3 * (load_s - 2.0))
    assert found.idle_ns == list(zip(idle[::2], idle[1::2], strict=True))


RUN = RunSpans(
    {"idle-before": [10, 20], "window": [30, 40], "idle-after": [50, 50]},
    {},
    [[0, 1000], [100, 1103]],
    "b0",
)
FINISHED = Finished([9], [5, 5], [], False, False, MemoryPeaks(reset=True), WindowCounts(), RUN)


def test_spans_go_through_pipe_and_column_and_come_back():
    assert decode_event(encode(FINISHED)) == FINISHED
    column = finished_columns(FINISHED, throttled=None, cool_enough=True)["spans"]
    assert RunSpans.from_json(column) == RUN
    assert json.loads(column)["spans_ns"]["window"] == [30, 40]


def test_a_run_without_a_window_has_no_column():
    nothing = dataclasses.replace(FINISHED, spans=RunSpans())
    assert finished_columns(nothing, throttled=None, cool_enough=True)["spans"] is None


def test_the_clock_of_the_day_is_that_of_the_nearer_pair():
    assert (RUN.utc_ns(10), RUN.utc_ns(90)) == (1010, 1093)
    assert RunSpans().utc_ns(0) is None


def test_spans_that_took_no_time_are_none():
    assert set(RUN.timed_ns) == {"idle-before", "window"}
    assert RUN.idle_ns == [(10, 20)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        RUN.to_json().replace("[30, 40]", "[30]"),
        RUN.to_json().replace("[30, 40]", "[30, 4.5]"),
        RUN.to_json().replace("[30, 40]", "null"),
    ],
)
def test_a_column_that_another_tool_wrote_is_named(text):
    with pytest.raises(MeasureError, match="column spans"):
        RunSpans.from_json(text)
