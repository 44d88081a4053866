"""The course of a fleet command in the ServerApp: wait for nodes, ask who they are, hand out jobs, take replies in.

A reply is taken as it comes, also after its node's own deadline: until the deadline of the whole, measuring is worth waiting
for. What a node owes then is stored as failed, with the reason.
"""

from __future__ import annotations

import dataclasses
import json
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flwr.app import DEFAULT_TTL, Message, RecordDict
from flwr.serverapp import Grid

from devprof.measure.harness import configuration_key
from devprof.records import Status
from devprof.store.folder import ensure_writable
from strategies.clocks import Clock
from strategies.compat import APP_NOT_LOADED, MESSAGE_EXPIRED, NODE_GONE
from strategies.fleet.ledger import Ledger, Node, NodeResult
from strategies.fleet.order import Order
from strategies.fleet.wire import (
    JOB,
    MEASURE,
    QUERY,
    STATUS,
    FleetError,
    Job,
    NodeStatus,
    clean,
    from_content,
    to_record,
)
from strategies.grid import DeadlineGrid

__all__ = ["Conductor", "Say"]

Say = Callable[[dict[str, Any]], None]

_WAIT_STEP_S = 1.0
# A node says who it is within seconds, a slow one within a minute; a dead one is answered for after about a minute.
_LONGEST_QUERY_S = 120.0
_QUERY_SHARE = 0.25
# Between a node's budget and the end: Flower's scheduling before, the way of the reply after.
_SHORTEST_MARGIN_S = 20.0
_MARGIN_SHARE = 0.05


class Conductor:
    """One fleet command.

    Args:
        grid: Flower's grid.
        order: What is ordered.
        clock: The time to live in.
        say: Takes what the operator is to know, as soon as it is known: events with a key ``event``.
    """

    def __init__(self, grid: Grid, order: Order, *, clock: Clock, say: Say) -> None:
        self._inner = grid
        self._order = order
        self._clock = clock
        self._say = say
        self._nodes: dict[int, Node] = {}
        self._errors: dict[int, tuple[Status, str]] = {}
        self._results: dict[int, NodeResult] = {}
        self._strangers: list[NodeResult] = []
        self._ledger: Ledger | None = None
        self._end_s = 0.0
        self._jobs_are_out = False
        self._grid = DeadlineGrid(
            grid,
            deadline=self._deadline_s,
            clock=clock,
            skip_busy=False,
            client_name=lambda node_id: self._nodes[node_id].name,
            on_reply=self._take,
        )

    def run(self) -> dict[str, Any]:
        """The whole command.

        Returns:
            The result, as the last event has it: what there is to say of each node.

        Raises:
            StoreError: If the measurement folder cannot be written.
        """
        order = self._order
        if order.action == "measure":
            # Before anything is asked of a node: hours of their work depend on it.
            ensure_writable(Path(order.output))
            self._ledger = Ledger(Path(order.output), order)
        self._wait()
        self._end_s = self._clock.now_s() + order.deadline_s
        asked = self._ask()
        if order.action == "measure":
            self._measure(asked)
        result = self._result(asked)
        self._say(result)
        return result

    # Who is there ---------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        wanted = max(self._order.min_nodes, len(self._order.nodes))
        limit_s = self._clock.now_s() + self._order.wait_s
        while True:
            there = len(list(self._inner.get_node_ids()))
            if there >= wanted:
                return
            left_s = limit_s - self._clock.now_s()
            if left_s <= 0:
                self._say(
                    {"event": "note", "text": f"connected: {there} of {_nodes(wanted)}; going on without the rest"}
                )
                return
            self._clock.sleep(min(_WAIT_STEP_S, left_s))

    def _ask(self) -> list[Node]:
        """Ask every node who it is; the nodes that are meant, in a fixed order."""
        names = {info.node_id: info.name for info in self._inner.get_nodes()}
        for node_id in self._inner.get_node_ids():
            self._nodes[node_id] = Node(node_id, clean(names.get(node_id, "")) or str(node_id))
        self._say({"event": "note", "text": f"asking {_nodes(len(self._nodes))} who they are"})
        question = Job(1.0, measure_options=self._order.measure_options)
        share = 1.0 if self._order.action == "status" else _QUERY_SHARE
        limit_s = min(_LONGEST_QUERY_S, share * self._order.deadline_s)
        self._grid.send_and_receive([self._message(node, QUERY, question) for node in self._nodes], timeout=limit_s)
        for node in self._nodes.values():
            if names.get(node.node_id) in {None, ""} and node.status is not None and node.status.device_id:
                node.name = clean(node.status.device_id)
        self._tell_apart()
        return self._chosen()

    def _tell_apart(self) -> None:
        counts = Counter(node.name for node in self._nodes.values())
        for node in self._nodes.values():
            if counts[node.name] > 1:
                node.name = f"{node.name} ({node.node_id})"

    def _chosen(self) -> list[Node]:
        nodes = sorted(self._nodes.values(), key=lambda node: node.name)
        if not self._order.nodes:
            return nodes
        chosen: list[Node] = []
        for wanted in self._order.nodes:
            found = [node for node in nodes if wanted in _names(node)]
            chosen += [node for node in found if node not in chosen]
            if not found:
                there = ", ".join(node.name for node in nodes) or "none"
                self._strangers.append(
                    NodeResult(
                        wanted,
                        None,
                        None,
                        None,
                        delivered=False,
                        message=f"no such node is connected; there are: {there}",
                    )
                )
        return chosen

    # What they are to do ----------------------------------------------------------------------------------------------

    def _measure(self, asked: Iterable[Node]) -> None:
        jobs: list[Message] = []
        left_s = self._end_s - self._clock.now_s()
        budget_s = max(left_s / 2, left_s - max(_SHORTEST_MARGIN_S, _MARGIN_SHARE * left_s))
        job = self._job(budget_s)
        for node in asked:
            if node.node_id in self._errors:
                self._close(node, self._absent(node, *self._errors[node.node_id]))
            elif node.status is not None and node.status.refusal is not None:
                self._close(node, self._absent(node, "error", f"it refuses: {node.status.refusal}"))
            else:
                jobs.append(self._message(node.node_id, MEASURE, job))
        if jobs:
            self._say({"event": "note", "text": f"measuring on {_nodes(len(jobs))}, for {budget_s:.0f} s at the most"})
        self._jobs_are_out = True
        self._grid.send_and_receive(jobs)
        # Who is late is waited for all the same, as long as there is time.
        while self._grid.busy_nodes() and (left_s := self._end_s - self._clock.now_s()) > 0:
            self._clock.sleep(min(_WAIT_STEP_S, left_s))
            self._grid.harvest_late()
        for node in asked:
            if node.node_id not in self._results:
                reason = f"no reply within the {self._order.deadline_s:.0f} s of the whole run"
                self._close(node, self._absent(node, "timeout", reason))

    def _job(self, budget_s: float) -> Job:
        order = self._order
        return Job(
            budget_s=budget_s,
            measure_options=order.measure_options,
            calibrate_options=order.calibrate_options,
            models=order.models,
            suite=order.suite,
            suite_toml=order.suite_toml,
            configurations=tuple(configuration_key(workload) for workload in order.workloads),
            repeats=order.repeats,
            calibration_s=order.calibration_s,
        )

    def _message(self, node_id: int, kind: str, job: Job) -> Message:
        # A reply lives as long as its message, on the node's clock, which may be wrong by hours.
        return Message(RecordDict({JOB: to_record(job)}), node_id, kind, ttl=self._order.deadline_s + DEFAULT_TTL)

    def _deadline_s(self, message: Message) -> float | None:
        """A node that is late is named in the log before the whole run ends; a query has the limit of its round."""
        if message.metadata.message_type == QUERY:
            return None
        left_s = self._end_s - self._clock.now_s()
        return max(0.0, left_s - min(_SHORTEST_MARGIN_S, left_s / 4))

    # What they say ----------------------------------------------------------------------------------------------------

    def _take(self, node_id: int, reply: Message) -> None:
        node = self._nodes[node_id]
        # An error about a message that the SuperLink lost is of a type of its own.
        is_query = reply.metadata.message_type == QUERY or not self._jobs_are_out
        if reply.has_error():
            verdict = _verdict(reply.error.code, reply.error.reason or "")
            if is_query:
                self._errors[node_id] = verdict
            elif node_id not in self._results:
                self._close(node, self._absent(node, *verdict))
        elif is_query:
            try:
                node.status = from_content(reply.content, STATUS, NodeStatus)
            except FleetError as error:
                self._errors[node_id] = ("error", f"its reply is not understood: {error}")
        elif node_id not in self._results and self._ledger is not None:
            self._close(node, self._ledger.take(node, reply.content))

    def _absent(self, node: Node, status: Status, reason: str) -> NodeResult:
        assert self._ledger is not None
        return self._ledger.absent(node, status, reason)

    def _close(self, node: Node, result: NodeResult) -> None:
        self._results[node.node_id] = result
        self._say({"event": "node", **dataclasses.asdict(result)})

    def _result(self, asked: Iterable[Node]) -> dict[str, Any]:
        strangers = [dataclasses.asdict(result) for result in self._strangers]
        if self._order.action == "measure":
            rows = [dataclasses.asdict(self._results[node.node_id]) for node in asked]
        else:
            rows = [self._described(node) for node in asked]
        return {"event": "result", "host": socket.gethostname(), "nodes": rows + strangers}

    def _described(self, node: Node) -> dict[str, Any]:
        """A row of ``devprof fleet status``."""
        head = {"node": node.name, "node_id": node.node_id, "delivered": node.status is not None}
        if node.status is None:
            _, reason = self._errors.get(node.node_id, ("timeout", "no reply in time"))
            return head | {"message": clean(reason)}
        told = dataclasses.asdict(node.status) | {"facts": json.loads(node.status.facts)}
        refusal = node.status.refusal and clean(node.status.refusal)
        reasons = [clean(reason) for reason in node.status.throttle_reasons]
        return head | told | {"refusal": refusal, "throttle_reasons": reasons, "message": refusal}


def _names(node: Node) -> set[str]:
    """All that an operator may call a node."""
    told = () if node.status is None else (node.status.device, node.status.device_id)
    return {node.name, str(node.node_id), *(name for name in told if name is not None)}


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _verdict(code: int, reason: str) -> tuple[Status, str]:
    """Status and reason of the rows that a node owes which Flower answered for."""
    told = clean(f"error {code}: {reason or 'no reason given'}")
    if code in NODE_GONE:
        return "crashed", f"the node or its ClientApp died ({told})"
    if code in MESSAGE_EXPIRED:
        return "timeout", f"the message or its reply expired ({told})"
    if code == APP_NOT_LOADED:
        return "error", f"the app could not be loaded: is the same devprof[fl,train] installed on the node? ({told})"
    return "error", told
