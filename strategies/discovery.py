"""The question before the first round: what are you? Flower's server knows a node's number, and its name where it has one.

A client answers it in one line::

    app.query(ACTION)(describe_node())

The server asks each node once, all at once, and waits only in the first round; a node that joins later is asked beside the
round that is under way. An app without the line costs nothing but an error reply: then the node's registered name is used, and
its first round tells the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid

from devprof.errors import DevprofError
from strategies.client import TRAIN_CONFIG, current_clock
from strategies.clocks import Clock, HasClock, WallClock
from strategies.directory import ClientDirectory
from strategies.identity import IDENTITY_RECORD, client_identity, memory_for_training_bytes, read_identity

__all__ = ["ACTION", "Discovery", "describe_node"]

_log = logging.getLogger(__name__)

ACTION = "devprof"
"""Name of the query action: register the client's answer with ``app.query(ACTION)``."""

_MESSAGE_TYPE = f"query.{ACTION}"
_POLL_S = 0.2

Handler = Callable[[Message, Context], Message]


def describe_node(samples: Callable[[Message, Context], int] | None = None) -> Handler:
    """The client's answer: its :class:`~strategies.identity.Identity`.

    Args:
        samples: The size of the client's training data, from the message (it carries the config of the round) and the
            context; without it the server learns it from the first round.
    """

    def answer(message: Message, context: Context) -> Message:
        clock = current_clock()
        identity = replace(
            client_identity(context),
            memory_bytes=memory_for_training_bytes() if clock.real else None,
            samples=None if samples is None else samples(message, context),
            startup_s=max(0.0, clock.now_s() - clock.received_s()),
        )
        return Message(RecordDict({IDENTITY_RECORD: identity.to_record()}), reply_to=message)

    return answer


class Discovery:
    """The server's side: asks nodes what they are, and tells the directory.

    Args:
        directory: Where the answers go.
        wait_s: Seconds to wait for the answers of the first call; later calls do not wait.

    Raises:
        ValueError: If ``wait_s`` is negative.
    """

    def __init__(self, directory: ClientDirectory, *, wait_s: float) -> None:
        if not wait_s >= 0:
            raise ValueError(f"wait_s must be at least 0, got {wait_s}")
        self._directory = directory
        self._wait_s = wait_s
        self._asked: set[int] = set()
        self._waiting: dict[str, tuple[int, float]] = {}
        self._waited = False

    def refresh(self, grid: Grid, node_ids: Iterable[int], config: Mapping[str, object]) -> None:
        """Ask the nodes that nothing is known of, and take in what has been answered.

        Args:
            grid: Where the nodes are.
            node_ids: The nodes that matter now; they are waited for in the first call.
            config: The round's config, sent along so that a client can say how much data it has.
        """
        clock = grid.clock if isinstance(grid, HasClock) else WallClock()
        new = [node for node in node_ids if node not in self._asked and self._directory.state(node) is None]
        if new:
            self._directory.take_names(grid.get_nodes())
            new = [node for node in new if self._directory.state(node) is None]
        self._ask(grid, new, config, clock)
        self._collect(grid, clock)
        if self._waited or not new:
            return
        self._waited = True
        end_s = clock.now_s() + self._wait_s
        while self._waiting and clock.now_s() < end_s:
            clock.sleep(min(_POLL_S, end_s - clock.now_s()))
            self._collect(grid, clock)
        silent = sorted(self._directory.name(node) for node, _ in self._waiting.values())
        if silent:
            _log.warning(
                "no answer within %g s to what they are, from %s: their first round will tell",
                self._wait_s,
                ", ".join(silent),
            )

    def _ask(self, grid: Grid, nodes: list[int], config: Mapping[str, object], clock: Clock) -> None:
        if not nodes:
            return
        told = ConfigRecord(dict(config))  # type: ignore[arg-type]
        messages = [Message(RecordDict({TRAIN_CONFIG: told}), node, _MESSAGE_TYPE) for node in nodes]
        self._asked |= set(nodes)
        sent_s = clock.now_s()
        grid.push_messages(messages)
        for node, message in zip(nodes, messages, strict=True):
            if message.metadata.message_id:
                self._waiting[message.metadata.message_id] = (node, sent_s)

    def _collect(self, grid: Grid, clock: Clock) -> None:
        if not self._waiting:
            return
        replies = list(grid.pull_messages(list(self._waiting)))
        online = set(grid.get_node_ids()) if replies else set()
        for reply in replies:
            node, sent_s = self._waiting.pop(reply.metadata.reply_to_message_id, (None, 0.0))
            if node is None:
                continue
            if reply.has_error():
                _log.info("node %d does not say what it is: %s", node, reply.error.reason)
                continue
            try:
                identity = read_identity(reply.content)
            except DevprofError as error:
                _log.warning("what node %d says it is cannot be used: %s", node, error)
                continue
            self._directory.identify(node, identity, elapsed_s=clock.now_s() - sent_s, online=online)
