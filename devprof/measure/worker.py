"""The child that measures one configuration: ``python -m devprof.measure.worker REQUEST FD``.

Order: import torch and build everything (start-up), reset the memory peak, warm up until steady, time whole steps, then time
phases in a separate pass. The clock is read at step edges only, after synchronising an accelerator.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devprof.device.identity import installed_version
from devprof.device.memory import current_rss_bytes, peak_rss_bytes, reset_peak_rss
from devprof.errors import DevprofError
from devprof.measure.outcome import is_out_of_memory
from devprof.measure.protocol import Failed, Finished, Ready, Request, encode
from devprof.measure.statistics import summarize

if TYPE_CHECKING:
    from devprof.workloads.catalogue import Trainable

__all__ = ["main"]

_WARMUP_STEPS = 5
_WARMUP_S = 3.0
_WARMUP_CAP = 20
_STEADY_DRIFT = 0.01
_PHASE_STEPS = 10
_TIGHT = 0.02
_PR_SET_PDEATHSIG = 1

Step = Callable[[], None]


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
            send(Failed("error", str(error)))
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


def _measure(request: Request, send: Callable[[Ready | Finished | Failed], None], started_ns: int) -> None:
    import torch

    from devprof.workloads.catalogue import build

    torch.set_num_threads(request.threads)
    baseline = current_rss_bytes()
    if request.processor == "cuda" and not torch.cuda.is_available():
        raise DevprofError("torch sees no CUDA device here; leave --processor out to measure the CPU")
    torch.manual_seed(0)
    trainable = build(request.workload, device=request.processor)
    data_started_ns = time.perf_counter_ns()
    step, phased = _make_steps(request, trainable)
    data_ns = time.perf_counter_ns() - data_started_ns
    total, trained = trainable.parameter_counts()
    ready_ns = time.perf_counter_ns()
    send(
        Ready(
            startup_s=(ready_ns - started_ns) / 1e9,
            rss_baseline_bytes=baseline,
            parameters=total,
            trainable_parameters=trained,
            image_size=trainable.image_size,
            num_classes=trainable.num_classes,
            versions=_versions(),
        )
    )
    synchronise = _synchroniser(request.processor)
    peak_reset = reset_peak_rss()
    stop_ns = started_ns + round(request.stop_after_s * 1e9)
    warmup_ns = _warm_up(step, synchronise, min(_WARMUP_S, request.min_time_s), stop_ns)
    if request.processor == "cuda":
        torch.cuda.reset_peak_memory_stats()
    gc.collect()
    gc.freeze()
    step_ns = _time_steps(step, synchronise, request, stop_ns)
    phase_ns = _time_phases(phased, synchronise, stop_ns) if request.workload.task == "train" else []
    send(
        Finished(
            warmup_ns=warmup_ns,
            step_ns=step_ns,
            phase_ns=phase_ns,
            data_ns=data_ns,
            rss_peak_bytes=peak_rss_bytes(),
            peak_reset=peak_reset,
            accelerator_peak_bytes=torch.cuda.max_memory_reserved() if request.processor == "cuda" else None,
        )
    )


def _versions() -> dict[str, str]:
    import torch

    names = ("torch", "torchvision", "timm", "numpy")
    found = {name: version for name in names if (version := installed_version(name))}
    found["python"] = ".".join(str(part) for part in sys.version_info[:3])
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def _make_steps(request: Request, trainable: Trainable) -> tuple[Step, Callable[[Callable[[str], None]], None]]:
    """The step to be timed, and the same step with marks at the ends of its phases."""
    import torch

    from devprof.workloads.training import inference_step, make_optimizer, training_step

    model = trainable.model
    inputs, targets = trainable.make_batch(request.workload.batch_size)
    if request.workload.memory_format == "nhwc":
        if inputs.dim() != 4:
            raise DevprofError(f"the memory format nhwc is for images; this input has the shape {tuple(inputs.shape)}")
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    if request.workload.task == "infer":
        model.eval()
        return lambda: _discard(inference_step(model, inputs)), lambda _: None
    optimizer = make_optimizer(request.workload.optimizer, model)
    loss = torch.nn.functional.cross_entropy

    def step() -> None:
        training_step(model, optimizer, loss, inputs, targets)

    def phased(mark: Callable[[str], None]) -> None:
        training_step(model, optimizer, loss, inputs, targets, mark=mark)

    return step, phased


def _discard(_: Any) -> None:
    return None


def _synchroniser(processor: str) -> Callable[[], None]:
    if processor != "cuda":
        return lambda: None
    import torch

    return torch.cuda.synchronize


def _timed(step: Step, synchronise: Callable[[], None]) -> int:
    begin = time.perf_counter_ns()
    step()
    synchronise()
    return time.perf_counter_ns() - begin


def _warm_up(step: Step, synchronise: Callable[[], None], seconds: float, stop_ns: int) -> list[int]:
    """Steps until at least five and ``seconds`` are done and the last ten do not drift; capped at 20 times that.

    The first step allocates, later ones fill caches: none of them is what a long training would cost.
    """
    times: list[int] = []
    begin = time.perf_counter_ns()
    while True:
        times.append(_timed(step, synchronise))
        now = time.perf_counter_ns()
        # A device that needs a minute per step is measured too: the cap counts from the second step on.
        if now > stop_ns or (len(times) >= 2 and now - begin > _WARMUP_CAP * seconds * 1e9):
            return times
        warm = len(times) >= _WARMUP_STEPS and now - begin >= seconds * 1e9
        if warm and abs(_relative_slope(times[-10:])) * 10 <= _STEADY_DRIFT:
            return times


def _relative_slope(times: list[int]) -> float:
    """Theil-Sen slope per step over the median: the median of all pairwise slopes, blind to single outliers."""
    pairs = [(times[j] - times[i]) / (j - i) for i in range(len(times)) for j in range(i + 1, len(times))]
    ordered, slopes = sorted(times), sorted(pairs)
    return slopes[len(slopes) // 2] / ordered[len(ordered) // 2]


def _time_steps(step: Step, synchronise: Callable[[], None], request: Request, stop_ns: int) -> list[int]:
    """Timed steps until the window and the count are full and the interval of the median is tight, or time is up."""
    times: list[int] = []
    begin = time.perf_counter_ns()
    window_ns = round(request.min_time_s * 1e9)
    check_at = window_ns
    while True:
        times.append(_timed(step, synchronise))
        now = time.perf_counter_ns()
        if now > stop_ns:
            return times
        if len(times) < request.min_steps or now - begin < check_at:
            continue
        if summarize(times).ci_half_width_rel <= _TIGHT or now - begin >= 3 * window_ns:
            return times
        check_at += window_ns // 4


def _time_phases(
    phased: Callable[[Callable[[str], None]], None], synchronise: Callable[[], None], stop_ns: int
) -> list[list[int]]:
    """Nanoseconds of forward, backward and optimizer for a few steps, in a pass of its own."""
    rows: list[list[int]] = []
    while len(rows) < _PHASE_STEPS and (not rows or time.perf_counter_ns() < stop_ns):
        stamps = [time.perf_counter_ns()]

        def mark(_: str, stamps: list[int] = stamps) -> None:
            synchronise()
            stamps.append(time.perf_counter_ns())

        phased(mark)
        rows.append([later - earlier for earlier, later in itertools.pairwise(stamps)])
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
