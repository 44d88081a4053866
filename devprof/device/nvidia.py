"""NVIDIA GPUs with a driver of their own: which one, and why its clocks are held back.

NVML is asked through the package ``nvidia-ml-py``, and never on Jetson boards, where it starts but does not answer.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import re
from typing import Any

from devprof.machine import is_tegra
from devprof.paths import procfs, read_text

__all__ = ["driver_version", "gpu_model", "nvml_reasons", "used_memory_bytes"]

_LOG = logging.getLogger(__name__)
# Bits of nvmlClocksEventReasons (NVML API reference), under the names that nvidia-smi gives them.
_REASONS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}


def driver_version() -> str | None:
    """Version of the loaded NVIDIA driver; ``None`` without one."""
    text = read_text(procfs("driver", "nvidia", "version")) or ""
    match = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text, re.ASCII)
    return match[1] if match else None


def gpu_model() -> str | None:
    """The GPU that CUDA programs use first; ``None`` without one. Jetson's GPU is part of its board.

    ``CUDA_VISIBLE_DEVICES`` decides among several. CUDA may count them from the fastest and the driver counts them by their
    slots, so different GPUs in one machine are told apart for sure only by their UUID in that variable.
    """
    found = []
    for path in sorted(procfs("driver", "nvidia", "gpus").glob("*/information")):
        lines = (line.split(":", 1) for line in (read_text(path) or "").splitlines() if ":" in line)
        found.append({key.strip(): value.strip() for key, value in lines})
    chosen = _chosen()
    if isinstance(chosen, str):
        found = [gpu for gpu in found if gpu.get("GPU UUID", "").startswith(chosen)]
        chosen = 0
    return found[chosen].get("Model") if chosen < len(found) else None


def _chosen() -> int | str:
    """Number or UUID of the first device that CUDA programs see."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return first
    return int(first) if first.isdecimal() else 0


def used_memory_bytes() -> int | None:
    """Memory of the GPU that is in use now, by all programs; ``None`` where NVML does not say."""
    connection = None if is_tegra() else _connect()
    if connection is None:
        return None
    nvml, device = connection
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(device).used)
    except nvml.NVMLError:
        return None


def nvml_reasons() -> tuple[str, ...] | None:
    """What holds the GPU's clocks back now, such as ``sw_power_cap``; ``None`` where NVML does not say."""
    connection = None if is_tegra() else _connect()
    if connection is None:
        return None
    nvml, device = connection
    # NVML called the reasons "throttle reasons" before release 12.2.
    ask = (
        getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None) or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    )
    try:
        bits = int(ask(device))
    except nvml.NVMLError:
        return None
    return tuple(name for bit, name in _REASONS.items() if bits & bit)


@functools.cache
def _connect() -> tuple[Any, Any] | None:
    """NVML and its handle of the GPU, once per process: starting it costs more than a reading."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        _LOG.info("clocks of the GPU are not watched: the package nvidia-ml-py is not installed")
        return None
    chosen = _chosen()
    try:
        nvml.nvmlInit()
        by_uuid = isinstance(chosen, str)
        return nvml, (nvml.nvmlDeviceGetHandleByUUID if by_uuid else nvml.nvmlDeviceGetHandleByIndex)(chosen)
    except nvml.NVMLError as error:
        _LOG.info("clocks of the GPU are not watched: NVML says %s", error)
        return None
