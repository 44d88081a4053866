"""The warnings a row can carry: a closed set of codes, each with what to try. They are data, stored with the row."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from devprof.measure.statistics import StepStatistics

__all__ = ["Warn", "check_run"]

_FEW_STEPS = 10
_WIDE = 0.05


class Warn(Enum):
    """A warning: its value is the text for people, its name in kebab-case the code in the row."""

    FEW_STEPS = "fewer than 10 steps were timed; try a longer --min-time"
    WIDE_INTERVAL = "the interval of the median is wider than +-5 %; close other programs or try a longer --min-time"
    NOT_STEADY = "step times moved during the run by more than 5 %; let the device cool, or try a longer --min-time"
    PEAK_NOT_RESET = "the kernel refused to reset the memory peak, which therefore includes start-up"

    @property
    def code(self) -> str:
        """The code stored in the column ``warnings``."""
        return self.name.lower().replace("_", "-")


def check_run(figures: StepStatistics, steps: int, *, peak_reset: bool) -> Collection[Warn]:
    """Warnings for a run that finished."""
    found = {
        Warn.FEW_STEPS: steps < _FEW_STEPS,
        Warn.WIDE_INTERVAL: figures.ci_half_width_rel > _WIDE,
        Warn.NOT_STEADY: figures.steady is False,
        Warn.PEAK_NOT_RESET: not peak_reset,
    }
    return [warning for warning, applies in found.items() if applies]
