"""Run a command as on a slower or smaller device: less processor time, less memory, fewer cores.

The slowness is real (the kernel's bandwidth quota) and so are the out-of-memory kills. Control groups are used directly where
this user may make them, ``systemd-run`` otherwise; cores need neither. Linux only.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from devprof.device.confine import Confinement, confined, period_us
from devprof.device.limits import Limits, cpu_limit, memory_limit_bytes
from devprof.device.memory import total_memory_bytes
from devprof.errors import DevprofError
from devprof.paths import read_text, sysfs
from devprof.units import format_bytes

__all__ = ["Ended", "Limits", "check", "run"]

_logger = logging.getLogger(__name__)

_FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
# A signal may reach another thread of the caller: the child is looked at this often in any case.
_POLL_S = 1.0
_PROBE_TIMEOUT_S = 30.0
# The interpreter that looks at the limits inside a systemd scope must not die of them.
_PROBE_MEMORY_BYTES = 128 << 20
_PROBE = (
    "import json; from devprof.device.limits import cpu_limit, memory_limit_bytes; "
    "print(json.dumps([cpu_limit(), memory_limit_bytes()]))"
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How an emulated command ended.

    Attributes:
        exit_code: The command's own; 128 + the number of the signal that killed it.
        oom_kills: Processes of it that the kernel killed for want of memory; ``None`` where nobody counted (without a memory
            limit, and with systemd, which removes the counter).
        way: What held the command to its limits.
    """

    exit_code: int
    oom_kills: int | None
    way: str


@dataclass(frozen=True, slots=True)
class _Way:
    name: str
    prefix: tuple[str, ...] = ()
    confinement: Confinement | None = None


def run(command: Sequence[str], limits: Limits) -> Ended:
    """Run a command within limits, with this process's stdin, stdout and stderr, and wait for its end.

    SIGINT, SIGTERM, SIGHUP and SIGQUIT that another process sends to this one are passed on to the command (those of a terminal
    reach it anyway). What the command left running is killed at the end.

    Args:
        command: Program and arguments.
        limits: At least one of them set.

    Raises:
        FileNotFoundError: If there is no such program.
        PermissionError: If the program is not executable.
        DevprofError: If the limits cannot be set here, or exceed what this process itself may use.
    """
    program = _find(command[0])
    with _signals_kept() as mask, _open(limits) as way:
        line = (*way.prefix, *command)
        pid = _start(way.prefix[0] if way.prefix else program, line, way, _pick_cores(limits.cores), mask)
        status = _wait(pid)
        kills = way.confinement.oom_kills() if way.confinement else None
    return Ended(status if status >= 0 else 128 - status, kills, way.name)


def check(limits: Limits) -> str:
    """Find out how a command would be held to limits here, by doing so with nothing in it.

    Returns:
        The way: ``control groups v1``, ``control groups v2``, ``control groups v1 and v2``, ``systemd-run`` or
        ``CPU affinity``.

    Raises:
        DevprofError: If no way works; the message says why each one failed.
    """
    with _open(limits) as way:
        return way.name


def _find(program: str) -> str:
    found = shutil.which(program)
    if found is not None:
        return found
    if shutil.which(program, mode=os.F_OK) is not None:
        raise PermissionError(f"{program} is not executable")
    raise FileNotFoundError(f"there is no command {program!r}; is it spelt right, and on the PATH?")


@contextlib.contextmanager
def _open(limits: Limits) -> Iterator[_Way]:
    """The first way that works; groups that were made for it are removed at the end."""
    _check_room(limits)
    with contextlib.ExitStack() as stack:
        if limits.cpus is None and limits.memory_bytes is None:
            way = _Way("CPU affinity")
        else:
            try:
                inside = stack.enter_context(confined(limits))
                versions = " and ".join(f"v{version}" for version in inside.versions)
                way = _Way(f"control groups {versions}", confinement=inside)
            except DevprofError as direct:
                way = _Way("systemd-run", prefix=_systemd_prefix(limits, direct))
                _logger.info("limits are set by systemd-run, not in control groups directly: %s", direct)
        yield way


def _check_room(limits: Limits) -> None:
    """A device can be emulated on a larger one only."""
    if not hasattr(os, "sched_getaffinity"):
        raise DevprofError("a device can be emulated on Linux only: other systems have no control groups")
    cores = len(os.sched_getaffinity(0))
    bounds = (cpu_limit(), float(cores))
    cpus = min(bound for bound in bounds if bound is not None)
    memories = (memory_limit_bytes(), total_memory_bytes())
    memory_bytes = min((bound for bound in memories if bound is not None), default=None)
    if limits.cpus is not None and limits.cpus > cpus:
        raise DevprofError(f"{limits.cpus:g} CPUs cannot be emulated: this process has {cpus:g} itself")
    if limits.cores is not None and limits.cores > cores:
        raise DevprofError(f"{limits.cores} cores cannot be emulated: this process has {cores} itself")
    if limits.memory_bytes is not None and memory_bytes is not None and limits.memory_bytes > memory_bytes:
        asked, have = format_bytes(limits.memory_bytes), format_bytes(memory_bytes)
        raise DevprofError(f"{asked} of memory cannot be emulated: this process has {have} itself")


def _pick_cores(count: int | None) -> set[int] | None:
    """The first processors that this process may use, two threads of one core only when no whole core is left."""
    if count is None:
        return None
    first: list[int] = []
    second: list[int] = []
    seen: set[str] = set()
    for cpu in sorted(os.sched_getaffinity(0)):
        topology = sysfs("devices", "system", "cpu", f"cpu{cpu}", "topology", "thread_siblings_list")
        core = read_text(topology) or str(cpu)
        (second if core in seen else first).append(cpu)
        seen.add(core)
    return set((first + second)[:count])


def _systemd_prefix(limits: Limits, direct: DevprofError) -> tuple[str, ...]:
    """The command line that puts a command into a systemd scope, tried once with a look at the limits from the inside."""
    probed = replace(limits, memory_bytes=limits.memory_bytes and max(limits.memory_bytes, _PROBE_MEMORY_BYTES))
    reason = _systemd_refusal(probed)
    if reason is not None:
        raise DevprofError(
            "processor time and memory cannot be limited here. "
            f"Control groups: {direct}. systemd-run: {reason}. Run as root, or as a user whose systemd session is delegated "
            "the controllers cpu and memory; --cores alone needs neither"
        ) from direct
    return _systemd_command(limits)


def _systemd_command(limits: Limits) -> tuple[str, ...]:
    # Since version 253 systemd stops a whole scope when the kernel kills one process in it, unless the scope is delegated: a
    # sweep of measurements must outlive its measuring process.
    properties = ["Delegate=yes"]
    if limits.cpus is not None:
        properties += [f"CPUQuota={limits.cpus * 100:.2f}%", f"CPUQuotaPeriodSec={period_us(limits.cpus)}us"]
    if limits.memory_bytes is not None:
        properties += [f"MemoryMax={limits.memory_bytes}", "MemorySwapMax=0"]
    manager = () if os.geteuid() == 0 else ("--user",)
    options = [part for entry in properties for part in ("-p", entry)]
    return (shutil.which("systemd-run") or "systemd-run", *manager, "--scope", "--quiet", "--collect", *options, "--")


def _systemd_refusal(limits: Limits) -> str | None:
    """Why systemd does not hold a command to the limits; ``None`` if it does."""
    if shutil.which("systemd-run") is None:
        return "not installed"
    try:
        line = [*_systemd_command(limits), sys.executable, "-c", _PROBE]
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_PROBE_TIMEOUT_S:g} s"
    if done.returncode != 0:
        return " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"
    # A user's systemd without the controllers accepts the properties and does nothing.
    held = json.loads(done.stdout)
    for name, asked, seen in zip(("cpu", "memory"), (limits.cpus, limits.memory_bytes), held, strict=True):
        if asked is not None and (seen is None or seen > asked * 1.01):
            return f"it takes the limits but its controller {name!r} does not enforce them"
    return None


@contextlib.contextmanager
def _signals_kept() -> Iterator[set[signal.Signals]]:
    """Hold signals back until the groups are removed; yields the mask that was in force before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    try:
        yield {signal.Signals(number) for number in before}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(program: str, line: tuple[str, ...], way: _Way, cores: set[int] | None, mask: set[signal.Signals]) -> int:
    """Start a command that waits until it is inside its limits; returns its process id."""
    gate, opener = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(program, line, gate, opener, mask)
    os.close(gate)
    try:
        if way.confinement is not None:
            way.confinement.admit(pid)
        if cores is not None:
            os.sched_setaffinity(pid, cores)
        os.write(opener, b".")
    except (DevprofError, OSError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(opener)
    return pid


def _become(program: str, line: tuple[str, ...], gate: int, opener: int, mask: set[signal.Signals]) -> NoReturn:
    """In the forked child: wait at the gate, then be the command. Never returns into the caller's code."""
    code = 126
    try:
        os.close(opener)
        # Without a word, the parent is gone or could not set the limits.
        if os.read(gate, 1):
            # Python ignores these two; a command expects them as the system has them. Handlers end with exec by themselves,
            # but a signal must not run one before.
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            for number in _FORWARDED:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execv(program, line)  # noqa: S606 - the program that the user named
    except FileNotFoundError:
        # The program was there: its interpreter, named in its first line, is not.
        code = 127
        os.write(2, f"{program}: its interpreter does not exist\n".encode())
    except OSError as error:
        os.write(2, f"{program} cannot be run: {error.strerror}\n".encode())
    finally:
        os._exit(code)


def _wait(pid: int) -> int:
    """Pass signals on until the child ends; returns its exit code, negative for a signal that killed it."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        arrived = signal.sigtimedwait({*_FORWARDED, signal.SIGCHLD}, _POLL_S)
        # Codes above zero are the kernel's: a terminal signals the whole foreground group, the command included.
        if arrived is not None and arrived.si_signo in _FORWARDED and arrived.si_code <= 0:
            os.kill(pid, arrived.si_signo)
