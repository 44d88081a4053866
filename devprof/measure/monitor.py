"""The device's state while a child trains: read by the parent, once a second, so that the child is not disturbed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from devprof.device.state import State, read_state

__all__ = ["Watched", "watched_states"]

_PERIOD_S = 1.0
# A run of hours needs its extremes, not every second of them.
_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Watched:
    """Readings in order of time.

    Attributes:
        states: The readings.
        t_ns: The moment after each, on the system's monotonic clock.
    """

    states: list[State] = field(default_factory=list)
    t_ns: list[int] = field(default_factory=list)

    def add(self, state: State) -> None:
        """Keep a reading of now."""
        self.t_ns.append(time.monotonic_ns())
        self.states.append(state)

    def thin_out(self) -> None:
        """Let go of every second of the older ones, but for the first."""
        half = len(self.states) // 2
        self.states[1:half] = self.states[1:half:2]
        self.t_ns[1:half] = self.t_ns[1:half:2]

    def outside(self, spans_ns: Collection[tuple[int, int]]) -> list[State]:
        """The readings outside some spans of time; the first and the last in any case."""
        return [
            state
            for number, (state, t_ns) in enumerate(zip(self.states, self.t_ns, strict=True), 1)
            if number in {1, len(self.states)} or not any(begin <= t_ns <= end for begin, end in spans_ns)
        ]


@contextlib.contextmanager
def watched_states(
    processor: str, *, period_s: float = _PERIOD_S, read: Callable[[str], State] = read_state
) -> Iterator[Watched]:
    """Read the device's state at the beginning of a block, every second inside it, and at its end.

    Args:
        processor: ``cpu`` or ``cuda``.
        period_s: Seconds between readings.
        read: Reads the state of a processor.

    Yields:
        The readings; complete when the block has ended. In very long blocks the older ones are thinned out.
    """
    watched = Watched()
    watched.add(read(processor))
    over = threading.Event()

    def watch() -> None:
        while not over.wait(period_s):
            watched.add(read(processor))
            if len(watched.states) > _KEPT:
                watched.thin_out()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        over.set()
        thread.join()
        watched.add(read(processor))
