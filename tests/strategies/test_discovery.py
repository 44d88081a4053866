from __future__ import annotations

import logging
import math

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from devprof.records import Link
from strategies.compat import task_identity
from strategies.directory import ClientDirectory
from strategies.discovery import ACTION, Discovery, describe_node
from strategies.grid import DeadlineGrid
from strategies.identity import IDENTITY_RECORD
from strategies.virtual import ReplayedStepTimes, VirtualDevice, VirtualGrid


@pytest.fixture(autouse=True)
def _identity():
    with task_identity():
        yield


def app(handler=None):
    made = ClientApp()
    made.query(ACTION)(handler or describe_node(lambda message, context: int(message.content["config"]["size"])))
    return made


def grid_of(client_app, *startup_s):
    step = ReplayedStepTimes({4: [0.5]})
    link = Link(math.inf, math.inf)
    return VirtualGrid(
        client_app, [VirtualDevice("pi4", "cpu", link, startup_s=s, step_s=step) for s in startup_s], seed=1
    )


def refreshed(grid, directory=None, *, wait_s=10.0, config=None):
    directory = directory or ClientDirectory()
    discovery = Discovery(directory, wait_s=wait_s)
    discovery.refresh(grid, grid.get_node_ids(), config or {"size": 30})
    return directory, discovery


def test_all_nodes_are_asked_at_once_and_planned_for():
    grid = grid_of(app(), 1.0, 3.0)
    directory, _ = refreshed(DeadlineGrid(grid, strategy="any"))
    assert grid.clock.now_s() == pytest.approx(3.0)
    states = [directory.state(node) for node in grid.get_node_ids()]
    assert [(state.device, state.samples, state.startup_s) for state in states] == [("pi4", 30, 1.0), ("pi4", 30, 3.0)]


def test_a_slow_node_is_waited_for_no_longer_than_told_and_heard_later(caplog):
    grid = grid_of(app(), 1.0, 60.0)
    with caplog.at_level(logging.WARNING):
        directory, discovery = refreshed(grid)
    first, second = grid.get_node_ids()
    assert grid.clock.now_s() == pytest.approx(10.0)
    assert directory.state(first) is not None
    assert directory.state(second) is None
    assert "from pi4#1" in caplog.text
    grid.clock.advance(60.0)
    discovery.refresh(grid, [first, second], {"size": 30})
    assert directory.state(second).samples == 30


def test_a_node_is_asked_once_and_joiners_are_not_waited_for():
    asked = []

    def answer(message, context):
        asked.append(message.metadata.dst_node_id)
        return describe_node()(message, context)

    grid = grid_of(app(answer), 1.0, 1.0)
    directory = ClientDirectory()
    discovery = Discovery(directory, wait_s=10.0)
    first, second = grid.get_node_ids()
    discovery.refresh(grid, [first], {})
    before_s = grid.clock.now_s()
    discovery.refresh(grid, [first, second], {})
    assert grid.clock.now_s() == before_s
    assert asked == [first, second]


@pytest.mark.parametrize(
    "answer",
    [
        lambda message, _: Message(RecordDict(), reply_to=message),
        lambda message, _: Message(RecordDict({IDENTITY_RECORD: ConfigRecord({"device": 7})}), reply_to=message),
        lambda message, _: 1 / 0,
    ],
)
def test_what_a_node_says_is_not_believed_blindly(answer):
    grid = grid_of(app(answer), 1.0)
    directory, _ = refreshed(grid)
    assert directory.state(grid.get_node_ids()[0]) is None


def test_known_clients_are_not_asked():
    grid = grid_of(ClientApp(), 1.0)
    known, _ = refreshed(grid_of(app(), 1.0))
    state = known.state(1000)
    refreshed(grid, ClientDirectory(dict.fromkeys(grid.get_node_ids(), state)))
    assert grid.jobs == []


def test_negative_waits_are_refused():
    with pytest.raises(ValueError, match="wait_s"):
        Discovery(ClientDirectory(), wait_s=-1.0)
