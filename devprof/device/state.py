"""How a device is right now: what changes from minute to minute and belongs to a run, not to the device's identity."""

from __future__ import annotations

from dataclasses import dataclass

from devprof.device import clocks
from devprof.device.clocks import governor
from devprof.device.heat import read_zones, temperature_c
from devprof.device.nvidia import nvml_reasons
from devprof.device.tools import vcgencmd_throttled
from devprof.machine import ask

__all__ = ["State", "governor", "read_state", "temperature_c"]


@dataclass(frozen=True, slots=True)
class State:
    """One reading; ``None`` and empty for what cannot be read here.

    Attributes:
        processor: ``cpu`` or ``cuda``: for what it was read.
        temperature_c: The hottest thermal zone.
        zones: (type, degrees Celsius) of every zone.
        zones_at_passive_trip: Types of the zones that are as hot as the point from which the kernel slows the device.
        frequency_hz: The fastest cluster's present frequency.
        clusters: (cpufreq policy, present frequency in hertz); on a Raspberry Pi what the kernel asked for, not what it got.
        max_frequency_hz: The fastest cluster's highest frequency that is allowed now.
        caps: The same for every (cpufreq policy or GPU).
        nominal_frequency_hz: The fastest cluster's frequency without turbo.
        gpu_frequency_hz: The present frequency of the board's own GPU.
        governor: The frequency governor.
        throttle_counts: (counter, count since the machine started); see :func:`devprof.device.clocks.throttle_counts`.
        firmware_flags: Bits of a Raspberry Pi's ``vcgencmd get_throttled``.
        nvml_reasons: What holds the clocks of an NVIDIA GPU back, by NVML's names; read for ``cuda`` only.
    """

    processor: str = "cpu"
    temperature_c: float | None = None
    zones: tuple[tuple[str, float], ...] = ()
    zones_at_passive_trip: tuple[str, ...] = ()
    frequency_hz: float | None = None
    clusters: tuple[tuple[str, float], ...] = ()
    max_frequency_hz: float | None = None
    caps: tuple[tuple[str, float], ...] = ()
    nominal_frequency_hz: float | None = None
    gpu_frequency_hz: float | None = None
    governor: str | None = None
    throttle_counts: tuple[tuple[str, int], ...] = ()
    firmware_flags: int | None = None
    nvml_reasons: tuple[str, ...] | None = None


def read_state(processor: str = "cpu") -> State:
    """Read the state now. It never raises, and starts a process only where ``vcgencmd`` is on ``PATH``.

    Args:
        processor: ``cpu`` or ``cuda``; an NVIDIA GPU is asked for the latter only.
    """
    zones = read_zones()
    clusters = clocks.cluster_frequencies_hz()
    caps = clocks.cluster_caps_hz()
    return State(
        processor=processor,
        temperature_c=max((zone.temperature_c for zone in zones), default=None),
        zones=tuple((zone.name, zone.temperature_c) for zone in zones),
        zones_at_passive_trip=tuple(
            zone.name for zone in zones if zone.passive_c is not None and zone.temperature_c >= zone.passive_c
        ),
        frequency_hz=clocks.cpu_frequency_hz(clusters),
        clusters=clusters,
        max_frequency_hz=max((hz for _, hz in caps), default=None),
        caps=caps + clocks.gpu_caps_hz(),
        nominal_frequency_hz=clocks.nominal_frequency_hz(),
        gpu_frequency_hz=clocks.gpu_frequency_hz(),
        governor=governor(),
        throttle_counts=clocks.throttle_counts(),
        firmware_flags=vcgencmd_throttled(ask("vcgencmd", "get_throttled") or ""),
        nvml_reasons=nvml_reasons() if processor == "cuda" else None,
    )
