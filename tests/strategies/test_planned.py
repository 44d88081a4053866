from __future__ import annotations

import logging
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedMedian,
    FedProx,
)

from devprof.plan.settings import ClientState, PlannerSettings
from devprof.records import Link
from strategies.client import Budget
from strategies.compat import set_message_id, task_identity
from strategies.directory import ClientDirectory
from strategies.discovery import ACTION, describe_node
from strategies.estimators import MeasuredEstimator
from strategies.grid import DeadlineGrid
from strategies.planned import PlannedStrategy
from strategies.telemetry import Telemetry
from strategies.virtual import ReplayedStepTimes, VirtualDevice, VirtualGrid

LINK = Link(80.0, 80.0)
SETTINGS = PlannerSettings(local_epochs=2, batch_size=10, step_noise=0.0)
STEPS = MeasuredEstimator({"fast": {10: 0.1}, "slow": {10: 0.5}}, log_sd=0.0)
ARRAYS = ArrayRecord([np.zeros(3)])


@pytest.fixture(autouse=True)
def _identity():
    with task_identity():
        yield


def state(name, device="fast", samples=100):
    return ClientState(name, device, "cpu", samples, LINK)


def inner(kind=FedAvg, **more):
    return kind(**({"fraction_evaluate": 0.0, "min_available_nodes": 1, "min_train_nodes": 1} | more))


def planned(known, *, estimator=STEPS, settings=SETTINGS, kind=FedAvg, **more):
    directory = ClientDirectory(known)
    # The grids of these tests have no mail: what is not known is not asked for.
    return PlannedStrategy(inner(kind), settings, estimator, directory, **({"discovery_s": None} | more))


def configured(strategy, nodes, config=None, server_round=1):
    """The round's messages, with ids as a grid would give them."""
    grid = SimpleNamespace(get_node_ids=lambda: list(nodes))
    messages = strategy.configure_train(server_round, ARRAYS, config or ConfigRecord(), grid)
    for message in messages:
        set_message_id(message, f"round-{server_round}-node-{message.metadata.dst_node_id}")
    return {message.metadata.dst_node_id: message for message in sorted(messages, key=lambda m: m.metadata.dst_node_id)}


def told(steps, step_s=0.1, **more):
    train_s = steps * step_s
    telemetry = {"device": "fast", "processor": "cpu", "steps_done": steps, "examples_done": steps * 10}
    telemetry |= {"batch_size": 10, "train_s": train_s, "startup_s": 0.0, "total_s": train_s, "cut": False}
    return Telemetry(**(telemetry | more))


def reply_to(message, value, telemetry, examples=100):
    content = RecordDict(
        {
            "arrays": ArrayRecord([np.full(3, float(value))]),
            "metrics": MetricRecord({"num-examples": examples, "loss": float(value)}),
        }
    )
    if telemetry is not None:
        content["devprof"] = telemetry if isinstance(telemetry, ConfigRecord) else telemetry.to_record()
    return Message(content, reply_to=message)


# What is sent ---------------------------------------------------------------------------------------------------------


def test_each_client_gets_a_message_and_a_config_of_its_own():
    strategy = planned({1: state("a"), 2: state("b", "slow"), 3: state("c"), 4: state("d")})
    config = ConfigRecord({"learning-rate": 0.1, "cutoff-s": 0.0, "local-steps": 99})
    messages = configured(strategy, [1, 2, 3, 4], config)
    assert dict(config) == {"learning-rate": 0.1, "cutoff-s": 0.0, "local-steps": 99}
    assert len({id(message) for message in messages.values()}) == 4
    assert len({id(message.content["config"]) for message in messages.values()}) == 4
    deadline_s = strategy.plans[0].deadline_s
    transfer_s = 2 * ARRAYS.count_bytes() * 8e-6 / 80
    assert dict(messages[1].content["config"]) == {
        "learning-rate": 0.1,
        "server-round": 1,
        "local-steps": 20,
        "local-epochs": 2,
        "batch-size": 10,
        "cutoff-s": pytest.approx(deadline_s - transfer_s),
        "learning-rate-scale": 1.0,
    }
    assert messages[2].content["config"]["local-steps"] == 4
    assert messages[2].content["config"]["local-epochs"] == 1


def test_server_waits_for_one_step_and_the_allowance_beyond_the_deadline():
    strategy = planned({1: state("a"), 2: state("b", "slow")}, transport_allowance_s=3.0)
    messages = configured(strategy, [1, 2])
    deadline_s = strategy.plans[0].deadline_s
    assert strategy.deadline_for(messages[1]) == pytest.approx(deadline_s + 0.1 + 3.0)
    assert strategy.deadline_for(messages[2]) == pytest.approx(deadline_s + 0.5 + 3.0)
    assert strategy.predicted_for(messages[1]) == strategy.plans[0].clients[0].predicted_s
    evaluate = Message(RecordDict(), 1, "evaluate")
    assert strategy.deadline_for(evaluate) is None
    assert strategy.predicted_for(evaluate) is None
    assert strategy.deadline_for(Message(RecordDict(), 99, "train")) is None


def test_client_that_cannot_be_useful_is_not_asked_and_the_reason_is_said_once(caplog):
    steps = MeasuredEstimator({"fast": {10: 0.1}, "slow": {10: 100.0}}, log_sd=0.0)
    known = {node: state(f"c{node}", "slow" if node == 9 else "fast") for node in range(10)}
    strategy = planned(known, estimator=steps)
    with caplog.at_level(logging.WARNING):
        assert 9 not in configured(strategy, range(10))
        assert 9 not in configured(strategy, range(10), server_round=2)
    assert [record.message for record in caplog.records if "left out" in record.message] == [
        "round 1: client c9 is left out: needs 100 s for the fewest useful steps, deadline 2 s"
    ]
    assert not strategy.plans[0].clients[9].participates


def test_round_without_any_useful_client_sends_nothing(caplog):
    settings = PlannerSettings(batch_size=10, deadline_s=0.01)
    strategy = planned({1: state("a")}, settings=settings)
    assert configured(strategy, [1]) == {}
    assert "none of the 1 sampled clients" in caplog.text
    assert strategy.aggregate_train(1, []) == (None, None)


def test_without_any_prediction_there_is_no_cut_off():
    strategy = planned({1: state("a")}, estimator=None)
    (message,) = configured(strategy, [1], ConfigRecord({"cutoff-s": 0.0})).values()
    assert "cutoff-s" not in message.content["config"]
    assert message.content["config"]["local-steps"] == 20
    assert strategy.deadline_for(message) is None
    assert strategy.predicted_for(message) is None


def test_proximal_term_of_fedprox_reaches_every_client():
    strategy = PlannedStrategy(inner(FedProx, proximal_mu=0.1), SETTINGS, STEPS, ClientDirectory({1: state("a")}))
    config = ConfigRecord()
    assert configured(strategy, [1], config)[1].content["config"]["proximal-mu"] == 0.1
    assert dict(config) == {}


def test_differential_privacy_is_refused_with_the_reason():
    private = DifferentialPrivacyServerSideFixedClipping(inner(), 1.0, 1.0, 2)
    with pytest.raises(ValueError, match="stated privacy would not hold"):
        PlannedStrategy(private, SETTINGS, None, ClientDirectory())


@pytest.mark.parametrize(
    "wrong", [{"gamma": 2.0}, {"max_ratio": 0.5}, {"transport_allowance_s": -1.0}, {"forget_after_rounds": 0}]
)
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        planned({}, **wrong)


# What comes back ------------------------------------------------------------------------------------------------------


def aggregate(strategy, replies, server_round=1):
    arrays, metrics = strategy.aggregate_train(server_round, replies)
    return None if arrays is None else float(arrays["0"].numpy()[0]), metrics


def test_weights_are_data_times_the_tempered_lack_of_work():
    strategy = planned({1: state("a", samples=300), 2: state("b", "slow", samples=100)}, gamma=1.0, max_ratio=100.0)
    messages = configured(strategy, [1, 2])
    replies = [reply_to(messages[1], 1.0, told(20)), reply_to(messages[2], 5.0, told(5))]
    value, metrics = aggregate(strategy, replies)
    weights = np.array([300 / 20, 100 / 5])
    assert value == pytest.approx(float(weights @ [1.0, 5.0] / weights.sum()))
    assert metrics["loss"] == pytest.approx(value)
    assert replies[0].content["metrics"]["num-examples"] == 100


def test_gamma_zero_is_federated_averaging():
    strategy = planned({1: state("a", samples=300), 2: state("b", samples=100)}, gamma=0.0)
    messages = configured(strategy, [1, 2])
    value, _ = aggregate(strategy, [reply_to(messages[1], 1.0, told(20)), reply_to(messages[2], 5.0, told(5))])
    assert value == pytest.approx(2.0)


BROKEN = {
    "missing": None,
    "nan": ConfigRecord({**told(20).to_record(), "train-s": math.nan}),
    "negative": ConfigRecord({**told(20).to_record(), "steps-done": -1}),
    "text": ConfigRecord({**told(20).to_record(), "steps-done": "many"}),
    "impossible": ConfigRecord({**told(20).to_record(), "examples-done": 10**9}),
}


@pytest.mark.parametrize("telemetry", BROKEN.values(), ids=BROKEN)
def test_broken_telemetry_counts_as_the_planned_steps(telemetry, caplog):
    strategy = planned({1: state("a"), 2: state("b")}, gamma=1.0)
    messages = configured(strategy, [1, 2])
    value, _ = aggregate(strategy, [reply_to(messages[1], 1.0, told(20)), reply_to(messages[2], 5.0, telemetry)])
    assert value == pytest.approx(3.0)
    assert "telemetry of client b is not used" in caplog.text
    assert strategy.estimator.correction("fast", "b") == strategy.estimator.correction("fast")


def test_reply_without_work_is_left_out(caplog):
    strategy = planned({1: state("a"), 2: state("b")})
    messages = configured(strategy, [1, 2])
    idle = told(0, train_s=0.0, total_s=1.0)
    value, _ = aggregate(strategy, [reply_to(messages[1], 1.0, told(20)), reply_to(messages[2], 5.0, idle)])
    assert value == 1.0
    assert "client b did no step" in caplog.text


def test_nothing_usable_keeps_the_model(caplog):
    strategy = planned({1: state("a"), 2: state("b")})
    messages = configured(strategy, [1, 2])
    error = Message(Error(2, "raised"), reply_to=messages[1])
    bare = Message(RecordDict(), reply_to=messages[2])
    assert strategy.aggregate_train(1, [error, bare]) == (None, None)
    assert strategy.aggregate_train(1, iter([])) == (None, None)
    assert "no usable reply" in caplog.text


def test_error_beside_a_good_reply_is_passed_on():
    strategy = planned({1: state("a"), 2: state("b")})
    messages = configured(strategy, [1, 2])
    error = Message(Error(2, "raised"), reply_to=messages[1])
    assert aggregate(strategy, [error, reply_to(messages[2], 5.0, told(20))])[0] == 5.0


def test_reply_of_an_earlier_round_is_left_out(caplog):
    strategy = planned({1: state("a"), 2: state("b")})
    old = configured(strategy, [1, 2])
    new = configured(strategy, [1, 2], server_round=2)
    value, _ = aggregate(strategy, [reply_to(old[1], 1.0, told(20)), reply_to(new[2], 5.0, told(20))], server_round=2)
    assert value == 5.0
    assert "answers no message of this round" in caplog.text


def test_grid_without_message_ids_is_matched_by_node():
    strategy = planned({1: state("a"), 2: state("b")})
    grid = SimpleNamespace(get_node_ids=lambda: [1, 2])
    messages = strategy.configure_train(1, ARRAYS, ConfigRecord(), grid)
    assert aggregate(strategy, [reply_to(message, 2.0, told(20)) for message in messages])[0] == 2.0


# What is learned ------------------------------------------------------------------------------------------------------


def test_telemetry_corrects_the_next_plan():
    strategy = planned({1: state("a"), 2: state("b")})
    for server_round in (1, 2):
        messages = configured(strategy, [1, 2], server_round=server_round)
        aggregate(strategy, [reply_to(messages[1], 1, told(20)), reply_to(messages[2], 1, told(20, 0.3))], server_round)
    messages = configured(strategy, [1, 2], server_round=3)
    fast, slow = (messages[node].content["config"]["local-steps"] for node in (1, 2))
    assert fast / slow == pytest.approx(3.0, rel=0.2)


def test_late_reply_teaches_too():
    strategy = planned({1: state("a"), 2: state("b")})
    for _ in range(2):
        strategy.late_reply(2, told(20, 0.4, startup_s=1.5, total_s=9.5))
    assert strategy.estimator.correction("fast", "b") == pytest.approx(4.0)
    assert strategy.clients.state(2).startup_s == 1.5


def test_step_time_that_no_device_has_is_not_learned_from(caplog):
    strategy = planned({1: state("a")})
    strategy.late_reply(1, told(10**9, 1e-12, examples_done=0, total_s=1.0))
    assert strategy.estimator.correction("fast", "a") == 1.0
    assert "not learned from" in caplog.text


def test_client_left_out_for_long_gets_another_chance():
    known = {1: state("a"), 2: state("b"), 3: state("c"), 4: state("d"), 5: state("e")}
    strategy = planned(known, forget_after_rounds=3)
    strategy.late_reply(5, told(1, 0.1, startup_s=1e6, total_s=1e6 + 1))
    asked = [5 in configured(strategy, known, server_round=number) for number in range(1, 6)]
    assert asked == [False, False, False, True, True]


def test_unknown_client_is_discovered_in_its_first_round():
    strategy = planned({1: state("a")})
    first = configured(strategy, [1, 2])
    assert first[2].content["config"].get("local-steps") is None
    assert first[2].content["config"]["local-epochs"] == 2
    assert [own.client for own in strategy.plans[0].clients] == ["a"]
    discovered = told(16, 0.5, device="slow", examples_done=2 * 80)
    value, _ = aggregate(strategy, [reply_to(first[1], 1.0, told(16)), reply_to(first[2], 5.0, discovered, examples=7)])
    assert value == pytest.approx((100 * 1.0 + 80 * 5.0) / 180)
    assert strategy.clients.state(2).samples == 80
    second = configured(strategy, [1, 2], server_round=2)
    assert second[2].content["config"]["local-steps"] >= 1
    assert strategy.plans[1].clients[1].client == "2"


def test_unknown_client_that_was_cut_is_taken_at_its_word_about_its_data():
    strategy = planned({1: state("a")})
    messages = configured(strategy, [1, 2])
    cut = told(3, 0.5, device="slow", cut=True)
    aggregate(strategy, [reply_to(messages[2], 5.0, cut, examples=70)])
    assert strategy.clients.state(2).samples == 70


def test_unknown_client_with_broken_telemetry_still_counts():
    strategy = planned({1: state("a")})
    messages = configured(strategy, [1, 2])
    value, _ = aggregate(
        strategy, [reply_to(messages[1], 1.0, told(20)), reply_to(messages[2], 5.0, None, examples=300)]
    )
    assert value == pytest.approx(4.0)
    assert strategy.clients.state(2) is None


# A whole federation in virtual time -----------------------------------------------------------------------------------

SAMPLES = 100
app = ClientApp()


@app.train()
def train(message, context):
    config = message.content["config"]
    size = int(config.get("batch-size", 10))
    budget = Budget.from_message(message, local_epochs=2)
    weights = message.content["arrays"]["0"].numpy()
    target = 1.0 + context.node_config["partition-id"]
    for _ in range(budget.local_epochs):
        for batch in budget.limit([np.zeros(min(size, SAMPLES - i)) for i in range(0, SAMPLES, size)]):
            weights = weights + 0.05 * (target - weights) * (len(batch) > 0)
    content = RecordDict(
        {
            "arrays": ArrayRecord([weights]),
            "metrics": MetricRecord({"num-examples": SAMPLES, "loss": float(abs(target - weights[0]))}),
            "devprof": budget.telemetry(context, size).to_record(),
        }
    )
    return Message(content, reply_to=message)


def devices(slow_step_s=0.5, count=5):
    fast = [VirtualDevice("fast", "cpu", LINK, 0.0, ReplayedStepTimes({10: [0.1]})) for _ in range(count - 1)]
    return [*fast, VirtualDevice("slow", "cpu", LINK, 0.0, ReplayedStepTimes({10: [slow_step_s]}))]


def federation(strategy_inner, *, slow_step_s=0.5, estimator=STEPS, known=True, rounds=2):
    grid = VirtualGrid(app, devices(slow_step_s), seed=1)
    names = [device.name for device in devices()]
    states = {node: state(f"c{i}", names[i]) for i, node in enumerate(grid.get_node_ids())} if known else {}
    strategy = PlannedStrategy(strategy_inner, SETTINGS, estimator, ClientDirectory(states), transport_allowance_s=0.5)
    result = strategy.start(grid, ARRAYS, num_rounds=rounds)
    return strategy, grid, result


@pytest.mark.parametrize("kind", [FedAvg, FedProx, FedAdam, FedMedian])
def test_two_rounds_under_any_inner_strategy(kind):
    strategy, grid, result = federation(inner(kind))
    assert [row.outcome for row in strategy.round_logs] == ["used"] * 10
    assert [row.strategy for row in strategy.round_logs] == ["PlannedStrategy"] * 10
    assert {row.client: row.steps_done for row in strategy.round_logs} == {
        "c0": 20,
        "c1": 20,
        "c2": 20,
        "c3": 20,
        "c4": 4,
    }
    rounds_s = [max(own.predicted_s for own in plan.clients) for plan in strategy.plans]
    assert grid.clock.now_s() == pytest.approx(sum(rounds_s))
    assert all(taken_s <= plan.deadline_s for taken_s, plan in zip(rounds_s, strategy.plans, strict=True))
    assert float(result.arrays["0"].numpy()[0]) > 0


def test_predictions_come_true_where_devices_are_as_known():
    strategy, _, _ = federation(inner())
    for row in strategy.round_logs:
        assert row.finished_s - row.sent_s == pytest.approx(row.predicted_s, abs=1e-6)


def test_device_slower_than_known_is_cut_and_then_planned_right():
    strategy, _, _ = federation(inner(), slow_step_s=1.2, rounds=5)
    rows = [row for row in strategy.round_logs if row.device == "slow"]
    assert rows[0].outcome == "partial"
    assert rows[-1].outcome == "used"
    assert rows[-1].local_steps == rows[-1].steps_done == 1


def test_federation_that_knows_nothing_learns_to_plan():
    strategy, grid, _ = federation(inner(), estimator=None, known=False, rounds=3)
    assert [row.local_steps for row in strategy.round_logs[:5]] == [None] * 5
    first = [job for job in grid.jobs if job.category == "train"][:5]
    assert max(job.finished_s - job.start_s for job in first) == pytest.approx(10.0, rel=1e-3)
    last = strategy.round_logs[-5:]
    assert max(row.steps_done for row in last) == 20
    assert min(row.steps_done for row in last) < 10
    assert last[0].round_end_s - last[0].sent_s < 5.0


def test_deadline_grid_of_the_users_is_used_as_it_is():
    grid = DeadlineGrid(VirtualGrid(app, devices(), seed=1), strategy="mine")
    strategy = planned({}, estimator=None)
    strategy.start(grid, ARRAYS, num_rounds=1)
    assert strategy.grid is grid
    assert {row.strategy for row in strategy.round_logs} == {"mine"}


def test_log_is_empty_before_the_start():
    assert planned({}).round_logs == []


# What is learned beside step times ------------------------------------------------------------------------------------


def test_scheduling_is_learned_planned_for_and_predicted():
    # A start-up of 3 s that nobody told the planner of.
    slow_start = [replace(device, startup_s=3.0) for device in devices()]
    grid = VirtualGrid(app, slow_start, seed=1)
    names = [device.name for device in slow_start]
    states = {node: state(f"c{i}", names[i]) for i, node in enumerate(grid.get_node_ids())}
    strategy = PlannedStrategy(inner(), SETTINGS, STEPS, ClientDirectory(states))
    strategy.start(grid, ARRAYS, num_rounds=4)
    last = strategy.round_logs[-5:]
    for row in last:
        assert row.predicted_s == pytest.approx(row.finished_s - row.sent_s, rel=0.02)
        assert row.finished_s - row.sent_s <= strategy.plans[-1].deadline_s


def test_nodes_that_can_say_what_they_are_are_planned_for_in_the_first_round():
    telling = ClientApp()
    telling.train()(train)
    telling.query(ACTION)(describe_node(lambda message, context: SAMPLES))
    grid = VirtualGrid(telling, devices(), seed=1)
    strategy = PlannedStrategy(inner(), SETTINGS, STEPS, ClientDirectory(), transport_allowance_s=0.5)
    strategy.start(grid, ARRAYS, num_rounds=1)
    assert {row.device for row in strategy.round_logs} == {"fast", "slow"}
    assert all(row.predicted_s is not None for row in strategy.round_logs)
    assert [own.participates for own in strategy.plans[0].clients] == [True] * 5


def test_one_object_runs_on_one_engine_after_the_other():
    strategy = PlannedStrategy(inner(), SETTINGS, STEPS, ClientDirectory(), transport_allowance_s=0.5)
    telling = ClientApp()
    telling.train()(train)
    telling.query(ACTION)(describe_node(lambda message, context: SAMPLES))
    for seed in (1, 2):
        grid = VirtualGrid(telling, devices(), seed=seed)
        strategy.start(grid, ARRAYS, num_rounds=2)
        assert [row.outcome for row in strategy.round_logs] == ["used"] * 10
    assert all(row.predicted_s is not None for row in strategy.round_logs)


# A client that lies ---------------------------------------------------------------------------------------------------


def liars_round(lie, *, rounds=6):
    """Deadlines of a federation of ten equal boards, one of which lies in its telemetry."""
    honest = devices()[0]
    lying = ClientApp()

    @lying.train()
    def lying_train(message, context):
        reply = train(message, context)
        if context.node_config["partition-id"] == 0:
            for key, value in lie(dict(reply.content["devprof"])).items():
                reply.content["devprof"][key] = value
        return reply

    grid = VirtualGrid(lying, [honest] * 10, seed=1)
    states = {node: state(f"c{i}") for i, node in enumerate(grid.get_node_ids())}
    strategy = PlannedStrategy(inner(), SETTINGS, STEPS, ClientDirectory(states))
    strategy.start(grid, ARRAYS, num_rounds=rounds)
    return [plan.deadline_s for plan in strategy.plans]


@pytest.mark.parametrize(
    "lie",
    [
        lambda told: {"train-s": told["train-s"] / 1000, "total-s": told["total-s"] / 1000},
        lambda told: {"train-s": told["train-s"] / 1000},
        lambda told: {"steps-done": told["steps-done"] * 1000, "examples-done": told["examples-done"] * 1000},
        lambda told: {"train-s": told["train-s"] * 1000, "total-s": told["total-s"] * 1000},
        lambda told: {"startup-s": told["total-s"], "train-s": 1e-6},
    ],
    ids=["a thousand times as fast", "fast steps", "a thousand times the steps", "slow", "all start-up"],
)
def test_one_liar_in_ten_moves_the_deadline_by_little(lie):
    honest = liars_round(lambda told: {})
    lied = liars_round(lie)
    for with_liar, without in zip(lied, honest, strict=True):
        assert without / 2 <= with_liar <= without * 2
