"""The process that reads a meter: ``python -m devprof.meters.sampler SPEC RATE_HZ FD``.

It has a process of its own, because a thread that looks twenty times a second would be seen in the step times of the process
it lives in, and because some sources change the process that imports them. It writes JSON lines to the file descriptor and
takes commands, a line each, on its standard input: ``read`` reads at once, ``stop`` ends it. It also ends with its parent.

Lines that it writes: ``{"info": ...}`` once the meter is open (or ``{"refused": ...}``), ``{"readings": [[t_ns, channel,
power_w, energy_j], ...]}``, after a command and at the end with a ``"report"``, ``{"lost": reason}`` and ``{"back": true}``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, Any

from devprof.errors import DevprofError
from devprof.meters.base import Meter, MeterError, MeterLostError, Reading, now_ns
from devprof.meters.catalogue import open_meter
from devprof.meters.sieve import Sieve

__all__ = ["main"]

_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 10.0
_GRACE_S = 3.0


def main(arguments: Sequence[str]) -> int:
    """Read the meter until told to stop; the exit code is 0 unless the meter could not be opened."""
    spec, rate_hz, descriptor = arguments
    with os.fdopen(int(descriptor), "w", encoding="utf-8", buffering=1) as pipe:
        try:
            meter = open_meter(spec)
        except DevprofError as error:
            remedy = error.remedy if isinstance(error, MeterError) else None
            reason = error.reason if isinstance(error, MeterError) else str(error)
            _send(pipe, {"refused": {"reason": reason, "remedy": remedy}})
            return 1
        _send(pipe, {"info": dataclasses.asdict(meter.info)})
        _Loop(spec, meter, pipe, max(meter.info.period_s, 1 / float(rate_hz))).run()
    return 0


def _send(pipe: IO[str], message: dict[str, Any]) -> None:
    pipe.write(json.dumps(message, separators=(",", ":")) + "\n")


def _listen(commands: queue.SimpleQueue[str]) -> None:
    """Take commands until the parent closes the pipe, which it does at its end, however it ends."""
    for line in sys.stdin:
        commands.put(line.strip())
    commands.put("stop")
    # A source that hangs in a read does not keep the process.
    time.sleep(_GRACE_S)
    os._exit(1)


class _Loop:
    """Reads at the meter's period, and at once when told to; opens the meter again when it was lost."""

    def __init__(self, spec: str, meter: Meter, pipe: IO[str], period_s: float) -> None:
        self._spec = spec
        self._meter: Meter | None = meter
        self._pipe = pipe
        self._channels = meter.info.channels
        self._index = {channel.domain: number for number, channel in enumerate(self._channels)}
        self._period_s = period_s
        self._sieve = Sieve(self._channels)
        self._reads = 0
        self._losses = 0
        self._retry_s = _FIRST_RETRY_S
        self._retry_at = 0.0

    def run(self) -> None:
        """Until ``stop``, or until nobody listens."""
        commands: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(commands,), daemon=True).start()
        next_s = time.monotonic()
        try:
            while True:
                self._read_once()
                next_s = max(next_s + self._period_s, time.monotonic())
                if not self._wait(commands, next_s):
                    break
            self._read_once(answer=True)
        except BrokenPipeError:
            return
        finally:
            if self._meter is not None:
                self._meter.close()

    def _wait(self, commands: queue.SimpleQueue[str], until_s: float) -> bool:
        """Wait for the next reading, or for a command; ``False`` to stop."""
        while (left_s := until_s - time.monotonic()) > 0:
            try:
                command = commands.get(timeout=left_s)
            except queue.Empty:
                return True
            if command != "read":
                return False
            # A reading beside the others does not move them.
            self._read_once(answer=True)
        return True

    def _read_once(self, *, answer: bool = False) -> None:
        readings = self._read()
        rows = [[one.t_ns, self._index[one.domain], one.power_w, one.energy_j] for one in readings]
        if rows or answer:
            _send(self._pipe, {"readings": rows} | ({"report": self._report()} if answer else {}))

    def _read(self) -> list[Reading]:
        if self._meter is None and not self._reopened():
            return []
        assert self._meter is not None
        try:
            found = self._meter.read()
        except MeterLostError as error:
            return self._lost(str(error))
        self._reads += 1
        return self._sieve.accept(found)

    def _lost(self, reason: str) -> list[Reading]:
        assert self._meter is not None
        self._meter.close()
        self._meter = None
        self._losses += 1
        self._retry_at = time.monotonic() + self._retry_s
        _send(self._pipe, {"lost": reason})
        t_ns = now_ns()
        return self._sieve.accept(Reading(t_ns, channel.domain) for channel in self._channels)

    def _reopened(self) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        try:
            meter = open_meter(self._spec)
        except DevprofError:
            self._retry_s = min(_LONGEST_RETRY_S, 2 * self._retry_s)
            self._retry_at = time.monotonic() + self._retry_s
            return False
        if meter.info.channels != self._channels:
            # Another instrument than before: its figures would be taken for the first one's.
            meter.close()
            self._retry_at = float("inf")
            return False
        self._meter, self._retry_s = meter, _FIRST_RETRY_S
        _send(self._pipe, {"back": True})
        return True

    def _report(self) -> dict[str, Any]:
        """What was used and met so far."""
        used = os.times()
        cpu_s = used.user + used.system + used.children_user + used.children_system
        rejected = dict(self._sieve.rejected)
        if self._meter is not None and (own := getattr(self._meter, "rejected", 0)):
            rejected["malformed"] = own
        clock_error_s = getattr(self._meter, "clock_error_s", None)
        counts = {"cpu_s": cpu_s, "reads": self._reads, "losses": self._losses, "rejected": rejected}
        return counts | {"clock_error_s": clock_error_s}


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # Some sources leave threads behind that would keep the process.
    os._exit(code)
