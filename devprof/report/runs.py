"""Measurements arranged for drawing: rows of a figure, their order, and every value as readable text. Pure functions."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from devprof.records import Measurement
from devprof.report.figure import Row, finite
from devprof.units import format_bytes, format_seconds

__all__ = ["FAILURES", "Layout", "arrange", "describe", "is_ok"]

FAILURES = {
    "oom": "out of memory",
    "killed": "killed",
    "crashed": "crashed",
    "timeout": "timed out",
    "error": "failed",
}

_MODES = {("train", "full"): (0, "full"), ("train", "head"): (1, "head")}
_VARIANTS = ("image_size", "optimizer", "precision", "memory_format", "data", "threads", "power_mode")


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows of a figure from top to bottom.

    Attributes:
        labels: Label by row key.
        headings: Keys of the rows that only carry a heading; there are none where one device was measured.
        row_of: Row key of each run, in the order of the runs.
        batch_sizes: All batch sizes in ascending order.
    """

    labels: dict[str, str]
    headings: tuple[str, ...]
    row_of: tuple[str, ...]
    batch_sizes: tuple[int, ...]


def is_ok(run: Measurement) -> bool:
    """Whether the run has a step time to draw."""
    return run.status == "ok" and finite(run.step_s) is not None


def _mode(run: Measurement) -> tuple[int, str]:
    return _MODES.get((run.task, run.mode), (2, "inference" if run.task == "infer" else run.mode))


def _device(run: Measurement) -> str:
    return f"{run.device} · {run.processor}"


def _label(run: Measurement, varying: Sequence[str]) -> str:
    variant = [str(getattr(run, name)) for name in varying if getattr(run, name) is not None]
    return " · ".join((run.model, _mode(run)[1], *variant))


def arrange(runs: Sequence[Measurement]) -> Layout:
    """One row per device and configuration, batch sizes aside: fast models first, full training before head only.

    Settings that are the same in all runs are not repeated in the labels.
    """
    varying = [name for name in _VARIANTS if len({getattr(run, name) for run in runs}) > 1]
    times: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        if is_ok(run) and run.step_s is not None:
            times.setdefault((_device(run), run.model), []).append(run.step_s)
    speed = {key: statistics.median(of) for key, of in times.items()}
    devices = list(dict.fromkeys(_device(run) for run in runs))

    def place(run: Measurement) -> tuple[int, float, str, int, str]:
        return (
            devices.index(_device(run)),
            speed.get((_device(run), run.model), math.inf),
            run.model,
            _mode(run)[0],
            _label(run, varying),
        )

    labels: dict[str, str] = {}
    headings: list[str] = []
    keys: dict[tuple[str, str], str] = {}
    for run in sorted(runs, key=place):
        device, label = _device(run), _label(run, varying)
        if len(devices) > 1 and device not in {labels[key] for key in headings}:
            headings.append(f"r{len(labels)}")
            labels[headings[-1]] = device
        if (device, label) not in keys:
            keys[device, label] = f"r{len(labels)}"
            labels[keys[device, label]] = label
    return Layout(
        labels,
        tuple(headings),
        tuple(keys[_device(run), _label(run, varying)] for run in runs),
        tuple(sorted({run.batch_size for run in runs})),
    )


def describe(run: Measurement, row: str) -> Row:
    """A run as a row of data: raw numbers for the axes, and everything a tooltip shows as text."""
    low, high = finite(run.step_s_ci_low), finite(run.step_s_ci_high)
    p05, p95 = finite(run.step_s_p05), finite(run.step_s_p95)
    step = finite(run.step_s)
    return {
        "row": row,
        "step_s": step,
        "p05_s": p05 if p05 is not None else step,
        "p95_s": p95 if p95 is not None else step,
        "rss_peak_bytes": run.rss_peak_bytes,
        "rss_baseline_bytes": run.rss_baseline_bytes,
        "accelerator_peak_bytes": run.accelerator_peak_bytes,
        "batch_size": run.batch_size,
        "model": run.model,
        "device": _device(run),
        "mode": _mode(run)[1],
        "status": "ok" if run.status == "ok" else FAILURES.get(run.status, run.status),
        "error": run.error,
        "median": format_seconds(step),
        "interval": f"{format_seconds(low)} to {format_seconds(high)}"
        if low is not None and high is not None
        else None,
        "spread": f"{format_seconds(p05)} to {format_seconds(p95)}" if p05 is not None and p95 is not None else None,
        "steps": run.steps,
        "throughput": f"{run.batch_size / step:.3g} samples/s" if step else None,
        "peak": format_bytes(run.rss_peak_bytes),
        "baseline": format_bytes(run.rss_baseline_bytes),
        "accelerator_peak": format_bytes(run.accelerator_peak_bytes),
        "parameters": _parameters(run),
        "energy": None if run.energy_per_step_j is None else f"{run.energy_per_step_j:.3g} J",
        "startup": format_seconds(run.startup_s),
        "remarks": _remarks(run),
    }


def _parameters(run: Measurement) -> str | None:
    if run.parameters is None:
        return None
    trained = "" if run.trainable_parameters is None else f", {run.trainable_parameters:,} trained"
    return f"{run.parameters:,}{trained}"


def _remarks(run: Measurement) -> str | None:
    remarks = [] if run.steady in (None, True) else ["not steady"]
    if run.throttled:
        remarks.append(f"throttled: {run.throttled}")
    if run.warnings:
        remarks.extend(_warning_texts(run.warnings))
    return "; ".join(remarks) or None


def _warning_texts(column: str) -> list[str]:
    """The column ``warnings`` holds a JSON list where devprof wrote it, and anything where it was imported."""
    try:
        parsed = json.loads(column)
    except ValueError:
        return [column]
    return [str(item) for item in parsed] if isinstance(parsed, list) else [column]
