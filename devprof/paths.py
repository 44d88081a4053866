"""Where the kernel keeps its files. Layer 0: standard library only.

``DEVPROF_SYSFS`` replaces the root of ``/sys`` in every reader, for containers that mount it elsewhere and for tests.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["read_text", "sysfs"]


def sysfs(*parts: str) -> Path:
    """A path below the root of sysfs."""
    return Path(os.environ.get("DEVPROF_SYSFS") or "/sys").joinpath(*parts)


def read_text(path: Path) -> str | None:
    """A small kernel file's text without trailing blanks and NULs, ``None`` if it is absent, unreadable or empty."""
    try:
        text = path.read_bytes().decode(errors="replace").strip("\x00 \t\r\n")
    except OSError:
        return None
    return text or None
