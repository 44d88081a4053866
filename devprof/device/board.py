"""Which board or machine this is: its names, its serial number as a pseudonym, and what it runs inside."""

from __future__ import annotations

import hashlib
import platform

from devprof.machine import compatible, device_tree
from devprof.paths import procfs, read_text, sysfs, system

__all__ = ["board_facts"]

_SALT = b"devprof serial number\x00"
# What makers leave in the field when they do not fill it.
_NO_SERIAL = (
    "to be filled",
    "default string",
    "not specified",
    "not applicable",
    "system serial number",
    "none",
    "unknown",
)
_CONTAINER_HINTS = {
    "docker": "docker",
    "kubepods": "kubernetes",
    "libpod": "podman",
    "containerd": "containerd",
    "lxc": "lxc",
}


def board_facts() -> dict[str, str | None]:
    """Facts of the board; ``None`` for what the system does not tell."""
    return {
        "board": _board(),
        "compatible": ", ".join(compatible()) or None,
        "machine": platform.machine() or None,
        "serial_hash": _serial_hash(),
        "hypervisor": _hypervisor(),
        "container": _container(),
        "platform_profile": read_text(sysfs("firmware", "acpi", "platform_profile")),
    }


def _dmi(name: str) -> str | None:
    return read_text(sysfs("class", "dmi", "id", name))


def _board() -> str | None:
    model = device_tree("model")
    return model or " ".join(part for part in (_dmi("sys_vendor"), _dmi("product_name")) if part) or None


def _serial_hash() -> str | None:
    """A pseudonym that tells two boards of one type apart without telling their serial numbers.

    Serial numbers are short enough to be tried out one by one, so it is not a secret. DMI's numbers are for root only.
    """
    for serial in (device_tree("serial-number"), _dmi("product_uuid"), _dmi("product_serial")):
        if serial and len(set(serial)) > 2 and not serial.lower().startswith(_NO_SERIAL):
            return hashlib.sha256(_SALT + serial.encode()).hexdigest()[:12]
    return None


def _hypervisor() -> str | None:
    """What runs this virtual machine; ``yes`` if only that it is one can be seen."""
    kind = read_text(sysfs("hypervisor", "type"))
    if kind:
        return kind
    flags = [line for line in (read_text(procfs("cpuinfo")) or "").splitlines() if line.startswith("flags")]
    if flags and "hypervisor" in flags[0].split():
        return _dmi("sys_vendor") or "yes"
    return None


def _container() -> str | None:
    if system(".dockerenv").exists():
        return "docker"
    if system("run", ".containerenv").exists():
        return "podman"
    groups = read_text(procfs("1", "cgroup")) or ""
    return next((name for hint, name in _CONTAINER_HINTS.items() if hint in groups), None)
