"""Start a measuring child, hear what it says, wait for its end, and say what became of it.

The child leads a session of its own, so that a Ctrl-C in the terminal reaches the parent only, which then decides; it is
ended with everything it started. What it prints goes to a temporary file whose end explains a crash.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from devprof.device.limits import oom_kills_here
from devprof.measure.outcome import classify_end, oom_kill_count
from devprof.measure.protocol import Edge, Event, Failed, Finished, Ready, Request, decode_event, encode
from devprof.records import Status

__all__ = ["WORKER", "Child", "ChildEnd", "run_child", "started"]

WORKER = (sys.executable, "-m", "devprof.measure.worker")
_OUTPUT_TAIL_BYTES = 8192
_EXIT_S = 10.0

Kills = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """What a child delivered, and how it ended.

    Attributes:
        ready: Its report before the first step, if it came that far.
        finished: Its raw times, if it came to the end.
        status: As in the column of that name.
        error: The reason where the status is not ``ok``.
    """

    ready: Ready | None
    finished: Finished | None
    status: Status
    error: str | None


class Child:
    """A running child: its events, and what became of it. Made by :func:`started`, which also ends it."""

    def __init__(self, process: subprocess.Popen[bytes], events: IO[str], output: IO[bytes], kills: Kills) -> None:
        self.process = process
        self.events = events
        self._output = output
        self._kills_before = kills
        self._ended = False

    def lines(self, patience_s: Callable[[], float]) -> Iterator[str]:
        """The lines of its pipe as they come, until the child closes it.

        Args:
            patience_s: Asked before each line how long to wait for it.

        Raises:
            TimeoutError: If no line came for that long.
        """
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

        def read() -> None:
            for line in self.events:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        while True:
            limit = patience_s()
            try:
                line = lines.get(timeout=min(max(0.0, limit), threading.TIMEOUT_MAX))
            except queue.Empty:
                raise TimeoutError(f"nothing came from the child for {limit:.0f} s") from None
            if line is None:
                return
            yield line

    def answer(self, line: str) -> None:
        """Write a line to a child that was started for a conversation; one that has ended hears nothing."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()

    def end(self) -> None:
        """Leave no process behind: the child's whole session is killed."""
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def verdict(self) -> tuple[Status, str]:
        """Status and reason of a child that ended without delivering a result."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            # It closed its pipe and is about to end: its own exit code says more than the signal that would end it.
            self.process.wait(_EXIT_S)
        self.end()
        return classify_end(self.process.wait(), _tail(self._output), oom_kills=_new_kills(self._kills_before))


@contextlib.contextmanager
def started(command: Sequence[str], threads: int, *, request: str = "", conversation: bool = False) -> Iterator[Child]:
    """Start a child, and leave no process of it behind, whatever happens inside.

    Args:
        command: To which the number of a file descriptor for its events is appended.
        threads: What thread pools are told before they load.
        request: What it reads from its standard input.
        conversation: Whether its standard input stays open instead, for :meth:`Child.answer`.

    Raises:
        OSError: If no process can be started.
    """
    kills_before = _oom_kills()
    read_end, write_end = os.pipe()
    environment = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as source,
        os.fdopen(read_end, encoding="utf-8") as events,
    ):
        # A file, because a pipe would have to be written while the child reads it.
        source.write(request.encode())
        source.seek(0)
        try:
            process = subprocess.Popen(
                [*command, str(write_end)],
                stdin=subprocess.PIPE if conversation else source if request else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(write_end,),
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        child = Child(process, events, output, kills_before)
        try:
            yield child
        finally:
            child.end()


def run_child(
    request: Request,
    timeout_s: float,
    *,
    worker: Sequence[str] = WORKER,
    respond: Callable[[Edge], str | None] | None = None,
) -> ChildEnd:
    """Run a request in a fresh process.

    Args:
        request: What to measure.
        timeout_s: Wall seconds after which the child is killed.
        worker: The command, to which the request and the number of a file descriptor are appended.
        respond: Called in a thread for each moment that matters to a meter, as it comes; its result is the answer.

    Raises:
        KeyboardInterrupt: If the user interrupts; the child is killed first.
        OSError: If no process can be started.
    """
    with started([*worker, encode(request)], request.threads, conversation=respond is not None) as child:
        timed_out = False
        received: list[Event | None] = []

        def listen() -> None:
            for line in child.events:
                event = decode_event(line)
                if not isinstance(event, Edge):
                    received.append(event)
                elif respond is not None and (answer := respond(event)) is not None:
                    child.answer(answer)

        # Read while waiting: a long series of steps is more than a pipe holds, and the child would wait for ever.
        reader = threading.Thread(target=listen, daemon=True)
        reader.start()
        try:
            child.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            timed_out = True
        child.end()
        reader.join()
        ready = next((event for event in received if isinstance(event, Ready)), None)
        for event in received:
            if isinstance(event, Finished):
                return ChildEnd(ready, event, "ok", None)
            if isinstance(event, Failed):
                return ChildEnd(ready, None, event.status, event.error)
        if timed_out:
            stage = "while training" if ready else "before the first step"
            return ChildEnd(ready, None, "timeout", f"ended after {timeout_s:g} s {stage}; try a larger --timeout")
        return ChildEnd(ready, None, *child.verdict())


def _oom_kills() -> Kills:
    """The kernel's counts of out-of-memory kills: of the machine, and of this process's control group."""
    return oom_kill_count(), oom_kills_here()


def _new_kills(before: Kills) -> int | None:
    """The larger rise of the two counts; ``None`` where the kernel has neither."""
    rises = [b - a for a, b in zip(before, _oom_kills(), strict=True) if a is not None and b is not None]
    return max(rises, default=None)


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _OUTPUT_TAIL_BYTES))
    return output.read().decode(errors="replace")
