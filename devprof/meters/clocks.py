"""How far the monotonic clocks of two hosts are apart, with a bound that holds however unequal the two ways of a message are.

An exchange of four stamps (RFC 5905, section 8) encloses the offset: the remote host received after the question was sent, and
answered before the answer arrived. Between exchanges the clocks drift apart, by less than :data:`MAX_DRIFT`, so what was known
of the offset widens with time until the next exchange. All arithmetic is in whole nanoseconds: a float has too few digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["MAX_DRIFT", "ClockMap", "OffsetEstimate", "Ping", "exchange", "map_between", "offset_of", "refined"]

MAX_DRIFT = 1e-3
"""Clocks are taken to differ in rate by less than this fraction: crystals do by 1e-4, and ntpd slews by 5e-4 (RFC 5905)."""

_DRIFT_PER_MILLION = round(MAX_DRIFT * 1e6)


@dataclass(frozen=True, slots=True)
class Ping:
    """The four stamps of an exchange, in nanoseconds.

    Attributes:
        t0: The question left, by the local clock.
        t1: It arrived, by the remote clock.
        t2: The answer left, by the remote clock.
        t3: It arrived, by the local clock.
    """

    t0: int
    t1: int
    t2: int
    t3: int

    @property
    def sane(self) -> bool:
        """Whether time went forward on both sides, and no longer on the remote one than on the local one."""
        return self.t0 <= self.t3 and self.t1 <= self.t2 and self.round_trip_ns >= -_drifted_ns(self.t3 - self.t0)

    @property
    def round_trip_ns(self) -> int:
        """Time that both ways took together."""
        return (self.t3 - self.t0) - (self.t2 - self.t1)


@dataclass(frozen=True, slots=True)
class OffsetEstimate:
    """Remote clock minus local clock at one moment.

    Attributes:
        at_ns: The moment, by the local clock.
        offset_ns: The estimate.
        error_ns: The true offset is at most so far from it.
    """

    at_ns: int
    offset_ns: int
    error_ns: int

    def bounds_at(self, t_ns: int) -> tuple[int, int]:
        """Least and greatest offset at another moment of the local clock."""
        reach = self.error_ns + _drifted_ns(t_ns - self.at_ns)
        return self.offset_ns - reach, self.offset_ns + reach


@dataclass(frozen=True, slots=True)
class ClockMap:
    """A linear map of remote stamps to the local clock.

    Attributes:
        before: The offset at its beginning.
        after: The offset later; the same as ``before`` where only one is known, and then no drift is assumed.
    """

    before: OffsetEstimate
    after: OffsetEstimate

    @property
    def drift(self) -> float:
        """Seconds that the remote clock gains in a second of the local one; 0 where only one offset is known."""
        return self._gain_ns / self._span_ns if self._span_ns else 0.0

    def local_ns(self, remote_ns: int) -> int:
        """The local clock's nanoseconds at a stamp of the remote one."""
        since = remote_ns - (self.after.at_ns + self.after.offset_ns)
        span = self._span_ns
        return self.after.at_ns + (since * span // (span + self._gain_ns) if span else since)

    def error_ns(self, remote_ns: int) -> int:
        """By how much :meth:`local_ns` can be off at most.

        Every moment that both estimates allow is considered; where they contradict each other, because a clock was set or
        slept, both are.
        """
        t_ns = self.local_ns(remote_ns)
        offset = remote_ns - t_ns
        low, high = _common(self.before.bounds_at(t_ns), self.after.bounds_at(t_ns))
        wide = max(high - offset, offset - low)
        # The bounds are those of the local moment t_ns; the true moment is up to `wide` away, and bounds widen on the way.
        return wide + 2 * _drifted_ns(wide) + 1

    @property
    def _span_ns(self) -> int:
        return self.after.at_ns - self.before.at_ns

    @property
    def _gain_ns(self) -> int:
        """What the remote clock gained between the estimates, no more than a drift can be."""
        most = _drifted_ns(self._span_ns)
        return max(-most, min(most, self.after.offset_ns - self.before.offset_ns))


def exchange(ask: Callable[[], tuple[int, int]], clock: Callable[[], int]) -> Ping:
    """One exchange.

    Args:
        ask: Sends a question, waits for the answer and gives the remote stamps in it (received, answered).
        clock: The local clock.
    """
    t0 = clock()
    t1, t2 = ask()
    return Ping(t0, t1, t2, clock())


def offset_of(pings: Iterable[Ping]) -> OffsetEstimate:
    """The offset in the middle of the best exchange, known to within half of its round trip.

    To that comes what the clocks can drift apart during half of the exchange. The best is the one known most closely.

    Raises:
        ValueError: If no exchange is possible: none was given, or time went backward in all.
    """
    estimates = [_estimate(ping) for ping in pings if ping.sane]
    if not estimates:
        raise ValueError("there is no exchange in which time went forward")
    return min(estimates, key=lambda estimate: estimate.error_ns)


def refined(before: OffsetEstimate, now: OffsetEstimate) -> OffsetEstimate:
    """What two estimates together say of the offset at the moment of the second one.

    Exchanges on a busy network are worth less than older ones on a quiet one; both bounds hold, so their common part does.
    Estimates that contradict each other (a clock was set, or its host slept) give a bound that covers both.
    """
    low, high = _common(before.bounds_at(now.at_ns), now.bounds_at(now.at_ns))
    return OffsetEstimate(now.at_ns, (low + high) // 2, _half_up(high - low) + 1)


def map_between(before: OffsetEstimate, after: OffsetEstimate | None = None) -> ClockMap:
    """The map from the remote clock to the local one through one offset, or through two at different moments.

    Raises:
        ValueError: If the second is not later than the first.
    """
    if after is None:
        return ClockMap(before, before)
    if after.at_ns <= before.at_ns:
        raise ValueError("the second offset must be later than the first")
    return ClockMap(before, after)


def _estimate(ping: Ping) -> OffsetEstimate:
    # The offset lies between t2 - t3 and t1 - t0: no message arrives before it is sent.
    low, high = ping.t2 - ping.t3, ping.t1 - ping.t0
    error_ns = _half_up(max(0, high - low)) + _drifted_ns(_half_up(ping.t3 - ping.t0)) + 1
    return OffsetEstimate((ping.t0 + ping.t3) // 2, (low + high) // 2, error_ns)


def _common(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """The common part of two ranges, or where there is none, the range that covers both."""
    low, high = max(a[0], b[0]), min(a[1], b[1])
    return (low, high) if low <= high else (min(a[0], b[0]), max(a[1], b[1]))


def _drifted_ns(span_ns: int) -> int:
    """What two clocks can drift apart in a time, rounded up."""
    return -(-abs(span_ns) * _DRIFT_PER_MILLION // 1_000_000)


def _half_up(value: int) -> int:
    return -(-value // 2)
