"""One configuration, one child: start it, wait for it, make a row of whatever happened.

The child leads a session of its own, so that a Ctrl-C in the terminal reaches the parent only, which then decides; it is
ended with everything it started. What it prints goes to a temporary file whose end explains a crash.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import median
from typing import IO, Any

from devprof.device.identity import installed_version
from devprof.device.state import temperature_c
from devprof.measure.checks import check_run
from devprof.measure.outcome import classify_end, oom_kill_count
from devprof.measure.protocol import Failed, Finished, Ready, Request, decode_event, encode
from devprof.measure.statistics import summarize
from devprof.records import Device, Measurement, Status, StepTime, Workload

__all__ = ["MeasureOptions", "configuration_key", "measure_workload"]

_OUTPUT_TAIL_BYTES = 8192
# The child stops on its own a little earlier, so that a slow model yields its few steps instead of a timeout.
_STOP_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """How to measure: the same for all configurations of a sweep.

    Attributes:
        min_time_s: Timed window at the least.
        min_steps: Timed steps at the least.
        timeout_s: Wall time after which a child is ended.
        suite: Name of the suite, kept with the rows.
    """

    min_time_s: float = 10.0
    min_steps: int = 5
    timeout_s: float = 600.0
    suite: str | None = None


def configuration_key(workload: Workload) -> str:
    """Hash of a workload as it was asked for: a sweep goes on where it stopped by comparing it."""
    return hashlib.sha256(json.dumps(dataclasses.asdict(workload), sort_keys=True).encode()).hexdigest()[:12]


def measure_workload(
    workload: Workload, device: Device, options: MeasureOptions, *, repeat: int = 0
) -> tuple[Measurement, list[StepTime]]:
    """Measure one configuration in a fresh child process.

    Args:
        workload: The configuration.
        device: The device as rows name it; its processor and threads are used.
        options: Times and limits.
        repeat: Number of this repeat, kept with the row.

    Returns:
        The row, also for a run that failed, and its raw steps.

    Raises:
        KeyboardInterrupt: If the user interrupts; the child is ended first.
    """
    request = Request(
        workload=workload,
        processor=device.processor,
        threads=device.threads,
        min_time_s=options.min_time_s,
        min_steps=options.min_steps,
        stop_after_s=options.timeout_s * _STOP_SHARE,
    )
    now = datetime.now(timezone.utc)
    run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    temp_start = temperature_c()
    begin = time.perf_counter()
    child = _run_child(request, options.timeout_s)
    row: dict[str, Any] = {
        "run_id": run_id,
        "started_utc": now.isoformat(timespec="seconds"),
        "devprof_version": installed_version("devprof") or "unknown",
        "device": device.name,
        "device_key": device.key,
        "processor": device.processor,
        "power_mode": device.power_mode,
        "threads": device.threads,
        "suite": options.suite,
        "configuration": configuration_key(workload),
        "repeat": repeat,
        "duration_s": time.perf_counter() - begin,
        "temp_start_c": temp_start,
        "temp_end_c": temperature_c(),
        "energy_source": "none",
        "facts": json.dumps(dict(device.facts), sort_keys=True),
        "source": "devprof",
        **dataclasses.asdict(workload),
    }
    if child.ready is not None:
        row |= _ready_columns(child.ready)
    if child.finished is None:
        return Measurement(**row, status=child.status, error=child.error), []
    row |= _finished_columns(child.finished)
    return Measurement(**row, status="ok"), _steps(run_id, child.finished)


@dataclass(frozen=True, slots=True)
class _ChildEnd:
    ready: Ready | None
    finished: Finished | None
    status: Status
    error: str | None


def _run_child(request: Request, timeout_s: float) -> _ChildEnd:
    oom_before = oom_kill_count()
    read_end, write_end = os.pipe()
    environment = os.environ | {name: str(request.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-m", "devprof.measure.worker", encode(request), str(write_end)]
    with tempfile.TemporaryFile() as output, os.fdopen(read_end, encoding="utf-8") as events:
        try:
            process = subprocess.Popen(
                command,
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
        received = [decode_event(line) for line in lines]
        tail = _tail(output)
    ready = next((event for event in received if isinstance(event, Ready)), None)
    finished = next((event for event in received if isinstance(event, Finished)), None)
    failed = next((event for event in received if isinstance(event, Failed)), None)
    if finished is not None:
        return _ChildEnd(ready, finished, "ok", None)
    if failed is not None:
        return _ChildEnd(ready, None, failed.status, failed.error)
    if timed_out:
        stage = "while training" if ready else "before the first step"
        return _ChildEnd(ready, None, "timeout", f"ended after {timeout_s:g} s {stage}; try a larger --timeout")
    oom_after = oom_kill_count()
    kills = None if oom_before is None or oom_after is None else oom_after - oom_before
    return _ChildEnd(ready, None, *classify_end(process.returncode, tail, oom_kills=kills))


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


def _ready_columns(ready: Ready) -> dict[str, Any]:
    return {
        "startup_s": ready.startup_s,
        "rss_baseline_bytes": ready.rss_baseline_bytes,
        "parameters": ready.parameters,
        "trainable_parameters": ready.trainable_parameters,
        "image_size": ready.image_size,
        "num_classes": ready.num_classes,
        "versions": json.dumps(ready.versions, sort_keys=True),
    }


def _finished_columns(finished: Finished) -> dict[str, Any]:
    figures = summarize([step / 1e9 for step in finished.step_ns])
    columns: dict[str, Any] = {
        "warmup_steps": len(finished.warmup_ns),
        "steps": len(finished.step_ns),
        "step_s": figures.median,
        "step_s_mean": figures.mean,
        "step_s_p05": figures.p05,
        "step_s_p95": figures.p95,
        "step_s_mad": figures.mad,
        "step_s_ci_low": figures.ci_low,
        "step_s_ci_high": figures.ci_high,
        "steady": figures.steady,
        "data_s": finished.data_ns / 1e9,
        "rss_peak_bytes": finished.rss_peak_bytes,
        "accelerator_peak_bytes": finished.accelerator_peak_bytes,
    }
    for position, phase in enumerate(("forward_s", "backward_s", "optimizer_s")):
        if finished.phase_ns:
            columns[phase] = median(row[position] for row in finished.phase_ns) / 1e9
    warnings = check_run(figures, len(finished.step_ns), peak_reset=finished.peak_reset)
    columns["warnings"] = json.dumps([warning.code for warning in warnings]) if warnings else None
    return columns


def _steps(run_id: str, finished: Finished) -> list[StepTime]:
    warm = [StepTime(run_id, index, "warmup", step) for index, step in enumerate(finished.warmup_ns)]
    timed = [StepTime(run_id, index, "measured", step) for index, step in enumerate(finished.step_ns, len(warm))]
    phases = [
        StepTime(run_id, index, "phases", sum(row), row[0], row[1], row[2])
        for index, row in enumerate(finished.phase_ns, len(warm) + len(timed))
    ]
    return warm + timed + phases
