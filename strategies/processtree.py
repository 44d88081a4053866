"""Whole trees of processes: find them, signal them, end them, and leave nothing behind.

A process is known by an environment variable that only what we started carries, so a grandchild whose parent was killed is
still found. Everything goes by process id. Imports nothing of Flower; run as a program it is the guardian of
:func:`guarded`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

__all__ = ["ProcessTree", "guarded"]

_MARK = "DEVPROF_PROCESS"
_LIMIT_S = 10.0
_PAUSE_S = 0.02
_GONE = {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
_STILL = {psutil.STATUS_STOPPED, *_GONE}


class ProcessTree:
    """A process that we start and whatever it starts, in a session of its own.

    Args:
        command: Program and arguments.
        mark: By which its members are known; no other tree may have it.
        environment: All of the environment.
        log: File to which stdout and stderr are appended.
        wrapped: Whether the first process only holds another one to limits, as ``devprof emulate`` does: it is no member,
            ends by itself with what it wraps, and must do so to remove its control groups.

    Raises:
        FileNotFoundError: If there is no such program.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        mark: str,
        environment: Mapping[str, str],
        log: Path,
        wrapped: bool = False,
    ) -> None:
        self.log = log
        self._mark = mark
        self._wrapped = wrapped
        with log.open("ab") as output:
            self._first = subprocess.Popen(
                command,
                env=dict(environment) | {_MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """The first process's exit code, negative for a signal that killed it; ``None`` while it runs."""
        return self._first.poll()

    def members(self) -> list[int]:
        """Process ids of the tree, oldest first; without the wrapper."""
        return [process.pid for process in self._members()]

    def stop(self) -> None:
        """SIGSTOP to all members; returns when all stand still."""
        stopped = self._signal_all(signal.SIGSTOP)
        _until(lambda: all(_status(process) in _STILL for process in stopped))

    def resume(self) -> None:
        """SIGCONT to all members, youngest first: a parent must not see a child that stands still."""
        for process in reversed(self._members()):
            _send(process, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to all members, without a chance to say goodbye; returns when they are gone."""
        killed = self._signal_all(signal.SIGKILL)
        if not self.wait(_LIMIT_S):
            self._first.kill()
            self._first.wait()
        # Its mark goes before it does.
        _until(lambda: all(_status(process) in _GONE for process in killed))

    def end(self, limit_s: float = _LIMIT_S) -> None:
        """Ask the first process to end; after that, or after the limit (seconds), kill what is left."""
        self.ask_to_end()
        self.wait(limit_s)
        self.kill()

    def ask_to_end(self) -> None:
        """SIGTERM to the first process; a stopped tree is resumed to hear it."""
        self.resume()
        with contextlib.suppress(ProcessLookupError):
            self._first.terminate()

    def wait(self, limit_s: float) -> bool:
        """Wait for the end of the first process; whether it came within the limit (seconds)."""
        try:
            self._first.wait(max(0.0, limit_s))
        except subprocess.TimeoutExpired:
            return False
        return True

    def _signal_all(self, number: signal.Signals) -> list[psutil.Process]:
        """Until a look finds nobody new: a member may start another before the signal reaches it."""
        done: list[psutil.Process] = []
        while new := [process for process in self._members() if process not in done]:
            for process in new:
                _send(process, number)
            done += new
        return done

    def _members(self) -> list[psutil.Process]:
        wrapper = self._first.pid if self._wrapped else None
        return [process for process in _marked(self._mark) if process.pid != wrapper]


@contextlib.contextmanager
def guarded(prefix: str) -> Iterator[None]:
    """End all processes whose mark begins with a prefix when the block ends, or when this process dies in it.

    No handler runs in a process that is killed, so another one watches: it reads from a pipe until nobody holds the other
    end, and then ends what it finds.
    """
    command = [sys.executable, "-m", "strategies.processtree", prefix]
    # In a session of its own: an interrupt from the terminal must not reach it.
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as guardian:
        assert guardian.stdin is not None
        try:
            yield
        finally:
            guardian.stdin.close()
            guardian.wait()


def _marked(prefix: str) -> list[psutil.Process]:
    """The living processes whose mark begins with a prefix, oldest first."""
    found = []
    for process in psutil.process_iter():
        # Of a process that ended meanwhile, or that is not ours, the environment cannot be read; a zombie has none.
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(_MARK, "").startswith(prefix):
                found.append((process.create_time(), process))
    return [
        process for _, process in sorted(found, key=lambda pair: (pair[0], pair[1].pid)) if process.pid != os.getpid()
    ]


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD


def _until(condition: Callable[[], bool], limit_s: float = _LIMIT_S) -> None:
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:
        time.sleep(_PAUSE_S)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)


def _guard(prefix: str) -> None:
    sys.stdin.buffer.read()
    for number, limit_s in ((signal.SIGTERM, _LIMIT_S / 2), (signal.SIGKILL, _LIMIT_S)):
        for process in _marked(prefix):
            _send(process, number)
            _send(process, signal.SIGCONT)
        _until(lambda: not _marked(prefix), limit_s)


if __name__ == "__main__":
    _guard(sys.argv[1])
