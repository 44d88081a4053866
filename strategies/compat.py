"""Every private touch of Flower 1.41, in one place, each with the reason for it.

Strategies, engines and tests use these functions and never reach into flwr themselves, so that a new Flower version is one
file to check. What Flower offers in public (``flwr.app``, ``flwr.serverapp``, ``flwr.clientapp``) is imported where it is used.
"""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

# ``make_message`` is the only constructor that takes ready metadata; ``Message(...)`` makes its own.
from flwr.app.message import make_message

# Error codes have no public name.
from flwr.common.constant import ErrorCode

# The types in the signatures of ``Grid`` are not exported with it.
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.run import Run

# ``Message(...)`` reads run, node and task from this class and raises where no run has set them.
from flwr.supercore.task_identity import TaskIdentity

from devprof.device.process import process_age_s

__all__ = [
    "APP_NOT_LOADED",
    "CLIENT_APP_RAISED",
    "MESSAGE_EXPIRED",
    "NODE_GONE",
    "NodeInfo",
    "Run",
    "client_process_age_s",
    "copy_content",
    "copy_message",
    "empty_run",
    "ensure_task_identity",
    "flower_offline_environment",
    "payload_bytes",
    "seeded_sampling",
    "set_message_id",
    "set_source_node",
    "task_identity",
]

CLIENT_APP_RAISED: int = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
"""Error code of a reply whose ClientApp raised an exception."""

APP_NOT_LOADED: int = ErrorCode.LOAD_CLIENT_APP_EXCEPTION
"""Error code of a reply whose ClientApp could not be imported."""

NODE_GONE = frozenset({ErrorCode.NODE_UNAVAILABLE, ErrorCode.CLIENT_APP_CRASHED})
"""Error codes of messages whose node, or the ClientApp on it, died."""

MESSAGE_EXPIRED = frozenset({ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE})
"""Error codes of messages that outlived their time to live."""

_IDENTITY = ("run_id", "node_id", "task_id")


def ensure_task_identity() -> None:
    """Let messages be made in a process that no Flower run has set up, such as a test or a virtual-time engine.

    What a run has set stays as it is; what is unset becomes 1, which for the node is the SuperLink's own id.
    """
    for name in _IDENTITY:
        try:
            getattr(TaskIdentity, name)
        except RuntimeError:
            setattr(TaskIdentity, name, 1)


@contextmanager
def task_identity() -> Iterator[None]:
    """Inside the block messages can be made; afterwards the process is as it was."""
    # The public setters refuse nothing but cannot unset: only the private fields hold None.
    before = {name: getattr(TaskIdentity, f"_{name}") for name in _IDENTITY}
    ensure_task_identity()
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, f"_{name}", value)


# A SuperNode starts this program for one message; a Ray actor or a test serves many and is older than any of them.
_CLIENT_PROGRAM = "flwr-clientapp"
_counted: set[str] = set()


def client_process_age_s() -> float:
    """How long ago this process was started, if that was for the message being handled; else 0.

    Only the first call in the process counts: a process that handles a second message was not started for it.
    """
    if _counted or not sys.argv[0].endswith(_CLIENT_PROGRAM):
        return 0.0
    _counted.add(_CLIENT_PROGRAM)
    return process_age_s() or 0.0


def payload_bytes(content: RecordDict) -> int:
    """Bytes of the arrays in a message, with their names and headers; configs and metrics are too small to count."""
    return sum(record.count_bytes() for record in content.array_records.values())


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message its id, as a grid does when it is pushed: the public property has no setter."""
    message.metadata.__dict__["_message_id"] = message_id


def set_source_node(message: Message, node_id: int) -> None:
    """Name the node that a reply is about: an error made by the SuperLink carries the SuperLink's id, and no setter."""
    message.metadata.__dict__["_src_node_id"] = node_id


def copy_content(content: RecordDict) -> RecordDict:
    """A copy that shares nothing that can be changed: new records, new arrays; only the immutable bytes are the same."""
    copied = RecordDict()
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            copied[name] = ArrayRecord(dict(record))
        elif isinstance(record, MetricRecord):
            copied[name] = MetricRecord(copy.deepcopy(dict(record)))
        else:
            copied[name] = ConfigRecord(copy.deepcopy(dict(record)))
    return copied


def copy_message(message: Message) -> Message:
    """A message with the same metadata and content, as if it had travelled: neither side can change the other's."""
    metadata = copy.copy(message.metadata)
    if message.has_error():
        return make_message(metadata=metadata, error=copy.copy(message.error))
    return make_message(metadata=metadata, content=copy_content(message.content))


def empty_run(run_id: int = 1) -> Run:
    """A run without an app bundle, for grids that live in one process."""
    return Run.create_empty(run_id)


def flower_offline_environment() -> dict[str, str]:
    """Environment variables that keep Flower 1.41 and Ray off the network, for the processes that we start.

    No usage telemetry, no daily update check, no ``uv sync`` at the start of a run (it fails a run that is offline), no Ray
    usage statistics.
    """
    return {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@contextmanager
def seeded_sampling(seed: int) -> Iterator[None]:
    """Make Flower's sampling of nodes reproducible inside the block, and leave Python's random state as it was.

    Strategies draw nodes with the global ``random`` module and take no seed; even where all nodes are taken their order
    changes, and with it the last digits of every average.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
