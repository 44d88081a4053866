"""Who a device is: the facts of its board, and the key under which its measurements may be compared.

The key changes with what changes speed for good, and with nothing else; :func:`identify` says what that is.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

from devprof.device.board import board_facts
from devprof.device.cores import cpu_facts, logical_cores, physical_cores, usable_cpus
from devprof.device.jetson import l4t_release, power_mode
from devprof.device.limits import cpu_limit, memory_limit_bytes
from devprof.device.memory import total_memory_bytes, total_swap_bytes
from devprof.device.nvidia import driver_version, gpu_model
from devprof.device.software import installed_version, preloaded_allocator, software_facts
from devprof.records import Device
from devprof.units import format_bytes

__all__ = ["default_threads", "device_facts", "identify", "installed_version"]

# Board, CPU and build: what of the facts is in the key as it stands. The rest needs a second look, see _key.
_LASTING = ("board", "machine", "cores_physical", "cores_logical", "torch_build", "cpu_limit", "memory_limit_bytes")


def default_threads() -> int:
    """Threads that training gets by default: one per physical core that this process may use.

    A quota of CPU time is rounded up to whole cores: more threads than that would only wait for each other.
    """
    usable = usable_cpus()
    cores = physical_cores(usable) or len(usable)
    limit = cpu_limit()
    return max(1, cores if limit is None else min(cores, math.ceil(limit)))


def device_facts() -> dict[str, dict[str, str]]:
    """What is known about the device, by group and name; a fact that the system does not tell is absent.

    Groups, in this order: ``board``, ``processor``, ``memory``, ``limits``, ``software``. A name is in one group only.
    """
    mode = power_mode()
    memory, swap = total_memory_bytes(), total_swap_bytes()
    groups: dict[str, Mapping[str, object]] = {
        "board": {
            **board_facts(),
            "l4t": l4t_release(),
            "power_mode": mode and mode.name,
            "power_mode_id": mode and mode.id,
        },
        "processor": {**cpu_facts(), "gpu": gpu_model(), "nvidia_driver": driver_version()},
        "memory": {"memory_bytes": memory, "swap_bytes": swap},
        "limits": _limits(memory),
        "software": software_facts(),
    }
    return {
        group: {name: str(fact) for name, fact in facts.items() if fact is not None} for group, facts in groups.items()
    }


def _limits(memory_bytes: int | None) -> dict[str, object]:
    """The limits of the control group, where they are below what the machine has anyway."""
    cpus, logical, limit_bytes = cpu_limit(), logical_cores(), memory_limit_bytes()
    if cpus is not None and logical is not None and cpus >= logical:
        cpus = None
    if limit_bytes is not None and memory_bytes is not None and limit_bytes >= memory_bytes:
        limit_bytes = None
    return {"cpu_limit": None if cpus is None else f"{cpus:g}", "memory_limit_bytes": limit_bytes}


def identify(
    *,
    processor: str = "cpu",
    threads: int | None = None,
    name: str | None = None,
    affinity: Sequence[int] | None = None,
) -> Device:
    """This device, as the rows of a measurement name it.

    Its key is a hash of what changes speed for good: board, CPU and its cores, memory, power mode, processor (for ``cuda``
    the GPU, too), build of torch, threads, the limits of its control group, and an allocator that ``LD_PRELOAD`` brings. Two
    boards of one type share a key if all that is equal; the fact ``serial_hash`` tells them apart. Kernel, driver, boot, load,
    temperature, governor and turbo are not in it.

    Args:
        processor: ``cpu`` or ``cuda``.
        threads: Training threads; by default :func:`default_threads`.
        name: The user's name for the board; by default what the fingerprint says.
        affinity: CPUs that training is bound to: a board's small cores are another device than its large ones.
    """
    facts = {key: fact for group in device_facts().values() for key, fact in group.items()}
    threads = default_threads() if threads is None else threads
    return Device(
        name=name or _name(facts),
        key=_key(facts, processor, threads, affinity),
        processor=processor,
        power_mode=facts.get("power_mode"),
        threads=threads,
        facts=tuple(facts.items()),
    )


def _key(facts: Mapping[str, str], processor: str, threads: int, affinity: Sequence[int] | None) -> str:
    lasting = {name: facts[name] for name in _LASTING if name in facts}
    # Part numbers stay what they are, while the names that are known for them grow from version to version.
    lasting["cpu"] = facts.get("cpu_parts") or facts.get("cpu", "")
    # The kernel keeps a little memory for itself, more or less with each version: the size in half GiB is the board's.
    lasting["memory_half_gib"] = str(round(int(facts.get("memory_bytes", "0")) / (1 << 29)))
    gpu = facts.get("gpu") if processor == "cuda" else None
    parts = [lasting, facts.get("power_mode"), processor, gpu, threads, preloaded_allocator(), sorted(affinity or ())]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _name(facts: Mapping[str, str]) -> str:
    """A name that a person would recognise in a figure, with the limits that make the device smaller than its name."""
    limits = []
    if "cpu_limit" in facts:
        limits.append(f"{facts['cpu_limit']} CPUs")
    if "memory_limit_bytes" in facts:
        limits.append(format_bytes(int(facts["memory_limit_bytes"])))
    return _hardware_name(facts) + (f" ({', '.join(limits)})" if limits else "")


def _hardware_name(facts: Mapping[str, str]) -> str:
    if "board" in facts and not facts.get("machine", "").startswith("x86"):
        return facts["board"]
    # A PC's board name says nothing about its speed; its processor does.
    name = facts.get("cpu", "device")
    for noise in ("(R)", "(TM)", "CPU", "Processor"):
        name = name.replace(noise, "")
    return f"{' '.join(name.split('@')[0].split())}, {facts.get('cores_physical', '?')} cores"
