"""Jetson boards: the release of their system, and the power mode that decides how fast they are.

Sources: ``/etc/nv_tegra_release``, the tool ``nvpmodel`` and its files, as NVIDIA's Jetson Linux documents them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from devprof.machine import ask
from devprof.paths import read_text, system

__all__ = ["PowerMode", "l4t_release", "parse_nvpmodel", "power_mode"]

_RELEASE = re.compile(r"R(\d+)\s*\(release\)(?:,\s*REVISION:\s*([\d.]+))?", re.ASCII)
_NAME = re.compile(r"^[ \t]*NV Power Mode:[ \t]*(\S[^\r\n]*?)[ \t]*$", re.ASCII | re.MULTILINE)
_NUMBER = re.compile(r"^[ \t]*(\d{1,4})[ \t]*$", re.ASCII | re.MULTILINE)
_STATUS = re.compile(r"pmode:\s*(\d{1,4})", re.ASCII)
_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d{1,4})\s+NAME=(\S+?)\s*>", re.ASCII)


@dataclass(frozen=True, slots=True)
class PowerMode:
    """A power mode: its name in the board's table, such as ``MAXN`` or ``15W``, and its number there if it is known."""

    name: str
    id: int | None


def l4t_release() -> str | None:
    """The release of Jetson Linux (L4T), such as ``36.4.3``; ``None`` elsewhere. 35 is JetPack 5, 36 is JetPack 6."""
    match = _RELEASE.search(read_text(system("etc", "nv_tegra_release")) or "")
    if match is None:
        return None
    return ".".join(part for part in match.groups() if part)


def parse_nvpmodel(text: str) -> PowerMode | None:
    """The mode in an answer of ``nvpmodel -q``: a line with the name, below it one with the number. ``None`` without it."""
    text = text.replace("\r\n", "\n")
    name = _NAME.search(text)
    if name is None:
        return None
    number = _NUMBER.search(text, name.end())
    return PowerMode(name[1], int(number[1]) if number else None)


def power_mode() -> PowerMode | None:
    """The power mode now: from the tool, else from the file in which it keeps the mode; ``None`` on other boards.

    A mode whose name is in no table is called by its number, such as ``mode 2``.
    """
    return parse_nvpmodel(ask("nvpmodel", "-q") or "") or _kept_mode()


def _kept_mode() -> PowerMode | None:
    match = _STATUS.search(read_text(system("var", "lib", "nvpmodel", "status")) or "")
    if match is None:
        return None
    number = int(match[1])
    table = read_text(system("etc", "nvpmodel.conf")) or ""
    names = {int(mode[1]): mode[2] for mode in _MODE.finditer(table)}
    return PowerMode(names.get(number, f"mode {number}"), number)
