"""In the child: what memory, kernel and accelerator count while it trains."""

from __future__ import annotations

import time
from dataclasses import dataclass

from devprof.device.load import CpuTimes, other_cpu_share, read_cpu_times
from devprof.device.memory import (
    involuntary_switches,
    major_faults,
    peak_rss_bytes,
    pss_bytes,
    reset_peak_rss,
    swapped_in_bytes,
)
from devprof.device.nvidia import used_memory_bytes
from devprof.machine import is_tegra
from devprof.measure.protocol import MemoryPeaks, WindowCounts

__all__ = ["MemoryGauge", "WindowGauge", "accelerator_context_bytes"]


@dataclass(frozen=True, slots=True)
class _Counters:
    swapped_in_bytes: int | None
    major_faults: int | None
    involuntary_switches: int | None
    cpu: CpuTimes | None
    own_cpu_s: float


def _read_counters() -> _Counters:
    return _Counters(swapped_in_bytes(), major_faults(), involuntary_switches(), read_cpu_times(), time.process_time())


class WindowGauge:
    """Counts what happened to this process and to the machine since it was made."""

    def __init__(self) -> None:
        self._before = _read_counters()

    def read(self) -> WindowCounts:
        """Differences from then to now."""
        before, after = self._before, _read_counters()
        share = None
        if before.cpu is not None and after.cpu is not None:
            share = other_cpu_share(before.cpu, after.cpu, after.own_cpu_s - before.own_cpu_s)
        return WindowCounts(
            swapped_in_bytes=_difference(before.swapped_in_bytes, after.swapped_in_bytes),
            major_faults=_difference(before.major_faults, after.major_faults),
            involuntary_switches=_difference(before.involuntary_switches, after.involuntary_switches),
            other_cpu_share=share,
        )


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


class MemoryGauge:
    """Peaks of memory by stage: the kernel's high-water mark is reset when this is made and after the first step."""

    def __init__(self, processor: str, context_bytes: int | None) -> None:
        self._processor = processor
        self._context = context_bytes
        self._reset = reset_peak_rss()
        self._first: int | None = None

    def first_step_done(self) -> None:
        """Keep the first step's peak and begin anew."""
        self._first = peak_rss_bytes()
        self._reset = reset_peak_rss() and self._reset
        if self._processor == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()

    def read(self) -> MemoryPeaks:
        """The peaks until now."""
        steady = peak_rss_bytes()
        reserved = allocated = None
        if self._processor == "cuda":
            import torch

            reserved, allocated = torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated()
        return MemoryPeaks(
            reset=self._reset,
            rss_first_step_bytes=self._first,
            rss_steady_bytes=steady,
            pss_end_bytes=pss_bytes(),
            accelerator_reserved_bytes=reserved,
            accelerator_allocated_bytes=allocated,
            accelerator_context_bytes=self._context,
            unified=self._processor == "cuda" and is_tegra(),
        )


def accelerator_context_bytes() -> int | None:
    """Make the CUDA context and say how much device memory that took; ``None`` where NVML is not there to ask.

    The context lies outside the allocator's statistics. NVML sees the device's memory before it exists; torch cannot, because
    its first question makes the context. Another program that allocates in the same moment would be counted with it.
    """
    import torch

    before = used_memory_bytes()
    torch.cuda.synchronize()
    after = used_memory_bytes()
    return None if before is None or after is None else max(0, after - before)
