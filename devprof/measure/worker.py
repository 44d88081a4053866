"""The child that measures one configuration: ``python -m devprof.measure.worker REQUEST FD``.

Order: import torch and build everything (start-up), reset the memory peak, the first step, warm up until steady, time whole
steps, then time phases in a separate pass. Where a pattern is asked for, it comes between warm-up and window, and after the
phases once more.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable

from devprof.device.memory import current_rss_bytes, peak_rss_bytes, pss_bytes
from devprof.errors import DevprofError
from devprof.measure.gauges import MemoryGauge, WindowGauge, accelerator_context_bytes
from devprof.measure.inside import FAILURES, die_with_parent, failed_by, software_versions
from devprof.measure.job import Job, make_job
from devprof.measure.pattern import pattern_s, show_pattern
from devprof.measure.protocol import Event, Finished, Ready, Request, encode
from devprof.measure.spans import Spans
from devprof.measure.timing import Timer, synchroniser

__all__ = ["main"]

Send = Callable[[Event], None]


def main(arguments: list[str]) -> int:
    """Measure what the request says and write events to the file descriptor; the exit code is 0 if one was delivered."""
    started_ns = time.perf_counter_ns()
    request = Request.from_json(arguments[0])
    with os.fdopen(int(arguments[1]), "w", encoding="utf-8") as pipe:

        def send(event: Event) -> None:
            pipe.write(encode(event) + "\n")
            pipe.flush()

        die_with_parent()
        try:
            _measure(request, send, started_ns)
        except FAILURES as error:
            # Whatever a model raises is that model's row; only the reason decides which kind of row.
            send(failed_by(error))
    return 0


def _measure(request: Request, send: Send, started_ns: int) -> None:
    if request.affinity is not None:
        os.sched_setaffinity(0, request.affinity)
    import torch

    torch.set_num_threads(request.threads)
    baseline = current_rss_bytes()
    if request.processor == "cuda" and not torch.cuda.is_available():
        raise DevprofError("torch sees no CUDA device here; leave --processor out to measure the CPU")
    context = accelerator_context_bytes() if request.processor == "cuda" else None
    torch.manual_seed(0)
    job = make_job(request.workload, request.processor)
    # A model's own code may set torch's threads; the row promises the number that was asked for.
    threads_changed = torch.get_num_threads() != request.threads
    torch.set_num_threads(request.threads)
    send(_ready(job, baseline, started_ns))
    spans = Spans(send, sys.stdin.fileno() if request.metered else None)
    spans.idle("idle-before", request.idle_s)

    timer = Timer(
        synchroniser(request.processor),
        min_time_s=request.min_time_s,
        min_steps=request.min_steps,
        stop_ns=started_ns + round((request.stop_after_s + request.idle_s + pattern_s(request.sync_s)) * 1e9),
        max_window_s=request.max_window_s,
    )
    # What building left behind is not looked at again by the collector in the middle of a step.
    gc.collect()
    gc.freeze()
    memory = MemoryGauge(request.processor, context)
    warmup_ns, steady = _warm_up(job, timer, memory, spans, request.sync_s)
    gc.collect()
    with spans.span("window"):
        window = WindowGauge()
        step_ns = timer.measure(job.step, lambda: spans.enough("window"))
        counts = window.read()
    peaks = memory.read()
    phase_ns: list[list[int]] = []
    if job.phased is not None:
        with spans.stamped("phases"):
            phase_ns = timer.phases(job.phased, request.phase_steps)
    if request.sync_s > 0 and not timer.is_over:
        show_pattern("sync-after", lambda: timer.once(job.step), request.sync_s, spans)
    spans.idle("idle-after", request.idle_s)
    send(
        Finished(
            warmup_ns=warmup_ns,
            step_ns=step_ns,
            phase_ns=phase_ns,
            warmup_capped=not steady,
            threads_changed=threads_changed or torch.get_num_threads() != request.threads,
            memory=peaks,
            window=counts,
            spans=spans.finish(),
        )
    )


def _warm_up(job: Job, timer: Timer, memory: MemoryGauge, spans: Spans, sync_s: float) -> tuple[list[int], bool]:
    """The steps before the timed window, and whether they had become steady.

    A pattern's idle parts let clocks and temperature fall, so after it the device is warmed up by the same rule as before it.
    """
    with spans.stamped("warm-up"):
        warmup_ns = [timer.once(job.step)]
        memory.first_step_done()
        steady = timer.warm_up(job.step, warmup_ns)
    if sync_s > 0 and not timer.is_over:
        show_pattern("sync-before", lambda: timer.once(job.step), sync_s, spans)
        settling_ns: list[int] = []
        with spans.stamped("settle"):
            steady = timer.warm_up(job.step, settling_ns)
        warmup_ns += settling_ns
    return warmup_ns, steady


def _ready(job: Job, baseline: int | None, started_ns: int) -> Ready:
    import torch

    total, trained = job.trainable.parameter_counts()
    return Ready(
        startup_s=(time.perf_counter_ns() - started_ns) / 1e9,
        rss_baseline_bytes=baseline,
        rss_model_bytes=job.rss_model_bytes,
        rss_optimizer_bytes=current_rss_bytes(),
        rss_build_peak_bytes=peak_rss_bytes(),
        pss_start_bytes=pss_bytes(),
        parameters=total,
        trainable_parameters=trained,
        image_size=job.trainable.image_size,
        num_classes=job.trainable.num_classes,
        interop_threads=torch.get_num_interop_threads(),
        affinity=sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        versions=software_versions(),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
