"""Peak memory of this process, as the Linux kernel counts it.

``ru_maxrss`` is inherited through fork and exec, so a small child of a large parent reports the parent's peak. ``VmHWM`` in
``/proc/self/status`` belongs to the process image, and writing ``5`` to ``/proc/self/clear_refs`` resets it (Linux kernel,
Documentation/filesystems/proc.rst).
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["current_rss_bytes", "peak_rss_bytes", "reset_peak_rss", "total_memory_bytes"]

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_MEMINFO = Path("/proc/meminfo")


def _kib_field(path: Path, field: str) -> int | None:
    try:
        text = path.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def peak_rss_bytes() -> int | None:
    """The high-water mark of resident memory since start or the last reset; ``None`` where the kernel has none."""
    return _kib_field(_STATUS, "VmHWM")


def current_rss_bytes() -> int | None:
    """Resident memory now; ``None`` where the kernel does not say."""
    return _kib_field(_STATUS, "VmRSS")


def total_memory_bytes() -> int | None:
    """The machine's memory; ``None`` where the kernel does not say."""
    return _kib_field(_MEMINFO, "MemTotal")


def reset_peak_rss() -> bool:
    """Set the high-water mark to the present value.

    Returns:
        Whether the kernel did it; if not, the peak includes what came before (import, model building).
    """
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True
