"""Fresh control groups that hold processes to limits, and are gone afterwards (Linux; version 1, version 2 or both).

Groups are made below this process's own group where the kernel allows it, so that whatever holds this process goes on holding
what is started in them. Version 2 allows no processes in a group that hands controllers down (cgroup-v2.rst, "No Internal
Process Constraint"): there, a group above is taken, and the limits that hold here are written into the new group too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

from devprof.device.cgroup import Group, own_group
from devprof.device.limits import Limits, cpu_limit, memory_limit_bytes, oom_kills_in
from devprof.errors import DevprofError
from devprof.paths import procfs, read_text

__all__ = ["Confinement", "confined", "period_us"]

_logger = logging.getLogger(__name__)

_PREFIX = "devprof-emulate-"
_NAME = re.compile(rf"{_PREFIX}(\d+)-\w+")
# The kernel hands out processor time in periods: a training step runs in bursts of quota and stands still in between. Its usual
# 100 ms are longer than many steps, which would be measured as full speed or a whole pause; 10 ms even them out.
_PERIOD_US = 10_000
_MIN_QUOTA_US = 1_000
# Killed processes leave their group when they are reaped; five seconds are plenty on a slow board.
_REMOVAL_TRIES = 250
_REMOVAL_PAUSE_S = 0.02


class Confinement:
    """Control groups with limits, ready to take processes in.

    Args:
        groups: The new group of each controller; two controllers may share one.
    """

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self._groups = groups

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions of the hierarchies in use, ascending: ``(1,)``, ``(2,)`` or ``(1, 2)``."""
        return tuple(sorted({group.version for group in self._groups.values()}))

    def admit(self, pid: int) -> None:
        """Move a process into the groups; what it starts from then on is inside too.

        Raises:
            DevprofError: If the kernel refuses.
        """
        for folder in {group.folder for group in self._groups.values()}:
            _write(folder / "cgroup.procs", str(pid))

    def oom_kills(self) -> int | None:
        """Processes inside that the kernel killed for want of memory so far; ``None`` without a memory limit."""
        return oom_kills_in(self._groups["memory"]) if "memory" in self._groups else None


@contextlib.contextmanager
def confined(limits: Limits) -> Iterator[Confinement]:
    """Make control groups that hold processor time and memory to limits; at the end kill what is left inside and remove them.

    Groups that a killed emulation left behind are removed first, with what still runs in them.

    Args:
        limits: At least one of ``cpus`` and ``memory_bytes``; ``cores`` is no matter of control groups.

    Raises:
        DevprofError: If this process may not make such groups here; the message says why.
    """
    # A group above one's own is outside of the limits between the two: they are written again.
    cpus, memory_bytes = limits.cpus or cpu_limit(), limits.memory_bytes or memory_limit_bytes()
    wanted = {"cpu": cpus, "memory": memory_bytes}
    parents = _parents({controller for controller, limit in wanted.items() if limit is not None})
    name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        groups = {controller: replace(parent, folder=parent.folder / name) for controller, parent in parents.items()}
        for folder in {group.folder for group in groups.values()}:
            _sweep(folder.parent)
            _make_folder(folder)
            stack.callback(_remove, folder)
        if cpus is not None:
            _limit_cpus(groups["cpu"], cpus)
        if memory_bytes is not None:
            _limit_memory(groups["memory"], memory_bytes)
        yield Confinement(groups)


def period_us(cpus: float) -> int:
    """The period in which the kernel hands out processor time, in microseconds.

    10 ms, longer only where the share of it would be less than the 1 ms that the kernel hands out at least.
    """
    return max(_PERIOD_US, round(_MIN_QUOTA_US / cpus))


def _limit_cpus(group: Group, cpus: float) -> None:
    period = period_us(cpus)
    # Rounded down: the kernel refuses a group of version 1 more than the group above has.
    quota = max(_MIN_QUOTA_US, int(cpus * period + 1e-6))
    if group.version == 2:
        _write(group.folder / "cpu.max", f"{quota} {period}")
    else:
        _write(group.folder / "cpu.cfs_period_us", str(period))
        _write(group.folder / "cpu.cfs_quota_us", str(quota))


def _limit_memory(group: Group, memory_bytes: int) -> None:
    limit = group.folder / ("memory.max" if group.version == 2 else "memory.limit_in_bytes")
    _write(limit, str(memory_bytes))
    # Version 1 limits memory and swap together, version 2 limits swap.
    swap = group.folder / ("memory.swap.max" if group.version == 2 else "memory.memsw.limit_in_bytes")
    if swap.exists():
        _write(swap, "0" if group.version == 2 else str(memory_bytes))
    elif len((read_text(procfs("swaps")) or "").splitlines()) > 1:
        _logger.warning("%s does not exist: beyond its memory the command will be swapped out, not killed", swap)


def _parents(controllers: AbstractSet[str]) -> dict[str, Group]:
    """For each controller, the group below which a new one is to be made."""
    own = {}
    for controller in sorted(controllers):
        group = own_group(controller)
        if group is None:
            raise DevprofError(f"no control group of this process is mounted for the controller {controller!r}")
        own[controller] = group
    unified = {controller: group for controller, group in own.items() if group.version == 2}
    if unified:
        parent = _unified_parent(next(iter(unified.values())), unified.keys())
        own |= dict.fromkeys(unified, parent)
    return own


def _unified_parent(own: Group, controllers: AbstractSet[str]) -> Group:
    """The nearest group of version 2 below which the controllers work; better one that hands them down already."""
    offered = [folder for folder in own.line if controllers <= _words(folder / "cgroup.controllers")]
    if not offered:
        missing = ", ".join(sorted(controllers - _words(own.mount / "cgroup.controllers")))
        raise DevprofError(
            f"{own.mount} lacks the controllers: {missing} (on Raspberry Pi OS, put cgroup_enable=memory into the kernel's "
            "command line to have the one for memory)"
        )
    writable = [
        folder for folder in offered if all(os.access(path, os.W_OK) for path in (folder, folder / "cgroup.procs"))
    ]
    if not writable:
        raise DevprofError(f"this user may not make control groups in {' or '.join(map(str, offered))}")
    for folder in writable:
        if controllers <= _words(folder / "cgroup.subtree_control"):
            return replace(own, folder=folder)
    for folder in writable:
        if _hand_down(folder, controllers, leave=folder == own.folder):
            return replace(own, folder=folder)
    raise DevprofError(
        f"the kernel hands {', '.join(sorted(controllers))} down in none of {', '.join(map(str, writable))}"
    )


def _hand_down(folder: Path, controllers: AbstractSet[str], *, leave: bool) -> bool:
    """Switch controllers on for the groups below; if ``leave``, move out of the group first, where nobody else is in it."""
    try:
        if leave and (read_text(folder / "cgroup.procs") or "").split() == [str(os.getpid())]:
            leaf = folder / f"{_PREFIX}{os.getpid()}-self"
            leaf.mkdir(exist_ok=True)
            (leaf / "cgroup.procs").write_text(str(os.getpid()))
        # They stay on: another emulation may use them by the time this one ends.
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(controllers)))
    except OSError as error:
        _logger.debug("%s does not hand controllers down: %s", folder, error)
        return False
    return True


def _words(path: Path) -> set[str]:
    return set((read_text(path) or "").split())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir()
    except OSError as error:
        raise DevprofError(f"no control group can be made in {folder.parent} ({error.strerror})") from error


def _write(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as error:
        raise DevprofError(f"{path} cannot be set to {value} ({error.strerror})") from error


def _sweep(parent: Path) -> None:
    """Remove the groups of emulations that were killed before they could do it."""
    own = os.getpid()
    for folder in parent.glob(f"{_PREFIX}*"):
        name = _NAME.fullmatch(folder.name)
        if name is None or procfs(name[1]).exists():
            continue
        inside = {pid for path in _tree(folder) for pid in (read_text(path / "cgroup.procs") or "").split()}
        # 0 is a process of another process id namespace: its emulation may well be alive there.
        if not inside & {"0", str(own)}:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Kill what is inside, then remove the group and those below it."""
    for _ in range(_REMOVAL_TRIES):
        _kill_inside(folder)
        with contextlib.suppress(OSError):
            for path in _tree(folder):
                path.rmdir()
        if not folder.exists():
            return
        time.sleep(_REMOVAL_PAUSE_S)
    _logger.warning("the control group %s is still in use and stays; the next emulation will try to remove it", folder)


def _kill_inside(folder: Path) -> None:
    if (folder / "cgroup.kill").exists():
        with contextlib.suppress(OSError):
            (folder / "cgroup.kill").write_text("1")
    for path in _tree(folder):
        for pid in (read_text(path / "cgroup.procs") or "").split():
            with contextlib.suppress(OSError):
                # 0 is a process that is not to be seen from here, and to kill(2) the whole process group of the caller.
                if pid != "0":
                    os.kill(int(pid), signal.SIGKILL)


def _tree(folder: Path) -> list[Path]:
    """The group and those below it, the lowest first."""
    return [Path(path) for path, _, _ in os.walk(folder, topdown=False)]
