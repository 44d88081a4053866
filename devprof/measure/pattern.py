"""In the child: the pattern of load and idle by which a run is found in the log of a meter that nobody reaches from here.

It begins and ends with an idle part, so that each of its loads has two edges, whatever comes before and after. The loads are
steps of the workload, because those need no other power than what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from devprof.measure.spans import Spans

__all__ = ["PART_S", "pattern_s", "show_pattern"]

PART_S = 2.0
"""Length of each load and of each idle part: long enough for meters that have a value a second."""

_LOADS = 3


def pattern_s(part_s: float) -> float:
    """Seconds that a pattern takes with steps that are short against its parts."""
    return (2 * _LOADS + 1) * part_s


def show_pattern(name: str, step: Callable[[], object], part_s: float, spans: Spans) -> None:
    """Idle, load, idle, load, idle, load, idle.

    Args:
        name: Of its span.
        step: One step, which is over when an accelerator is. A load is at least one.
        part_s: Length of each part.
        spans: Where it is kept.
    """
    with spans.stamped(name):
        time.sleep(part_s)
        for _ in range(_LOADS):
            with spans.load(name):
                end_s = time.monotonic() + part_s
                step()
                while time.monotonic() < end_s:
                    step()
            time.sleep(part_s)
