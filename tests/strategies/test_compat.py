from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from strategies.compat import (
    copy_content,
    copy_message,
    empty_run,
    ensure_task_identity,
    flower_offline_environment,
    set_message_id,
    set_source_node,
    task_identity,
)


@pytest.fixture(autouse=True)
def no_identity(monkeypatch):
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, None)


def content() -> RecordDict:
    return RecordDict(
        {
            "arrays": ArrayRecord([np.arange(4.0)]),
            "metrics": MetricRecord({"loss": [1.0, 2.0]}),
            "config": ConfigRecord({"names": ["a", "b"], "blob": b"x"}),
        }
    )


def test_messages_cannot_be_made_outside_a_run_without_help():
    with pytest.raises(RuntimeError):
        Message(content(), 5, "train")


def test_a_message_can_be_made_once_the_identity_is_ensured():
    ensure_task_identity()
    message = Message(content(), 5, "train")
    assert (message.metadata.run_id, message.metadata.src_node_id) == (1, 1)


def test_what_a_run_has_set_is_kept():
    TaskIdentity.run_id = 77
    ensure_task_identity()
    assert TaskIdentity.run_id == 77
    assert TaskIdentity.node_id == 1


def test_the_context_manager_leaves_the_process_as_it_was():
    TaskIdentity.run_id = 77
    with task_identity():
        assert TaskIdentity.node_id == 1
        Message(content(), 5, "train")
    assert TaskIdentity._node_id is None
    assert TaskIdentity.run_id == 77


def test_the_context_manager_cleans_up_after_an_error():
    with pytest.raises(ZeroDivisionError), task_identity():
        raise ZeroDivisionError
    assert TaskIdentity._run_id is None


def test_ids_that_flower_does_not_let_set_are_set():
    with task_identity():
        message = Message(content(), 5, "train")
        set_message_id(message, "m-1")
        reply = Message(Error(code=3, reason="gone"), reply_to=message)
        set_source_node(reply, 42)
    assert message.metadata.message_id == "m-1"
    assert reply.metadata.reply_to_message_id == "m-1"
    assert reply.metadata.src_node_id == 42


def test_a_copied_content_shares_nothing_that_can_be_changed():
    original = content()
    copied = copy_content(original)
    assert copied == original
    assert list(copied) == list(original)
    copied["arrays"]["0"].data = Array(np.zeros(4)).data
    copied["arrays"]["new"] = Array(np.zeros(1))
    copied["metrics"]["loss"].append(3.0)
    copied["config"]["names"].append("c")
    copied["config"]["more"] = 1
    del copied["config"]["blob"]
    assert original == content()


def test_an_empty_content_is_copied():
    assert copy_content(RecordDict({"arrays": ArrayRecord({}), "config": ConfigRecord()})) == RecordDict(
        {"arrays": ArrayRecord({}), "config": ConfigRecord()}
    )


def test_a_copied_message_has_its_own_metadata():
    with task_identity():
        message = Message(content(), 5, "train", group_id="g")
    set_message_id(message, "m-1")
    copied = copy_message(message)
    assert copied.metadata == message.metadata
    copied.metadata.dst_node_id = 6
    copied.content = RecordDict()
    assert message.metadata.dst_node_id == 5
    assert message.content == content()


def test_an_error_message_is_copied_with_its_error():
    with task_identity():
        reply = Message(Error(code=2, reason="boom"), reply_to=Message(content(), 5, "train"))
    copied = copy_message(reply)
    assert copied.has_error()
    assert copied.error == reply.error
    assert copied.error is not reply.error


def test_an_empty_run_has_the_id_asked_for():
    assert empty_run(9).run_id == 9


def test_the_offline_environment_names_only_strings_and_switches_everything_off():
    assert flower_offline_environment() == {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
