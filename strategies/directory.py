"""Which client is behind a node id.

Flower's server knows nodes by number and nothing of their hardware, data or link. The user tells what is known, as a mapping
or a function; the rest is learned from what clients say of themselves, and marked as such in the log.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from devprof.plan.settings import ClientState
from devprof.records import Link
from strategies.telemetry import Telemetry

__all__ = ["UNKNOWN_LINK", "ClientDirectory"]

_log = logging.getLogger(__name__)

UNKNOWN_LINK = Link(up_mbps=math.inf, down_mbps=math.inf)
"""A link that nothing is known of: its transfers are not planned for, the server's allowance has to cover them."""


@dataclass(slots=True)
class _Learned:
    device: str
    processor: str
    startup_s: float
    samples: int | None = None


class ClientDirectory:
    """Node ids and the clients behind them.

    Args:
        known: What the user knows: a mapping from node id, or a function of it that returns ``None`` for a node that it
            does not know. Flower gives a SuperNode without a key of its own a new id at each start: prefer a function
            that looks the node up by a name of its own.
        link: The link of clients that are not known; by default none is assumed and transfers are not planned for.
    """

    def __init__(
        self,
        known: Mapping[int, ClientState] | Callable[[int], ClientState | None] | None = None,
        *,
        link: Link = UNKNOWN_LINK,
    ) -> None:
        self._known: Callable[[int], ClientState | None] = known if callable(known) else (known or {}).get
        self._link = link
        self._learned: dict[int, _Learned] = {}

    def state(self, node_id: int) -> ClientState | None:
        """The client behind a node, with its start-up time as last seen; ``None`` if too little is known to plan for it."""
        given = self._known(node_id)
        learned = self._learned.get(node_id)
        if given is not None:
            return given if learned is None else replace(given, startup_s=learned.startup_s)
        if learned is None or learned.samples is None:
            return None
        return ClientState(
            client=str(node_id),
            device=learned.device,
            processor=learned.processor,
            samples=learned.samples,
            link=self._link,
            startup_s=learned.startup_s,
        )

    def name(self, node_id: int) -> str:
        """The client's stable name; the node id if the user gave none."""
        given = self._known(node_id)
        return str(node_id) if given is None else given.client

    def device(self, node_id: int) -> str | None:
        """The name of the node's device, where it is known or was told."""
        given = self._known(node_id)
        if given is not None:
            return given.device
        learned = self._learned.get(node_id)
        return None if learned is None else learned.device

    def forget(self, node_id: int) -> None:
        """Go back to what the user said of a node: what it said itself is too old to be believed."""
        self._learned.pop(node_id, None)

    def learn(self, node_id: int, telemetry: Telemetry, *, samples: int | None = None) -> None:
        """Take in what a client says of itself: its start-up time and, where the user did not say, device and data.

        Args:
            node_id: The node.
            telemetry: Validated telemetry of one round.
            samples: Size of its data, where that follows from its reply.
        """
        before = self._learned.get(node_id)
        if before is None:
            self._learned[node_id] = _Learned(telemetry.device, telemetry.processor, telemetry.startup_s, samples)
            if self._known(node_id) is None:
                _log.warning(
                    "node %d is not in the directory: it is taken to be what it says, device %r, processor %r, %s samples",
                    node_id,
                    telemetry.device,
                    telemetry.processor,
                    "unknown" if samples is None else samples,
                )
            return
        # The mean with what came before: quick to follow, yet one slow start is not the rule.
        before.startup_s = (before.startup_s + telemetry.startup_s) / 2
        before.device, before.processor = telemetry.device, telemetry.processor
        before.samples = samples if samples is not None else before.samples
