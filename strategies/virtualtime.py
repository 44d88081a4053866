"""Virtual time: a server's clock that jumps from arrival to arrival, and a client's that moves with each step."""

from __future__ import annotations

import heapq
import math

import numpy as np

from devprof.errors import DevprofError
from strategies.steptimes import StepTimes

__all__ = ["HorizonReached", "VirtualClientClock", "VirtualClock"]


class HorizonReached(DevprofError):  # noqa: N818 - the planned end of a run, not an error of it
    """The virtual time that a run was given is over; catch it around ``strategy.start``."""


class VirtualClock:
    """The server's time. It stands still while code runs, and moves only by :meth:`advance` and :meth:`sleep`.

    Args:
        start_s: The time that it begins with.
        horizon_s: The time that it cannot pass; ``None`` for no end.
    """

    def __init__(self, start_s: float = 0.0, *, horizon_s: float | None = None) -> None:
        self._now_s = start_s
        self._arrivals: list[float] = []
        self.horizon_s = horizon_s

    def now_s(self) -> float:
        """The present."""
        return self._now_s

    def schedule(self, at_s: float) -> None:
        """Announce that something arrives at a time, so that nobody sleeps past it."""
        heapq.heappush(self._arrivals, at_s)

    def advance(self, seconds: float) -> None:
        """Move on, past whatever arrives meanwhile.

        Raises:
            ValueError: If ``seconds`` is negative, infinite or not a number.
            HorizonReached: If the horizon lies before the new time; the clock then stands at the horizon.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time moves forward by a finite number of seconds, got {seconds}")
        self._move_to(self._now_s + seconds)

    def sleep(self, seconds: float) -> None:
        """Move on by ``seconds`` or to the next arrival, whichever comes first.

        Raises:
            ValueError: If ``seconds`` is negative or not a number.
            RuntimeError: If ``seconds`` is infinite and nothing is to arrive: the sleep would never end.
            HorizonReached: As in :meth:`advance`.
        """
        if not seconds >= 0:
            raise ValueError(f"time moves forward, got {seconds} s")
        while self._arrivals and self._arrivals[0] <= self._now_s:
            heapq.heappop(self._arrivals)
        until_s = self._now_s + seconds
        if self._arrivals:
            until_s = min(until_s, self._arrivals[0])
        if math.isinf(until_s):
            raise RuntimeError("waiting without a limit in virtual time, but no reply is to arrive: set a deadline")
        self._move_to(until_s)

    def _move_to(self, at_s: float) -> None:
        if self.horizon_s is not None and at_s > self.horizon_s:
            self._now_s = max(self._now_s, self.horizon_s)
            raise HorizonReached(f"the virtual time of the run is over: {self.horizon_s} s")
        self._now_s = at_s


class VirtualClientClock:
    """A client's time while it handles one message: it begins after start-up and moves with each step of a budget.

    Args:
        startup_s: Seconds from the message to the first step.
        step_s: Where step times come from.
        rng: The node's own random numbers.

    Attributes:
        steps: Steps done so far.
        train_s: Seconds of these steps.
        failure: What the step times raised, if they did: a fault of the simulation, not of the client.
    """

    real = False

    def __init__(self, startup_s: float, step_s: StepTimes, rng: np.random.Generator) -> None:
        self._startup_s = startup_s
        self._step_s = step_s
        self._rng = rng
        self.steps = 0
        self.train_s = 0.0
        self.failure: Exception | None = None

    def received_s(self) -> float:
        """When the message arrived, which is when this clock begins."""
        return 0.0

    def now_s(self) -> float:
        """Seconds since the message arrived."""
        return self._startup_s + self.train_s

    def step_done(self, examples: int) -> None:
        """Take as long as a step on so many samples takes; the last batch of an epoch costs its own size.

        Raises:
            ValueError: If the step times give something that is not a time.
        """
        try:
            step_s = self._step_s.sample(max(1, examples), self._rng)
            if not 0 < step_s < math.inf:
                raise ValueError(f"a step of {examples} samples cannot take {step_s} s")  # noqa: TRY301 - kept below
        except Exception as error:
            self.failure = error
            raise
        self.steps += 1
        self.train_s += step_s
