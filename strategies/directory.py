"""Which client is behind a node id.

Flower's server knows nodes by number and nothing of their hardware, data or link; a SuperNode that starts without a key of its
own gets a new number each time. The user tells what is known, by number or by the client's stable name; the rest is learned
from what clients say of themselves, and marked as such in the log. What is learned belongs to the name, so that a board that
leaves and joins again under a new number is the same board.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from devprof.plan.settings import ClientState
from devprof.records import Link
from strategies.compat import NodeInfo
from strategies.identity import Identity
from strategies.recent import Recent
from strategies.telemetry import Telemetry

__all__ = ["UNKNOWN_LINK", "ClientDirectory"]

_log = logging.getLogger(__name__)

UNKNOWN_LINK = Link(up_mbps=math.inf, down_mbps=math.inf)
"""A link that nothing is known of: its transfers are not planned for, but learned as a part of the overhead."""

Known = Mapping[int, ClientState] | Mapping[str, ClientState] | Callable[[int], ClientState | None]


@dataclass(slots=True)
class _Learned:
    """What was learned of a client. Times are provisional as long as they are those of a question, not of a round."""

    device: str | None = None
    processor: str = "cpu"
    samples: int | None = None
    memory_bytes: int | None = None
    energy_budget_j: float | None = None
    startup: Recent = field(default_factory=Recent)
    overhead: Recent = field(default_factory=Recent)
    provisional: bool = False


class ClientDirectory:
    """Node ids and the clients behind them.

    Args:
        known: What the user knows: a mapping from node id or from the client's name, or a function of the node id that returns
            ``None`` for a node that it does not know.
        link: The link of clients that are not known; by default none is assumed and transfers are not planned for.
    """

    def __init__(self, known: Known | None = None, *, link: Link = UNKNOWN_LINK) -> None:
        self._known = known if known is not None else {}
        self._link = link
        self._names: dict[int, str] = {}
        self._learned: dict[str, _Learned] = {}

    # Who it is ------------------------------------------------------------------------------------------------------

    def name(self, node_id: int) -> str:
        """The client's stable name: the user's, its device id, the name it was registered under, else the node id."""
        given = self._given(node_id)
        return self._names.get(node_id, str(node_id)) if given is None else given.client

    def device(self, node_id: int) -> str | None:
        """The name of the node's device, where it is known or was told."""
        given = self._given(node_id)
        if given is not None:
            return given.device
        learned = self._learned.get(self.name(node_id))
        return None if learned is None else learned.device

    def processor(self, node_id: int) -> str | None:
        """What the node's cut-off is set for, where that is known or was told."""
        given = self._given(node_id)
        if given is not None:
            return given.processor
        learned = self._learned.get(self.name(node_id))
        return None if learned is None or learned.device is None else learned.processor

    def state(self, node_id: int) -> ClientState | None:
        """The client behind a node, with its times as last seen; ``None`` if too little is known to plan for it."""
        given = self._given(node_id)
        learned = self._learned.get(self.name(node_id))
        if given is not None:
            return given if learned is None else _timed(given, learned)
        if learned is None or learned.samples is None or learned.device is None:
            return None
        told = ClientState(
            client=self.name(node_id),
            device=learned.device,
            processor=learned.processor,
            samples=learned.samples,
            link=self._link,
            memory_limit_bytes=learned.memory_bytes,
            energy_budget_j=learned.energy_budget_j,
        )
        return _timed(told, learned)

    def known_samples(self, node_id: int) -> int | None:
        """The size of a client's data as the user said it; ``None`` where only the client vouches for it."""
        given = self._given(node_id)
        return None if given is None else given.samples

    def timed(self, node_id: int) -> bool:
        """Whether it was seen how long this client takes beside its steps."""
        learned = self._learned.get(self.name(node_id))
        return learned is not None and bool(learned.overhead)

    # What it says ---------------------------------------------------------------------------------------------------

    def take_names(self, nodes: Iterable[NodeInfo]) -> None:
        """Use the names under which nodes were registered, where nothing better is known."""
        for node in nodes:
            if node.name and node.node_id not in self._names:
                self._use_name(node.node_id, node.name)

    def identify(
        self, node_id: int, identity: Identity, *, elapsed_s: float | None = None, online: Collection[int] = ()
    ) -> None:
        """Take in what a node says it is.

        Args:
            node_id: The node.
            identity: Its validated answer.
            elapsed_s: Seconds on the server's clock from question to answer: what its start-up does not explain is overhead.
            online: The nodes that are connected now: a name that one of them has is not given to another.
        """
        if identity.device_id is not None:
            holder = next((node for node, name in self._names.items() if name == identity.device_id), node_id)
            if holder == node_id or holder not in online:
                if holder != node_id:
                    _log.info("client %s is back as node %d (it was %d)", identity.device_id, node_id, holder)
                    del self._names[holder]
                self._use_name(node_id, identity.device_id)
            else:
                _log.warning(
                    "node %d says it is %r, as node %d does, which is online: it goes by its number; give each a device-id",
                    node_id,
                    identity.device_id,
                    holder,
                )
        learned = self._entry(node_id)
        self._take_device(node_id, learned, identity.device, identity.processor)
        learned.memory_bytes = identity.memory_bytes
        learned.energy_budget_j = identity.energy_budget_j
        learned.samples = identity.samples if identity.samples is not None else learned.samples
        if identity.startup_s is not None and elapsed_s is not None and not learned.startup:
            learned.startup.add(min(identity.startup_s, elapsed_s))
            learned.overhead.add(max(0.0, elapsed_s - identity.startup_s))
            learned.provisional = True

    def learn(
        self, node_id: int, telemetry: Telemetry, *, samples: int | None = None, overhead_s: float | None = None
    ) -> None:
        """Take in what a client says of a round: its start-up time and, where the user did not say, device and data.

        Args:
            node_id: The node.
            telemetry: Validated telemetry of one round.
            samples: Size of its data, where that follows from its reply.
            overhead_s: Seconds of the round that neither its start-up, its training nor planned transfers explain.
        """
        learned = self._entry(node_id)
        self._take_device(node_id, learned, telemetry.device, telemetry.processor)
        learned.samples = samples if samples is not None else learned.samples
        if learned.provisional:
            learned.startup, learned.overhead, learned.provisional = Recent(), Recent(), False
        learned.startup.add(telemetry.startup_s)
        if overhead_s is not None:
            learned.overhead.add(max(0.0, overhead_s))

    def forget(self, node_id: int) -> None:
        """Go back to what the user said of a node: what it said itself is too old to be believed."""
        self._learned.pop(self.name(node_id), None)

    # Inside ---------------------------------------------------------------------------------------------------------

    def _given(self, node_id: int) -> ClientState | None:
        if callable(self._known):
            return self._known(node_id)
        known: Mapping[int | str, ClientState] = self._known  # type: ignore[assignment]
        given = known.get(node_id)
        return known.get(self._names.get(node_id, "")) if given is None else given

    def _entry(self, node_id: int) -> _Learned:
        return self._learned.setdefault(self.name(node_id), _Learned())

    def _use_name(self, node_id: int, name: str) -> None:
        before = self.name(node_id)
        self._names[node_id] = name
        after = self.name(node_id)
        if before != after and before in self._learned:
            self._learned.setdefault(after, self._learned.pop(before))

    def _take_device(self, node_id: int, learned: _Learned, device: str, processor: str) -> None:
        if learned.device is None and self._given(node_id) is None:
            _log.warning(
                "client %s (node %d) is not in the directory: it is taken to be what it says, device %r, processor %r",
                self.name(node_id),
                node_id,
                device,
                processor,
            )
        learned.device, learned.processor = device, processor


def _timed(state: ClientState, learned: _Learned) -> ClientState:
    """A client with its times as last seen."""
    startup = learned.startup.centre_s if learned.startup else state.startup_s
    return replace(
        state,
        startup_s=startup,
        overhead_s=learned.overhead.centre_s if learned.overhead else state.overhead_s,
        fixed_sd_s=math.hypot(learned.startup.sd_s, learned.overhead.sd_s),
    )
