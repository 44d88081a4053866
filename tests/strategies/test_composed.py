from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx, FedXgbBagging, FedXgbCyclic, QFedAvg

from strategies.aggregation import AggregationSettings, Rejection
from strategies.compat import set_message_id, task_identity
from strategies.composed import Assignment, ComposedStrategy
from strategies.telemetry import Telemetry

SENT = {"w": np.zeros(2, np.float32), "running_mean": np.zeros(1), "running_var": np.ones(1), "index": np.arange(2)}


@pytest.fixture(autouse=True)
def _identity():
    with task_identity():
        yield


class Plain(ComposedStrategy):
    """Asks everybody for ten steps of ten examples, and weighs by examples done."""

    def __init__(self, inner=None, **more):
        super().__init__(inner or FedAvg(fraction_evaluate=0.5, min_available_nodes=1, min_train_nodes=1), **more)
        self.taught = []

    def assign(self, server_round, node_ids, size_bytes):
        return {node: Assignment({"local-steps": 10, "batch-size": 10}) for node in node_ids if node != 9}

    def weigh(self, answers):
        return [float(answer.telemetry.examples_done) if answer.telemetry else 50.0 for answer in answers]

    def learn(self, answers):
        self.taught += [answer.node_id for answer in answers if answer.telemetry]

    def client_name(self, node_id):
        return f"c{node_id}"


class LogKeeper(SimpleNamespace):
    """The part of a grid that strategies ask, with canned times."""

    def __init__(self, nodes, elapsed_s=None):
        super().__init__(get_node_ids=lambda: list(nodes), marked={})
        self.elapsed = elapsed_s or {}

    def waited_s(self, message_id):
        return self.elapsed.get(message_id)

    def elapsed_s(self, message_id):
        return self.elapsed.get(message_id)

    def mark_rejected(self, message_id, detail):
        self.marked[message_id] = detail


def arrays(**changes):
    return ArrayRecord(
        {name: Array(np.asarray(values)) for name, values in (SENT | changes).items() if values is not None}
    )


def weights(value):
    return {"w": np.full(2, value, np.float32)}


def configured(strategy, nodes=(1, 2, 3), grid=None, config=None, server_round=1):
    messages = strategy.configure_train(server_round, arrays(), config or ConfigRecord(), grid or LogKeeper(nodes))
    for message in messages:
        set_message_id(message, f"r{server_round}n{message.metadata.dst_node_id}")
    return {message.metadata.dst_node_id: message for message in messages}


def told(steps=10, **more):
    values = {"device": "d", "processor": "cpu", "steps_done": steps, "examples_done": steps * 10, "batch_size": 10}
    values |= {"train_s": steps * 0.1, "startup_s": 0.0, "total_s": steps * 0.1, "cut": False}
    return Telemetry(**(values | more))


def reply(message, value=1.0, telemetry=None, metrics=None, **changes):
    content = {
        "arrays": arrays(**(weights(value) | changes)),
        "metrics": MetricRecord({"num-examples": 100, "loss": float(value)} | (metrics or {})),
        "devprof": (telemetry or told()).to_record(),
    }
    return Message(RecordDict(content), reply_to=message)


def aggregated(strategy, replies, server_round=1):
    whole, metrics = strategy.aggregate_train(server_round, replies)
    return None if whole is None else {name: array.numpy() for name, array in whole.items()}, metrics


# Replies that are screened --------------------------------------------------------------------------------------------


def test_reply_that_is_no_number_is_rejected_and_said_everywhere(caplog):
    strategy, grid = Plain(), LogKeeper([1, 2, 3])
    asked = configured(strategy, grid=grid)
    replies = [reply(asked[1], 1.0), reply(asked[2], math.nan), reply(asked[3], 4.0)]
    whole, metrics = aggregated(strategy, replies)
    assert whole["w"].tolist() == [2.5, 2.5]
    assert metrics["loss"] == 2.5
    detail = "the array 'w' has 2 of 2 values that are not finite"
    assert strategy.rejections == [Rejection(1, 2, "c2", detail)]
    assert grid.marked == {"r1n2": detail}
    assert f"round 1: the reply of client c2 is rejected: {detail}" in caplog.text
    assert strategy.taught == [1, 3]


def test_replies_are_held_against_the_model_that_was_sent_and_not_against_the_most():
    strategy = Plain()
    asked = configured(strategy)
    odd = [reply(asked[node], 9.0, w=np.zeros(3, np.float32)) for node in (1, 2)]
    whole, _ = aggregated(strategy, [*odd, reply(asked[3], 4.0)])
    assert whole["w"].tolist() == [4.0, 4.0]
    assert [rejection.client for rejection in strategy.rejections] == ["c1", "c2"]


def test_metrics_of_another_shape_are_held_against_the_most():
    strategy = Plain()
    asked = configured(strategy)
    odd = reply(asked[1], 9.0, metrics={"loss": [1.0, 2.0]})
    whole, _ = aggregated(strategy, [odd, reply(asked[2], 1.0), reply(asked[3], 1.0)])
    assert whole["w"].tolist() == [1.0, 1.0]
    assert "other names or lengths" in strategy.rejections[0].detail


def test_round_of_rejected_replies_keeps_the_model(caplog):
    strategy = Plain()
    asked = configured(strategy)
    replies = [
        reply(asked[1], math.inf),
        Message(RecordDict(), reply_to=asked[2]),
        Message(Error(2, "raised"), reply_to=asked[3]),
    ]
    assert strategy.aggregate_train(1, replies) == (None, None)
    assert [rejection.client for rejection in strategy.rejections] == ["c1", "c2"]
    assert "no usable reply, the model stays as it is" in caplog.text


def test_loss_that_is_no_number_drops_out_of_the_average_alone():
    strategy = Plain()
    asked = configured(strategy)
    replies = [reply(asked[1], 1.0, metrics={"loss": math.nan}), reply(asked[2], 3.0), reply(asked[3], 5.0)]
    whole, metrics = aggregated(strategy, replies)
    assert whole["w"].tolist() == [3.0, 3.0]
    assert metrics["loss"] == pytest.approx(4.0)


def test_reply_is_rejected_where_the_strategy_weighs_by_a_loss_that_is_no_number():
    inner = QFedAvg(0.1, train_loss_key="loss", min_available_nodes=1, min_train_nodes=1)
    strategy = Plain(inner)
    asked = configured(strategy)
    replies = [reply(asked[1], 1.0, metrics={"loss": math.nan}), reply(asked[2], 1.0, metrics={"loss": -1.0})]
    whole, _ = aggregated(strategy, [*replies, reply(asked[3], 4.0)])
    assert np.isfinite(whole["w"]).all()
    assert ["'loss' must be a number" in rejection.detail for rejection in strategy.rejections] == [True, True]


def test_update_a_thousand_times_as_long_is_scaled_and_named(caplog):
    strategy = Plain(aggregation=AggregationSettings(max_update_ratio=4.0))
    asked = configured(strategy)
    whole, _ = aggregated(strategy, [reply(asked[1], 1.0), reply(asked[2], 1.0), reply(asked[3], 1000.0)])
    assert whole["w"].tolist() == [2.0, 2.0]
    assert "the update of client c3 is scaled by 0.004, to 4 times the median" in caplog.text


def test_without_a_cap_updates_stay_as_they_are():
    strategy = Plain(aggregation=AggregationSettings(max_update_ratio=None))
    asked = configured(strategy)
    whole, _ = aggregated(strategy, [reply(asked[1], 1.0), reply(asked[2], 1.0), reply(asked[3], 1000.0)])
    assert whole["w"].tolist() == [334.0, 334.0]


def test_aggregate_that_is_no_number_is_not_taken(caplog):
    class Broken(FedAvg):
        def aggregate_train(self, server_round, replies):
            return ArrayRecord({"w": Array(np.full(2, math.nan))}), MetricRecord({"loss": 1.0})

    strategy = Plain(Broken(min_available_nodes=1, min_train_nodes=1))
    asked = configured(strategy)
    assert aggregated(strategy, [reply(asked[1])]) == (None, {"loss": 1.0})
    assert "the aggregate of Broken is not finite in 'w'" in caplog.text


def test_strategy_that_gives_no_aggregate_keeps_the_model():
    class Waiting(FedAvg):
        def aggregate_train(self, server_round, replies):
            return None, None

    strategy = Plain(Waiting(min_available_nodes=1, min_train_nodes=1))
    asked = configured(strategy)
    assert aggregated(strategy, [reply(asked[1])]) == (None, None)


# Who answers ----------------------------------------------------------------------------------------------------------


def test_second_answer_to_a_message_is_left_out(caplog):
    strategy = Plain()
    asked = configured(strategy)
    whole, _ = aggregated(strategy, [reply(asked[1], 1.0), reply(asked[1], 9.0), reply(asked[2], 3.0)])
    assert whole["w"].tolist() == [2.0, 2.0]
    assert "a reply of node 1 is left out, it is a second answer to its message" in caplog.text
    assert strategy.rejections == []


def test_second_answer_is_left_out_on_a_grid_without_message_ids():
    strategy = Plain()
    messages = strategy.configure_train(1, arrays(), ConfigRecord(), LogKeeper([1, 2]))
    asked = {message.metadata.dst_node_id: message for message in messages}
    whole, _ = aggregated(strategy, [reply(asked[1], 1.0), reply(asked[1], 9.0), reply(asked[2], 3.0)])
    assert whole["w"].tolist() == [2.0, 2.0]


def test_reply_of_another_round_or_of_a_node_that_was_not_asked_is_left_out(caplog):
    strategy = Plain()
    old = configured(strategy)
    new = configured(strategy, server_round=2)
    stranger = Message(RecordDict(), 7, "train")
    set_message_id(stranger, "r2n7")
    replies = [reply(old[1], 9.0), reply(new[2], 2.0), reply(stranger, 9.0)]
    whole, _ = aggregated(strategy, replies, server_round=2)
    assert whole["w"].tolist() == [2.0, 2.0]
    assert caplog.text.count("answers no message of this round") == 2


def test_node_that_was_sampled_but_not_asked_cannot_answer():
    strategy = Plain()
    messages = strategy.configure_train(1, arrays(), ConfigRecord(), LogKeeper([1, 9]))
    assert [message.metadata.dst_node_id for message in messages] == [1]
    uninvited = Message(RecordDict(), 9, "train")
    whole, _ = aggregated(strategy, [reply(uninvited, 9.0), reply(messages[0], 2.0)])
    assert whole["w"].tolist() == [2.0, 2.0]


def test_reply_that_names_another_source_counts_for_the_node_that_was_asked():
    strategy, grid = Plain(), LogKeeper([1, 2])
    asked = configured(strategy, grid=grid)
    forged = reply(asked[1], math.nan)
    forged.metadata.__dict__["_src_node_id"] = 2
    whole, _ = aggregated(strategy, [forged, reply(asked[2], 3.0)])
    assert whole["w"].tolist() == [3.0, 3.0]
    assert strategy.rejections[0].client == "c1"


def test_replies_without_a_round_are_left_out():
    assert Plain().aggregate_train(1, [reply(Message(RecordDict(), 1, "train"))]) == (None, None)


# What is believed -----------------------------------------------------------------------------------------------------


def test_claims_beyond_the_plan_count_as_the_plan(caplog):
    strategy = Plain()
    asked = configured(strategy)
    liar = told(10_000, examples_done=100_000, train_s=1.0, total_s=1.0)
    whole, _ = aggregated(strategy, [reply(asked[1], 1.0), reply(asked[2], 3.0, liar)])
    assert whole["w"].tolist() == [2.0, 2.0]
    assert "telemetry of client c2: steps-done 10000 counts as 10" in caplog.text


def test_time_that_contradicts_the_servers_clock_is_not_learned_from(caplog):
    strategy = Plain()
    grid = LogKeeper([1, 2], {"r1n1": 1.5, "r1n2": 1.5})
    asked = configured(strategy, grid=grid)
    whole, _ = aggregated(strategy, [reply(asked[1], 1.0), reply(asked[2], 4.0, told(train_s=100.0, total_s=100.0))])
    assert strategy.taught == [1]
    # Without telemetry the weight is 50 in place of 100.
    assert whole["w"].tolist() == [2.0, 2.0]
    assert "telemetry of client c2 is not used: total-s 100.0 is longer than the server waited" in caplog.text


def test_reply_without_a_step_or_without_a_weight_is_marked():
    class Picky(Plain):
        def weigh(self, answers):
            return [None if answer.node_id == 2 else 1.0 for answer in answers]

    strategy, grid = Picky(), LogKeeper([1, 2, 3])
    asked = configured(strategy, grid=grid)
    replies = [reply(asked[1], 9.0, told(0, total_s=1.0)), reply(asked[2], 9.0), reply(asked[3], 3.0)]
    assert aggregated(strategy, replies)[0]["w"].tolist() == [3.0, 3.0]
    assert grid.marked == {"r1n1": "client c1 did no step", "r1n2": "it has no weight"}


# The two parts of the model -------------------------------------------------------------------------------------------


def test_clients_get_one_whole_model_and_the_inner_strategy_its_part():
    inner = FedAdam(min_available_nodes=1, min_train_nodes=1)
    strategy = Plain(inner)
    asked = configured(strategy)
    assert len({id(message.content["arrays"]) for message in asked.values()}) == 1
    assert list(asked[1].content["arrays"]) == list(SENT)
    assert list(inner.current_arrays) == ["w"]


def test_statistics_are_pooled_beside_a_server_optimizer():
    strategy = Plain(FedAdam(min_available_nodes=1, min_train_nodes=1))
    asked = configured(strategy)
    own = {"running_mean": np.array([4.0]), "running_var": np.array([2.0]), "index": np.array([0, 5])}
    whole, _ = aggregated(strategy, [reply(asked[1], 1.0, **own), reply(asked[2], 1.0, **own)])
    assert {name: values.dtype.name for name, values in whole.items()} == {
        name: values.dtype.name for name, values in SENT.items()
    }
    assert (whole["running_mean"], whole["running_var"], whole["index"].tolist()) == (4.0, 2.0, [0, 5])
    assert whole["w"][0] == pytest.approx(0.1, rel=0.3)


def test_unverified_claim_of_examples_pulls_the_statistics_by_a_bounded_share():
    class Unplanned(Plain):
        def assign(self, server_round, node_ids, size_bytes):
            return {node: Assignment({}) for node in node_ids}

    strategy = Unplanned()
    asked = configured(strategy)
    honest = [reply(asked[node], 1.0, told(100)) for node in (1, 2)]
    liar = reply(asked[3], 1.0, told(100, examples_done=10**9, batch_size=10**8), running_mean=np.array([10.0]))
    whole, _ = aggregated(strategy, [*honest, liar])
    assert whole["running_mean"].item() == pytest.approx(10.0 * 3 / 5)


def test_local_mode_takes_replies_without_batch_norm():
    strategy = Plain(aggregation=AggregationSettings(batch_norm="local"))
    asked = configured(strategy)
    without = {"running_mean": None, "running_var": None}
    replies = [reply(asked[1], 1.0, **without), reply(asked[2], 3.0, running_var=np.array([math.nan]))]
    whole, _ = aggregated(strategy, replies)
    assert whole["w"].tolist() == [2.0, 2.0]
    assert (whole["running_mean"], whole["running_var"]) == (0.0, 1.0)


def test_inner_mode_leaves_all_to_the_inner_strategy():
    inner = FedAdam(min_available_nodes=1, min_train_nodes=1)
    configured(Plain(inner, aggregation=AggregationSettings(batch_norm="inner")))
    assert list(inner.current_arrays) == list(SENT)


# Evaluation -----------------------------------------------------------------------------------------------------------


def evaluated(strategy, *metrics):
    inner = strategy.inner
    messages = strategy.configure_evaluate(1, arrays(), ConfigRecord(), LogKeeper(range(1, 2 * len(metrics) + 1)))
    assert len(messages) == max(len(metrics), inner.min_evaluate_nodes)
    replies = []
    for message, own in zip(messages, metrics, strict=False):
        set_message_id(message, f"e{message.metadata.dst_node_id}")
        replies.append(Message(RecordDict({"metrics": MetricRecord(own)} if own is not None else {}), reply_to=message))
    return strategy.aggregate_evaluate(1, replies)


def test_evaluation_is_not_ended_nor_spoilt_by_single_replies(caplog):
    metrics = evaluated(
        Plain(),
        {"num-examples": 1, "accuracy": 0.5},
        {"num-examples": 3, "accuracy": 0.9},
        {"num-examples": 9, "accuracy": math.nan},
        {"num-examples": 0, "accuracy": 0.0},
        {"num-examples": 1, "other": 0.0},
        None,
    )
    assert dict(metrics) == {"accuracy": pytest.approx(0.8)}
    assert caplog.text.count("is not used") == 3


def test_evaluation_without_replies_has_no_metrics():
    strategy = Plain()
    assert strategy.aggregate_evaluate(1, []) is None
    assert evaluated(strategy, None, None) is None


# What is sent beside the model ----------------------------------------------------------------------------------------


def test_proximal_term_is_sent_where_nobody_else_names_one():
    def sent(strategy, **config):
        return configured(strategy, config=ConfigRecord(config))[1].content["config"].get("proximal-mu")

    own = {"min_available_nodes": 1, "min_train_nodes": 1}
    assert sent(Plain(proximal_mu=0.1)) == 0.1
    assert sent(Plain(FedProx(proximal_mu=0.5, **own), proximal_mu=0.1)) == 0.5
    assert sent(Plain(proximal_mu=0.1), **{"proximal-mu": 0.7}) == 0.7
    assert sent(Plain()) is None


@pytest.mark.parametrize("proximal_mu", [-1.0, math.nan, math.inf])
def test_proximal_term_out_of_range_is_refused(proximal_mu):
    with pytest.raises(ValueError, match="proximal_mu"):
        Plain(proximal_mu=proximal_mu)


@pytest.mark.parametrize("kind", [FedXgbBagging, FedXgbCyclic])
def test_boosted_trees_are_refused_with_the_reason(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__} cannot be wrapped: its model is a growing list of trees"):
        Plain(kind())


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_norm": "mean"},
        {"batch_norm_momentum": 0.0},
        {"batch_norm_momentum": 1.1},
        {"max_update_ratio": 0.5},
        {"max_update_ratio": math.nan},
        {"max_claim_ratio": 0.5},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AggregationSettings(**wrong)
