"""From what a child delivered and what the device said meanwhile to the columns of a row. Pure functions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from statistics import median
from typing import Any

from devprof.device.state import State
from devprof.device.throttle import Throttling
from devprof.measure.checks import Warn, check_run, is_latency_valid
from devprof.measure.protocol import Finished, MemoryPeaks, Ready
from devprof.measure.statistics import summarize
from devprof.records import StepTime

__all__ = ["Columns", "finished_columns", "ready_columns", "state_columns", "step_rows"]

Columns = dict[str, Any]


def ready_columns(ready: Ready) -> Columns:
    """What was known before the first step."""
    return {
        "startup_s": ready.startup_s,
        "rss_baseline_bytes": ready.rss_baseline_bytes,
        "rss_model_bytes": ready.rss_model_bytes,
        "rss_optimizer_bytes": ready.rss_optimizer_bytes,
        "rss_build_peak_bytes": ready.rss_build_peak_bytes,
        "pss_start_bytes": ready.pss_start_bytes,
        "parameters": ready.parameters,
        "trainable_parameters": ready.trainable_parameters,
        "image_size": ready.image_size,
        "num_classes": ready.num_classes,
        "interop_threads": ready.interop_threads,
        "affinity": _ranges(ready.affinity) or None,
        "versions": json.dumps(ready.versions, sort_keys=True),
    }


def _ranges(cpus: Sequence[int]) -> str:
    """CPU numbers as the kernel writes them: ``0-3,6``."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def finished_columns(
    finished: Finished, *, throttled: str | None, cool_enough: bool, warnings: Sequence[Warn] = ()
) -> Columns:
    """Step times, phases, memory and warnings, with those found elsewhere, of a run that came to its end."""
    figures = summarize([step / 1e9 for step in finished.step_ns])
    columns: Columns = {
        "warmup_steps": len(finished.warmup_ns),
        "first_step_s": finished.warmup_ns[0] / 1e9,
        "steps": len(finished.step_ns),
        "step_s": figures.median,
        "step_s_mean": figures.mean,
        "step_s_std": figures.std,
        "step_s_mad": figures.mad,
        "step_s_min": figures.minimum,
        "step_s_p05": figures.p05,
        "step_s_p25": figures.p25,
        "step_s_p75": figures.p75,
        "step_s_p95": figures.p95,
        "step_s_p99": figures.p99,
        "step_s_ci_low": figures.ci_low,
        "step_s_ci_high": figures.ci_high,
        "steady": figures.steady,
        "autocorrelation": figures.autocorrelation,
        "outliers": figures.outliers,
        "change_points": len(figures.change_points),
        "latency_valid": is_latency_valid(finished),
        "spans": finished.spans.to_json(),
        **_memory_columns(finished.memory),
        **dataclasses.asdict(finished.window),
    }
    for position, phase in enumerate(("data_s", "forward_s", "backward_s", "optimizer_s")):
        if finished.phase_ns:
            columns[phase] = median(row[position] for row in finished.phase_ns) / 1e9
    found = [*check_run(figures, finished, throttled=throttled, cool_enough=cool_enough), *warnings]
    columns["warnings"] = json.dumps([warning.code for warning in found]) if found else None
    return columns


def _memory_columns(memory: MemoryPeaks) -> Columns:
    peaks = [peak for peak in (memory.rss_first_step_bytes, memory.rss_steady_bytes) if peak is not None]
    peak = max(peaks, default=None)
    unified = None
    if memory.unified and peak is not None and memory.accelerator_reserved_bytes is not None:
        # The GPU's allocations are not resident memory of the process, but lie in the same chips.
        unified = peak + memory.accelerator_reserved_bytes + (memory.accelerator_context_bytes or 0)
    return {
        "rss_first_step_bytes": memory.rss_first_step_bytes,
        "rss_steady_bytes": memory.rss_steady_bytes,
        "rss_peak_bytes": peak,
        "pss_end_bytes": memory.pss_end_bytes,
        "accelerator_peak_bytes": memory.accelerator_reserved_bytes,
        "accelerator_allocated_bytes": memory.accelerator_allocated_bytes,
        "accelerator_context_bytes": memory.accelerator_context_bytes,
        "unified_memory_bytes": unified,
    }


def state_columns(states: Sequence[State], throttling: Throttling) -> Columns:
    """Heat and clocks before, during and after a run, from readings in order of time; at least two of them."""
    first, last = states[0], states[-1]
    temperatures = [state.temperature_c for state in states if state.temperature_c is not None]
    frequencies = [state.frequency_hz for state in states if state.frequency_hz is not None]
    return {
        "temp_start_c": first.temperature_c,
        "temp_max_c": max(temperatures, default=None),
        "temp_end_c": last.temperature_c,
        "governor": first.governor,
        "frequency_start_hz": first.frequency_hz,
        "frequency_min_hz": min(frequencies, default=None),
        "frequency_end_hz": last.frequency_hz,
        "throttled": throttling.verdict,
        "throttle_reasons": json.dumps(throttling.reasons) if throttling.reasons else None,
        "state": json.dumps({"before": dataclasses.asdict(first), "after": dataclasses.asdict(last)}, sort_keys=True),
    }


def step_rows(run_id: str, finished: Finished) -> list[StepTime]:
    """All raw steps of a run, in order of time."""
    warm = [StepTime(run_id, index, "warmup", step) for index, step in enumerate(finished.warmup_ns)]
    timed = [StepTime(run_id, index, "measured", step) for index, step in enumerate(finished.step_ns, len(warm))]
    phases = [
        StepTime(
            run_id,
            index,
            "phases",
            step_ns=sum(row),
            data_ns=row[0],
            forward_ns=row[1],
            backward_ns=row[2],
            optimizer_ns=row[3],
        )
        for index, row in enumerate(finished.phase_ns, len(warm) + len(timed))
    ]
    return warm + timed + phases
