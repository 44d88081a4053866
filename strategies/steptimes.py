"""How long a training step takes on a device: replayed from measurements, never from the model that is being judged.

A virtual federation that took its times from the fitted cost model would prove the model right by construction. The times
here are raw step times of real runs, drawn at random, so that a planner meets the noise that it would meet on the board.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from devprof.records import Link

__all__ = ["ReplayedStepTimes", "StepTimes", "VirtualDevice"]

_log = logging.getLogger(__name__)


class StepTimes(Protocol):
    """Where a virtual device takes its step times from."""

    def sample(self, batch_size: int, rng: np.random.Generator) -> float:
        """Seconds of one step on ``batch_size`` samples; positive and finite."""


class ReplayedStepTimes:
    """Measured step times, drawn at random.

    A batch size that was measured gets one of its own times. Another one gets the median that the line through the nearest
    two measured medians gives, times the relative noise of a draw from the nearest measured batch size. The line never
    falls with the batch size, and below the smallest one never under the proportional time: no part of a step is free. With
    a single measured batch size time is taken as proportional, which is said once in the log.

    Args:
        samples: Raw seconds per step, by batch size.
        factor: Multiplies every time; a board throttled to half its speed has 2.

    Raises:
        ValueError: If there is no time at all, or one that is not positive.
    """

    def __init__(self, samples: Mapping[int, Sequence[float]], factor: float = 1.0) -> None:
        if not samples:
            raise ValueError("no measured step times: give seconds per step for at least one batch size")
        if not (factor > 0 and math.isfinite(factor)):
            raise ValueError(f"factor must be positive and finite, got {factor}")
        self.factor = factor
        self._times: dict[int, list[float]] = {}
        for batch_size in sorted(samples):
            times = [float(value) for value in samples[batch_size]]
            if batch_size < 1 or not times or not all(value > 0 and math.isfinite(value) for value in times):
                raise ValueError(f"batch size {batch_size} needs at least one step time, all of them positive")
            self._times[batch_size] = times
        self._sizes = list(self._times)
        self._medians = {size: float(np.median(times)) for size, times in self._times.items()}
        self._said_proportional = False

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that were measured, in order."""
        return tuple(self._sizes)

    def sample(self, batch_size: int, rng: np.random.Generator) -> float:
        """Seconds of one step on ``batch_size`` samples.

        Raises:
            ValueError: If ``batch_size`` is less than 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        nearest = min(self._sizes, key=lambda size: (abs(size - batch_size), size))
        times = self._times[nearest]
        drawn_s = times[int(rng.integers(len(times)))]
        if nearest == batch_size:
            return drawn_s * self.factor
        return drawn_s / self._medians[nearest] * self.median_s(batch_size)

    def median_s(self, batch_size: int) -> float:
        """The median step at a batch size, by the line where it was not measured; the factor included."""
        if batch_size in self._medians:
            return self._medians[batch_size] * self.factor
        if len(self._sizes) == 1:
            return self._proportional(batch_size, self._sizes[0]) * self.factor
        above = next((i for i, size in enumerate(self._sizes) if size > batch_size), len(self._sizes) - 1)
        low, high = self._sizes[max(0, above - 1)], self._sizes[max(1, above)]
        slope = max(0.0, (self._medians[high] - self._medians[low]) / (high - low))
        line_s = self._medians[low] + slope * (batch_size - low)
        if batch_size < low:
            line_s = max(line_s, self._medians[low] * batch_size / low)
        return line_s * self.factor

    def _proportional(self, batch_size: int, measured: int) -> float:
        if not self._said_proportional:
            self._said_proportional = True
            _log.info(
                "step times were measured at batch size %d only: other batch sizes are taken as proportional", measured
            )
        return self._medians[measured] * batch_size / measured


@dataclass(frozen=True, slots=True)
class VirtualDevice:
    """A device of a virtual federation.

    Attributes:
        name: Name of the device, as in the measurements; several nodes may be of one name.
        processor: What its cut-off is set for.
        link: Its network link.
        startup_s: Seconds from having received a message to the first step: start of the process, imports, loading data.
        step_s: Where its step times come from.
    """

    name: str
    processor: str
    link: Link
    startup_s: float
    step_s: StepTimes

    def __post_init__(self) -> None:
        if not (self.startup_s >= 0 and math.isfinite(self.startup_s)):
            raise ValueError(f"startup_s of {self.name} must be at least 0 and finite, got {self.startup_s}")
