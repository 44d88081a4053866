"""The child that measures one configuration: ``python -m devprof.measure.worker REQUEST FD``.

Order: import torch and build everything (start-up), reset the memory peak, the first step, warm up until steady, time whole
steps, then time phases in a separate pass.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from devprof.device.identity import installed_version
from devprof.device.memory import current_rss_bytes, peak_rss_bytes, pss_bytes
from devprof.device.torch_config import parse_parallel_info, parse_torch_config
from devprof.errors import DevprofError
from devprof.measure.gauges import MemoryGauge, WindowGauge, accelerator_context_bytes
from devprof.measure.job import Job, make_job
from devprof.measure.outcome import is_out_of_memory
from devprof.measure.protocol import Failed, Finished, Ready, Request, encode
from devprof.measure.timing import Timer, synchroniser

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1

Send = Callable[[Ready | Finished | Failed], None]


def main(arguments: list[str]) -> int:
    """Measure what the request says and write events to the file descriptor; the exit code is 0 if one was delivered."""
    started_ns = time.perf_counter_ns()
    request = Request.from_json(arguments[0])
    with os.fdopen(int(arguments[1]), "w", encoding="utf-8") as pipe:

        def send(event: Ready | Finished | Failed) -> None:
            pipe.write(encode(event) + "\n")
            pipe.flush()

        _die_with_parent()
        try:
            _measure(request, send, started_ns)
        except DevprofError as error:
            # Building a large model can run out of memory, too; the catalogue says so in its own words and the allocator's.
            send(Failed("oom" if is_out_of_memory(str(error)) else "error", str(error)))
        except (
            MemoryError,
            ImportError,
            OSError,
            RuntimeError,
            ValueError,
            TypeError,
            AttributeError,
            LookupError,
        ) as error:
            # Whatever a model raises is that model's row; only the reason decides which kind of row.
            reason = f"{type(error).__name__}: {error}".strip()
            out_of_memory = isinstance(error, MemoryError) or is_out_of_memory(reason)
            send(Failed("oom" if out_of_memory else "error", " ".join(reason.split())[:2000]))
    return 0


def _die_with_parent() -> None:
    """End when the parent is killed, and be the first whom the kernel kills when memory is out (Linux; prctl(2))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


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

    timer = Timer(
        synchroniser(request.processor),
        min_time_s=request.min_time_s,
        min_steps=request.min_steps,
        stop_ns=started_ns + round(request.stop_after_s * 1e9),
    )
    # What building left behind is not looked at again by the collector in the middle of a step.
    gc.collect()
    gc.freeze()
    memory = MemoryGauge(request.processor, context)
    warmup_ns = [timer.once(job.step)]
    memory.first_step_done()
    steady = timer.warm_up(job.step, warmup_ns)
    gc.collect()
    window = WindowGauge()
    step_ns = timer.measure(job.step)
    counts = window.read()
    peaks = memory.read()
    phase_ns = timer.phases(job.phased, request.phase_steps) if job.phased is not None else []
    send(
        Finished(
            warmup_ns=warmup_ns,
            step_ns=step_ns,
            phase_ns=phase_ns,
            warmup_capped=not steady,
            threads_changed=threads_changed or torch.get_num_threads() != request.threads,
            memory=peaks,
            window=counts,
        )
    )


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
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    import torch

    names = ("torch", "torchvision", "timm", "numpy")
    found = {name: version for name in names if (version := installed_version(name))}
    found["python"] = ".".join(str(part) for part in sys.version_info[:3])
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    config = torch.__config__
    return found | parse_torch_config(config.show()) | parse_parallel_info(config.parallel_info())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
