"""Start a measuring child, wait for its end, and say what became of it.

The child leads a session of its own, so that a Ctrl-C in the terminal reaches the parent only, which then decides; it is
ended with everything it started. What it prints goes to a temporary file whose end explains a crash.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from devprof.device.limits import oom_kills_here
from devprof.measure.outcome import classify_end, oom_kill_count
from devprof.measure.protocol import Failed, Finished, Ready, Request, decode_event, encode
from devprof.records import Status

__all__ = ["WORKER", "ChildEnd", "run_child"]

WORKER = (sys.executable, "-m", "devprof.measure.worker")
_OUTPUT_TAIL_BYTES = 8192


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


def run_child(request: Request, timeout_s: float, *, worker: Sequence[str] = WORKER) -> ChildEnd:
    """Run a request in a fresh process.

    Args:
        request: What to measure.
        timeout_s: Wall seconds after which the child is killed.
        worker: The command, to which the request and the number of a file descriptor are appended.

    Raises:
        KeyboardInterrupt: If the user interrupts; the child is killed first.
        OSError: If no process can be started.
    """
    kills_before = _oom_kills()
    read_end, write_end = os.pipe()
    environment = os.environ | {name: str(request.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with tempfile.TemporaryFile() as output, os.fdopen(read_end, encoding="utf-8") as events:
        try:
            process = subprocess.Popen(
                [*worker, encode(request), str(write_end)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(write_end,),
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        timed_out = False
        lines: list[str] = []
        # Read while waiting: a long series of steps is more than a pipe holds, and the child would wait for ever.
        reader = threading.Thread(target=lines.extend, args=(events,), daemon=True)
        reader.start()
        with _ended(process):
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                timed_out = True
        reader.join()
        tail = _tail(output)
    received = [decode_event(line) for line in lines]
    ready = next((event for event in received if isinstance(event, Ready)), None)
    for event in received:
        if isinstance(event, Finished):
            return ChildEnd(ready, event, "ok", None)
        if isinstance(event, Failed):
            return ChildEnd(ready, None, event.status, event.error)
    if timed_out:
        stage = "while training" if ready else "before the first step"
        return ChildEnd(ready, None, "timeout", f"ended after {timeout_s:g} s {stage}; try a larger --timeout")
    return ChildEnd(ready, None, *classify_end(process.returncode, tail, oom_kills=_new_kills(kills_before)))


Kills = tuple[int | None, int | None]


def _oom_kills() -> Kills:
    """The kernel's counts of out-of-memory kills: of the machine, and of this process's control group."""
    return oom_kill_count(), oom_kills_here()


def _new_kills(before: Kills) -> int | None:
    """The larger rise of the two counts; ``None`` where the kernel has neither."""
    rises = [b - a for a, b in zip(before, _oom_kills(), strict=True) if a is not None and b is not None]
    return max(rises, default=None)


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no process behind, whatever happens inside: the child's whole session is killed."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _OUTPUT_TAIL_BYTES))
    return output.read().decode(errors="replace")
