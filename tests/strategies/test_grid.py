from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from strategies.clocks import WallClock
from strategies.compat import NodeInfo, empty_run, set_message_id, set_source_node, task_identity
from strategies.grid import DeadlineGrid
from strategies.telemetry import RECORD_NAME, Telemetry


@pytest.fixture(autouse=True)
def identity():
    with task_identity():
        yield


class TickClock:
    """A clock that sleeps exactly as long as it is told, whatever arrives."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def now_s(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds < math.inf
        self.naps.append(seconds)
        self.now += seconds


def answer(message: Message, told: Telemetry | None = None, **record) -> Message:
    content = {"arrays": ArrayRecord([np.ones(2)]), "metrics": MetricRecord({"num-examples": 8})}
    if told is not None:
        content[RECORD_NAME] = ConfigRecord({**told.to_record(), **record})
    return Message(RecordDict(content), reply_to=message)


def account(steps: int = 4, *, step_s: float = 0.1, cut: bool = False) -> Telemetry:
    return Telemetry("pi-4", "cpu", steps, steps * 8, 8, steps * step_s, 0.5, steps * step_s + 0.5, cut)


def superlink_error(message: Message, code: int = 5) -> Message:
    reply = Message(Error(code=code, reason="node unavailable"), reply_to=message)
    set_source_node(reply, 1)
    return reply


@dataclass
class Behaviour:
    """When a node answers, and with what; no delay means never."""

    delay_s: float | None = 1.0
    reply: object = staticmethod(lambda message: answer(message, account(cut=False)))


@dataclass(eq=False)
class ScriptedGrid(Grid):
    """A grid whose nodes answer after scripted delays, and which refuses messages to some nodes."""

    nodes: dict[int, Behaviour]
    tick: TickClock = field(default_factory=TickClock)
    refused: frozenset[int] = frozenset()
    push_s: float = 0.0
    pushed: list[Message] = field(default_factory=list)
    pulls: list[list[str]] = field(default_factory=list)
    due: dict[str, tuple[float, Message]] = field(default_factory=dict)
    names_none: bool = True
    run_set: object = None

    def set_run(self, run):
        self.run_set = run

    @property
    def run(self):
        return self.run_set

    def create_message(self, *args, **kwargs):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self.nodes)

    def push_messages(self, messages):
        assert isinstance(messages, list)
        self.tick.now += self.push_s
        ids = []
        for message in messages:
            node = message.metadata.dst_node_id
            set_message_id(message, f"m{len(self.pushed)}")
            self.pushed.append(message)
            if node in self.refused:
                ids += [None] if self.names_none else []
                continue
            ids.append(message.metadata.message_id)
            behaviour = self.nodes[node]
            if behaviour.delay_s is not None:
                at = self.tick.now + behaviour.delay_s
                self.due[message.metadata.message_id] = (at, behaviour.reply(message))
        return ids

    def pull_messages(self, message_ids):
        self.pulls.append(list(message_ids))
        there = [key for key in self.pulls[-1] if key in self.due and self.due[key][0] <= self.tick.now + 1e-9]
        return [self.due.pop(key)[1] for key in there]

    def send_and_receive(self, messages, *, timeout=None):
        raise AssertionError("the deadline grid does its own waiting")


def train(node: int, kind: str = "train", **config) -> Message:
    arrays = ArrayRecord([np.zeros(2)])
    return Message(RecordDict({"arrays": arrays, "config": ConfigRecord(config)}), node, kind)


def make(nodes: dict[int, Behaviour], *, scripted: dict | None = None, **options) -> tuple[DeadlineGrid, ScriptedGrid]:
    inner = ScriptedGrid(nodes, **(scripted or {}))
    return DeadlineGrid(inner, **{"clock": inner.tick, "poll_s": 0.25, **options}), inner


def test_all_replies_are_returned_as_soon_as_they_are_there():
    grid, inner = make({5: Behaviour(1.0), 6: Behaviour(2.0)}, deadline=lambda _: 60.0)
    replies = grid.send_and_receive([train(6), train(5)])
    assert [reply.metadata.src_node_id for reply in replies] == [5, 6]
    assert inner.tick.now == 2.0


def test_a_generator_of_messages_reaches_flower_as_a_list():
    grid, inner = make({5: Behaviour()})
    grid.send_and_receive(train(node) for node in [5])
    grid.push_messages(train(node) for node in [5])
    assert len(inner.pushed) == 2


def test_no_messages_means_no_waiting():
    grid, inner = make({5: Behaviour()})
    assert grid.send_and_receive([]) == []
    assert inner.pushed == []


def test_each_node_is_waited_for_until_its_own_deadline():
    limits = {5: 3.0, 6: 8.0}
    grid, inner = make(
        {5: Behaviour(5.0), 6: Behaviour(7.0)}, deadline=lambda message: limits[message.metadata.dst_node_id]
    )
    replies = grid.send_and_receive([train(5), train(6)])
    assert [reply.metadata.src_node_id for reply in replies] == [6]
    assert inner.tick.now == 7.0


def test_the_round_ends_exactly_at_the_last_deadline():
    grid, inner = make({5: Behaviour(None)}, deadline=lambda _: 1.1)
    assert grid.send_and_receive([train(5)]) == []
    assert inner.tick.now == pytest.approx(1.1, abs=1e-12)


def test_a_reply_at_the_deadline_is_in_time():
    grid, _ = make({5: Behaviour(3.0)}, deadline=lambda _: 3.0, poll_s=10.0)
    assert len(grid.send_and_receive([train(5)])) == 1


def test_the_timeout_bounds_every_deadline():
    grid, inner = make({5: Behaviour(None), 6: Behaviour(None)}, deadline=lambda _: 60.0)
    grid.send_and_receive([train(5), train(6)], timeout=4.0)
    assert inner.tick.now == 4.0
    assert [row.deadline_s for row in grid.round_logs] == [4.0, 4.0]


def test_the_deadline_counts_from_when_the_messages_were_handed_over():
    grid, inner = make({5: Behaviour(2.0)}, scripted={"push_s": 100.0}, deadline=lambda _: 3.0)
    assert len(grid.send_and_receive([train(5)])) == 1
    assert grid.round_logs[0].sent_s == 100.0
    assert inner.tick.now == 102.0


def test_a_message_without_a_deadline_is_waited_for():
    grid, inner = make({5: Behaviour(500.0)}, deadline=lambda _: None, poll_s=50.0)
    assert len(grid.send_and_receive([train(5)])) == 1
    assert grid.round_logs[0].deadline_s is None
    assert inner.tick.now == 500.0


@pytest.mark.parametrize("deadline_s", [-1.0, math.nan])
def test_a_deadline_that_makes_no_sense_is_refused_before_anything_is_sent(deadline_s):
    grid, inner = make({5: Behaviour()}, deadline=lambda _: deadline_s)
    with pytest.raises(ValueError, match="deadline for client 5"):
        grid.send_and_receive([train(5)])
    assert inner.pushed == []


def test_the_round_closes_when_enough_valid_replies_are_there():
    nodes = {
        5: Behaviour(1.0, superlink_error),
        6: Behaviour(2.0),
        7: Behaviour(3.0),
        8: Behaviour(4.0),
    }
    grid, inner = make(nodes, min_replies=2)
    replies = grid.send_and_receive([train(node) for node in nodes])
    assert [reply.metadata.src_node_id for reply in replies] == [5, 6, 7]
    assert inner.tick.now == 3.0
    assert grid.busy_nodes() == [8]


def test_too_many_errors_to_reach_the_minimum_still_end_the_round():
    grid, _ = make({5: Behaviour(1.0, superlink_error), 6: Behaviour(2.0)}, min_replies=2)
    assert len(grid.send_and_receive([train(5), train(6)])) == 2


def test_an_error_made_by_the_superlink_names_the_node_it_is_about():
    grid, _ = make({5: Behaviour(1.0, superlink_error)})
    reply = grid.send_and_receive([train(5)])[0]
    assert reply.metadata.src_node_id == 5
    row = grid.round_logs[0]
    assert (row.client, row.outcome, row.detail) == ("5", "error", "error 5: node unavailable")


def test_a_late_reply_is_never_returned_but_its_telemetry_is_told():
    heard = []
    grid, inner = make(
        {5: Behaviour(5.0), 6: Behaviour(1.0)},
        deadline=lambda _: 2.0,
        on_late=lambda node, told: heard.append((node, told)),
    )
    first = grid.send_and_receive([train(5), train(6)])
    assert [reply.metadata.src_node_id for reply in first] == [6]
    inner.tick.now = 10.0
    second = grid.send_and_receive([train(6)])
    assert [reply.metadata.src_node_id for reply in second] == [6]
    assert heard == [(5, account())] == grid.late_telemetry


def test_every_reply_is_told_as_it_is_pulled_late_ones_and_errors_too():
    told = []
    grid, inner = make(
        {5: Behaviour(5.0), 6: Behaviour(1.0), 7: Behaviour(1.5, superlink_error)},
        deadline=lambda _: 2.0,
        on_reply=lambda node, reply: told.append((inner.tick.now, node, reply.has_error())),
    )
    grid.send_and_receive([train(5), train(6), train(7)])
    inner.tick.now = 10.0
    grid.harvest_late()
    assert told == [(1.0, 6, False), (1.5, 7, True), (10.0, 5, False)]


def test_harvesting_at_the_end_of_a_run_returns_what_came_since():
    grid, inner = make({5: Behaviour(5.0)}, deadline=lambda _: 2.0)
    grid.send_and_receive([train(5)])
    assert grid.harvest_late() == []
    inner.tick.now = 6.0
    assert grid.harvest_late() == [(5, account())]
    assert grid.harvest_late() == []


def test_a_late_row_is_completed_when_the_reply_comes():
    grid, inner = make({5: Behaviour(5.0)}, deadline=lambda _: 2.0)
    grid.send_and_receive([train(5)])
    before = grid.round_logs[0]
    assert (before.outcome, before.finished_s, before.round_end_s, before.steps_done) == ("missing", None, 2.0, None)
    assert before.detail == "no reply when the round was closed"
    inner.tick.now = 5.5
    grid.harvest_late()
    after = grid.round_logs[0]
    assert (after.outcome, after.finished_s, after.round_end_s, after.steps_done) == ("late", 5.5, 2.0, 4)
    assert after.detail is None
    assert len(grid.round_logs) == 1


def test_a_reply_that_is_late_but_comes_in_the_same_round_is_late():
    limits = {5: 1.0, 6: 4.0}
    grid, _ = make({5: Behaviour(2.0), 6: Behaviour(3.0)}, deadline=lambda m: limits[m.metadata.dst_node_id])
    assert len(grid.send_and_receive([train(5), train(6)])) == 1
    assert [(row.client, row.outcome, row.finished_s) for row in grid.round_logs] == [
        ("5", "late", 2.0),
        ("6", "used", 3.0),
    ]
    assert grid.busy_nodes() == []


def test_a_late_error_frees_the_node_and_is_written_down_as_an_error():
    grid, inner = make({5: Behaviour(5.0, superlink_error)}, deadline=lambda _: 2.0)
    grid.send_and_receive([train(5)])
    inner.tick.now = 9.0
    assert grid.harvest_late() == []
    assert grid.busy_nodes() == []
    assert (grid.round_logs[0].outcome, grid.round_logs[0].finished_s) == ("error", 9.0)


def test_busy_nodes_are_not_named_until_they_have_answered():
    nodes = {5: Behaviour(5.0), 6: Behaviour(1.0), 7: Behaviour(1.0)}
    grid, inner = make(nodes, deadline=lambda _: 2.0)
    grid.send_and_receive([train(node) for node in nodes])
    assert grid.get_node_ids() == [6, 7]
    assert [info.node_id for info in grid.get_nodes()] == [6, 7]
    inner.tick.now = 5.0
    assert grid.get_node_ids() == [5, 6, 7]


def test_busy_nodes_are_named_where_that_is_wanted():
    grid, _ = make({5: Behaviour(5.0), 6: Behaviour(1.0), 7: Behaviour(1.0)}, deadline=lambda _: 2.0, skip_busy=False)
    grid.send_and_receive([train(5)])
    assert grid.get_node_ids() == [5, 6, 7]
    assert grid.busy_nodes() == [5]


def test_the_longest_busy_nodes_fill_up_to_the_minimum():
    nodes = {5: Behaviour(50.0), 6: Behaviour(50.0), 7: Behaviour(50.0), 8: Behaviour(1.0)}
    grid, _ = make(nodes, deadline=lambda _: 2.0, min_nodes=2)
    grid.send_and_receive([train(6)])
    grid.send_and_receive([train(5), train(7)])
    assert grid.busy_nodes() == [6, 5, 7]
    assert grid.get_node_ids() == [6, 8]


def test_a_strategy_that_waits_for_nodes_is_shown_all_of_them():
    nodes = {node: Behaviour(50.0) for node in (5, 6, 7)}
    grid, _ = make(nodes, deadline=lambda _: 2.0, min_nodes=1)
    grid.send_and_receive([train(5), train(6)])
    assert grid.get_node_ids() == [7]
    assert grid.get_node_ids() == [7]
    assert grid.get_node_ids() == [5, 6, 7]
    grid.send_and_receive([])
    assert grid.get_node_ids() == [7]


def test_a_busy_node_that_went_offline_is_not_named():
    grid, inner = make({5: Behaviour(None), 6: Behaviour(1.0)}, deadline=lambda _: 2.0)
    grid.send_and_receive([train(5), train(6)])
    del inner.nodes[5]
    assert grid.get_node_ids() == [6]


@pytest.mark.parametrize("names_none", [True, False])
def test_a_message_that_could_not_be_handed_over_is_missing_at_once(names_none):
    nodes = {5: Behaviour(1.0), 6: Behaviour(1.0), 7: Behaviour(1.0)}
    grid, inner = make(nodes, scripted={"refused": frozenset({6}), "names_none": names_none}, deadline=lambda _: 60.0)
    replies = grid.send_and_receive([train(node) for node in nodes])
    assert [reply.metadata.src_node_id for reply in replies] == [5, 7]
    assert [row.outcome for row in grid.round_logs] == ["used", "missing", "used"]
    assert "handed over" in grid.round_logs[1].detail
    assert grid.busy_nodes() == []
    assert inner.tick.now == 1.0


def test_a_reply_to_an_unknown_message_is_ignored(caplog):
    grid, inner = make({5: Behaviour(1.0)})
    stranger = train(5)
    set_message_id(stranger, "stranger")
    pull = inner.pull_messages
    inner.pull_messages = lambda ids: [answer(stranger), *pull(ids)]
    assert len(grid.send_and_receive([train(5)])) == 1
    assert "stranger" in caplog.text


def test_the_row_says_what_was_planned_and_what_happened():
    grid, _ = make(
        {5: Behaviour(3.0, lambda message: answer(message, account(step_s=0.5, cut=True)))},
        deadline=lambda _: 6.0,
        predicted=lambda _: 2.75,
        strategy="planned",
        client_name=lambda node: f"kitchen-{node}",
    )
    config = {"server-round": 9, "local-steps": 12, "batch-size": 4, "cutoff-s": 5.5}
    grid.send_and_receive([train(5, **config)])
    row = grid.round_logs[0]
    assert (row.strategy, row.server_round, row.client) == ("planned", 9, "kitchen-5")
    assert (row.device, row.processor, row.outcome, row.detail) == ("pi-4", "cpu", "partial", None)
    assert (row.sent_s, row.finished_s, row.round_end_s) == (0.0, 3.0, 3.0)
    assert (row.startup_s, row.train_s, row.download_s, row.upload_s) == (0.5, 2.0, None, None)
    assert (row.local_steps, row.steps_done, row.examples_done, row.batch_size) == (12, 4, 32, 8)
    assert (row.cutoff_s, row.deadline_s, row.predicted_s) == (5.5, 6.0, 2.75)


def test_a_missing_client_has_its_plan_in_the_log():
    grid, _ = make({5: Behaviour(None)}, deadline=lambda _: 2.0)
    grid.send_and_receive([train(5, **{"local-steps": 12, "batch-size": 4, "cutoff-s": math.inf})])
    row = grid.round_logs[0]
    assert (row.local_steps, row.batch_size, row.cutoff_s) == (12, 4, None)
    assert (row.device, row.train_s, row.predicted_s) == (None, None, None)


def test_rounds_are_counted_where_the_config_does_not_say():
    grid, _ = make({5: Behaviour(1.0)})
    grid.send_and_receive([train(5)])
    grid.send_and_receive([train(5, "evaluate")])
    grid.send_and_receive([train(5)])
    assert [row.server_round for row in grid.round_logs] == [1, 2]


def test_a_config_record_of_another_name_is_read_if_it_is_the_only_one():
    grid, _ = make({5: Behaviour(1.0)})
    content = RecordDict({"arrays": ArrayRecord([np.zeros(2)]), "settings": ConfigRecord({"server-round": 4})})
    grid.send_and_receive([Message(content, 5, "train")])
    grid.send_and_receive([Message(RecordDict(), 5, "train")])
    assert [row.server_round for row in grid.round_logs] == [4, 2]


def test_only_train_messages_are_written_down_and_actions_count_as_train():
    grid, _ = make({5: Behaviour(1.0)})
    grid.send_and_receive([train(5, "evaluate")])
    grid.send_and_receive([train(5, "query")])
    grid.send_and_receive([train(5, "train.personal")])
    assert len(grid.round_logs) == 1


def test_a_node_that_evaluates_late_is_busy_but_teaches_nothing():
    grid, inner = make({5: Behaviour(9.0), 6: Behaviour(1.0), 7: Behaviour(1.0)}, deadline=lambda _: 2.0)
    grid.send_and_receive([train(5, "evaluate")])
    assert grid.get_node_ids() == [6, 7]
    inner.tick.now = 20.0
    assert grid.harvest_late() == []
    assert grid.busy_nodes() == []


@pytest.mark.parametrize(
    "change", [{"train-s": math.nan}, {"steps-done": -1}, {"total-s": 500.0}, {"device": ""}, {"cut": 1}]
)
def test_telemetry_that_cannot_be_true_does_not_stop_the_round(change):
    grid, _ = make({5: Behaviour(3.0, lambda message: answer(message, account(), **change))})
    assert len(grid.send_and_receive([train(5)])) == 1
    row = grid.round_logs[0]
    assert row.outcome == "used"
    assert row.detail.startswith("telemetry rejected: ")
    assert (row.steps_done, row.train_s, row.device) == (None, None, None)


def test_a_client_that_sends_no_telemetry_counts_all_the_same():
    grid, _ = make({5: Behaviour(1.0, answer)})
    assert len(grid.send_and_receive([train(5)])) == 1
    assert (grid.round_logs[0].outcome, grid.round_logs[0].finished_s) == ("used", 1.0)


def test_late_telemetry_that_cannot_be_true_teaches_nothing():
    grid, inner = make(
        {5: Behaviour(5.0, lambda message: answer(message, account(), **{"train-s": -1.0}))}, deadline=lambda _: 2.0
    )
    grid.send_and_receive([train(5)])
    inner.tick.now = 6.0
    assert grid.harvest_late() == []
    assert grid.round_logs[0].outcome == "late"
    assert "telemetry rejected" in grid.round_logs[0].detail


def test_the_log_names_who_is_missing_and_who_failed(caplog):
    nodes = {5: Behaviour(None), 6: Behaviour(1.0), 7: Behaviour(1.0, superlink_error)}
    grid, _ = make(nodes, deadline=lambda _: 2.0, client_name=lambda node: f"board-{node}")
    with caplog.at_level(logging.WARNING):
        grid.send_and_receive([train(node, **{"server-round": 3}) for node in nodes])
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "round 3, train: no reply in time from board-5 (node 5, deadline 2.0 s)",
        "round 3, train: an error from board-7 (node 7)",
    ]


def test_a_long_list_of_missing_clients_is_cut(caplog):
    nodes = {node: Behaviour(None) for node in range(100, 130)}
    grid, _ = make(nodes, deadline=lambda _: 2.0)
    grid.send_and_receive([train(node) for node in nodes])
    assert caplog.text.strip().endswith("and 10 more")


def test_transfer_times_come_from_a_grid_that_knows_them():
    grid, inner = make({5: Behaviour(4.0)})
    inner.transfer_times = lambda message_id: (0.25, 1.5) if message_id == "m0" else None
    grid.send_and_receive([train(5)])
    assert (grid.round_logs[0].download_s, grid.round_logs[0].upload_s) == (0.25, 1.5)


def test_looks_are_a_poll_apart_and_no_longer_than_to_the_next_deadline():
    grid, inner = make({5: Behaviour(None)}, deadline=lambda _: 0.75, poll_s=0.5)
    grid.send_and_receive([train(5)])
    assert inner.tick.naps == [0.5, 0.25]


def test_runs_and_messages_pass_through():
    grid, inner = make({5: Behaviour()})
    run = empty_run(3)
    grid.set_run(run)
    assert grid.run is run is inner.run_set
    message = grid.create_message(RecordDict(), "train", 5, "g", ttl=60.0)
    assert (message.metadata.dst_node_id, message.metadata.group_id, message.metadata.ttl) == (5, "g", 60.0)
    sent = train(5)
    ids = list(grid.push_messages([sent]))
    inner.tick.now = 2.0
    assert len(list(grid.pull_messages(ids))) == 1
    assert all(isinstance(info, NodeInfo) for info in grid.get_nodes())


@pytest.mark.parametrize("options", [{"min_replies": 0}, {"poll_s": 0.0}, {"poll_s": math.nan}])
def test_arguments_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make({5: Behaviour()}, **options)


def test_the_wall_clock_needs_a_finite_poll():
    with pytest.raises(ValueError, match="poll_s"):
        DeadlineGrid(ScriptedGrid({}), poll_s=math.inf)


def test_the_wall_clock_counts_from_its_construction_and_sleeps_at_least_not_backwards(monkeypatch):
    now = [100.0]
    naps = []
    monkeypatch.setattr("strategies.clocks.time.monotonic", lambda: now[0])
    monkeypatch.setattr("strategies.clocks.time.sleep", naps.append)
    clock = WallClock()
    now[0] = 103.5
    assert clock.now_s() == 3.5
    clock.sleep(0.5)
    clock.sleep(-1.0)
    assert naps == [0.5, 0.0]


def test_a_grid_without_a_clock_gets_the_wall_clock():
    assert isinstance(DeadlineGrid(ScriptedGrid({})).clock, WallClock)
