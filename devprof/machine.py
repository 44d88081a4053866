"""What kind of board this is, as its device tree names it, and how vendors' tools are asked. Layer 0: standard library only."""

from __future__ import annotations

import shutil
import subprocess

from devprof.paths import procfs, read_text, sysfs, system

__all__ = ["ask", "compatible", "device_tree", "is_raspberry_pi", "is_tegra"]

_TIMEOUT_S = 2.0


def device_tree(name: str) -> str | None:
    """A text of the device tree's root, such as ``model``; ``None`` on a machine without a device tree."""
    return read_text(sysfs("firmware", "devicetree", "base", name)) or read_text(procfs("device-tree", name))


def compatible() -> tuple[str, ...]:
    """The device tree's names of the board, most particular first, such as ``raspberrypi,5-model-b``; empty on a PC."""
    return tuple(name for name in (device_tree("compatible") or "").split("\x00") if name)


def is_raspberry_pi() -> bool:
    """Whether this is a Raspberry Pi, whose firmware manages clocks and voltage."""
    return any(name.startswith("raspberrypi,") for name in compatible())


def is_tegra() -> bool:
    """Whether this is an NVIDIA Jetson, whose GPU shares the host's memory."""
    return system("etc", "nv_tegra_release").exists() or any(name.startswith("nvidia,tegra") for name in compatible())


def ask(tool: str, *arguments: str) -> str | None:
    """What a tool on ``PATH`` prints; ``None`` if it is absent, fails, or takes longer than two seconds."""
    path = shutil.which(tool)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
