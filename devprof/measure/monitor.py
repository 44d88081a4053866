"""The device's state while a child trains: read by the parent, once a second, so that the child is not disturbed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from devprof.device.state import State, read_state

__all__ = ["watched_states"]

_PERIOD_S = 1.0
# A run of hours needs its extremes, not every second of them.
_KEPT = 4096


@contextlib.contextmanager
def watched_states(
    processor: str, *, period_s: float = _PERIOD_S, read: Callable[[str], State] = read_state
) -> Iterator[list[State]]:
    """Read the device's state at the beginning of a block, every second inside it, and at its end.

    Args:
        processor: ``cpu`` or ``cuda``.
        period_s: Seconds between readings.
        read: Reads the state of a processor.

    Yields:
        The readings in order of time; complete when the block has ended. In very long blocks the older ones are thinned out.
    """
    states = [read(processor)]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(period_s):
            states.append(read(processor))
            if len(states) > _KEPT:
                half = _KEPT // 2
                states[1:half] = states[1:half:2]

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield states
    finally:
        over.set()
        thread.join()
        states.append(read(processor))
