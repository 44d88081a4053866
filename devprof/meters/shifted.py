"""Energy of a window whose edges are not known exactly on the meter's clock: the same figure, with a wider bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from devprof.meters.base import Channel, Reading
from devprof.meters.energy import Energy

__all__ = ["with_clock_error"]


def with_clock_error(
    energy: Energy,
    readings: Sequence[Reading],
    channels: Sequence[Channel],
    window_ns: tuple[int, int],
    clock_error_s: float,
) -> Energy:
    """The energy of a window, with a bound that allows for stamps that are off.

    The window is as long as it is, wherever it lies. With ``P`` the power, ``P_m`` its mean in the window, and stamps that are
    off by ``d`` at the begin ``b`` and by ``e`` at the end ``c``, evenly in between, the energy is off by the integral of
    ``P - P_m`` from ``c`` to ``c + e`` less that from ``b`` to ``b + d``. So each edge costs at most the clock's error by the
    largest difference that the power around it has from the mean.

    Args:
        energy: As :func:`~devprof.meters.energy.integrate` gave it.
        readings: What it was made of, in order of time by channel.
        channels: Of the meter.
        window_ns: The window.
        clock_error_s: Bound of the stamps' error; 0 for a clock that is this machine's own.
    """
    if energy.energy_j is None or energy.error_rel is None or energy.window_error_rel is None or clock_error_s <= 0:
        return energy
    reach_ns = round(clock_error_s * 1e9)
    error_j = 0.0
    for channel in channels:
        if channel.headline:
            mean_w = energy.channels[channel.domain].power_w or 0.0
            powers = _powers([reading for reading in readings if reading.domain == channel.domain])
            around = [_around(powers, edge - reach_ns, edge + reach_ns) for edge in window_ns]
            error_j += clock_error_s * sum(
                max((abs(power_w - mean_w) for power_w in near), default=0.0) for near in around
            )
    error_rel = error_j / energy.energy_j
    return replace(energy, error_rel=energy.error_rel + error_rel, window_error_rel=energy.window_error_rel + error_rel)


def _powers(readings: Sequence[Reading]) -> list[tuple[int, float]]:
    """Moments and watts; of a counter those between two readings."""
    sensed = [(reading.t_ns, reading.power_w) for reading in readings if reading.power_w is not None]
    counted = [
        ((a.t_ns + b.t_ns) // 2, (b.energy_j - a.energy_j) / (b.t_ns - a.t_ns) * 1e9)
        for a, b in pairwise(readings)
        if a.energy_j is not None and b.energy_j is not None and b.t_ns > a.t_ns
    ]
    return sensed or counted


def _around(powers: Sequence[tuple[int, float]], low_ns: int, high_ns: int) -> list[float]:
    """The power in a span of time, the nearest values outside included."""
    inside = [power_w for t_ns, power_w in powers if low_ns <= t_ns <= high_ns]
    before = [power_w for t_ns, power_w in powers if t_ns < low_ns][-1:]
    after = [power_w for t_ns, power_w in powers if t_ns > high_ns][:1]
    return [*before, *inside, *after]
