"""A federation in one process and in virtual time: real training, replayed durations, any Flower strategy.

The ClientApp really runs, so that accuracy is real. How long it would have taken on a device comes from that device's measured
step times, so that an hour of federation passes in seconds and the same seed gives the same run. An unmodified
``flwr.serverapp.strategy`` starts on a :class:`VirtualGrid` as on Flower's own::

    FedAvg(fraction_evaluate=0.0).start(VirtualGrid(client_app, devices, seed=1), initial_arrays)

The training loop must use :class:`strategies.client.Budget`: each of its steps is a step of the device.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Context, Error, Message, RecordDict, UserConfigValue
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from strategies.client import use_clock
from strategies.compat import (
    CLIENT_APP_RAISED,
    NodeInfo,
    Run,
    copy_message,
    empty_run,
    ensure_task_identity,
    payload_bytes,
    set_message_id,
)
from strategies.roundlog import message_category, wasted_work
from strategies.steptimes import ReplayedStepTimes, StepTimes, VirtualDevice
from strategies.virtualtime import HorizonReached, VirtualClientClock, VirtualClock

__all__ = [
    "HorizonReached",
    "ReplayedStepTimes",
    "StepTimes",
    "VirtualClock",
    "VirtualDevice",
    "VirtualGrid",
    "VirtualJob",
    "payload_bytes",
    "wasted_work",
]

_log = logging.getLogger(__name__)

_FIRST_NODE_ID = 1000
# Sums of the same parts in another order differ in their last digits: what is planned for a moment arrives at it.
_ROUNDING_S = 1e-9
_NO_STEPS = (
    "the ClientApp trained without a budget, so its time is unknown: make one with "
    "strategies.client.Budget.from_message(message) and loop over budget.limit(batches)"
)


@dataclass(frozen=True, slots=True)
class VirtualJob:
    """What one message cost a device, in virtual seconds.

    Attributes:
        message_id: The message.
        node_id: The node that handled it.
        category: ``train``, ``evaluate`` or ``query``.
        start_s: When the node began with it: when it was sent, or when the node had finished what it was at.
        download_s: Time of the download.
        startup_s: Time from receipt to the first step.
        train_s: Time of the steps.
        upload_s: Time of the upload.
        finished_s: When the reply was with the server.
    """

    message_id: str
    node_id: int
    category: str
    start_s: float
    download_s: float
    startup_s: float
    train_s: float
    upload_s: float
    finished_s: float


@dataclass(slots=True)
class _Node:
    device: VirtualDevice
    client: str
    context: Context
    rng: np.random.Generator
    free_s: float


class VirtualGrid(Grid):
    """Runs a ClientApp for each message in this process, and delivers the reply when the device would have.

    A reply arrives ``download + startup + steps + upload`` after its node began. A node handles one message after the other:
    what is sent to one that is still at work waits, as on a real SuperNode. A handler that raises becomes an error reply.
    Where no Flower run has set up this process, one is pretended, so that strategies can make messages.

    Args:
        client_app: The app; handlers get a :class:`flwr.app.Context` whose node config names ``partition-id``,
            ``num-partitions``, ``device`` and ``processor``.
        devices: One node each.
        seed: Of the draws of step times. Each node has its own stream, so that no node's work changes another's times.
        clock: The time to live in; by default a new clock that begins at 0.
        horizon_s: Virtual time that the run may take; then :class:`HorizonReached` is raised.
        server_s: Seconds that the server itself takes for a round, spent before train messages are sent.
        node_config: Further values for the node config of every node.
        run_config: The run config of every context.

    Attributes:
        clock: The time of this federation.
        jobs: What each message cost, in the order of sending.

    Raises:
        ValueError: If there is no device or ``server_s`` is negative.
    """

    def __init__(
        self,
        client_app: ClientApp,
        devices: Sequence[VirtualDevice],
        *,
        seed: int,
        clock: VirtualClock | None = None,
        horizon_s: float | None = None,
        server_s: float = 0.0,
        node_config: Mapping[str, UserConfigValue] | None = None,
        run_config: Mapping[str, UserConfigValue] | None = None,
    ) -> None:
        super().__init__()
        if not devices:
            raise ValueError("a virtual federation needs at least one device")
        if not 0 <= server_s < math.inf:
            raise ValueError(f"server_s must be at least 0 and finite, got {server_s}")
        ensure_task_identity()
        self.clock = clock or VirtualClock()
        if horizon_s is not None:
            self.clock.horizon_s = horizon_s
        self.jobs: list[VirtualJob] = []
        self._app = client_app
        self._server_s = server_s
        self._run = empty_run()
        self._jobs_by_id: dict[str, VirtualJob] = {}
        self._replies: dict[str, Message] = {}
        self._nodes: dict[int, _Node] = {}
        for index, (device, client) in enumerate(zip(devices, _client_names(devices), strict=True)):
            node_id = _FIRST_NODE_ID + index
            own: dict[str, UserConfigValue] = {
                **(node_config or {}),
                "partition-id": index,
                "num-partitions": len(devices),
                "device": device.name,
                "processor": device.processor,
            }
            context = Context(self._run.run_id, node_id, own, RecordDict(), dict(run_config or {}))
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
            self._nodes[node_id] = _Node(device, client, context, rng, self.clock.now_s())

    def set_run(self, run: Run) -> None:
        """Take over a run's description; nothing here depends on it."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A new message (Flower prefers the constructor of ``Message``)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """All nodes; they are always online."""
        return list(self._nodes)

    def get_nodes(self) -> list[NodeInfo]:
        """Ids and client names of all nodes."""
        return [NodeInfo(node_id=node_id, name=node.client) for node_id, node in self._nodes.items()]

    def client_name(self, node_id: int) -> str:
        """The stable name of a node's client: its device's name, with the partition id where several share it.

        Raises:
            ValueError: If there is no such node.
        """
        return self._node(node_id).client

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Run the ClientApp for each message; the replies can be pulled when their time has come.

        Raises:
            ValueError: If a message is for a node that does not exist.
            HorizonReached: If the server's own time passes the horizon.
        """
        sent = list(messages)
        if any(message_category(message) == "train" for message in sent):
            self.clock.advance(self._server_s)
        return [self._push(message) for message in sent]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that have arrived by now, in the order of arrival; each is given out once."""
        by_s = self.clock.now_s() + _ROUNDING_S
        asked = (self._jobs_by_id[key] for key in dict.fromkeys(message_ids) if key in self._replies)
        arrived = sorted((job for job in asked if job.finished_s <= by_s), key=lambda job: job.finished_s)
        return [self._replies.pop(job.message_id) for job in arrived]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send, let time pass until all have answered or ``timeout`` seconds are over, and return what arrived.

        What arrives after the timeout can still be pulled.
        """
        waiting = set(self.push_messages(messages))
        limit_s = math.inf if timeout is None else self.clock.now_s() + timeout
        replies: list[Message] = []
        while True:
            arrived = self.pull_messages(sorted(waiting))
            replies += arrived
            waiting -= {reply.metadata.reply_to_message_id for reply in arrived}
            now_s = self.clock.now_s()
            if not waiting or now_s >= limit_s:
                return replies
            self.clock.sleep(limit_s - now_s)

    def transfer_times(self, message_id: str) -> tuple[float, float] | None:
        """Seconds of a message's download and of its reply's upload; ``None`` for an unknown message."""
        job = self._jobs_by_id.get(message_id)
        return None if job is None else (job.download_s, job.upload_s)

    def device_seconds(self, category: str | None = None) -> dict[int, float]:
        """Seconds that each node has been at work until now, transfers included, by node id.

        Args:
            category: Only messages of this category, such as ``train``; ``None`` for all.
        """
        now_s = self.clock.now_s()
        spent = dict.fromkeys(self._nodes, 0.0)
        for job in self.jobs:
            if category in (None, job.category):
                spent[job.node_id] += max(0.0, min(now_s, job.finished_s) - job.start_s)
        return spent

    def _node(self, node_id: int) -> _Node:
        if node_id not in self._nodes:
            last = _FIRST_NODE_ID + len(self._nodes) - 1
            raise ValueError(f"there is no node {node_id}; the nodes are {_FIRST_NODE_ID} to {last}")
        return self._nodes[node_id]

    def _push(self, message: Message) -> str:
        node_id = message.metadata.dst_node_id
        node = self._node(node_id)
        message_id = f"virtual-{len(self.jobs):08d}"
        set_message_id(message, message_id)
        category = message_category(message)
        clock = VirtualClientClock(node.device.startup_s, node.device.step_s, node.rng)
        download_s = node.device.link.download_s(payload_bytes(message.content))
        reply = self._handle(message, category, node, clock)
        set_message_id(reply, f"{message_id}-reply")
        upload_s = node.device.link.upload_s(payload_bytes(reply.content) if reply.has_content() else 0)
        start_s = max(self.clock.now_s(), node.free_s)
        node.free_s = start_s + download_s + node.device.startup_s + clock.train_s + upload_s
        job = VirtualJob(
            message_id=message_id,
            node_id=node_id,
            category=category,
            start_s=start_s,
            download_s=download_s,
            startup_s=node.device.startup_s,
            train_s=clock.train_s,
            upload_s=upload_s,
            finished_s=node.free_s,
        )
        self.jobs.append(job)
        self._jobs_by_id[message_id] = job
        self._replies[message_id] = reply
        self.clock.schedule(job.finished_s)
        return message_id

    def _handle(self, message: Message, category: str, node: _Node, clock: VirtualClientClock) -> Message:
        """Run the app on a copy of the message, as if it had travelled, and return a copy of what it gave."""
        received = copy_message(message)
        try:
            with use_clock(clock):
                # Annotated wider than Flower does: the handler is the user's, and may return anything.
                reply: object = self._app(received, node.context)
        except Exception as error:  # noqa: BLE001 - as in Flower, whatever a ClientApp raises becomes an error reply
            if clock.failure is not None:
                raise clock.failure from None
            _log.warning("client %s: the ClientApp raised", node.client, exc_info=True)
            return _error(message, f"{type(error).__name__}: {error}")
        if clock.failure is not None:
            raise clock.failure
        if not isinstance(reply, Message):
            return _error(message, f"the ClientApp returned {type(reply).__name__} instead of a Message")
        if reply.metadata.reply_to_message_id != message.metadata.message_id:
            return _error(message, "the ClientApp's reply answers another message: make it with reply_to=message")
        if category == "train" and clock.steps == 0 and not reply.has_error():
            return _error(message, _NO_STEPS)
        return copy_message(reply)


def _error(message: Message, reason: str) -> Message:
    return Message(Error(code=CLIENT_APP_RAISED, reason=reason), reply_to=message)


def _client_names(devices: Sequence[VirtualDevice]) -> list[str]:
    count = Counter(device.name for device in devices)
    return [d.name if count[d.name] == 1 else f"{d.name}#{index}" for index, d in enumerate(devices)]
