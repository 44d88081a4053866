"""The warnings a row can carry: a closed set of codes, each with what to try. They are data, stored with the row."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from devprof.measure.protocol import Finished
from devprof.measure.statistics import StepStatistics

__all__ = ["Warn", "check_run", "is_latency_valid"]

_FEW_STEPS = 10
_WIDE = 0.05
_OUTLIER_SHARE = 0.05
_AUTOCORRELATED = 0.5
_BUSY_SHARE = 0.05


class Warn(Enum):
    """A warning: its value is the text for people, its name in kebab-case the code in the row."""

    FEW_STEPS = "fewer than 10 steps were timed; try a longer --min-time or --min-steps 30"
    WIDE_INTERVAL = "the interval of the median is wider than ±5 %; close other programs or try a longer --min-time"
    NOT_STEADY = "step times moved during the run by more than 5 %; try --max-start-temp, or a longer --min-time"
    WARM_UP_CAPPED = "step times still moved when warm-up was ended; try a longer --min-time"
    OUTLIERS = "more than 5 % of the steps are outliers; close other programs, or bind the run with --affinity"
    AUTOCORRELATED = "slow steps come in groups; the interval allows for it, a longer --min-time makes it narrower"
    BUSY_MACHINE = "other programs or the hypervisor took over 5 % of the CPU time; close them, or try --affinity"
    THROTTLED = "the device was throttled; cool it, check its power supply, and try --max-start-temp"
    THROTTLE_SUSPECTED = "the device may have been throttled; try --max-start-temp"
    HOT_START = "the device did not cool down to --max-start-temp in time; raise it or --cooldown-timeout"
    SWAPPED_IN = "the machine read from swap during the run: the step time is not valid; try a smaller --batch-size"
    PEAK_NOT_RESET = "the kernel refused to reset the memory peak, which therefore includes start-up"
    THREADS_CHANGED = "the model's code changed torch's number of threads; it was set back before the first step"
    POWER_LOST = (
        "the meter was not heard for over 5 % of the window, so there is no energy; devprof doctor looks at the meter"
    )
    POWER_REJECTED = "readings that cannot be true were left out; power_rejected counts them"
    METER_CLOCK = (
        "the clock of the meter's host is off by over 1 % of the window, so there is no energy; try --min-time 60s"
    )
    ENERGY_BOUND = "the bound of the energy's error is above 2 %: try a longer --max-window, or a meter of its own"
    IDLE_DRIFT = (
        "idle power before and after the run differ by more than 5 %; net energy is uncertain; try a longer --idle"
    )
    MEAN_FOR_MEDIAN = "the imported step times are means of several steps; they stand in for the medians"

    @property
    def code(self) -> str:
        """The code stored in the column ``warnings``."""
        return self.name.lower().replace("_", "-")


def is_latency_valid(finished: Finished) -> bool:
    """Whether step times are the device's own: not if memory had to be read back from swap meanwhile."""
    return not finished.window.swapped_in_bytes


def check_run(
    figures: StepStatistics, finished: Finished, *, throttled: str | None, cool_enough: bool
) -> Sequence[Warn]:
    """Warnings for a run that finished.

    Args:
        figures: Of its timed steps.
        finished: What the child delivered.
        throttled: The verdict, as in the column of that name.
        cool_enough: Whether a temperature asked for was reached before the start; ``True`` if none was asked for.
    """
    steps = len(finished.step_ns)
    autocorrelation = figures.autocorrelation
    found = {
        Warn.FEW_STEPS: steps < _FEW_STEPS,
        Warn.WIDE_INTERVAL: figures.ci_half_width_rel > _WIDE,
        Warn.NOT_STEADY: figures.steady is False,
        Warn.WARM_UP_CAPPED: finished.warmup_capped,
        Warn.OUTLIERS: figures.outliers > max(1.0, _OUTLIER_SHARE * steps),
        Warn.AUTOCORRELATED: autocorrelation is not None and autocorrelation > _AUTOCORRELATED,
        Warn.BUSY_MACHINE: (finished.window.other_cpu_share or 0.0) > _BUSY_SHARE,
        Warn.THROTTLED: throttled == "confirmed",
        Warn.THROTTLE_SUSPECTED: throttled == "suspected",
        Warn.HOT_START: not cool_enough,
        Warn.SWAPPED_IN: not is_latency_valid(finished),
        Warn.PEAK_NOT_RESET: not finished.memory.reset,
        Warn.THREADS_CHANGED: finished.threads_changed,
    }
    return [warning for warning, applies in found.items() if applies]
