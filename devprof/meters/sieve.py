"""What cannot be a measurement is rejected here, once for all meters, and counted: a meter that lies must not move a figure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from devprof.meters.base import Channel, Reading

__all__ = ["Sieve"]


class Sieve:
    """Lets through readings that can be true, in the order of their stamps by channel.

    Rejected are values that are no number, negative (a sensor's zero may be below by its quantum and offset: that counts as
    zero), above what the channel can measure, of an unknown channel, and stamps that do not advance. A counter that falls or
    rises faster than its channel can measure is rejected for that interval and believed again from there on.

    Args:
        channels: Of the meter.

    Attributes:
        rejected: How many readings were rejected, by reason.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = {channel.domain: channel for channel in channels}
        self._last: dict[str, Reading] = {}
        self._since_ns: dict[str, int] = {}
        self._broken: set[str] = set()
        self.rejected: Counter[str] = Counter()

    def accept(self, readings: Iterable[Reading]) -> list[Reading]:
        """The readings that can be true; a break stands where an interval cannot."""
        return [kept for reading in readings for kept in self._judge(reading)]

    def _judge(self, reading: Reading) -> tuple[Reading, ...]:
        channel = self._channels.get(reading.domain)
        if channel is None:
            return self._reject("unknown-channel")
        since_ns = self._since_ns.get(reading.domain)
        stale = since_ns is not None and reading.t_ns <= since_ns
        if reading.power_w is None and reading.energy_j is None:
            self._broken.add(reading.domain)
            # A break is believed whatever its stamp: it stands behind what was kept.
            return self._keep(Reading(since_ns + 1, reading.domain) if stale and since_ns is not None else reading)
        if stale:
            return self._reject("time-backward")
        if channel.kind == "sensor":
            return self._judge_power(channel, reading)
        return self._judge_energy(channel, reading, self._last.get(reading.domain))

    def _judge_power(self, channel: Channel, reading: Reading) -> tuple[Reading, ...]:
        power_w = reading.power_w
        if power_w is None or not math.isfinite(power_w):
            return self._reject("not-a-number")
        if power_w < -(channel.quantum + channel.offset_w):
            return self._reject("negative")
        if power_w > channel.most_w:
            return self._reject("too-large")
        return self._keep(Reading(reading.t_ns, reading.domain, power_w=max(0.0, power_w)))

    def _judge_energy(self, channel: Channel, reading: Reading, last: Reading | None) -> tuple[Reading, ...]:
        energy_j = reading.energy_j
        if energy_j is None or not math.isfinite(energy_j):
            return self._reject("not-a-number")
        if energy_j < 0:
            return self._reject("negative")
        (kept,) = self._keep(Reading(reading.t_ns, reading.domain, energy_j=energy_j))
        self._last[reading.domain] = kept
        broken = reading.domain in self._broken
        self._broken.discard(reading.domain)
        if last is None or last.energy_j is None or broken:
            return (kept,)
        rise_j = energy_j - last.energy_j
        # A counter that is updated now and then shows the energy of two periods in one short interval.
        most_j = channel.most_w * ((reading.t_ns - last.t_ns) / 1e9 + channel.update_s) + 2 * channel.quantum
        if 0 <= rise_j <= most_j:
            return (kept,)
        self._reject("counter-fell" if rise_j < 0 else "too-large")
        return (Reading((last.t_ns + reading.t_ns) // 2, reading.domain), kept)

    def _keep(self, reading: Reading) -> tuple[Reading]:
        self._since_ns[reading.domain] = reading.t_ns
        return (reading,)

    def _reject(self, reason: str) -> tuple[()]:
        self.rejected[reason] += 1
        return ()
