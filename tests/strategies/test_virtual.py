from __future__ import annotations

import logging
import math
import time
from itertools import pairwise

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from hypothesis import given, settings
from hypothesis import strategies as st

from devprof.records import Link
from strategies.client import Budget
from strategies.clocks import HasClock
from strategies.compat import empty_run, task_identity
from strategies.grid import DeadlineGrid, ReportsTransfers
from strategies.virtual import (
    HorizonReached,
    ReplayedStepTimes,
    VirtualClock,
    VirtualDevice,
    VirtualGrid,
    payload_bytes,
    wasted_work,
)

LINK = Link(up_mbps=4.0, down_mbps=8.0, latency_s=0.5)
START = 1.0
WEIGHTS = np.zeros(1000)
# One array of 1000 doubles with its 128 bytes of header, and the name "0".
PAYLOAD = 8000 + 128 + 1
DOWN = 0.5 + PAYLOAD * 1e-6
UP = 0.5 + PAYLOAD * 2e-6
OVERHEAD = DOWN + START + UP


@pytest.fixture(autouse=True)
def quiet_and_identified():
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    with task_identity():
        yield


class Fixed:
    """Every sample takes the same time."""

    def __init__(self, sample_s: float = 0.1) -> None:
        self.sample_s = sample_s

    def sample(self, batch_size, rng):
        return self.sample_s * batch_size


def device(sample_s: float = 0.1, name: str = "pi", **changes) -> VirtualDevice:
    values = {"name": name, "processor": "cpu", "link": LINK, "startup_s": START, "step_s": Fixed(sample_s)}
    return VirtualDevice(**{**values, **changes})


def trainer(samples: int = 20, batch_size: int = 10) -> ClientApp:
    """An app whose model becomes its partition id plus the steps done; 10 samples more for each partition."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        partition = int(context.node_config["partition-id"])
        data = np.zeros(samples)
        budget = Budget.from_message(message)
        weights = message.content["arrays"].to_numpy_ndarrays()[0]
        for _ in range(budget.local_epochs):
            for _ in budget.limit([data[i : i + batch_size] for i in range(0, samples, batch_size)]):
                weights += 1.0
        content = {
            "arrays": ArrayRecord([weights + partition]),
            "metrics": MetricRecord({"num-examples": 10 * (partition + 1), "seconds": budget.elapsed_s}),
            "devprof": budget.telemetry(context, batch_size).to_record(),
        }
        return Message(RecordDict(content), reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        metrics = MetricRecord({"num-examples": 10, "loss": 0.5})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def ask(node: int, kind: str = "train", **config) -> Message:
    content = RecordDict({"arrays": ArrayRecord([WEIGHTS]), "config": ConfigRecord(config)})
    return Message(content, node, kind)


def grid_of(*devices: VirtualDevice, app: ClientApp | None = None, seed: int = 1, **options) -> VirtualGrid:
    return VirtualGrid(app or trainer(), devices, seed=seed, **options)


def sources(replies) -> list[int]:
    return [reply.metadata.src_node_id for reply in replies]


# Times -------------------------------------------------------------------------------------------------------------


def test_a_reply_takes_download_start_up_steps_and_upload():
    grid = grid_of(device(0.1))
    replies = grid.send_and_receive([ask(1000)])
    assert len(replies) == 1
    assert grid.clock.now_s() == pytest.approx(OVERHEAD + 2.0, abs=1e-12)
    job = grid.jobs[0]
    assert (job.start_s, job.startup_s, job.category, job.node_id) == (0.0, START, "train", 1000)
    assert (job.download_s, job.upload_s) == (pytest.approx(DOWN), pytest.approx(UP))
    assert job.train_s == pytest.approx(2.0)
    assert grid.transfer_times(job.message_id) == (job.download_s, job.upload_s)
    assert grid.transfer_times("unknown") is None


def test_the_payload_is_the_arrays_alone():
    assert payload_bytes(ask(1000, note="x" * 500).content) == PAYLOAD
    assert payload_bytes(RecordDict({"config": ConfigRecord({"empty": ""})})) == 0


def test_the_last_batch_of_an_epoch_costs_its_own_size():
    grid = grid_of(device(0.1), app=trainer(samples=23))
    grid.send_and_receive([ask(1000)])
    assert grid.jobs[0].train_s == pytest.approx(2.3)


def test_the_client_sees_its_own_virtual_time():
    grid = grid_of(device(0.1))
    reply = grid.send_and_receive([ask(1000, **{"local-epochs": 3})])[0]
    assert reply.content["metrics"]["seconds"] == pytest.approx(START + 6.0)
    told = reply.content["devprof"]
    assert (told["device"], told["processor"], told["steps-done"]) == ("pi", "cpu", 6)
    assert "rss-peak-bytes" not in told


def test_a_cutoff_is_kept_in_virtual_time():
    grid = grid_of(device(0.1))
    reply = grid.send_and_receive([ask(1000, **{"local-epochs": 10, "cutoff-s": START + 5.0})])[0]
    assert reply.content["devprof"]["steps-done"] == 5
    assert reply.content["devprof"]["cut"]
    assert grid.clock.now_s() == pytest.approx(OVERHEAD + 5.0)


def test_evaluation_costs_transfers_and_start_up():
    grid = grid_of(device(0.1))
    replies = grid.send_and_receive([ask(1000, "evaluate")])
    assert not replies[0].has_error()
    assert grid.clock.now_s() == pytest.approx(DOWN + START + 0.5)


def test_the_server_takes_its_time_before_a_train_round():
    grid = grid_of(device(0.1), server_s=3.0)
    grid.send_and_receive([ask(1000)])
    grid.send_and_receive([ask(1000, "evaluate")])
    assert grid.jobs[0].start_s == 3.0
    assert grid.clock.now_s() == pytest.approx(3.0 + OVERHEAD + 2.0 + DOWN + START + 0.5)


def test_replies_come_in_the_order_of_arrival():
    grid = grid_of(device(0.3), device(0.1), device(0.2))
    assert sources(grid.send_and_receive([ask(node) for node in (1000, 1001, 1002)])) == [1001, 1002, 1000]


def test_an_own_clock_may_begin_later():
    clock = VirtualClock(start_s=100.0)
    grid = grid_of(device(0.1), clock=clock)
    grid.send_and_receive([ask(1000)])
    assert clock.now_s() == pytest.approx(100.0 + OVERHEAD + 2.0)


# Waiting and queues --------------------------------------------------------------------------------------------------


def test_a_timeout_drops_the_slow_one_whose_reply_can_be_pulled_later():
    grid = grid_of(device(0.1), device(1.0))
    sent = [ask(1000), ask(1001)]
    assert sources(grid.send_and_receive(sent, timeout=10.0)) == [1000]
    assert grid.clock.now_s() == 10.0
    late = sent[1].metadata.message_id
    assert grid.pull_messages([late]) == []
    grid.clock.advance(OVERHEAD + 20.0 - 10.0)
    assert sources(grid.pull_messages([late])) == [1001]
    assert grid.pull_messages([late]) == []


def test_a_reply_at_the_timeout_is_in_time():
    grid = grid_of(device(0.1), device(1.0))
    replies = grid.send_and_receive([ask(1000), ask(1001)], timeout=OVERHEAD + 20.0)
    assert len(replies) == 2


def test_a_busy_node_takes_new_work_when_it_is_done():
    grid = grid_of(device(1.0))
    assert grid.send_and_receive([ask(1000)], timeout=5.0) == []
    replies = grid.send_and_receive([ask(1000)])
    first, second = grid.jobs
    assert second.start_s == first.finished_s == pytest.approx(OVERHEAD + 20.0)
    assert grid.clock.now_s() == pytest.approx(2 * (OVERHEAD + 20.0))
    assert replies[0].metadata.reply_to_message_id == second.message_id


def test_two_messages_to_one_node_are_handled_one_after_the_other():
    grid = grid_of(device(0.1))
    assert len(grid.send_and_receive([ask(1000), ask(1000)])) == 2
    assert grid.clock.now_s() == pytest.approx(2 * (OVERHEAD + 2.0))


def test_only_what_is_asked_for_is_pulled():
    grid = grid_of(device(0.1), device(0.1))
    first, second = grid.push_messages([ask(1000), ask(1001)])
    assert grid.pull_messages([first, second]) == []
    grid.clock.advance(100.0)
    assert sources(grid.pull_messages([second, second, "unknown"])) == [1001]
    assert sources(grid.pull_messages([first])) == [1000]


def test_the_run_ends_at_the_horizon():
    grid = grid_of(device(0.1), horizon_s=13.0)
    done = []

    def run():
        while True:
            done.append(grid.send_and_receive([ask(1000)]))

    with pytest.raises(HorizonReached):
        run()
    assert len(done) == 3
    assert grid.clock.now_s() == 13.0


def test_device_seconds_are_counted_until_now():
    grid = grid_of(device(0.1), device(1.0))
    grid.send_and_receive([ask(1000), ask(1001)], timeout=10.0)
    spent = grid.device_seconds()
    assert spent == {1000: pytest.approx(OVERHEAD + 2.0), 1001: 10.0}
    assert grid.device_seconds("train") == spent
    assert set(grid.device_seconds("evaluate").values()) == {0.0}
    grid.clock.advance(100.0)
    assert grid.device_seconds()[1001] == pytest.approx(OVERHEAD + 20.0)


# Nodes and messages -------------------------------------------------------------------------------------------------


def test_nodes_know_their_device_and_partition():
    seen = []
    app = ClientApp()

    @app.query()
    def query(message, context):
        seen.append((context.node_id, dict(context.node_config), dict(context.run_config)))
        return Message(RecordDict(), reply_to=message)

    devices = [device(name="pi"), device(name="nano", processor="jetson@10W")]
    grid = grid_of(*devices, app=app, node_config={"site": "lab"}, run_config={"lr": 0.1})
    assert grid.get_node_ids() == [1000, 1001]
    grid.send_and_receive([ask(node, "query") for node in grid.get_node_ids()])
    shared = {"site": "lab", "num-partitions": 2}
    assert seen == [
        (1000, {**shared, "partition-id": 0, "device": "pi", "processor": "cpu"}, {"lr": 0.1}),
        (1001, {**shared, "partition-id": 1, "device": "nano", "processor": "jetson@10W"}, {"lr": 0.1}),
    ]


def test_clients_that_share_a_device_name_are_told_apart():
    grid = grid_of(device(name="pi"), device(name="nano"), device(name="pi"))
    assert [grid.client_name(node) for node in grid.get_node_ids()] == ["pi#0", "nano", "pi#2"]
    assert [info.name for info in grid.get_nodes()] == ["pi#0", "nano", "pi#2"]


def test_state_stays_with_its_node_between_rounds():
    app = ClientApp()

    @app.query()
    def query(message, context):
        count = context.state.config_records.setdefault("seen", ConfigRecord({"n": 0}))
        count["n"] = count["n"] + 1
        return Message(RecordDict({"seen": count}), reply_to=message)

    grid = grid_of(device(), device(), app=app)
    grid.send_and_receive([ask(1000, "query")])
    first = grid.send_and_receive([ask(1000, "query"), ask(1001, "query")])
    assert sorted(reply.content["seen"]["n"] for reply in first) == [1, 2]
    grid.send_and_receive([ask(1000, "query")])
    assert sorted(reply.content["seen"]["n"] for reply in first) == [1, 2]


def test_a_client_cannot_change_what_others_or_the_server_have():
    app = ClientApp()
    seen = []

    @app.query()
    def vandal(message, context):
        seen.append((message.content["arrays"].to_numpy_ndarrays()[0].sum(), len(message.content["config"])))
        message.content["arrays"]["0"].data = Array(np.full(1000, 9.0)).data
        message.content["config"]["more"] = 1
        message.metadata.group_id = "mine"
        return Message(message.content, reply_to=message)

    grid = grid_of(device(), device(), app=app)
    shared = ask(1000).content
    sent = [Message(shared, node, "query") for node in grid.get_node_ids()]
    replies = grid.send_and_receive(sent)
    assert seen == [(0.0, 0), (0.0, 0)]
    assert shared == ask(1000).content
    assert [message.metadata.group_id for message in sent] == ["", ""]
    replies[0].content["config"]["more"] = 2
    assert replies[1].content["config"]["more"] == 1


def test_message_ids_are_set_and_replies_refer_to_them():
    grid = grid_of(device(), device())
    sent = [ask(1000), ask(1001)]
    ids = grid.push_messages(sent)
    assert [message.metadata.message_id for message in sent] == ids
    assert len(set(ids)) == 2
    grid.clock.advance(100.0)
    replies = grid.pull_messages(ids)
    assert [reply.metadata.reply_to_message_id for reply in replies] == ids
    assert all(reply.metadata.message_id for reply in replies)


def test_a_message_to_nobody_is_a_clear_error():
    grid = grid_of(device(), device())
    with pytest.raises(ValueError, match="no node 7; the nodes are 1000 to 1001"):
        grid.push_messages([ask(7)])
    with pytest.raises(ValueError, match="no node 7"):
        grid.client_name(7)


def test_a_federation_needs_devices_and_time_that_moves_forward():
    with pytest.raises(ValueError, match="at least one device"):
        grid_of()
    with pytest.raises(ValueError, match="server_s"):
        grid_of(device(), server_s=-1.0)


def test_the_run_is_kept():
    grid = grid_of(device())
    assert grid.run.run_id == 1
    grid.set_run(empty_run(5))
    assert grid.run.run_id == 5
    assert grid.create_message(RecordDict(), "query", 1000, "g").metadata.group_id == "g"


# Clients that fail --------------------------------------------------------------------------------------------------


def failing(behaviour) -> ClientApp:
    app = ClientApp()
    app.train()(behaviour)
    return app


def raise_after_a_step(message, context):
    for _ in Budget.from_message(message).limit([np.zeros(10)] * 5):
        raise_now = message is not None
    assert not raise_now, "out of luck"


def answer_without_budget(message, context):
    return Message(message.content, reply_to=message)


@pytest.mark.parametrize(
    ("behaviour", "reason", "train_s"),
    [
        (raise_after_a_step, "AssertionError: out of luck", 5.0),
        (answer_without_budget, "budget.limit", 0.0),
        (lambda message, context: None, "NoneType instead of a Message", 0.0),
        (lambda message, context: Message(RecordDict(), reply_to=ask(1001)), "reply_to=message", 0.0),
    ],
)
def test_a_client_that_fails_becomes_an_error_reply(behaviour, reason, train_s):
    grid = grid_of(device(0.1), app=failing(behaviour))
    reply = grid.send_and_receive([ask(1000)])[0]
    assert reply.has_error()
    assert reply.error.code == 2
    assert reason in reply.error.reason
    assert reply.metadata.src_node_id == 1000
    assert grid.clock.now_s() == pytest.approx(DOWN + START + train_s + 0.5)


def test_a_message_without_a_handler_becomes_an_error_reply():
    reply = grid_of(device()).send_and_receive([ask(1000, "query")])[0]
    assert reply.error.code == 2


def test_step_times_that_fail_are_not_blamed_on_the_client():
    class Broken:
        def sample(self, batch_size, rng):
            raise LookupError("no times for this board")

    with pytest.raises(LookupError, match="this board"):
        grid_of(device(step_s=Broken())).push_messages([ask(1000)])

    def swallow(message, context):
        try:
            list(Budget.from_message(message).limit([np.zeros(2)]))
        except LookupError:
            return Message(message.content, reply_to=message)

    with pytest.raises(LookupError, match="this board"):
        grid_of(device(step_s=Broken()), app=failing(swallow)).push_messages([ask(1000)])


# The same seed, the same run ----------------------------------------------------------------------------------------


def replay(seed: int, *, second_epochs: int = 1) -> list[tuple[float, float]]:
    noisy = ReplayedStepTimes({10: list(np.linspace(0.5, 1.5, 50))})
    grid = grid_of(device(step_s=noisy), device(step_s=noisy), seed=seed)
    for _ in range(3):
        grid.send_and_receive([ask(1000), ask(1001, **{"local-epochs": second_epochs})])
    return [(job.train_s, job.finished_s) for job in grid.jobs]


def test_a_seed_determines_the_run():
    assert replay(1) == replay(1)
    assert replay(1) != replay(2)


def test_nodes_draw_from_streams_of_their_own():
    quiet, busy = replay(1), replay(1, second_epochs=4)
    assert [train_s for train_s, _ in quiet[::2]] == [train_s for train_s, _ in busy[::2]]
    assert quiet[0][0] != quiet[1][0]


# Flower's strategies, unmodified ------------------------------------------------------------------------------------


def test_fedavg_gives_the_weighted_mean_by_hand():
    grid = grid_of(*[device(0.1)] * 3)
    result = FedAvg(fraction_evaluate=0.0, min_available_nodes=3).start(grid, ArrayRecord([WEIGHTS]), num_rounds=2)
    # Each round adds two steps and the mean of the partition ids 0, 1, 2 with the weights 10, 20, 30.
    gain = 2 + (0 * 10 + 1 * 20 + 2 * 30) / 60
    np.testing.assert_allclose(result.arrays.to_numpy_ndarrays()[0], np.full(1000, 2 * gain))
    assert result.train_metrics_clientapp[2]["seconds"] == pytest.approx(START + 2.0)
    assert grid.clock.now_s() == pytest.approx(2 * (OVERHEAD + 2.0))


def test_fedavg_drops_who_is_slower_than_the_timeout():
    grid = grid_of(device(0.1), device(0.1), device(10.0))
    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=3)
    result = strategy.start(grid, ArrayRecord([WEIGHTS]), num_rounds=1, timeout=30.0)
    np.testing.assert_allclose(result.arrays.to_numpy_ndarrays()[0], np.full(1000, 2 + 20 / 30))
    assert grid.clock.now_s() == 30.0


def test_fedavg_evaluates_on_the_clients():
    grid = grid_of(*[device(0.1)] * 2)
    result = FedAvg().start(grid, ArrayRecord([WEIGHTS]), num_rounds=1)
    assert result.evaluate_metrics_clientapp[1]["loss"] == pytest.approx(0.5)


@pytest.mark.parametrize("deadlines", [False, True])
def test_nobody_really_sleeps_in_virtual_time(monkeypatch, deadlines):
    def sleep(seconds):
        raise AssertionError(f"slept {seconds} s of real time")

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr("flwr.serverapp.strategy.strategy_utils.sleep", sleep)
    virtual = grid_of(*[device(0.1)] * 9, device(1.0))
    grid = DeadlineGrid(virtual, deadline=lambda _: 6.0) if deadlines else virtual
    FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord([WEIGHTS]), num_rounds=3)
    assert len(virtual.jobs) == (28 if deadlines else 30)


# With deadlines -----------------------------------------------------------------------------------------------------


def test_the_virtual_grid_offers_what_the_deadline_grid_looks_for():
    grid = grid_of(device())
    assert isinstance(grid, HasClock)
    assert isinstance(grid, ReportsTransfers)
    assert DeadlineGrid(grid).clock is grid.clock


def test_each_client_has_its_own_deadline_to_the_instant():
    virtual = grid_of(device(0.1), device(0.5), device(1.0))
    limits = {1000: 4.5, 1001: 13.0, 1002: 7.5}
    grid = DeadlineGrid(virtual, deadline=lambda message: limits[message.metadata.dst_node_id])
    assert sources(grid.send_and_receive([ask(node) for node in limits])) == [1000, 1001]
    assert virtual.clock.now_s() == pytest.approx(OVERHEAD + 10.0)
    used, slower, missing = grid.round_logs
    assert (used.outcome, used.finished_s) == ("used", pytest.approx(OVERHEAD + 2.0))
    assert (used.download_s, used.startup_s) == (pytest.approx(DOWN), START)
    assert (used.train_s, used.upload_s) == (pytest.approx(2.0), pytest.approx(UP))
    assert slower.finished_s == slower.round_end_s
    assert (missing.outcome, missing.deadline_s, missing.finished_s) == ("missing", 7.5, None)


def test_a_round_that_nobody_finishes_ends_at_the_deadline():
    virtual = grid_of(device(10.0))
    grid = DeadlineGrid(virtual, deadline=lambda _: 7.3)
    assert grid.send_and_receive([ask(1000)]) == []
    assert virtual.clock.now_s() == 7.3


def test_a_late_client_teaches_and_is_given_work_again_when_it_is_done():
    heard = []
    virtual = grid_of(device(0.1), device(0.1), device(0.5))
    grid = DeadlineGrid(
        virtual, deadline=lambda _: 6.0, client_name=virtual.client_name, on_late=lambda *late: heard.append(late)
    )
    grid.send_and_receive([ask(node) for node in grid.get_node_ids()])
    assert grid.get_node_ids() == [1000, 1001]
    while len(grid.get_node_ids()) < 3:
        grid.send_and_receive([ask(node) for node in (1000, 1001)])
    assert heard[0][0] == 1002
    assert heard[0][1].step_s == pytest.approx(5.0)
    late = grid.round_logs[2]
    assert (late.client, late.outcome, late.train_s) == ("pi#2", "late", pytest.approx(10.0))
    assert late.finished_s == pytest.approx(OVERHEAD + 10.0)
    assert virtual.jobs[2].finished_s == pytest.approx(late.finished_s)


def test_partial_work_within_the_cutoff_is_used():
    virtual = grid_of(device(0.1), device(1.0))
    grid = DeadlineGrid(virtual, deadline=lambda _: OVERHEAD + 10.0)
    grid.send_and_receive([ask(node, **{"cutoff-s": START + 10.0}) for node in (1000, 1001)])
    assert [(row.outcome, row.steps_done) for row in grid.round_logs] == [("used", 2), ("partial", 1)]
    assert wasted_work(grid.round_logs) == 0.0
    assert wasted_work(grid.round_logs, device_s=sum(virtual.device_seconds().values())) == pytest.approx(0.0)


def test_dropped_work_is_counted_as_wasted():
    virtual = grid_of(device(0.1), device(1.0))
    grid = DeadlineGrid(virtual, deadline=lambda _: 10.0)
    grid.send_and_receive([ask(1000), ask(1001)])
    used_s = OVERHEAD + 2.0
    spent_s = sum(virtual.device_seconds("train").values())
    assert wasted_work(grid.round_logs, device_s=spent_s) == pytest.approx(1 - used_s / (used_s + 10.0))
    virtual.clock.advance(50.0)
    grid.harvest_late()
    assert wasted_work(grid.round_logs) == pytest.approx(1 - used_s / (used_s + OVERHEAD + 20.0))


def test_an_error_of_a_client_is_in_the_log_and_the_round_goes_on():
    app = trainer()
    train = app._registered_funcs.pop("train.default")

    @app.train()
    def sometimes(message, context):
        if context.node_id == 1001:
            raise RuntimeError("the camera is unplugged")
        return train(message, context)

    grid = DeadlineGrid(grid_of(*[device(0.1)] * 3, app=app), deadline=lambda _: 60.0)
    result = FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord([WEIGHTS]), num_rounds=2)
    assert sorted(row.outcome for row in grid.round_logs) == ["error"] * 2 + ["used"] * 4
    failed = [row for row in grid.round_logs if row.outcome == "error"]
    assert all("the camera is unplugged" in row.detail and row.client == "1001" for row in failed)
    np.testing.assert_allclose(result.arrays.to_numpy_ndarrays()[0], np.full(1000, 2 * (2 + 60 / 40)))


def test_an_unmodified_strategy_runs_with_deadlines_and_late_clients():
    virtual = grid_of(*[device(0.1)] * 4, device(3.0))
    grid = DeadlineGrid(virtual, deadline=lambda _: 8.0, strategy="fedavg", client_name=virtual.client_name)
    FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord([WEIGHTS]), num_rounds=16)
    assert {row.server_round for row in grid.round_logs} == set(range(1, 17))
    slow = [row for row in grid.round_logs if row.client == "pi#4"]
    fast = [row for row in grid.round_logs if row.client != "pi#4"]
    assert all(row.outcome == "used" for row in fast)
    # 62 seconds of work: not asked again before it has answered.
    assert slow[0].outcome == "late"
    assert all(later.sent_s >= first.finished_s for first, later in pairwise(slow))


def test_a_strategy_that_needs_every_node_waits_once_and_is_then_shown_the_busy_one(monkeypatch):
    naps = []
    monkeypatch.setattr("flwr.serverapp.strategy.strategy_utils.sleep", naps.append)
    virtual = grid_of(*[device(0.1)] * 4, device(3.0))
    FedAvg(fraction_evaluate=0.0, min_available_nodes=5).start(
        DeadlineGrid(virtual, deadline=lambda _: 8.0), ArrayRecord([WEIGHTS]), num_rounds=3
    )
    assert naps == [1, 1]


def test_a_grid_that_knows_how_many_nodes_are_needed_makes_nobody_wait(monkeypatch):
    naps = []
    monkeypatch.setattr("flwr.serverapp.strategy.strategy_utils.sleep", naps.append)
    virtual = grid_of(*[device(0.1)] * 4, device(3.0))
    FedAvg(fraction_evaluate=0.0, min_available_nodes=5).start(
        DeadlineGrid(virtual, deadline=lambda _: 8.0, min_nodes=5), ArrayRecord([WEIGHTS]), num_rounds=3
    )
    assert naps == []


@settings(max_examples=60, deadline=None)
@given(
    sample_s=st.lists(st.floats(0.001, 5), min_size=1, max_size=5),
    limits=st.lists(st.one_of(st.none(), st.floats(0, 100)), min_size=5, max_size=5),
    timeout=st.one_of(st.none(), st.floats(0, 120)),
    min_replies=st.one_of(st.none(), st.integers(1, 5)),
    start_s=st.floats(0, 1e9),
)
def test_every_round_ends_and_keeps_every_deadline(*, sample_s, limits, timeout, min_replies, start_s):
    virtual = grid_of(*[device(value) for value in sample_s], clock=VirtualClock(start_s))
    grid = DeadlineGrid(
        virtual, deadline=lambda message: limits[message.metadata.dst_node_id - 1000], min_replies=min_replies
    )
    for _ in range(3):
        asked = [ask(node) for node in grid.get_node_ids()]
        before = len(grid.round_logs)
        replies = grid.send_and_receive(asked, timeout=timeout)
        rows = grid.round_logs[before:]
        assert len(rows) == len(asked)
        assert sum(row.outcome == "used" for row in rows) == len(replies)
        for row in rows:
            assert row.round_end_s >= row.sent_s
            if row.outcome == "used" and row.deadline_s is not None:
                # The clock itself has a resolution: at 10^9 s it is a tenth of a microsecond.
                assert row.finished_s <= row.sent_s + row.deadline_s + 1e-6
    assert 0.0 <= wasted_work(grid.round_logs, device_s=sum(virtual.device_seconds().values()) + 1e-6) <= 1.0


def test_replies_planned_for_the_deadline_make_it_whatever_the_rounding():
    for sample_s in (0.01, 0.07, 0.1 / 3, 0.7):
        virtual = grid_of(device(sample_s), app=trainer(samples=70))
        reply_s = OVERHEAD + 70 * sample_s
        grid = DeadlineGrid(virtual, deadline=lambda _, limit_s=reply_s: limit_s)
        for _ in range(5):
            assert len(grid.send_and_receive([ask(1000, **{"cutoff-s": START + 70 * sample_s})])) == 1
        assert {row.outcome for row in grid.round_logs} == {"used"}


def test_the_horizon_ends_a_run_under_deadlines():
    virtual = grid_of(device(0.1), device(0.1), horizon_s=20.0)
    grid = DeadlineGrid(virtual, deadline=lambda _: 60.0)
    with pytest.raises(HorizonReached):
        FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord([WEIGHTS]), num_rounds=1000)
    assert virtual.clock.now_s() == 20.0
    assert len(grid.round_logs) == 2 * math.floor(20.0 / (OVERHEAD + 2.0))
