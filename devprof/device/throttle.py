"""Was a device throttled during a run? Judged from its states before, during and after. Pure functions.

``confirmed`` is what hardware, firmware or driver said themselves; ``suspected`` is what a slower clock or a hot zone suggest.
The bits of Raspberry Pi's firmware are those of ``vcgencmd get_throttled`` (Raspberry Pi documentation).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from devprof.device.state import State

__all__ = ["Throttling", "Verdict", "evidence", "judge"]

Verdict = Literal["none", "suspected", "confirmed"]
Number = TypeVar("Number", int, float)

_FIRMWARE_NOW = {
    0: "firmware reports under-voltage",
    1: "firmware caps the ARM frequency",
    2: "firmware throttles the device",
    3: "firmware reports its soft temperature limit",
}
# The same four, 16 bits higher, say "since the device started".
_STICKY_SHIFT = 16
_NVML_CONFIRMED = {
    "hw_slowdown": "the GPU's hardware slowed its clocks",
    "sw_thermal_slowdown": "the driver slowed the GPU for its temperature",
    "hw_thermal_slowdown": "the GPU's hardware slowed its clocks for its temperature",
    "hw_power_brake_slowdown": "the power supply slowed the GPU",
}
# Many a GPU runs at its power cap whenever it works: that is its speed, unless the cap was lowered.
_NVML_SUSPECTED = {"sw_power_cap": "the GPU is at its power cap"}
_DROP = 0.05


@dataclass(frozen=True, slots=True)
class Throttling:
    """The verdict, and why.

    Attributes:
        verdict: ``None`` where nothing that could tell is readable.
        reasons: Short clauses, each once; empty for ``none`` and ``None``.
    """

    verdict: Verdict | None
    reasons: tuple[str, ...] = ()


def judge(states: Sequence[State]) -> Throttling:
    """Judge a run.

    Args:
        states: In order of time: before the run, about one a second during it, and after it.
    """
    confirmed = [*_firmware(states), *_counters(states), *_gpu(states, _NVML_CONFIRMED)]
    suspected = [*_caps(states), *_slower(states), *_hot(states), *_gpu(states, _NVML_SUSPECTED)]
    reasons = tuple(confirmed + suspected)
    if confirmed:
        return Throttling("confirmed", reasons)
    if suspected:
        return Throttling("suspected", reasons)
    return Throttling("none" if any(evidence(state) for state in states) else None)


def evidence(state: State) -> tuple[str, ...]:
    """What can tell here whether the processor of a state is throttled, in words; empty if nothing can."""
    of_gpu = {
        "NVML's clock reasons": state.nvml_reasons is not None,
        "the GPU's frequency": state.gpu_frequency_hz is not None,
    }
    of_cpu = {
        "the firmware's flags": state.firmware_flags is not None,
        "the counters of throttling": bool(state.throttle_counts),
        "the CPU's frequency": state.frequency_hz is not None,
    }
    # A CPU at full speed says nothing about a GPU.
    found = of_gpu if state.processor == "cuda" else of_cpu
    return tuple(name for name, readable in found.items() if readable)


def _firmware(states: Sequence[State]) -> list[str]:
    flags = [state.firmware_flags for state in states if state.firmware_flags is not None]
    reasons = []
    for bit, reason in _FIRMWARE_NOW.items():
        # A sticky bit that was not set at first was set in between, even if no reading saw the moment.
        happened = any(flag >> bit & 1 for flag in flags) or any(
            (flag & ~flags[0]) >> (bit + _STICKY_SHIFT) & 1 for flag in flags
        )
        if happened:
            reasons.append(reason)
    return reasons


def _series(readings: Iterable[tuple[tuple[str, Number], ...]]) -> dict[str, list[Number]]:
    """The values of every name in order of time."""
    series: dict[str, list[Number]] = {}
    for name, value in (pair for reading in readings for pair in reading):
        series.setdefault(name, []).append(value)
    return series


def _counters(states: Sequence[State]) -> list[str]:
    return [
        f"the throttle counter {name} rose by {counts[-1] - counts[0]}"
        for name, counts in _series(state.throttle_counts for state in states).items()
        if counts[-1] > counts[0]
    ]


def _gpu(states: Sequence[State], texts: dict[str, str]) -> list[str]:
    seen = {reason for state in states for reason in state.nvml_reasons or ()}
    return [text for reason, text in texts.items() if reason in seen]


def _caps(states: Sequence[State]) -> list[str]:
    return [
        f"the highest frequency allowed for {name} fell from {caps[0] / 1e6:.0f} to {min(caps) / 1e6:.0f} MHz"
        for name, caps in _series(state.caps for state in states).items()
        if min(caps) < caps[0]
    ]


def _slower(states: Sequence[State]) -> list[str]:
    """A drop of the clock under the governor ``performance``; all others lower it by design.

    Before and after a run cores are idle and may sleep, so a drop counts only in between. Above its nominal frequency a
    processor's clock depends on how many cores work, so the reference is not above it where it is known.
    """
    readings = [(state.frequency_hz, state) for state in states if state.frequency_hz is not None]
    if not readings or any(state.governor != "performance" for _, state in readings):
        return []
    reference = min(
        [max(hz for hz, _ in readings), *(s.nominal_frequency_hz for s in states if s.nominal_frequency_hz)]
    )
    lowest = min((state.frequency_hz for state in states[1:-1] if state.frequency_hz is not None), default=reference)
    if lowest >= (1.0 - _DROP) * reference:
        return []
    return [f"the frequency fell to {lowest / 1e6:.0f} of {reference / 1e6:.0f} MHz under the governor performance"]


def _hot(states: Sequence[State]) -> list[str]:
    names = dict.fromkeys(name for state in states for name in state.zones_at_passive_trip)
    return [f"the thermal zone {name} reached the point where the kernel slows the device" for name in names]
