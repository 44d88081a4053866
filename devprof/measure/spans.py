"""In the child: when the parts of a run begin and end, and the moments that a meter needs.

At the begin of a span the meter is read and then the clock; at its end, once an accelerator has finished, the clock is read
and then the meter. So every edge lies next to a reading, and what the child does between clock and meter is nothing. Without a
meter the clock is read all the same: an unattended logger's file may tell the energy later.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from devprof.measure.protocol import ENOUGH, GO, Edge
from devprof.measure.runspans import RunSpans
from devprof.paths import procfs, read_text

__all__ = ["Spans"]

# A parent that does not answer in this time has a meter that hangs: the run goes on.
_PATIENCE_S = 3.0


class Spans:
    """Keeps begin and end of spans; where there is a meter, says them to the parent and hears from it.

    Args:
        send: Writes an event to the parent.
        answers: File descriptor from which the parent's answers come; ``None`` without a meter.
    """

    def __init__(self, send: Callable[[Edge], None], answers: int | None) -> None:
        self._send = send
        self._answers = answers
        self._heard: set[str] = set()
        self._spans_ns: dict[str, list[int]] = {}
        self._loads_ns: dict[str, list[list[int]]] = {}
        self._clocks_ns = [_clocks_ns()]

    @contextmanager
    def stamped(self, name: str) -> Iterator[None]:
        """A span of time by the clock alone."""
        begin_ns = time.monotonic_ns()
        # Open until it ends: the window's own checks need its begin.
        self._spans_ns[name] = [begin_ns, begin_ns]
        yield
        self._spans_ns[name][1] = time.monotonic_ns()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """A span of time between two readings of the meter, if there is one."""
        if self._answers is not None:
            self._have_read()
        with self.stamped(name):
            yield
        if self._answers is not None:
            self._have_read()

    @contextmanager
    def load(self, pattern: str) -> Iterator[None]:
        """A load of a pattern."""
        begin_ns = time.monotonic_ns()
        yield
        self._loads_ns.setdefault(pattern, []).append([begin_ns, time.monotonic_ns()])

    def idle(self, name: str, seconds: float) -> None:
        """Do nothing for a while, in a span."""
        if seconds > 0:
            with self.span(name):
                time.sleep(seconds)

    def enough(self, name: str) -> bool:
        """Whether the parent said that the open span is long enough; if it has not yet, it is asked. Does not wait."""
        if self._answers is None:
            return True
        self._hear(0.0)
        if ENOUGH in self._heard:
            return True
        self._send(Edge("check", time.monotonic_ns(), self._spans_ns[name][0]))
        return False

    def finish(self) -> RunSpans:
        """All spans, when the run is over."""
        boot_id = read_text(procfs("sys", "kernel", "random", "boot_id"))
        return RunSpans(self._spans_ns, self._loads_ns, [*self._clocks_ns, _clocks_ns()], boot_id)

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


def _clocks_ns() -> list[int]:
    """The monotonic clock and the clock of the day at one moment."""
    before_ns = time.monotonic_ns()
    utc_ns = time.time_ns()
    return [(before_ns + time.monotonic_ns()) // 2, utc_ns]
