"""What is believed of a factor that is only seen through noise: a robust filter in log space. Standard library only.

Both the planner and the cost model learn from observed rounds by how many times a prediction is off; islands do not import
each other, so the filter lies here. It is a scalar Kalman filter (random walk seen through noise). A value beyond three
standard deviations moves it no further than one at three would (Huber's rule), so that a single absurd value does little harm;
a second that agrees with the first is believed at once, so that real throttling is learned in two rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["LogFilter"]

# Round-to-round standard deviation of a round's mean step time, and of the walk of the true factor, in log time.
_NOISE_SD = 0.08
_DRIFT_SD = 0.03
# A prior narrower than this would call every honest round absurd.
_LEAST_PRIOR_SD = 0.03
_GUARD_SD = 3.0


@dataclass(slots=True)
class LogFilter:
    """A robust scalar Kalman filter of a quantity in log space.

    Attributes:
        mean: The present belief.
        variance: Variance of the belief.
        noise: Variance of an observation around the truth.
        drift: Variance that the truth gains between two observations.
        observations: How many have been taken in.
        suspect: The last observation, if it was beyond the guard.
    """

    mean: float
    variance: float
    noise: float
    drift: float
    observations: int = 0
    suspect: float | None = None

    @classmethod
    def with_prior(cls, mean: float, sd: float) -> LogFilter:
        """A filter whose next observation is expected at ``mean``, give or take ``sd``."""
        total = max(sd, _LEAST_PRIOR_SD) ** 2
        noise = min(_NOISE_SD**2, total / 2)
        # A drift of at most a quarter of the noise lets the interval shrink with every observation that agrees.
        return cls(mean=mean, variance=total - noise, noise=noise, drift=min(_DRIFT_SD**2, noise / 4))

    @property
    def sd(self) -> float:
        """Standard deviation of the next observation around :attr:`mean`."""
        return math.sqrt(self.variance + self.noise)

    def observe(self, value: float, noise: float | None = None) -> bool:
        """Take in one observation.

        Args:
            value: The observation, in log space.
            noise: Its variance around the truth where that differs from :attr:`noise`.

        Returns:
            Whether it was within the guard. One beyond it moves the mean by a bounded amount or, if it agrees with the one
            before, makes the mean jump to both.
        """
        noise = self.noise if noise is None else noise
        variance = self.variance + (self.drift if self.observations else 0.0)
        self.observations += 1
        guard = _GUARD_SD * math.sqrt(variance + noise)
        innovation = value - self.mean
        gain = variance / (variance + noise)
        if abs(innovation) <= guard:
            self.suspect = None
            self.mean += gain * innovation
            self.variance = variance * (1 - gain)
            return True
        # The variance stays as it was, without drift: nonsense must not make the belief wider.
        if self.suspect is not None and abs(value - self.suspect) <= max(guard, abs(innovation) / 3):
            self.mean = (value + self.suspect) / 2
            self.variance = noise
            self.suspect = None
        else:
            self.suspect = value
            self.mean += gain * math.copysign(guard, innovation)
        return False
