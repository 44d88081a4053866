from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, FedProx

from devprof.plan.settings import ClientState, PlannerSettings
from devprof.records import Link
from strategies.client import Budget
from strategies.compat import set_message_id, task_identity
from strategies.cutoff import CutoffStrategy
from strategies.cutoffs import FastestProcessor
from strategies.directory import ClientDirectory
from strategies.estimators import MeasuredEstimator
from strategies.telemetry import Telemetry
from strategies.virtual import ReplayedStepTimes, VirtualDevice, VirtualGrid

ARRAYS = ArrayRecord([np.zeros(3)])
PROCESSORS = {1: "cpu", 2: "cuda", 3: "cpu"}


@pytest.fixture(autouse=True)
def _identity():
    with task_identity():
        yield


def inner(kind=FedAvg):
    return kind(fraction_evaluate=0.0, min_available_nodes=1, min_train_nodes=1)


def configured(strategy, config=None):
    grid = SimpleNamespace(get_node_ids=lambda: list(PROCESSORS))
    messages = strategy.configure_train(1, ARRAYS, config or ConfigRecord(), grid)
    for message in messages:
        set_message_id(message, f"node-{message.metadata.dst_node_id}")
    return {message.metadata.dst_node_id: message for message in messages}


def reply_to(message, value, examples_done, examples=100):
    content = RecordDict(
        {"arrays": ArrayRecord([np.full(3, value)]), "metrics": MetricRecord({"num-examples": examples})}
    )
    if examples_done is not None:
        told = Telemetry("d", "cpu", -(-examples_done // 10), examples_done, 10, 1.0, 0.0, 1.0, cut=True)
        content["devprof"] = told.to_record()
    return Message(content, reply_to=message)


def value_of(arrays):
    return float(arrays["0"].numpy()[0])


def test_each_processor_has_its_cut_off(caplog):
    strategy = CutoffStrategy(inner(), {"cpu": 120.0}, PROCESSORS.get, local_epochs=3, batch_size=8)
    config = ConfigRecord({"cutoff-s": 5.0, "lr": 0.1})
    messages = configured(strategy, config)
    assert dict(messages[1].content["config"]) == {
        "server-round": 1,
        "lr": 0.1,
        "cutoff-s": 120.0,
        "local-epochs": 3,
        "batch-size": 8,
    }
    assert "cutoff-s" not in messages[2].content["config"]
    assert dict(config) == {"cutoff-s": 5.0, "lr": 0.1}
    assert len({id(message.content["config"]) for message in messages.values()}) == 3
    assert caplog.text.count("no cut-off is set for the processor 'cuda'") == 1


def test_server_waits_for_the_cut_off_and_the_transport():
    strategy = CutoffStrategy(inner(), {"cpu": 120.0}.get, PROCESSORS.get, transport_allowance_s=7.0)
    messages = configured(strategy)
    assert strategy.deadline_for(messages[1]) == 127.0
    assert strategy.deadline_for(messages[2]) is None
    assert strategy.predicted_for(messages[1]) is None


def test_without_further_wishes_the_rest_of_the_config_stays():
    messages = configured(CutoffStrategy(inner(), {"cpu": 1.0}, PROCESSORS.get), ConfigRecord({"local-epochs": 7}))
    assert messages[1].content["config"]["local-epochs"] == 7


def test_results_weigh_as_much_as_the_examples_done():
    strategy = CutoffStrategy(inner(), {"cpu": 1.0, "cuda": 1.0}, PROCESSORS.get)
    messages = configured(strategy)
    replies = [reply_to(messages[1], 1.0, 30), reply_to(messages[2], 5.0, 10)]
    assert value_of(strategy.aggregate_train(1, replies)[0]) == pytest.approx(2.0)


def test_without_telemetry_the_claimed_weight_counts():
    strategy = CutoffStrategy(inner(), {"cpu": 1.0, "cuda": 1.0}, PROCESSORS.get)
    messages = configured(strategy)
    replies = [
        reply_to(messages[1], 1.0, 30),
        reply_to(messages[2], 5.0, None, examples=10),
        reply_to(messages[3], 9.0, None, examples=0),
    ]
    assert value_of(strategy.aggregate_train(1, replies)[0]) == pytest.approx(2.0)


def test_nothing_usable_keeps_the_model():
    strategy = CutoffStrategy(inner(), {"cpu": 1.0}, PROCESSORS.get)
    messages = configured(strategy)
    assert strategy.aggregate_train(1, [reply_to(messages[3], 9.0, None, examples=0)]) == (None, None)


@pytest.mark.parametrize("cutoff_s", [-1.0, math.nan, math.inf])
def test_cut_off_that_is_none_is_refused(cutoff_s):
    with pytest.raises(ValueError, match="'cpu'"):
        CutoffStrategy(inner(), {"cpu": cutoff_s}, PROCESSORS.get)
    with pytest.raises(ValueError, match="at least 0 and finite"):
        configured(CutoffStrategy(inner(), lambda _: cutoff_s, PROCESSORS.get))
    with pytest.raises(ValueError, match="transport_allowance_s"):
        CutoffStrategy(inner(), {}, PROCESSORS.get, transport_allowance_s=cutoff_s)


app = ClientApp()


@app.train()
def train(message, context):
    budget = Budget.from_message(message)
    weights = message.content["arrays"]["0"].numpy()
    for _ in range(budget.local_epochs):
        for _batch in budget.limit([np.zeros(10)] * 10):
            weights = weights + 1.0
    content = RecordDict({"arrays": ArrayRecord([weights]), "metrics": MetricRecord({"num-examples": 100})})
    content["devprof"] = budget.telemetry(context, 10).to_record()
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 10, "accuracy": 0.5})}), reply_to=message)


@pytest.mark.parametrize("kind", [FedAvg, FedProx, FedAdam, FedMedian])
def test_slow_processor_is_cut_off_under_any_inner_strategy(kind):
    link = Link(math.inf, math.inf)
    slow, fast = (
        VirtualDevice(n, p, link, 0.0, ReplayedStepTimes({10: [s]}))
        for n, p, s in (("pi", "cpu", 1.0), ("tx2", "cuda", 0.5))
    )
    grid = VirtualGrid(app, [slow, fast], seed=1)
    processors = dict(zip(grid.get_node_ids(), ("cpu", "cuda"), strict=True))
    strategy = CutoffStrategy(
        kind(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1),
        {"cpu": 10.0, "cuda": 20.0},
        processors.get,
        local_epochs=2,
        client_name=lambda node: f"client-{processors[node]}",
        name="tau",
    )
    result = strategy.start(grid, ARRAYS, num_rounds=2)
    rows = [(row.client, row.outcome, row.steps_done, row.round_end_s - row.sent_s) for row in strategy.round_logs]
    assert sorted(rows) == [
        *[("client-cpu", "partial", 10, pytest.approx(10.0))] * 2,
        *[("client-cuda", "used", 20, pytest.approx(10.0))] * 2,
    ]
    assert {row.strategy for row in strategy.round_logs} == {"tau"}
    assert result.evaluate_metrics_clientapp[2]["accuracy"] == 0.5
    if kind is FedAvg:
        assert value_of(result.arrays) == pytest.approx(2 * (10 * 100 + 20 * 200) / 300)


# Tau of the fastest processor -----------------------------------------------------------------------------------------

SETTINGS = PlannerSettings(local_epochs=2, batch_size=10)
STEPS = MeasuredEstimator({"gpu": {10: 0.1}, "board": {10: 0.5}}, log_sd=0.01)


def client(name, device, processor):
    return ClientState(name, device, processor, 100, Link(math.inf, math.inf), startup_s=1.0)


KNOWN = {1: client("a", "board", "cpu"), 2: client("b", "gpu", "cuda"), 3: client("c", "board", "cpu")}


def test_slower_processors_end_when_the_fastest_does():
    directory = ClientDirectory(KNOWN)
    strategy = CutoffStrategy(inner(), FastestProcessor(SETTINGS, directory, STEPS), PROCESSORS.get)
    messages = configured(strategy)
    assert messages[1].content["config"]["cutoff-s"] == pytest.approx(1.0 + 20 * 0.1)
    assert "cutoff-s" not in messages[2].content["config"]


def test_without_predictions_the_first_round_tells():
    policy = FastestProcessor(SETTINGS, ClientDirectory(KNOWN))
    strategy = CutoffStrategy(inner(), policy, PROCESSORS.get)
    messages = configured(strategy)
    assert all("cutoff-s" not in message.content["config"] for message in messages.values())

    def answered(node, step_s):
        reply = reply_to(messages[node], 1.0, None)
        told = Telemetry("any", PROCESSORS[node], 20, 200, 10, 20 * step_s, 2.0, 2.0 + 20 * step_s, cut=False)
        reply.content["devprof"] = told.to_record()
        return reply

    strategy.aggregate_train(1, [answered(1, 0.5), answered(2, 0.2), answered(3, 0.4)])
    second = configured(strategy)
    assert second[1].content["config"]["cutoff-s"] == second[3].content["config"]["cutoff-s"]
    assert second[1].content["config"]["cutoff-s"] == pytest.approx(2.0 + 20 * 0.2)


def test_one_kind_of_processor_has_no_faster_one():
    same = {node: replace(state, processor="cpu") for node, state in KNOWN.items()}
    assert FastestProcessor(SETTINGS, ClientDirectory(same), STEPS).cutoffs(same) == {}
