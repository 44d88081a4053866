"""Energy of a window of time from readings, with its coverage and a bound of its error.

Counters by difference, sensors by the trapezoidal rule on monotonic stamps, both clipped to the window by interpolation. What
was not seen is not bridged: a gap of a sensor that is longer than three periods, and everything around a break, is lost
coverage. Below :data:`LEAST_COVERAGE` there is no energy at all. Above it the mean power of the time that was seen stands for
the rest, and the bound allows for what may have happened there.

Bounds, added up because most of their causes do not average out (``T`` window, ``P`` power, ``E`` energy):

- counter: ``2 P T_update`` for values up to one update old, one quantum, and at each edge the highest power around it times the
  time by which the nearest reading misses it;
- sensor: at each edge the range of the power times the age of a value; ``2 s T / sqrt(n)`` for what happens between ``n``
  readings, with ``s`` from successive differences (von Neumann, Annals of Mathematical Statistics 12, 1941), which leaves slow
  changes out, because the rule follows them; and the quantum: half of it if the values stay on fewer than three steps, else
  that of ``n`` independent roundings;
- both: what the maker says of gain and zero.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from devprof.meters.base import Channel, Reading

__all__ = ["LEAST_COVERAGE", "ChannelEnergy", "Energy", "integrate"]

LEAST_COVERAGE = 0.95
"""Share of a window that must have been seen for its energy to be stated."""

_LONGEST_GAP = 3.0


@dataclass(frozen=True, slots=True)
class ChannelEnergy:
    """What one channel measured in a window.

    Attributes:
        energy_j: Joules of the whole window; ``None`` where too little of it was seen.
        power_w: Mean watts of the time that was seen; ``None`` where none was.
        coverage: Share of the window that was seen, from 0 to 1.
        window_error_j: Bound of the error that a longer window makes smaller against the energy.
        gain_error_j: Bound of the meter's own error, which no window makes smaller.
    """

    energy_j: float | None
    power_w: float | None
    coverage: float
    window_error_j: float
    gain_error_j: float


@dataclass(frozen=True, slots=True)
class Energy:
    """What a meter measured in a window: its total, and each channel.

    Attributes:
        window_s: Length of the window in seconds.
        energy_j: Gross joules of all headline channels; ``None`` where one of them saw too little.
        power_w: ``energy_j`` by ``window_s``.
        coverage: The least of the headline channels.
        error_rel: Bound of the relative error of ``energy_j``; ``None`` without an energy above zero.
        window_error_rel: The part of it that a longer window makes smaller.
        channels: By domain.
    """

    window_s: float
    energy_j: float | None
    power_w: float | None
    coverage: float
    error_rel: float | None
    window_error_rel: float | None
    channels: dict[str, ChannelEnergy]


def integrate(
    readings: Iterable[Reading], channels: Sequence[Channel], window_ns: tuple[int, int], *, period_s: float
) -> Energy:
    """Energy in a window.

    Args:
        readings: Accepted by a :class:`~devprof.meters.sieve.Sieve`, in order of time by channel; also from before and after
            the window, so that its edges lie between two of them.
        channels: Of the meter.
        window_ns: Begin and end, on the clock of the readings.
        period_s: Seconds between readings as planned; gaps are judged by it and by each channel's own period.

    Raises:
        ValueError: If the window does not end after its begin, or the period is not positive.
    """
    begin_ns, end_ns = window_ns
    if end_ns <= begin_ns:
        raise ValueError(f"a window must end after its begin, got {window_ns}")
    if not period_s > 0:
        raise ValueError(f"period_s must be positive, got {period_s}")
    by_domain: dict[str, list[Reading]] = {channel.domain: [] for channel in channels}
    for reading in readings:
        by_domain[reading.domain].append(reading)
    parts = {
        channel.domain: _channel_energy(channel, by_domain[channel.domain], window_ns, period_s) for channel in channels
    }
    headline = [parts[channel.domain] for channel in channels if channel.headline]
    window_s = (end_ns - begin_ns) / 1e9
    coverage = min(part.coverage for part in headline)
    known = [part.energy_j for part in headline if part.energy_j is not None]
    if len(known) < len(headline):
        return Energy(window_s, None, None, coverage, None, None, parts)
    total_j = math.fsum(known)
    window_error_j = sum(part.window_error_j for part in headline)
    error_j = window_error_j + sum(part.gain_error_j for part in headline)
    return Energy(
        window_s,
        total_j,
        total_j / window_s,
        coverage,
        error_j / total_j if total_j > 0 else None,
        window_error_j / total_j if total_j > 0 else None,
        parts,
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """What lies between two readings, as far as it is inside the window."""

    seconds: float
    joules: float
    power_w: float


def _channel_energy(
    channel: Channel, readings: Sequence[Reading], window_ns: tuple[int, int], period_s: float
) -> ChannelEnergy:
    window_s = (window_ns[1] - window_ns[0]) / 1e9
    counter = channel.kind == "counter"
    longest_s = math.inf if counter else _LONGEST_GAP * max(period_s, channel.update_s)
    piece_of = _counted if counter else _trapezoid
    pieces = [
        piece
        for before, after in pairwise(readings)
        if (after.t_ns - before.t_ns) / 1e9 <= longest_s and (piece := piece_of(before, after, window_ns)) is not None
    ]
    seen_s = math.fsum(piece.seconds for piece in pieces)
    if seen_s <= 0:
        return ChannelEnergy(None, None, 0.0, 0.0, 0.0)
    seen_j = math.fsum(piece.joules for piece in pieces)
    coverage = min(1.0, seen_s / window_s)
    power_w = seen_j / seen_s
    if coverage < LEAST_COVERAGE:
        return ChannelEnergy(None, power_w, coverage, 0.0, 0.0)
    bound = _counter_error_j if counter else _sensor_error_j
    powers = [piece.power_w for piece in pieces]
    unseen_j = (window_s - seen_s) * max(max(powers) - power_w, power_w - min(powers))
    return ChannelEnergy(
        power_w * window_s,
        power_w,
        coverage,
        bound(channel, readings, window_ns, pieces) + max(0.0, unseen_j),
        (channel.gain_rel or 0.0) * power_w * window_s + channel.offset_w * window_s,
    )


def _counted(before: Reading, after: Reading, window_ns: tuple[int, int]) -> _Piece | None:
    if before.energy_j is None or after.energy_j is None:
        return None
    inside_ns = min(after.t_ns, window_ns[1]) - max(before.t_ns, window_ns[0])
    whole_ns = after.t_ns - before.t_ns
    if inside_ns <= 0:
        return None
    joules = after.energy_j - before.energy_j
    return _Piece(inside_ns / 1e9, joules * (inside_ns / whole_ns), joules / whole_ns * 1e9)


def _trapezoid(before: Reading, after: Reading, window_ns: tuple[int, int]) -> _Piece | None:
    if before.power_w is None or after.power_w is None:
        return None
    low, high = max(before.t_ns, window_ns[0]), min(after.t_ns, window_ns[1])
    if high <= low:
        return None
    slope = (after.power_w - before.power_w) / (after.t_ns - before.t_ns)
    middle_w = before.power_w + slope * ((low + high) / 2 - before.t_ns)
    return _Piece((high - low) / 1e9, middle_w * (high - low) / 1e9, middle_w)


def _counter_error_j(
    channel: Channel, readings: Sequence[Reading], window_ns: tuple[int, int], pieces: Sequence[_Piece]
) -> float:
    mean_w = math.fsum(piece.joules for piece in pieces) / math.fsum(piece.seconds for piece in pieces)
    return 2 * mean_w * channel.update_s + channel.quantum + sum(_missed_j(readings, edge) for edge in window_ns)


def _first_behind(readings: Sequence[Reading], t_ns: int) -> int:
    """Position of the first reading after a moment."""
    return bisect.bisect_right(readings, t_ns, key=lambda reading: reading.t_ns)


def _missed_j(readings: Sequence[Reading], edge_ns: int) -> float:
    """Energy that may lie on the other side of an edge than interpolation has it.

    The nearer reading misses the edge by some time, and the power in it was at most that before, between or after the two
    readings around the edge: the mean between them hides a step, which the intervals beside it show.
    """
    behind = _first_behind(readings, edge_ns)
    if not 0 < behind < len(readings):
        return 0.0
    missed_ns = min(edge_ns - readings[behind - 1].t_ns, readings[behind].t_ns - edge_ns)
    powers = [
        (after.energy_j - before.energy_j) / (after.t_ns - before.t_ns)
        for before, after in pairwise(readings[max(0, behind - 2) : behind + 2])
        if before.energy_j is not None and after.energy_j is not None and after.t_ns > before.t_ns
    ]
    return missed_ns * max(powers, default=0.0)


def _sensor_error_j(
    channel: Channel, readings: Sequence[Reading], window_ns: tuple[int, int], pieces: Sequence[_Piece]
) -> float:
    window_s = (window_ns[1] - window_ns[0]) / 1e9
    around = [reading for reading in readings if reading.power_w is not None]
    inside = [reading.power_w or 0.0 for reading in around if window_ns[0] <= reading.t_ns <= window_ns[1]]
    values = inside or [piece.power_w for piece in pieces]
    # A source that is slower than its readings repeats its values: only new ones say something.
    new = max(1.0, min(len(values), window_s / channel.update_s if channel.update_s > 0 else math.inf))
    squares = [(b - a) ** 2 for a, b in pairwise(values)]
    noise_w = math.sqrt(sum(squares) / (2 * len(squares))) if squares else 0.0
    if channel.update_s > 0:
        # The differences between repeated values are zero.
        noise_w *= math.sqrt(len(values) / new)
    between_j = 2 * noise_w * window_s / math.sqrt(new)
    rounding_w = channel.quantum / 2 if len(set(values)) < 3 else channel.quantum / math.sqrt(3 * new)
    return _edges_j(channel, around, window_ns) + between_j + rounding_w * window_s


def _edges_j(channel: Channel, readings: Sequence[Reading], window_ns: tuple[int, int]) -> float:
    """At each edge the power may have changed at any moment since the value before it."""
    total = 0.0
    for edge in window_ns:
        behind = _first_behind(readings, edge)
        if not 0 < behind < len(readings):
            continue
        before, after = readings[behind - 1], readings[behind]
        if before.power_w is None or after.power_w is None:
            continue
        age_s = (after.t_ns - before.t_ns) / 1e9 + channel.update_s
        total += age_s * abs(after.power_w - before.power_w)
    return total
