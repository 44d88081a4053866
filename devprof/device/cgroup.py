"""Where this process stands in the kernel's control groups: version 1, version 2, or one controller in each.

``/proc/self/cgroup`` names the group as the kernel sees it, ``/proc/self/mountinfo`` says which part of that tree is mounted
where: in a container the mount often begins at the container's own group (cgroups(7); Linux kernel,
Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst). Nothing here writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from devprof.paths import procfs, read_text, sysfs

__all__ = ["Group", "own_group"]

# Blank, tab, newline and backslash are the characters that the kernel writes in octal (proc(5), mountinfo).
_ESCAPE = re.compile(r"\\(040|011|012|134)")


@dataclass(frozen=True, slots=True)
class Group:
    """A control group, as a folder.

    Attributes:
        version: 1 or 2, the version of the hierarchy.
        folder: The group.
        mount: The uppermost group of the hierarchy that can be seen here.
    """

    version: int
    folder: Path
    mount: Path

    @property
    def line(self) -> tuple[Path, ...]:
        """The group and all above it that can be seen here, nearest first: each may hold a limit."""
        above = (self.folder, *self.folder.parents)
        return above[: len(self.folder.relative_to(self.mount).parts) + 1]


@dataclass(frozen=True, slots=True)
class _Mount:
    version: int
    root: PurePosixPath
    point: Path
    controllers: frozenset[str]


def own_group(controller: str) -> Group | None:
    """The control group that holds this process for a controller.

    Args:
        controller: A name of the kernel's, such as ``cpu`` or ``memory``. A controller that no version 1 hierarchy has is
            looked for in the version 2 hierarchy, where it may still be switched off.

    Returns:
        The group; ``None`` without control groups or where none of the mounted trees shows it.
    """
    version, path = _membership(controller)
    if path is None:
        return None
    for mount in _mounts():
        if mount.version != version or (version == 1 and controller not in mount.controllers):
            continue
        below = path.relative_to(mount.root) if path.is_relative_to(mount.root) else None
        # A path with ".." lies outside of this process's control group namespace.
        if below is not None and ".." not in below.parts:
            return Group(version, mount.point / below, mount.point)
    return None


def _membership(controller: str) -> tuple[int, PurePosixPath | None]:
    """Version of the hierarchy that has the controller, and the path of this process's group in it."""
    unified = None
    for line in (read_text(procfs("self", "cgroup")) or "").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            return 1, PurePosixPath(path)
        if number == "0" and not names:
            unified = PurePosixPath(path)
    return 2, unified


def _mounts() -> Iterator[_Mount]:
    for line in (read_text(procfs("self", "mountinfo")) or "").splitlines():
        place, _, kind = line.partition(" - ")
        fields, kinds = place.split(" "), kind.split(" ")
        if len(fields) < 5 or len(kinds) < 3 or kinds[0] not in {"cgroup", "cgroup2"}:
            continue
        root, point = (_ESCAPE.sub(lambda match: chr(int(match[1], 8)), field) for field in fields[3:5])
        version = 2 if kinds[0] == "cgroup2" else 1
        yield _Mount(version, PurePosixPath(root), _relocated(Path(point)), frozenset(kinds[2].split(",")))


def _relocated(point: Path) -> Path:
    return sysfs(*point.parts[2:]) if point.parts[:2] == ("/", "sys") else point
