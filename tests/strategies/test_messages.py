from __future__ import annotations

import math

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from strategies.compat import task_identity
from strategies.messages import (
    config_key,
    most_common,
    reply_shape,
    reweighted,
    told_metrics,
    told_weight,
    weight_key,
    with_config,
)
from strategies.screening import RejectedReplyError


@pytest.fixture(autouse=True)
def _identity():
    with task_identity():
        yield


def instruction(config=None, node=7, key="config"):
    arrays = ArrayRecord([np.zeros(2)])
    return Message(RecordDict({"arrays": arrays, key: ConfigRecord(dict(config or {}))}), node, "train", group_id="3")


def reply_to(message, values=(1.0, 2.0), metrics=None, *, names=("0",)):
    arrays = ArrayRecord({name: ArrayRecord([np.array(values)])["0"] for name in names})
    metrics = {"num-examples": 10, "loss": 0.5} if metrics is None else metrics
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)}), reply_to=message)


def test_new_message_has_its_own_config_and_shares_the_arrays():
    given = instruction({"lr": 0.1, "cutoff-s": 0.0})
    made = with_config(given, {"local-steps": 5, "cutoff-s": None})
    assert made is not given
    assert dict(made.content["config"]) == {"lr": 0.1, "local-steps": 5}
    assert dict(given.content["config"]) == {"lr": 0.1, "cutoff-s": 0.0}
    assert made.content["arrays"] is given.content["arrays"]
    assert (made.metadata.dst_node_id, made.metadata.message_type, made.metadata.group_id) == (7, "train", "3")
    assert made.metadata.ttl == given.metadata.ttl


def test_config_under_another_name_stays_beside_the_one_that_the_budget_reads():
    given = instruction({"lr": 0.1}, key="settings")
    made = with_config(given, {"local-steps": 5}, key="settings")
    assert dict(made.content["settings"]) == {"lr": 0.1}
    assert dict(made.content["config"]) == {"lr": 0.1, "local-steps": 5}
    made.content["settings"]["lr"] = 9.0
    assert given.content["settings"]["lr"] == 0.1


def test_message_without_config_gets_one():
    given = Message(RecordDict({"arrays": ArrayRecord([np.zeros(2)])}), 7, "train")
    assert dict(with_config(given, {"local-steps": 5}).content["config"]) == {"local-steps": 5}


def test_keys_are_those_of_the_strategy():
    strategy = FedAvg(configrecord_key="settings", weighted_by_key="size")
    assert (config_key(strategy), weight_key(strategy)) == ("settings", "size")
    assert (config_key(object()), weight_key(object())) == ("config", "num-examples")


def test_reweighting_changes_a_copy():
    reply = reply_to(instruction())
    made = reweighted(reply, 2.5, "num-examples")
    assert dict(made.content["metrics"]) == {"num-examples": 2.5, "loss": 0.5}
    assert dict(reply.content["metrics"]) == {"num-examples": 10, "loss": 0.5}
    made.content["arrays"].pop("0")
    assert list(reply.content["arrays"]) == ["0"]
    assert made.metadata.src_node_id == reply.metadata.src_node_id


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_weight_that_would_break_the_average_is_refused(weight):
    with pytest.raises(ValueError, match="weight"):
        reweighted(reply_to(instruction()), weight, "num-examples")


@pytest.mark.parametrize(
    ("metrics", "weight"),
    [({"n": 3}, 3.0), ({"n": 0}, None), ({"n": math.nan}, None), ({"n": [1, 2]}, None), ({"m": 3}, None)],
)
def test_claimed_weight_must_be_a_positive_number(metrics, weight):
    assert told_weight(reply_to(instruction(), metrics=metrics), "n") == weight


def test_reweighting_can_replace_arrays_and_metrics():
    reply = reply_to(instruction())
    arrays = ArrayRecord([np.ones(5)])
    made = reweighted(reply, 2.0, "num-examples", arrays=arrays, metrics={"loss": 9.0})
    assert dict(made.content["metrics"]) == {"loss": 9.0, "num-examples": 2.0}
    assert made.content["arrays"] is arrays
    assert reply.content["arrays"]["0"].shape == (2,)


def test_huge_integer_is_no_weight():
    assert told_weight(reply_to(instruction(), metrics={"n": 10**400}), "n") is None


def test_defaults_are_written_only_where_nobody_wrote():
    given = instruction({"proximal-mu": 0.5})
    assert with_config(given, {}, defaults={"proximal-mu": 0.1}).content["config"]["proximal-mu"] == 0.5
    assert with_config(instruction(), {}, defaults={"proximal-mu": 0.1}).content["config"]["proximal-mu"] == 0.1


def test_content_can_take_the_place_of_the_messages():
    content = RecordDict({"arrays": ArrayRecord([np.ones(5)]), "config": ConfigRecord({"a": 1})})
    made = with_config(instruction({"lr": 0.1}), {"b": 2}, content=content)
    assert made.content["arrays"] is content["arrays"]
    assert dict(made.content["config"]) == {"a": 1, "b": 2}


def test_shape_is_names_of_records_and_metrics():
    ask = instruction()
    shape = reply_shape(reply_to(ask), "num-examples")
    assert (shape.arrays, shape.metrics, shape.values) == ("arrays", "metrics", {("loss", None)})
    assert shape == reply_shape(reply_to(ask, metrics={"loss": 0.1}), "num-examples")
    assert shape != reply_shape(reply_to(ask, metrics={"loss": [0.1]}), "num-examples")
    assert most_common([reply_shape(reply_to(ask, metrics={}), ""), shape, shape]) == shape
    assert most_common([]) is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, "exactly one ArrayRecord, and has 0"),
        ({"arrays": ArrayRecord([np.zeros(2)])}, "exactly one MetricRecord, and has 0"),
        ({"a": ArrayRecord(), "b": ArrayRecord(), "m": MetricRecord()}, "exactly one ArrayRecord, and has 2"),
        ({"a": ArrayRecord(), "m": MetricRecord(), "n": MetricRecord()}, "exactly one MetricRecord, and has 2"),
    ],
)
def test_reply_with_other_records_is_rejected(content, text):
    reply = Message(RecordDict(content), reply_to=instruction())
    with pytest.raises(RejectedReplyError, match=text):
        reply_shape(reply, "num-examples")


def test_evaluation_needs_no_arrays():
    reply = Message(RecordDict({"metrics": MetricRecord({"n": 1})}), reply_to=instruction())
    assert reply_shape(reply, "n", train=False).arrays is None


def test_told_metrics_leave_out_the_weight():
    assert told_metrics(reply_to(instruction()), "num-examples") == {"loss": 0.5}
