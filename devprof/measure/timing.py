"""In the child: timing of steps. The clock is read at step edges only, after an accelerator has finished."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from devprof.measure.interval import stop_interval
from devprof.measure.job import Phased, Step
from devprof.measure.series import warm_up_done

__all__ = ["Timer", "synchroniser"]

_WARMUP_STEPS = 5
_WARMUP_S = 3.0
_WARMUP_CAP = 20
_TIGHT = 0.02
_LONGEST_WINDOW = 3
_PHASE_STEPS = 10
_LEAST_PHASE_STEPS = 3


def synchroniser(processor: str) -> Callable[[], None]:
    """What waits until the processor has done everything that it was asked to do."""
    if processor != "cuda":
        return lambda: None
    import torch

    return torch.cuda.synchronize


class Timer:
    """Times steps of a job until enough is known or time is up.

    Args:
        synchronise: As :func:`synchroniser` gives it.
        min_time_s: Timed window at the least.
        min_steps: Timed steps at the least.
        stop_ns: Moment of ``perf_counter_ns`` after which no new step begins, as soon as one of its kind is done.
        max_window_s: The longest timed window where more is asked for than the steps themselves need.
    """

    def __init__(
        self,
        synchronise: Callable[[], None],
        *,
        min_time_s: float,
        min_steps: int,
        stop_ns: int,
        max_window_s: float = 0.0,
    ) -> None:
        self._synchronise = synchronise
        self._window_ns = round(min_time_s * 1e9)
        self._min_steps = min_steps
        self._stop_ns = stop_ns
        self._longest_ns = round(max_window_s * 1e9)

    @property
    def is_over(self) -> bool:
        """Whether time is up."""
        return time.perf_counter_ns() > self._stop_ns

    def once(self, step: Step) -> int:
        """Nanoseconds of one step."""
        begin = time.perf_counter_ns()
        step()
        self._synchronise()
        return time.perf_counter_ns() - begin

    def warm_up(self, step: Step, times: list[int]) -> bool:
        """Append steps to ``times`` until step times no longer move.

        That takes at least five steps and three seconds (or the window, if shorter), then the test of
        :func:`~devprof.measure.statistics.warm_up_done`; at most 20 times as long.

        Returns:
            Whether the steps became steady; ``False`` if the cap or the time limit ended the warm-up.
        """
        least_ns = min(round(_WARMUP_S * 1e9), self._window_ns)
        begin = time.perf_counter_ns()
        while True:
            times.append(self.once(step))
            now = time.perf_counter_ns()
            if len(times) >= _WARMUP_STEPS and now - begin >= least_ns and warm_up_done(times):
                return True
            # A device that needs a minute per step is measured too: the cap counts from the second step on.
            if now > self._stop_ns or (len(times) >= 2 and now - begin > _WARMUP_CAP * least_ns):
                return False

    def measure(self, step: Step, enough: Callable[[], bool] = lambda: True) -> list[int]:
        """Steps until window and count are full and the median's interval is tight, or three windows or the time are up.

        Args:
            step: What is timed.
            enough: Asked when that is so, now and then: whether the window is long enough for others, too; at most until the
                longest window.
        """
        times: list[int] = []
        begin = time.perf_counter_ns()
        check_at = self._window_ns
        while True:
            times.append(self.once(step))
            now = time.perf_counter_ns()
            if now > self._stop_ns:
                return times
            if len(times) < self._min_steps or now - begin < check_at:
                continue
            elapsed = now - begin
            if (elapsed >= _LONGEST_WINDOW * self._window_ns or self._is_tight(times)) and (
                elapsed >= self._longest_ns or enough()
            ):
                return times
            # Each look is a little work beside the steps: the longer the window, the rarer.
            check_at = (
                elapsed + max(self._window_ns, elapsed if elapsed > _LONGEST_WINDOW * self._window_ns else 0) // 4
            )

    @staticmethod
    def _is_tight(times: list[int]) -> bool:
        low, high = stop_interval(times)
        return (high - low) / (high + low) <= _TIGHT

    def phases(self, phased: Phased, count: int | None) -> list[list[int]]:
        """Nanoseconds between the marks of a step, in a pass of its own.

        Args:
            phased: The step with marks.
            count: How many steps, unless time is up; ``None`` for ten, or at least three if that takes longer than a window.
        """
        rows: list[list[int]] = []
        begin = time.perf_counter_ns()
        while not self._enough_phases(len(rows), time.perf_counter_ns() - begin, count):
            stamps = [time.perf_counter_ns()]

            def mark(stamps: list[int] = stamps) -> None:
                self._synchronise()
                stamps.append(time.perf_counter_ns())

            phased(mark)
            rows.append([later - earlier for earlier, later in itertools.pairwise(stamps)])
            if time.perf_counter_ns() > self._stop_ns:
                break
        return rows

    def _enough_phases(self, done: int, elapsed_ns: int, count: int | None) -> bool:
        if count is not None:
            return done >= count
        return done >= _PHASE_STEPS or (done >= _LEAST_PHASE_STEPS and elapsed_ns > self._window_ns)
