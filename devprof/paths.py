"""Where the kernel, the system and devprof keep their files, and how they are read. Layer 0: standard library only.

``DEVPROF_SYSFS`` replaces the root of ``/sys`` in every reader, for containers that mount it elsewhere and for tests.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "procfs", "read_int", "read_text", "sysfs", "system"]

_ROOT = Path("/")


def cache_folder() -> Path:
    """What can be made again is kept here: ``DEVPROF_CACHE``, else ``$XDG_CACHE_HOME/devprof``, else ``~/.cache/devprof``."""
    own = os.environ.get("DEVPROF_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "devprof"


def sysfs(*parts: str) -> Path:
    """A path below the root of sysfs."""
    return Path(os.environ.get("DEVPROF_SYSFS") or "/sys").joinpath(*parts)


def procfs(*parts: str) -> Path:
    """A path below ``/proc``."""
    return system("proc", *parts)


def system(*parts: str) -> Path:
    """A path below the root of the file system, such as ``system("etc", "nv_tegra_release")``."""
    return _ROOT.joinpath(*parts)


def read_text(path: Path) -> str | None:
    """A small kernel file's text without trailing blanks and NULs, ``None`` if it is absent, unreadable or empty."""
    try:
        text = path.read_bytes().decode(errors="replace").strip("\x00 \t\r\n")
    except OSError:
        return None
    return text or None


def read_int(path: Path) -> int | None:
    """A kernel file's whole number, ``None`` if there is none or it cannot be read."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None
