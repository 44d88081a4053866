"""Answers of vendors' command-line tools that know what the kernel's files do not say."""

from __future__ import annotations

import re

__all__ = ["vcgencmd_frequency_hz", "vcgencmd_throttled"]

# Longer numbers than a clock or a flag word can have are no answer.
_FREQUENCY = re.compile(r"frequency\s*\(\d+\)\s*=\s*(\d{1,12})(?!\d)", re.ASCII)
_THROTTLED = re.compile(r"throttled\s*=\s*(?:0x)?([0-9a-f]{1,8})(?!\w)", re.ASCII | re.IGNORECASE)


def vcgencmd_frequency_hz(text: str) -> float | None:
    """Hertz from an answer of ``vcgencmd measure_clock``, such as ``frequency(48)=1500398464``; ``None`` without one.

    A clock that is off is reported as 0, which is no frequency.
    """
    match = _FREQUENCY.search(text)
    return (float(match[1]) or None) if match else None


def vcgencmd_throttled(text: str) -> int | None:
    """The flags in an answer of ``vcgencmd get_throttled``, such as ``throttled=0x50005``; ``None`` without them."""
    match = _THROTTLED.search(text)
    return int(match[1], 16) if match else None
