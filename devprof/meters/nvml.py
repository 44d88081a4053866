"""NVIDIA GPUs: joules of the driver's counter where it can be trusted, else watts of its sensor, both through NVML.

NVML is asked through NVIDIA's package ``nvidia-ml-py``, and never on Jetson boards, where it starts but does not answer.

Sources: NVML API reference (which functions exist, and of what they are an average), manual of nvidia-smi (5 W), and Yang,
Adamek and Armour, "Part-time Power Measurements" (arXiv 2312.02741): errors grow with the power, about 5 %, new values come
about every 100 ms, and sensors of A100 and H100 see a quarter of the time. So windows of less than 20 s say little.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from devprof.errors import MissingExtraError
from devprof.machine import is_tegra
from devprof.meters.base import (
    Channel,
    MeterError,
    MeterInfo,
    MeterLostError,
    Reading,
    SourceState,
    WrappingCounter,
    now_ns,
)
from devprof.meters.nvml_checks import PROBE_NS, Trace, fault_of
from devprof.paths import procfs, read_text, system

__all__ = ["NvmlMeter", "open_meter", "probe"]

_NAME = "nvml"
_TITLE = "NVIDIA GPU (NVML)"
# Values of nvmlReturn_t (nvml.h); they are a part of the library's binary interface.
_NOT_SUPPORTED, _NO_PERMISSION = 3, 4
_LOST = {1: "NVML was shut down", 9: "the driver was unloaded", 15: "the GPU is lost", 16: "the GPU must be reset"}
_INIT_REMEDIES = {
    4: "run as a user who may open /dev/nvidiactl and /dev/nvidia0",
    9: "sudo modprobe nvidia",
    12: "install NVIDIA's driver; in a container start it with --gpus all and NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    18: "the driver was updated while it was loaded: reboot",
}
_TEGRA_REMEDY = "use the board's own sensors, which devprof doctor names"
# Fields and types of nvmlDeviceGetFieldValues (nvml.h).
_POWER_INSTANT = 186
_UNSIGNED_INT = 1
_AMPERE = 7

_PERIOD_S = 0.1
_UPDATE_S = 0.1
_AVERAGE_S = 1.0
_GAIN_REL = 0.05
_OFFSET_W = 5.0
_POLL_S = 0.005
_NOTES = (
    "NVML sees the GPU's board or module: neither the host nor what its power supply loses",
    "sensors of some GPUs see a quarter of the time (arXiv 2312.02741): use windows of at least 20 s, and repeat them",
)


class _Gpu:
    """A GPU of NVML's list, and how its power is asked for."""

    def __init__(self, nvml: Any, index: int, handle: Any) -> None:
        self.index = index
        self.handle = handle
        self.domain = f"gpu{index}"
        self.name = str(nvml.nvmlDeviceGetName(handle))
        self.uuid = str(nvml.nvmlDeviceGetUUID(handle))
        self._nvml = nvml
        self.instant = self._instant_mw() is not None

    def energy_mj(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle))

    def power_mw(self) -> int:
        """Milliwatts: those of now where the driver offers them, else those of ``nvmlDeviceGetPowerUsage``."""
        if self.instant:
            value = self._instant_mw()
            if value is None:
                raise self._nvml.NVMLError(_NOT_SUPPORTED)
            return value
        return int(self._nvml.nvmlDeviceGetPowerUsage(self.handle))

    def _instant_mw(self) -> int | None:
        try:
            field = self._nvml.nvmlDeviceGetFieldValues(self.handle, [_POWER_INSTANT])[0]
        except self._nvml.NVMLError as error:
            if error.value in _LOST:
                raise
            return None
        known = field.nvmlReturn == 0 and field.valueType == _UNSIGNED_INT
        # A GPU that is on takes power: drivers that do not know the field may answer 0.
        return (int(field.value.uiVal) or None) if known else None

    def update_s(self) -> float:
        """Seconds of the average that a value of the sensor is; a second since Ampere where only that is offered."""
        if self.instant:
            return _UPDATE_S
        try:
            return _UPDATE_S if self._nvml.nvmlDeviceGetArchitecture(self.handle) < _AMPERE else _AVERAGE_S
        except self._nvml.NVMLError:
            return _AVERAGE_S

    def most_w(self) -> float:
        """More watts than this are a fault: three times the highest limit, because a counter's steps jitter."""
        try:
            return 3e-3 * int(self._nvml.nvmlDeviceGetPowerManagementLimitConstraints(self.handle)[1])
        except self._nvml.NVMLError:
            return 5_000.0

    def in_parts(self) -> bool:
        """Whether the GPU is divided into MIG instances."""
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(self.handle)[0])
        except self._nvml.NVMLError:
            return False


class NvmlMeter:
    """One GPU, or all of them."""

    def __init__(self, nvml: Any, gpus: Sequence[_Gpu], info: MeterInfo, clock: Callable[[], int]) -> None:
        self.info = info
        self._nvml = nvml
        self._clock = clock
        counted = {channel.domain for channel in info.channels if channel.kind == "counter"}
        self._sources = [(gpu, WrappingCounter(1e-3, None) if gpu.domain in counted else None) for gpu in gpus]
        self._open = True

    def read(self) -> Sequence[Reading]:
        """A value of every GPU.

        Raises:
            MeterLostError: If none of them answers any more.
        """
        readings, gone = [], []
        for gpu, counter in self._sources:
            before = self._clock()
            try:
                raw = gpu.power_mw() if counter is None else gpu.energy_mj()
            except self._nvml.NVMLError as error:
                if error.value in _LOST:
                    gone.append(_LOST[error.value])
                if counter is not None:
                    counter.lost()
                readings.append(Reading(before, gpu.domain))
                continue
            t_ns = (before + self._clock()) // 2
            if counter is None:
                readings.append(Reading(t_ns, gpu.domain, power_w=raw / 1e3))
            else:
                readings.append(Reading(t_ns, gpu.domain, energy_j=counter.add(raw)))
        if len(gone) == len(self._sources):
            raise MeterLostError(
                f"NVML does not answer any more: {gone[0]}", "nvidia-smi, and the kernel's log (dmesg)"
            )
        return readings

    def close(self) -> None:
        """Let go of NVML."""
        if self._open:
            self._open = False
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()


def probe() -> SourceState:
    """Whether a driver is loaded and its library can be asked; NVML is not started, because that can wake a GPU."""
    if is_tegra():
        return SourceState(_NAME, _TITLE, False, "Jetson's NVML does not report power", _TEGRA_REMEDY)
    # Under Windows' subsystem for Linux the driver is Windows' own.
    if not any(system("dev", name).exists() for name in ("nvidiactl", "dxg")):
        return SourceState(_NAME, _TITLE, False, "no NVIDIA driver (/dev/nvidiactl is absent)")
    if importlib.util.find_spec("pynvml") is None:
        return SourceState(_NAME, _TITLE, False, "nvidia-ml-py is not installed", "pip install 'devprof[nvml]'")
    gpus = len(list(procfs("driver", "nvidia", "gpus").glob("*/information")))
    version = re.search(r"\d+(?:\.\d+)+", read_text(procfs("driver", "nvidia", "version")) or "", re.ASCII)
    return SourceState(_NAME, _TITLE, True, f"driver {version[0] if version else 'loaded'}, {gpus or 'unknown'} GPU(s)")


def open_meter(
    argument: str, *, clock: Callable[[], int] = now_ns, sleep: Callable[[float], None] = time.sleep
) -> NvmlMeter:
    """Open the meter of a GPU; takes 0.3 s, in which the energy counter is compared with the power.

    Args:
        argument: The GPU's index, PCI bus id or UUID (or how it begins); ``all`` for the sum of all; empty for the one that
            CUDA programs use first.
        clock: Nanoseconds now.
        sleep: Waits some seconds.

    Raises:
        MeterError: If there is no such GPU, or its power is not reported.
        MissingExtraError: If ``nvidia-ml-py`` is not installed.
    """
    if is_tegra():
        raise MeterError("NVML does not report power on Jetson boards", _TEGRA_REMEDY)
    nvml = _library()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise MeterError(f"NVML cannot be used: {error}", _INIT_REMEDIES.get(error.value)) from error
    try:
        gpus, notes = _chosen(nvml, argument)
        channels = []
        for gpu, trace in zip(gpus, _watched(nvml, gpus, clock, sleep), strict=True):
            channel, note = _channel(gpu, trace)
            channels.append(channel)
            notes.append(note)
        return NvmlMeter(nvml, gpus, _info(nvml, argument, gpus, channels, notes), clock)
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        raise MeterError(f"NVML does not tell about the GPU: {error}", "nvidia-smi") from error
    except MeterError:
        nvml.nvmlShutdown()
        raise


def _library() -> Any:
    """NVIDIA's binding of NVML; another package of the same name has not all of its functions."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError as error:
        raise MissingExtraError("nvml", "pynvml", "reading an NVIDIA GPU's power") from error
    # NVIDIA's is a single module, the other one a folder.
    if hasattr(nvml, "__path__"):
        remedy = "pip uninstall pynvml; pip install --force-reinstall nvidia-ml-py"
        raise MeterError("the unofficial package pynvml hides NVIDIA's nvidia-ml-py", remedy)
    return nvml


def _chosen(nvml: Any, argument: str) -> tuple[list[_Gpu], list[str]]:
    """The GPUs that an argument means, and notes on the choice."""
    count = int(nvml.nvmlDeviceGetCount())
    if argument == "all":
        if count == 0:
            raise MeterError("NVML knows no GPU", "nvidia-smi -L")
        return [_Gpu(nvml, index, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)], []
    name = argument or _first_of_cuda()
    if name.upper().startswith("MIG-"):
        raise _of_an_instance(nvml, name)
    if re.fullmatch(r"\d{1,4}", name, re.ASCII):
        index = int(name)
        if index >= count:
            raise MeterError(f"there is no GPU {index}: NVML knows {count}", "nvidia-smi -L")
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    elif ":" in name:
        try:
            handle = nvml.nvmlDeviceGetHandleByPciBusId(name)
        except nvml.NVMLError as error:
            raise MeterError(f"there is no GPU at {name!r}: {error}", "nvidia-smi -L") from error
        index = int(nvml.nvmlDeviceGetIndex(handle))
    else:
        index, handle = _by_uuid(nvml, name, count)
    by_number = not argument and name.isdecimal()
    return [_Gpu(nvml, index, handle)], list(_doubts(nvml, count)) if by_number else []


def _first_of_cuda() -> str:
    """Index or UUID of the first device that CUDA programs see (CUDA programming guide, environment variables)."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return "0"
    first = visible.split(",")[0].strip()
    if not re.fullmatch(r"\d{1,4}|(?:GPU|MIG)-\S+", first, re.ASCII):
        raise MeterError(f"CUDA_VISIBLE_DEVICES={visible!r} hides all GPUs", "name one, such as --meter nvml:0")
    return first


def _by_uuid(nvml: Any, name: str, count: int) -> tuple[int, Any]:
    """Index and handle of the one GPU whose UUID begins so; CUDA lets users shorten it, NVML does not."""
    found = []
    for index in range(count):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        if name and str(nvml.nvmlDeviceGetUUID(handle)).upper().startswith(name.upper()):
            found.append((index, handle))
    if len(found) != 1:
        raise MeterError(f"{len(found)} GPUs have a UUID that begins with {name!r}", "nvidia-smi -L")
    return found[0]


def _of_an_instance(nvml: Any, name: str) -> MeterError:
    """Why a MIG instance cannot be measured, and what can."""
    parent = "INDEX"
    with contextlib.suppress(nvml.NVMLError):
        handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml.nvmlDeviceGetHandleByUUID(name))
        parent = str(nvml.nvmlDeviceGetIndex(handle))
    reason = f"{name} is a MIG instance, whose share of the GPU's power NVML does not report"
    return MeterError(reason, f"--meter nvml:{parent} for the whole GPU, where nothing else runs on it")


def _doubts(nvml: Any, count: int) -> Iterator[str]:
    """CUDA counts from the fastest GPU, NVML by the slots; it matters where they differ."""
    names = {nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)}
    if len(names) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        yield "CUDA may count these different GPUs in another order: set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name a UUID"


def _watched(nvml: Any, gpus: Sequence[_Gpu], clock: Callable[[], int], sleep: Callable[[float], None]) -> list[Trace]:
    """What counters and sensors say within the time of the probe."""
    traces = [Trace() for _ in gpus]
    end_ns = clock() + PROBE_NS
    while clock() < end_ns:
        for gpu, trace in zip(gpus, traces, strict=True):
            try:
                trace.counts.append((clock(), gpu.energy_mj()))
            except nvml.NVMLError as error:
                trace.counter_error = str(error)
            try:
                trace.powers_mw.append(gpu.power_mw())
            except nvml.NVMLError as error:
                trace.sensor_error, trace.sensor_code = str(error), error.value
        sleep(_POLL_S)
    return traces


def _channel(gpu: _Gpu, trace: Trace) -> tuple[Channel, str]:
    """How a GPU is measured, and why so.

    Raises:
        MeterError: If it cannot be measured.
    """
    fault = fault_of(trace)
    channel = Channel(gpu.domain, "counter", quantum=1e-3, gain_rel=_GAIN_REL, offset_w=_OFFSET_W, most_w=gpu.most_w())
    if fault is None:
        update_s = max(_UPDATE_S, trace.longest_step_s())
        return replace(channel, update_s=update_s), f"{gpu.domain}: the driver's energy counter"
    if not trace.powers_mw:
        remedy = "an external meter" if trace.sensor_code != _NO_PERMISSION else _INIT_REMEDIES[_NO_PERMISSION]
        raise MeterError(f"NVML does not report the power of {gpu.domain} ({gpu.name}): {trace.sensor_error}", remedy)
    update_s = gpu.update_s()
    average = ", each an average over one second" if update_s == _AVERAGE_S else ""
    note = f"{gpu.domain}: power is sampled{average}, because its energy counter {fault}"
    return replace(channel, kind="sensor", update_s=update_s), note


def _info(nvml: Any, argument: str, gpus: Sequence[_Gpu], channels: list[Channel], notes: list[str]) -> MeterInfo:
    shared = [gpu.domain for gpu in gpus if gpu.in_parts()]
    if shared:
        notes.append(f"{', '.join(shared)} is divided (MIG): the power is that of all its instances")
    return MeterInfo(
        source=_NAME,
        rule="nvml-gpus/1" if argument == "all" else "nvml-gpu/1",
        channels=tuple(channels),
        period_s=_PERIOD_S,
        detail=f"{'; '.join(f'{gpu.name} ({gpu.uuid})' for gpu in gpus)}; driver {nvml.nvmlSystemGetDriverVersion()}",
        notes=(*notes, *_NOTES),
    )
