"""Who a device is: the facts of its board, and the key under which its measurements may be compared.

The key changes with what changes speed for good (board, power mode, torch build, threads) and not with kernel uptime, load or
temperature. torch is not imported: its build is read from the installed distribution.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from pathlib import Path

import psutil

from devprof.device.memory import total_memory_bytes
from devprof.paths import read_text, sysfs
from devprof.records import Device

__all__ = ["board_facts", "default_threads", "identify", "installed_version"]


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution with its build tag, such as ``2.13.0+cpu``; ``None`` if absent."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def default_threads() -> int:
    """Threads that training gets by default: one per physical core that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, psutil.cpu_count(logical=False) or usable))


def _cpu_model() -> str | None:
    text = read_text(Path("/proc/cpuinfo")) or ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    # x86 says "model name"; ARM kernels name the board under "Model" or "Hardware", or only the core's part number.
    for key in ("model name", "Model", "Hardware", "CPU part"):
        if named.get(key):
            return named[key]
    return platform.processor() or None


def _board() -> str | None:
    device_tree = read_text(Path("/proc/device-tree/model"))
    if device_tree:
        return device_tree
    dmi = sysfs("class", "dmi", "id")
    vendor, product = read_text(dmi / "sys_vendor"), read_text(dmi / "product_name")
    return " ".join(part for part in (vendor, product) if part) or None


def board_facts() -> dict[str, str]:
    """What is known about the board, by name; a fact that the system does not tell is absent."""
    memory = total_memory_bytes()
    facts = {
        "board": _board(),
        "cpu": _cpu_model(),
        "machine": platform.machine() or None,
        "cores_physical": str(psutil.cpu_count(logical=False) or "") or None,
        "cores_logical": str(psutil.cpu_count() or "") or None,
        "memory_bytes": None if memory is None else str(memory),
        "os": f"{platform.system()} {platform.release()}",
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _short_name(facts: dict[str, str]) -> str:
    """A name that a person would recognise in a figure; ``device_key`` is what tells boards apart."""
    if "board" in facts and not facts.get("machine", "").startswith("x86"):
        return facts["board"]
    # A PC's board name says nothing about its speed; its processor does.
    name = facts.get("cpu", "device")
    for noise in ("(R)", "(TM)", "CPU", "Processor"):
        name = name.replace(noise, "")
    return f"{' '.join(name.split('@')[0].split())}, {facts.get('cores_physical', '?')} cores"


def identify(*, processor: str = "cpu", threads: int | None = None, name: str | None = None) -> Device:
    """This device, as the rows of a measurement name it.

    Args:
        processor: ``cpu`` or ``cuda``.
        threads: Training threads; by default :func:`default_threads`.
        name: The user's name for the board; by default what the fingerprint says.
    """
    facts = board_facts()
    threads = default_threads() if threads is None else threads
    power_mode = None
    # The kernel's release says nothing about speed for good, and would make every update a new device.
    lasting = {key: value for key, value in facts.items() if key not in {"os", "memory_bytes"}}
    # The kernel keeps a little memory for itself, more or less with each version: the size in half GiB is the board's.
    lasting["memory_half_gib"] = str(round(int(facts.get("memory_bytes", "0")) / (1 << 29)))
    build = installed_version("torch")
    digest = hashlib.sha256(json.dumps([lasting, power_mode, processor, build, threads], sort_keys=True).encode())
    return Device(
        name=name or _short_name(facts),
        key=digest.hexdigest()[:12],
        processor=processor,
        power_mode=power_mode,
        threads=threads,
        facts=tuple(facts.items()),
    )
