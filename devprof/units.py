"""Parsing and showing quantities. Layer 0: standard library only.

Inside devprof everything is SI and the unit is part of the name (``_s``, ``_bytes``); only the border with a person uses
``10s`` or ``512 MiB``, and only through this module.
"""

from __future__ import annotations

import math
import re

__all__ = [
    "format_bytes",
    "format_joules",
    "format_seconds",
    "parse_bytes",
    "parse_celsius",
    "parse_cpus",
    "parse_seconds",
]

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


def parse_celsius(text: str) -> float:
    """Degrees Celsius from ``"55C"``, ``"55°C"`` or a bare number.

    Raises:
        ValueError: If the text is no such temperature.
    """
    match = re.fullmatch(r"\s*([+-]?[0-9]*\.?[0-9]+)\s*°?[cC]?\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a temperature in degrees Celsius; write it like 55C")
    return float(match[1])


def parse_cpus(text: str) -> tuple[int, ...]:
    """CPU numbers in ascending order from ``"0-3,6"``, the form that the kernel and ``taskset`` use.

    Raises:
        ValueError: If the text is no such list.
    """
    cpus: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})\s*(?:-\s*(\d{1,5}))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"{text!r} is not a list of CPUs; write it like 0-3 or 0,2")
        cpus.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(cpus))


def format_seconds(seconds: float | None) -> str:
    """A duration with three significant digits and the unit a person would choose; an en dash for ``None``."""
    if seconds is None or math.isnan(seconds):
        return "–"
    if seconds == 0:
        return "0 s"
    # Ascending: the first unit in which the rounded number stays small. A quantity is rounded before its unit is chosen,
    # so that 0.9996 s is 1 s and not 1e+03 ms.
    for unit, factor, limit in _TIME_STEPS:
        if abs(rounded := _three_digits(seconds / factor)) < limit:
            return f"{_plain(rounded)} {unit}"
    return f"{_plain(_three_digits(seconds / 3600))} h"


def format_joules(energy_j: float | None) -> str:
    """An energy with three significant digits and the unit a person would choose; an en dash for ``None``."""
    if energy_j is None or math.isnan(energy_j):
        return "–"
    if energy_j == 0:
        return "0 J"
    for unit, factor in (("µJ", 1e-6), ("mJ", 1e-3), ("J", 1.0), ("kJ", 1e3), ("MJ", 1e6)):
        if abs(rounded := _three_digits(energy_j / factor)) < 1000:
            return f"{_plain(rounded)} {unit}"
    return f"{_plain(_three_digits(energy_j / 1e9))} GJ"


def format_bytes(size: float | None) -> str:
    """A size in binary units with three significant digits; an en dash for ``None``."""
    if size is None or math.isnan(size):
        return "–"
    if abs(size) < 1024:
        return f"{size:.0f} B"
    for unit, factor in (("KiB", 1 << 10), ("MiB", 1 << 20)):
        # From 1000 on, the next unit: four digits before the point are no longer read at a glance.
        if abs(rounded := _three_digits(size / factor)) < 1000:
            return f"{_plain(rounded)} {unit}"
    return f"{_plain(_three_digits(size / (1 << 30)))} GiB"


_TIME_STEPS = (("ns", 1e-9, 1000), ("µs", 1e-6, 1000), ("ms", 1e-3, 1000), ("s", 1.0, 120), ("min", 60.0, 120))


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
