"""Configurations arranged for drawing: rows of a figure, their order, and every value as readable text. Pure functions."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devprof.records import Measurement
from devprof.report.configurations import Configuration
from devprof.report.figure import Row, counted
from devprof.units import format_bytes, format_seconds

__all__ = ["FAILURES", "FIELDS", "Layout", "arrange", "describe", "failure", "fields_of", "labels_of"]

FAILURES = {
    "oom": "out of memory",
    "killed": "killed",
    "crashed": "crashed",
    "timeout": "timed out",
    "error": "failed",
}

FIELDS = (
    ("model", "Model", False),
    ("device", "Device", False),
    ("mode", "Trained", False),
    ("batch_size", "Batch size", True),
    ("image_size", "Image size", True),
    ("status", "Status", False),
    ("median", "Median step", True),
    ("interval", "95% interval of the median", True),
    ("spread", "5th to 95th percentile of steps", True),
    ("processes", "Processes", True),
    ("between", "Between processes", True),
    ("steps", "Steps", True),
    ("throughput", "Throughput", True),
    ("peak", "Peak memory", True),
    ("baseline", "Memory before the model", True),
    ("accelerator_peak", "Accelerator peak", True),
    ("parameters", "Parameters", True),
    ("energy", "Energy per step", True),
    ("startup", "Start-up", True),
    ("settings", "Settings", False),
    ("published", "Published by", False),
    ("remarks", "Remarks", False),
    ("error", "Error", False),
)
"""What a figure of configurations tells of each: (key in its rows, heading, whether it is a number)."""

# In the words of a label; a number alone would not say what it counts.
_VARIANTS: Mapping[str, Callable[[Any], str]] = {
    "image_size": "{} px".format,
    "num_classes": "{} classes".format,
    "optimizer": str,
    "precision": str,
    "memory_format": str,
    "data": "{} data".format,
    "threads": lambda count: counted(count, "thread"),
}
_SETTINGS = tuple(name for name in _VARIANTS if name != "image_size")


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows of a figure from top to bottom.

    Attributes:
        labels: Label by row key.
        headings: Keys of the rows that only carry a heading; there are none where one device was measured.
        row_of: Row key of each configuration, in their order.
    """

    labels: dict[str, str]
    headings: tuple[str, ...]
    row_of: tuple[str, ...]


def labels_of(found: Sequence[Configuration]) -> tuple[str, ...]:
    """The model of each configuration, with those settings in which its configurations on one device differ."""
    values: dict[tuple[str, str], dict[str, set[object]]] = {}
    for one in found:
        of = values.setdefault((one.device, one.first.model), {})
        for name in _VARIANTS:
            of.setdefault(name, set()).add(getattr(one.first, name))
    return tuple(
        " · ".join((one.first.model, *_words(one, [name for name, of in varying.items() if len(of) > 1])))
        for one in found
        for varying in (values[one.device, one.first.model],)
    )


def _words(one: Configuration, names: Sequence[str]) -> list[str]:
    found = ((_VARIANTS[name], getattr(one.first, name)) for name in names)
    return [words(value) for words, value in found if value is not None]


def arrange(found: Sequence[Configuration]) -> Layout:
    """One row per device and model, modes and batch sizes in it side by side: fast models first.

    A model's place is that of its full training, or of the head where the whole was not trained.
    """
    texts = labels_of(found)
    speed = _speeds(found)
    devices = list(dict.fromkeys(one.device for one in found))

    def place(item: tuple[Configuration, str]) -> tuple[int, float, str, str]:
        one, text = item
        return devices.index(one.device), speed.get((one.device, one.first.model), math.inf), one.first.model, text

    labels: dict[str, str] = {}
    headings: dict[str, str] = {}
    keys: dict[tuple[str, str], str] = {}
    for one, text in sorted(zip(found, texts, strict=True), key=place):
        if len(devices) > 1 and one.device not in headings:
            headings[one.device] = f"r{len(labels)}"
            labels[headings[one.device]] = one.device
        if (one.device, text) not in keys:
            keys[one.device, text] = f"r{len(labels)}"
            labels[keys[one.device, text]] = text
    rows = tuple(keys[one.device, text] for one, text in zip(found, texts, strict=True))
    return Layout(labels, tuple(headings.values()), rows)


def _speeds(found: Sequence[Configuration]) -> Mapping[tuple[str, str], float]:
    times: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in found:
        if one.step_s is not None:
            times.setdefault((one.device, one.first.model), {}).setdefault(one.mode, []).append(one.step_s)
    return {
        key: statistics.median(of.get("full") or of.get("head") or next(iter(of.values()))) for key, of in times.items()
    }


def fields_of(rows: Sequence[Row], fields: Sequence[tuple[str, str, bool]] = FIELDS) -> list[tuple[str, str, bool]]:
    """The fields of which at least one row knows something."""
    return [field for field in fields if any(row[field[0]] not in (None, "–") for row in rows)]


def describe(one: Configuration, row: str = "") -> Row:
    """A configuration as a row of data: raw numbers for the axes, and everything a tooltip shows as text."""
    step = one.step_s
    lows, highs = one.known("step_s_ci_low"), one.known("step_s_ci_high")
    return {
        "row": row,
        "step_s": step,
        "low_s": one.low_s,
        "high_s": one.high_s,
        "rss_peak_bytes": one.peak_bytes,
        "rss_baseline_bytes": one.baseline_bytes,
        "accelerator_peak_bytes": one.accelerator_bytes,
        "batch_size": one.first.batch_size,
        "model": one.first.model,
        "device": one.device,
        "mode": one.mode,
        "kind": one.kind,
        "throttled": one.throttled,
        "image_size": one.first.image_size,
        "settings": ", ".join(_words(one, _SETTINGS)) or None,
        "status": _status(one),
        "error": next((run.error for run in one.failed if run.error), None),
        "median": format_seconds(step),
        # Over several processes the envelope of their intervals: narrower would claim that they agree.
        "interval": _range(min(lows, default=None), max(highs, default=None)),
        "spread": _range(one.median("step_s_p05"), one.median("step_s_p95")),
        "processes": len(one.timed),
        "between": _between(one),
        "steps": round(sum(one.known("steps"))) or None,
        "throughput": f"{one.first.batch_size / step:.3g} samples/s" if step else None,
        "peak": format_bytes(one.peak_bytes),
        "baseline": format_bytes(one.baseline_bytes),
        "accelerator_peak": format_bytes(one.accelerator_bytes),
        "parameters": _parameters(one.first),
        "energy": None if (energy := one.median("energy_per_step_j")) is None else f"{energy:.3g} J",
        "startup": format_seconds(one.median("startup_s")),
        "published": one.published,
        "remarks": _remarks(one),
    }


def _range(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{format_seconds(low)} to {format_seconds(high)}"


def _between(one: Configuration) -> str | None:
    """How far apart the medians of the processes lie."""
    steps = one.known("step_s")
    return f"{(max(steps) - min(steps)) / statistics.median(steps):.1%}" if len(steps) > 1 else None


def _status(one: Configuration) -> str:
    failures = Counter(failure(run) for run in one.failed)
    if not one.timed:
        return ", ".join(failures)
    return ", ".join(["ok", *(f"{count} of {len(one.runs)} {reason}" for reason, count in failures.items())])


def failure(run: Measurement) -> str:
    """Why a run has no step time."""
    return FAILURES.get(run.status, "no step time")


def _parameters(run: Measurement) -> str | None:
    if run.parameters is None:
        return None
    trained = "" if run.trainable_parameters is None else f", {run.trainable_parameters:,} trained"
    return f"{run.parameters:,}{trained}"


def _remarks(one: Configuration) -> str | None:
    """Each remark once, with the number of processes where not all of them have it."""
    remarks = Counter(remark for run in one.timed for remark in dict.fromkeys(_remarks_of(run)))
    shares = (
        remark if count == len(one.timed) else f"{remark} ({count} of {len(one.timed)})"
        for remark, count in remarks.items()
    )
    return "; ".join(shares) or None


def _remarks_of(run: Measurement) -> list[str]:
    remarks = [] if run.steady in (None, True) else ["not steady"]
    if run.latency_valid is False:
        remarks.append("swapped: the step time is not the model's own")
    if run.throttled in ("suspected", "confirmed"):
        remarks.append(f"throttled: {run.throttled}")
    return remarks + (_warning_texts(run.warnings) if run.warnings else [])


def _warning_texts(column: str) -> list[str]:
    """The column ``warnings`` holds a JSON list where devprof wrote it, and anything where it was imported."""
    try:
        parsed = json.loads(column)
    except ValueError:
        return [column]
    return [str(item) for item in parsed] if isinstance(parsed, list) else [column]
