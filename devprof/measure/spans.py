"""In the child: the moments that a meter needs. Without a meter nothing here does anything.

At the begin of a span the meter is read and then the clock; at its end, once an accelerator has finished, the clock is read
and then the meter. So every edge lies next to a reading, and what the child does between clock and meter is nothing.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from devprof.measure.protocol import ENOUGH, GO, Edge

__all__ = ["Spans"]

# A parent that does not answer in this time has a meter that hangs: the run goes on.
_PATIENCE_S = 3.0


class Spans:
    """Says to the parent when spans begin and end, and hears from it.

    Args:
        send: Writes an event to the parent.
        answers: File descriptor from which the parent's answers come; ``None`` without a meter.
    """

    def __init__(self, send: Callable[[Edge], None], answers: int | None) -> None:
        self._send = send
        self._answers = answers
        self._heard: set[str] = set()
        self.spans_ns: dict[str, list[int]] = {}

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """A span of time between two readings of the meter."""
        if self._answers is None:
            yield
            return
        self._have_read()
        begin_ns = time.monotonic_ns()
        # Open until it ends: the window's own checks need its begin.
        self.spans_ns[name] = [begin_ns, begin_ns]
        yield
        self.spans_ns[name][1] = time.monotonic_ns()
        self._have_read()

    def idle(self, name: str, seconds: float) -> None:
        """Do nothing for a while, in a span."""
        if self._answers is not None and seconds > 0:
            with self.span(name):
                time.sleep(seconds)

    def enough(self, name: str) -> bool:
        """Whether the parent said that the open span is long enough; if it has not yet, it is asked. Does not wait."""
        if self._answers is None:
            return True
        self._hear(0.0)
        if ENOUGH in self._heard:
            return True
        self._send(Edge("check", time.monotonic_ns(), self.spans_ns[name][0]))
        return False

    def _have_read(self) -> None:
        self._heard.discard(GO)
        self._send(Edge("read", time.monotonic_ns()))
        end_s = time.monotonic() + _PATIENCE_S
        while GO not in self._heard and (left_s := end_s - time.monotonic()) > 0:
            if not self._hear(left_s):
                return

    def _hear(self, patience_s: float) -> bool:
        """Take in answers; ``False`` if there are none, or nobody to give them."""
        assert self._answers is not None
        ready, _, _ = select.select([self._answers], [], [], patience_s)
        text = os.read(self._answers, 4096) if ready else b""
        self._heard |= set(text.decode().split())
        return bool(text)
