"""The child of a calibration: ``python -m devprof.measure.calibrator FD``, with the request on standard input.

It either traces models, on the meta device, or times operators, in a process that has done nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from devprof.device.limits import memory_limit_bytes
from devprof.device.memory import available_memory_bytes, current_rss_bytes
from devprof.errors import DevprofError
from devprof.measure.calibration import (
    Begun,
    Event,
    OperatorCall,
    Prepared,
    Timed,
    TimeRequest,
    Traced,
    TraceRequest,
    decode_message,
    encode_message,
    operator_status,
)
from devprof.measure.inside import FAILURES, die_with_parent, failed_by, software_versions
from devprof.measure.operands import needed_bytes
from devprof.records import Workload
from devprof.units import format_bytes

if TYPE_CHECKING:
    from devprof.measure.replay import Bench

__all__ = ["Pace", "main"]

# Beyond that the median of an operator becomes no better.
_MOST_BUDGET_S = 0.25
_USABLE_SHARE = 0.9

Send = Callable[[Event], None]


def main(arguments: list[str]) -> int:
    """Do what the request says and write events to the file descriptor; the exit code is 0 if the last one was delivered."""
    begin_s = time.monotonic()
    request = decode_message(sys.stdin.read())
    with os.fdopen(int(arguments[0]), "w", encoding="utf-8") as pipe:

        def send(event: Event) -> None:
            pipe.write(encode_message(event) + "\n")
            pipe.flush()

        die_with_parent()
        try:
            if isinstance(request, TraceRequest):
                for model in request.models:
                    send(_trace(model, request))
            elif isinstance(request, TimeRequest):
                _time(request, send, begin_s + request.time_s)
            else:
                raise DevprofError("the request is none that a calibration makes")
        except FAILURES as error:
            send(failed_by(error))
    return 0


def _trace(model: str, request: TraceRequest) -> Traced:
    from devprof.costmodel.trace import trace_step
    from devprof.workloads.catalogue import build

    found: dict[str, OperatorCall] = {}
    reason: str | None = None
    for mode in request.modes:
        try:
            trainable = build(Workload(model=model, mode=mode), device="meta")
            for size in request.batch_sizes:
                step = trace_step(trainable.model, *trainable.make_batch(size), trainable.loss_fn, size)
                for operator in step.operators:
                    call = OperatorCall(operator.signature, operator.family, operator.macs, operator.elements)
                    found.setdefault(operator.signature, call)
        except DevprofError as error:
            # A model without a classifier has no mode head; its operators are known from mode full all the same.
            reason = reason or str(error)
    return Traced(model, tuple(found.values()), None if found else reason)


class Pace:
    """How long each operator may be timed so that all of them fit into the time.

    Warming up and the least number of calls take longer for some operators than for others. The order is random, so what they
    took so far says what they will take.

    Args:
        count: Operators to time.
        stop_s: Moment at which the time is over, on the clock.
        clock: Seconds.
    """

    def __init__(self, count: int, stop_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = count
        self._stop_s = stop_s
        self._clock = clock
        self._done = 0
        self._beyond_s = 0.0

    def is_over(self) -> bool:
        """Whether no operator may begin any more."""
        return self._clock() >= self._stop_s

    def budget_s(self) -> float:
        """Seconds for the timed calls of the next operator."""
        beyond = self._beyond_s / self._done if self._done else 0.0
        return min(_MOST_BUDGET_S, max(0.0, (self._stop_s - self._clock()) / self._left - beyond))

    def record(self, budget_s: float, spent_s: float) -> None:
        """Take note of an operator that was given a budget and took a time."""
        self._done += 1
        self._left = max(1, self._left - 1)
        self._beyond_s += spent_s - budget_s


def _time(request: TimeRequest, send: Send, stop_s: float) -> None:
    if request.affinity is not None:
        os.sched_setaffinity(0, request.affinity)
    import torch

    from devprof.measure.replay import make_bench

    torch.set_num_threads(request.threads)
    if request.processor == "cuda" and not torch.cuda.is_available():
        raise DevprofError("torch sees no CUDA device here; leave --processor out to measure the CPU")
    torch.manual_seed(0)
    bench = make_bench(request.processor)
    send(Prepared(software_versions()))
    # What importing left behind is not looked at again by the collector in the middle of a call.
    gc.collect()
    gc.freeze()
    pace = Pace(len(request.operators), stop_s)
    for index, operator in enumerate(request.operators):
        if pace.is_over():
            return
        send(Begun(index))
        begin_s, budget_s = time.monotonic(), pace.budget_s()
        timed = _time_one(index, operator, request.processor, budget_s, bench)
        send(timed)
        pace.record(budget_s, time.monotonic() - begin_s)
        if timed.status == "error":
            # An accelerator that cannot go on after an error says so now, and not as the error of every later operator.
            bench.synchronise()


def _time_one(index: int, operator: OperatorCall, processor: str, budget_s: float, bench: Bench) -> Timed:
    from devprof.measure.replay import UnsupportedCallError, rebuild, time_operator

    try:
        needed, room = needed_bytes(operator), _room_bytes(processor)
        if room is not None and needed > room:
            _release(processor)
            room = _room_bytes(processor)
        if room is not None and needed > room:
            return Timed(index, "oom", f"it needs about {format_bytes(needed)}, and {format_bytes(room)} are free")
        found = time_operator(rebuild(operator.signature, processor), budget_s, bench)
    except (UnsupportedCallError, NotImplementedError) as error:
        return Timed(index, "unsupported", " ".join(str(error).split()))
    except FAILURES as error:
        failed = failed_by(error)
        return Timed(index, operator_status(failed.status), failed.error)
    return Timed(index, "ok", None, found.seconds, found.seconds_first, found.faults, found.calls)


def _release(processor: str) -> None:
    """Give memory that allocators keep for later back to the system."""
    if processor == "cuda":
        import torch

        torch.cuda.empty_cache()
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _room_bytes(processor: str) -> int | None:
    """Memory that a call may take now; ``None`` where nobody says."""
    if processor == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    limit, own = memory_limit_bytes(), current_rss_bytes()
    rooms = [available_memory_bytes(), None if limit is None else max(0, limit - (own or 0))]
    known = [room for room in rooms if room is not None]
    # What the kernel calls available is an estimate.
    return round(_USABLE_SHARE * min(known)) if known else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
