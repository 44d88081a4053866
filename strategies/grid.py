"""A grid with a deadline for each message, around any grid, under any strategy.

Flower's own ``send_and_receive`` has one timeout for all nodes, polls every three seconds and forgets what comes late. This
one waits for each node as long as its plan says, remembers who is late and therefore still busy, learns from late telemetry,
and writes down for each client of each round what was planned and what happened.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from devprof.records import RoundLog
from strategies.clocks import Clock, HasClock, WallClock
from strategies.compat import NodeInfo, Run, set_source_node
from strategies.plausibility import Asked, plausible
from strategies.roundlog import Exchange, judge, message_category, message_config
from strategies.telemetry import RECORD_NAME, Telemetry

__all__ = ["DeadlineGrid", "ReportsTransfers"]

_log = logging.getLogger(__name__)

_POLL_S = 0.2
_MAX_NAMED = 20
# FedAvg asks for the nodes twice to configure one round; who asks a third time waits for nodes that are not there.
_CALLS_PER_ROUND = 2


@runtime_checkable
class ReportsTransfers(Protocol):
    """A grid that knows how long the transfers of a message took."""

    def transfer_times(self, message_id: str) -> tuple[float, float] | None:
        """Seconds of the download to the node and of the upload back; ``None`` for an unknown message."""


@dataclass(frozen=True, slots=True)
class _Request:
    """The arguments of one ``send_and_receive``."""

    messages: Sequence[Message]
    timeout_s: float


class DeadlineGrid(Grid):
    """Wraps a grid: per-message deadlines, early return, memory of late replies, and the round log.

    A late reply is never given to the strategy: it belongs to a model that is gone. Its telemetry is kept, because how
    long the work took is true all the same.

    A node whose reply is late is busy. With ``skip_busy`` it is left out of :meth:`get_node_ids` until its reply came (a node
    that died is answered for by the SuperLink within about a minute). Hiding is a courtesy and never a block: at least
    ``min_nodes`` nodes are named, those that have been busy for longest first, and a strategy that keeps asking without
    sending anything, as Flower's do while they wait for nodes, is shown all of them.

    Args:
        inner: The grid that does the sending.
        deadline: Seconds that a message's reply is waited for, counted from when it was handed over; ``None`` for no limit
            but the timeout. Asked once for each message, before it is sent.
        predicted: Seconds that the client's part is predicted to take; only written down.
        min_replies: Close a round as soon as so many valid replies are there; ``None`` to wait for all.
        poll_s: Seconds between two looks; by default 0.2, and on a clock that wakes at arrivals no limit at all.
        clock: The time to live in; by default the inner grid's, if it has one, else the wall clock.
        strategy: Name written into the round log.
        skip_busy: Whether busy nodes are left out.
        min_nodes: Nodes that are named even if they are busy; set it to the strategy's ``min_available_nodes``.
        client_name: The stable name of a node's client; by default the node id.
        device_of: Device and processor of a node, for the rows of clients that do not say it themselves.
        on_late: Called with the node id and the telemetry of each late reply to a train message.
        late: What becomes of late replies: ``learn`` tells their telemetry, ``drop`` only completes their rows.
        on_reply: Called with the node id and each reply as soon as it is pulled, also a late one and an error.

    Attributes:
        round_logs: One row for each train message. A row of a client that did not answer in time says ``missing`` until
            its reply comes, then ``late``.
        late_telemetry: Node id and telemetry of each late reply to a train message.

    Raises:
        ValueError: If an argument makes no sense, such as an infinite ``poll_s`` on the wall clock.
    """

    def __init__(
        self,
        inner: Grid,
        *,
        deadline: Callable[[Message], float | None] | None = None,
        predicted: Callable[[Message], float | None] | None = None,
        min_replies: int | None = None,
        poll_s: float | None = None,
        clock: Clock | None = None,
        strategy: str = "",
        skip_busy: bool = True,
        min_nodes: int = 2,
        client_name: Callable[[int], str] | None = None,
        device_of: Callable[[int], tuple[str | None, str | None]] | None = None,
        on_late: Callable[[int, Telemetry], None] | None = None,
        late: Literal["learn", "drop"] = "learn",
        on_reply: Callable[[int, Message], None] | None = None,
    ) -> None:
        super().__init__()
        if min_replies is not None and min_replies < 1:
            raise ValueError(f"min_replies must be at least 1, got {min_replies}")
        if poll_s is not None and not poll_s > 0:
            raise ValueError(f"poll_s must be positive, got {poll_s}")
        if late not in {"learn", "drop"}:
            raise ValueError(f"late must be 'learn' or 'drop', got {late!r}")
        own_time = isinstance(inner, HasClock)
        self.inner = inner
        self.clock: Clock = clock or (inner.clock if isinstance(inner, HasClock) else WallClock())
        self._poll_s = poll_s if poll_s is not None else (math.inf if own_time and clock is None else _POLL_S)
        if math.isinf(self._poll_s) and isinstance(self.clock, WallClock):
            raise ValueError("the wall clock does not wake when a reply arrives: poll_s must be finite")
        self._deadline = deadline
        self._predicted = predicted
        self._min_replies = min_replies
        self._strategy = strategy
        self._skip_busy = skip_busy
        self._min_nodes = min_nodes
        self._client_name = client_name or str
        self._device_of = device_of or (lambda _: (None, None))
        self._on_late = on_late
        self._learn_late = late == "learn"
        self._on_reply = on_reply
        self._late: dict[str, Exchange] = {}
        self._closed: dict[str, Exchange] = {}
        self._train_rounds = 0
        self._asked_for_nodes = 0
        self.round_logs: list[RoundLog] = []
        self.late_telemetry: list[tuple[int, Telemetry]] = []

    # What a grid is -------------------------------------------------------------------------------------------------

    def set_run(self, run: Run) -> None:
        """Forwarded to the inner grid."""
        self.inner.set_run(run)

    @property
    def run(self) -> Run:
        """The inner grid's run."""
        return self.inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A new message (Flower prefers the constructor of ``Message``)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """The online nodes, without the busy ones as the class describes."""
        self._asked_for_nodes += 1
        return self._shown_nodes()

    def get_nodes(self) -> list[NodeInfo]:
        """What the inner grid knows of the nodes that :meth:`get_node_ids` names."""
        shown = set(self._shown_nodes())
        return [node for node in self.inner.get_nodes() if node.node_id in shown]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Forwarded to the inner grid, as a list: Flower's own grid cannot take a generator. No deadline is kept."""
        return self.inner.push_messages(list(messages))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Forwarded to the inner grid."""
        return self.inner.pull_messages(message_ids)

    # What this grid adds --------------------------------------------------------------------------------------------

    def busy_nodes(self) -> list[int]:
        """Nodes whose reply is late and has not come yet, those that have been busy for longest first."""
        return list(dict.fromkeys(exchange.node_id for exchange in self._late.values()))

    def elapsed_s(self, message_id: str) -> float | None:
        """Seconds from when a message of the last train round was sent to its reply; ``None`` without one in time."""
        exchange = self._closed.get(message_id)
        if exchange is None or exchange.finished_s is None or exchange.late:
            return None
        return exchange.finished_s - exchange.sent_s

    def harvest_late(self) -> list[tuple[int, Telemetry]]:
        """Pull the late replies that have come meanwhile: their nodes are free, their rows complete, their telemetry told.

        Called at the start of every round and whenever nodes are asked for; call it once more at the end of a run.

        Returns:
            Node id and telemetry of the late replies to train messages that came since the last call.
        """
        before = len(self.late_telemetry)
        if self._late:
            self._collect({}, self._late)
        return self.late_telemetry[before:]

    def waited_s(self, message_id: str) -> float | None:
        """Seconds from when a message of the last train round began to be sent to its reply; ``None`` without a reply."""
        exchange = self._closed.get(message_id)
        return None if exchange is None or exchange.finished_s is None else exchange.finished_s - exchange.asked_s

    def mark_rejected(self, message_id: str, detail: str) -> None:
        """Write into the round log that the reply to a message of the last train round was not used, and why."""
        exchange = self._closed.get(message_id)
        if exchange is not None and exchange.row is not None:
            exchange.reject(detail)
            self.round_logs[exchange.row] = exchange.to_row(self._strategy)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send, and return what came in time, in the order of arrival.

        Args:
            messages: At most one for each node is usual.
            timeout: Seconds that any reply is waited for; a message's own deadline can only be earlier.

        Raises:
            ValueError: If the deadline of a message is negative or not a number.
        """
        self._asked_for_nodes = 0
        self.harvest_late()
        request = _Request(list(messages), math.inf if timeout is None else timeout)
        if not request.messages:
            return []
        exchanges = self._push(request)
        waiting = {e.message_id: e for e in exchanges if e.message_id is not None}
        replies: list[Message] = []
        while True:
            replies += self._collect(waiting, self._late)
            now_s = self.clock.now_s()
            for message_id in [key for key, e in waiting.items() if e.limit_s <= now_s]:
                self._set_late(message_id, waiting.pop(message_id))
            valid = sum(not reply.has_error() for reply in replies)
            if not waiting or (self._min_replies is not None and valid >= self._min_replies):
                break
            self.clock.sleep(min(self._poll_s, min(e.limit_s for e in waiting.values()) - now_s))
        for message_id, exchange in waiting.items():
            self._set_late(message_id, exchange)
        self._close(exchanges)
        return replies

    # Steps of a round -----------------------------------------------------------------------------------------------

    def _shown_nodes(self) -> list[int]:
        self.harvest_late()
        nodes = list(self.inner.get_node_ids())
        busy = [node for node in self.busy_nodes() if node in nodes]
        if not self._skip_busy or not busy or self._asked_for_nodes > _CALLS_PER_ROUND:
            return nodes
        hidden = set(busy[max(0, self._min_nodes - (len(nodes) - len(busy))) :])
        return [node for node in nodes if node not in hidden]

    def _push(self, request: _Request) -> list[Exchange]:
        train = any(message_category(message) == "train" for message in request.messages)
        self._train_rounds += train
        asked_s = self.clock.now_s()
        exchanges = [self._exchange(message, request.timeout_s, asked_s) for message in request.messages]
        accepted = set(self.inner.push_messages(request.messages))
        sent_s = self.clock.now_s()
        # A grid writes the id into each message, and leaves out (or names None for) the ids of those that it refused.
        for exchange, message in zip(exchanges, request.messages, strict=True):
            exchange.sent_s = sent_s
            if message.metadata.message_id in accepted:
                exchange.message_id = message.metadata.message_id
        return exchanges

    def _exchange(self, message: Message, timeout_s: float, asked_s: float) -> Exchange:
        node_id = message.metadata.dst_node_id
        client = self._client_name(node_id)
        deadline_s = self._deadline(message) if self._deadline else None
        if deadline_s is not None and not deadline_s >= 0:
            raise ValueError(f"the deadline for client {client} must be at least 0 s, got {deadline_s}")
        config = message_config(message)
        device, processor = self._device_of(node_id)
        return Exchange(
            node_id=node_id,
            client=client,
            category=message_category(message),
            server_round=_server_round(config, self._train_rounds),
            config=config,
            asked_s=asked_s,
            sent_s=asked_s,
            deadline_s=min(timeout_s, math.inf if deadline_s is None else deadline_s),
            predicted_s=self._predicted(message) if self._predicted else None,
            device=device,
            processor=processor,
        )

    def _collect(self, waiting: dict[str, Exchange], late: dict[str, Exchange]) -> list[Message]:
        """Pull what has arrived; what was waited for is returned, what is late is written down."""
        in_time = []
        for reply in self.inner.pull_messages([*waiting, *late]):
            message_id = reply.metadata.reply_to_message_id
            was_late = message_id in late
            exchange = late.pop(message_id, None) or waiting.pop(message_id, None)
            if exchange is None:
                _log.warning("a reply to the unknown message %r was ignored", message_id)
                continue
            self._answer(exchange, reply)
            if self._on_reply is not None:
                self._on_reply(exchange.node_id, reply)
            if was_late:
                self._note_late(exchange)
            else:
                in_time.append(reply)
        return in_time

    def _answer(self, exchange: Exchange, reply: Message) -> None:
        # An error made by the SuperLink names the SuperLink as its source: say which node it is about.
        if reply.metadata.src_node_id != exchange.node_id:
            set_source_node(reply, exchange.node_id)
        exchange.finished_s = self.clock.now_s()
        if exchange.message_id is not None and isinstance(self.inner, ReportsTransfers):
            exchange.transfers_s = self.inner.transfer_times(exchange.message_id)
        exchange.verdict = judge(reply, exchange.finished_s - exchange.asked_s)
        if exchange.category == "train" and exchange.verdict.detail and reply.has_content():
            # An app that sends no telemetry is a choice; telemetry that cannot be true is a fault.
            level = logging.WARNING if RECORD_NAME in reply.content else logging.INFO
            _log.log(level, "round %d, client %s: %s", exchange.server_round, exchange.client, exchange.verdict.detail)

    def _set_late(self, message_id: str, exchange: Exchange) -> None:
        exchange.late = True
        self._late[message_id] = exchange

    def _note_late(self, exchange: Exchange) -> None:
        if exchange.row is not None:
            self.round_logs[exchange.row] = exchange.to_row(self._strategy)
        told = exchange.verdict.telemetry if exchange.verdict else None
        if exchange.category == "train" and told is not None and self._learn_late:
            told = plausible(told, Asked.from_config(exchange.config)).telemetry
            self.late_telemetry.append((exchange.node_id, told))
            if self._on_late is not None:
                self._on_late(exchange.node_id, told)

    def _close(self, exchanges: Sequence[Exchange]) -> None:
        now_s = self.clock.now_s()
        if any(exchange.category == "train" for exchange in exchanges):
            self._closed = {e.message_id: e for e in exchanges if e.message_id is not None}
        for exchange in exchanges:
            exchange.round_end_s = now_s
            if exchange.category == "train":
                exchange.row = len(self.round_logs)
                self.round_logs.append(exchange.to_row(self._strategy))
        absent = [e for e in exchanges if e.late or e.message_id is None]
        failed = [e for e in exchanges if not e.late and e.verdict is not None and e.verdict.outcome == "error"]
        for what, group in (("no reply in time from", absent), ("an error from", failed)):
            if group:
                _log.warning("round %d, %s: %s %s", group[0].server_round, group[0].category, what, _names(group))


def _names(exchanges: Sequence[Exchange]) -> str:
    named = [
        f"{e.client} (node {e.node_id}, deadline {e.deadline_s:.1f} s)" if e.late else f"{e.client} (node {e.node_id})"
        for e in exchanges[:_MAX_NAMED]
    ]
    more = len(exchanges) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _server_round(config: Mapping[str, object], fallback: int) -> int:
    """The round that the strategy wrote into the config, else the number of train rounds that this grid has sent."""
    value = config.get("server-round")
    return value if isinstance(value, int) and not isinstance(value, bool) else fallback
