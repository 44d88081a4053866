"""Step time as a line in the batch size: ``constant + per_sample * batch_size``, both at least 0.

Phones and boards follow an affine line far better than a proportional one: on the per-batch times of three phones published
with FLASH (Yang et al., WWW 2021) the median error is 2 to 9 % against 17 to 48 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from devprof.plan.estimator import Z90
from devprof.records import Estimate

__all__ = ["estimate_from_points", "fit_line"]

# Standard deviation in log time per e-fold between a batch size and the nearest observed one.
_DISTANCE_SD = 0.1


def fit_line(points: Mapping[int, float]) -> tuple[float, float]:
    """The non-negative line through step times, by least squares of the relative error.

    Args:
        points: Seconds per step by batch size, at least two.

    Returns:
        Seconds per step, and seconds per sample.

    Raises:
        ValueError: With fewer than two batch sizes: one point fixes no line.
    """
    if len(points) < 2:
        raise ValueError(f"a line needs step times at two batch sizes or more, got {sorted(points)}")
    inverse = [1.0 / step_s for step_s in points.values()]
    slope = [batch / step_s for batch, step_s in points.items()]
    ii, is_, ss = _dot(inverse, inverse), _dot(inverse, slope), _dot(slope, slope)
    determinant = ii * ss - is_ * is_
    constant_s = (sum(inverse) * ss - sum(slope) * is_) / determinant
    per_sample_s = (sum(slope) * ii - sum(inverse) * is_) / determinant
    if constant_s < 0:
        return 0.0, sum(slope) / ss
    if per_sample_s < 0:
        return sum(inverse) / ii, 0.0
    return constant_s, per_sample_s


def estimate_from_points(points: Mapping[int, float], batch_size: int, *, log_sd: float) -> Estimate:
    """An estimate for any batch size from step times at some.

    At an observed batch size the estimate is the observation. Through two or more sizes goes a line, and the interval widens
    with the distance to the nearest. One size alone says nothing of how the time divides into a constant and a part per
    sample: the centre is the middle between the two extremes (all constant, all proportional), the interval spans both.

    Args:
        points: Seconds per step by batch size.
        batch_size: The size asked for.
        log_sd: Standard deviation of the logarithm of an observed step time.

    Raises:
        ValueError: If there are no points, or a size or time is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not points or any(batch < 1 or not (step_s > 0 and math.isfinite(step_s)) for batch, step_s in points.items()):
        raise ValueError(f"step times must be positive and given for at least one batch size, got {dict(points)}")
    if batch_size in points:
        return _estimate(points[batch_size], points[batch_size], points[batch_size], log_sd)
    if len(points) == 1:
        ((known, step_s),) = points.items()
        ratio = batch_size / known
        return _estimate(step_s * (1 + ratio) / 2, step_s * min(1.0, ratio), step_s * max(1.0, ratio), log_sd)
    constant_s, per_sample_s = fit_line(points)
    centre_s = constant_s + per_sample_s * batch_size
    distance = min(abs(math.log(batch_size / known)) for known in points)
    return _estimate(centre_s, centre_s, centre_s, math.hypot(log_sd, _DISTANCE_SD * distance))


def _estimate(centre_s: float, lo_s: float, hi_s: float, log_sd: float) -> Estimate:
    factor = math.exp(Z90 * log_sd)
    return Estimate(step_s=centre_s, step_s_lo=lo_s / factor, step_s_hi=hi_s * factor, basis="observed")


def _dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
