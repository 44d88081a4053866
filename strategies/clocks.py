"""The time that a server lives in: real, or that of a grid which simulates."""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable

__all__ = ["Clock", "HasClock", "WallClock"]


class Clock(Protocol):
    """The time that a server lives in."""

    def now_s(self) -> float:
        """Seconds since the start of the run."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""


class WallClock:
    """Real time: ``time.monotonic``, counted from the construction of the clock."""

    def __init__(self) -> None:
        self._origin_s = time.monotonic()

    def now_s(self) -> float:
        """Seconds since this clock was made."""
        return time.monotonic() - self._origin_s

    def sleep(self, seconds: float) -> None:
        """Sleep; at once if ``seconds`` is not positive."""
        time.sleep(max(0.0, seconds))


@runtime_checkable
class HasClock(Protocol):
    """A grid in a time of its own, whose ``sleep`` ends early when a reply arrives."""

    @property
    def clock(self) -> Clock:
        """The grid's clock."""
