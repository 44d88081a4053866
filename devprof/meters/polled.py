"""An external meter that answers questions: a thread of its own asks it, so that a slow answer never holds up who reads.

Standard library only.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from devprof.meters.base import MeterInfo, MeterLostError, Reading, now_ns

__all__ = ["Asker", "PolledMeter"]

_CLOSE_S = 1.0


class Asker(Protocol):
    """Asks a meter; all of it is called in the thread that asks, one call after the other.

    Attributes:
        rejected: Answers that were missing or made no sense so far.
    """

    rejected: int

    def ask(self) -> Sequence[Reading]:
        """Ask once, and make readings of the answer.

        Raises:
            MeterLostError: If there is no use in asking again.
        """

    def release(self) -> None:
        """Let go of the connection."""


class PolledMeter:
    """A meter that a thread asks once per period. The thread dies with the process.

    Args:
        info: What it is.
        asker: How it is asked.
        patience_s: Seconds that one question may take before the meter counts as gone.
        clock: The monotonic clock.
    """

    def __init__(self, info: MeterInfo, asker: Asker, *, patience_s: float, clock: Callable[[], int] = now_ns) -> None:
        self.info = info
        self._asker = asker
        self._patience_s = patience_s
        self._now = clock
        self._asked_ns: int | None = None
        self._found: deque[Reading] = deque()
        self._error: MeterLostError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"devprof-{info.source}", daemon=True)
        self._thread.start()

    @property
    def rejected(self) -> int:
        """Answers that were missing or made no sense so far."""
        return self._asker.rejected

    def _work(self) -> None:
        error = MeterLostError(f"{self.info.detail} is not asked any more")
        try:
            period_ns = int(self.info.period_s * 1e9)
            due_ns = self._now()
            while not self._stop.is_set():
                self._asked_ns = self._now()
                self._found.extend(self._asker.ask())
                self._asked_ns = None
                due_ns += period_ns
                if due_ns < self._now():
                    due_ns = self._now() + period_ns
                self._stop.wait((due_ns - self._now()) / 1e9)
        except MeterLostError as lost:
            error = lost
        finally:
            self._error = error
            self._asker.release()

    def read(self) -> list[Reading]:
        """Readings of the answers that came since the last call.

        Raises:
            MeterLostError: If it does not answer any more.
        """
        error, asked_ns = self._error, self._asked_ns
        found = [self._found.popleft() for _ in range(len(self._found))]
        if found:
            return found
        if error is not None:
            raise MeterLostError(error.reason, error.remedy)
        if asked_ns is not None and self._now() - asked_ns > self._patience_s * 1e9:
            raise MeterLostError(f"{self.info.detail} has not answered for {self._patience_s:.0f} s")
        return found

    def close(self) -> None:
        """Stop asking; a question that is under way ends by itself and holds this up for a second at most."""
        self._stop.set()
        self._thread.join(timeout=_CLOSE_S)
