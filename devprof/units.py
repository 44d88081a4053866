"""Parsing and showing quantities. Layer 0: standard library only.

Inside devprof everything is SI and the unit is part of the name (``_s``, ``_bytes``); only the border with a person uses
``10s`` or ``512 MiB``, and only through this module.
"""

from __future__ import annotations

import math
import re

__all__ = ["format_bytes", "format_seconds", "parse_bytes", "parse_seconds"]

_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "K": 1 << 10, "KB": 1000, "KIB": 1 << 10, "M": 1 << 20, "MB": 10**6, "MIB": 1 << 20}
_BYTES |= {"G": 1 << 30, "GB": 10**9, "GIB": 1 << 30}
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")


def _split(text: str, example: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity; write it like {example}")
    return float(match[1]), match[2]


def parse_seconds(text: str) -> float:
    """Seconds from ``"10s"``, ``"2min"``, ``"250ms"`` or a bare number of seconds.

    Raises:
        ValueError: If the text is not a non-negative duration.
    """
    value, unit = _split(text, "10s, 250ms or 2min")
    if unit and unit not in _SECONDS:
        raise ValueError(f"unknown unit of time {unit!r} in {text!r}; use one of {', '.join(_SECONDS)}")
    seconds = value * _SECONDS[unit or "s"]
    if not math.isfinite(seconds):
        raise ValueError(f"{text!r} is not a finite duration")
    return seconds


def parse_bytes(text: str) -> int:
    """Bytes from ``"2G"``, ``"512MiB"`` (powers of 1024), ``"2GB"`` (powers of 1000) or a bare number.

    Raises:
        ValueError: If the text is not a non-negative size.
    """
    value, unit = _split(text, "512M, 2G or 2GiB")
    factor = _BYTES.get(unit.upper() or "B")
    if factor is None:
        raise ValueError(f"unknown unit of size {unit!r} in {text!r}; use one of {', '.join(_BYTES)}")
    size = value * factor
    if not math.isfinite(size):
        raise ValueError(f"{text!r} is not a finite size")
    return round(size)


def format_seconds(seconds: float | None) -> str:
    """A duration with three significant digits and the unit a person would choose; an en dash for ``None``."""
    if seconds is None or math.isnan(seconds):
        return "–"
    size = abs(seconds)
    if size >= 7200:
        return f"{seconds / 3600:.3g} h"
    if size >= 120:
        return f"{seconds / 60:.3g} min"
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if size >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns" if size else "0 s"


def format_bytes(size: float | None) -> str:
    """A size in binary units with three significant digits; an en dash for ``None``."""
    if size is None or math.isnan(size):
        return "–"
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(size) >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} B"
