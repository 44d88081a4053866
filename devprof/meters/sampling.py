"""The caller's side of a sampler process: start it, hear its readings, ask for one now, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, final

from devprof.meters.base import MAX_RATE_HZ, Channel, MeterError, MeterInfo, Reading, now_ns
from devprof.meters.energy import Energy, integrate

__all__ = ["SAMPLER", "SamplerReport", "Sampling"]

SAMPLER = (sys.executable, "-m", "devprof.meters.sampler")
_OPEN_S = 30.0
_END_S = 5.0
_ANSWER_S = 2.5
_KEPT_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class SamplerReport:
    """What a sampler has used and met.

    Attributes:
        cpu_s: Processor time that it used, its tools included; ``None`` if it never told.
        reads: How often the meter was read.
        losses: How often the meter was lost.
        rejected: Readings that could not be true, by reason.
        lost: The reasons that were given for losses.
        clock_error_s: Bound by which stamps of a meter on another host may be off; ``None`` for a meter of this host.
    """

    cpu_s: float | None = None
    reads: int = 0
    losses: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    clock_error_s: float | None = None

    def since(self, before: SamplerReport) -> SamplerReport:
        """What came after an earlier report of the same sampler."""
        counts = {name: count - before.rejected.get(name, 0) for name, count in self.rejected.items()}
        return SamplerReport(
            cpu_s=None if self.cpu_s is None else self.cpu_s - (before.cpu_s or 0.0),
            reads=self.reads - before.reads,
            losses=self.losses - before.losses,
            rejected={name: count for name, count in counts.items() if count > 0},
            lost=self.lost[len(before.lost) :],
            clock_error_s=self.clock_error_s,
        )


@final
class Sampling:
    """A meter that is read in a process of its own from the beginning of a ``with`` block to its end.

    It is opened once, because some sources cannot be opened twice: a logger that prints into a pipe ends with its reader.

    Methods may be called from several threads.

    Args:
        spec: The meter, as ``--meter`` names it.
        rate_hz: Readings per second, at the most; a meter that is slower is read as often as makes sense.
        command: Of the sampler.

    Raises:
        MeterError: On entering, if the meter cannot be opened.
    """

    def __init__(self, spec: str, *, rate_hz: float = MAX_RATE_HZ, command: Sequence[str] = SAMPLER) -> None:
        if not rate_hz > 0:
            raise ValueError(f"rate_hz must be positive, got {rate_hz}")
        self.spec = spec
        self._rate_hz = rate_hz
        self._command = command
        self._news = threading.Condition()
        self._begin()

    def _begin(self) -> None:
        self._readings: list[Reading] = []
        self._answers = 0
        self._info: MeterInfo | None = None
        self._refused: MeterError | None = None
        self._report: dict[str, Any] = {}
        self._lost: list[str] = []
        self._over = False

    @property
    def info(self) -> MeterInfo:
        """What the meter is."""
        assert self._info is not None
        return self._info

    @property
    def pid(self) -> int:
        """Process id of the sampler."""
        return self._process.pid

    @property
    def period_s(self) -> float:
        """Seconds between two readings as planned."""
        return max(self.info.period_s, 1 / self._rate_hz)

    def __enter__(self) -> Sampling:
        """Start the process, and wait until the meter is open."""
        read_end, write_end = os.pipe()
        self._output = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                [*self._command, self.spec, str(self._rate_hz), str(write_end)],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                pass_fds=(write_end,),
                # A Ctrl-C in the terminal reaches the parent only, which then decides.
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        self._reader = threading.Thread(target=self._listen, args=(read_end,), daemon=True)
        self._reader.start()
        with self._news:
            self._news.wait_for(lambda: self._info or self._refused or self._over, _OPEN_S)
        if self._info is None:
            ended, said = self._over, self._said()
            self._kill()
            what = "its reader ended" if ended else f"it was not open after {_OPEN_S:g} s"
            raise self._refused or MeterError(f"the meter {self.spec!r} cannot be read: {what}", said)
        return self

    def restart(self) -> None:
        """Start a sampler again that has ended; what the first one read is gone.

        Raises:
            MeterError: If the meter cannot be opened.
        """
        self.stop()
        self._begin()
        self.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no process behind."""
        self.stop()

    def now(self) -> bool:
        """Read at once, and wait until that is done; ``False`` if the meter did not answer in time."""
        with self._news:
            wanted = self._answers + 1
            if not self._tell("read"):
                return False
            return self._news.wait_for(lambda: self._answers >= wanted or self._over, _ANSWER_S) and not self._over

    def readings(self) -> list[Reading]:
        """All readings so far, but for those that were forgotten."""
        with self._news:
            return list(self._readings)

    def forget(self) -> None:
        """Let go of all readings but those of the last seconds."""
        since_ns = now_ns() - _KEPT_NS
        with self._news:
            self._readings = [reading for reading in self._readings if reading.t_ns >= since_ns]

    @property
    def alive(self) -> bool:
        """Whether the sampler runs."""
        return self._process.poll() is None

    def report(self) -> SamplerReport:
        """What the sampler said last of itself: at the last :meth:`now`, or at its end."""
        with self._news:
            return SamplerReport(**self._report, lost=tuple(self._lost))

    def energy(self, window_ns: tuple[int, int]) -> Energy:
        """What the meter measured in a window; errors as of :func:`~devprof.meters.energy.integrate`."""
        return integrate(self.readings(), self.info.channels, window_ns, period_s=self.period_s)

    def stop(self) -> SamplerReport:
        """End the sampler, and hear its last report; may be called again."""
        if self._process.poll() is None and self._tell("stop"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        self._kill()
        return self.report()

    # Inside ---------------------------------------------------------------------------------------------------------

    def _tell(self, command: str) -> bool:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command.encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            return False
        return True

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._reader.join()
        self._output.close()

    def _said(self) -> str | None:
        """The last line that the sampler printed: of one that failed, the reason."""
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - 2000))
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else None

    def _listen(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8") as pipe:
            for line in pipe:
                with contextlib.suppress(ValueError), self._news:
                    # A sampler that is killed leaves its last line incomplete.
                    self._take(json.loads(line))
                    self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        if "readings" in message:
            channels = self.info.channels
            self._readings += [
                Reading(t_ns, channels[number].domain, power_w, energy_j)
                for t_ns, number, power_w, energy_j in message["readings"]
            ]
            if "report" in message:
                self._answers += 1
                self._report = message["report"]
        elif "info" in message:
            told = message["info"]
            channels = tuple(Channel(**channel) for channel in told["channels"])
            self._info = MeterInfo(**told | {"channels": channels, "notes": tuple(told["notes"])})
        elif "refused" in message:
            self._refused = MeterError(**message["refused"])
        elif "lost" in message:
            self._lost.append(message["lost"])
