"""What measurement folders hold: a line per configuration, from all of its processes. Arrow tables in, plain records out.

A *process* is one row of ``runs``: a fresh process that measured one configuration once. Steps within a process and processes
of one configuration vary for different reasons, so both spreads are told apart, and the interval of a line's step time takes
the process as the unit of replication (Kalibera and Jones, Rigorous benchmarking in reasonable time, ISMM 2013): a run's own
interval says nothing about the next process.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from devprof.store.files import SkippedFile
from devprof.store.folder import count_rows, first_of_each_run, read_table
from devprof.store.intervals import process_interval
from devprof.store.sampled import power_by_run

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ALWAYS_SHOWN", "IDENTITY", "FolderSize", "Summary", "SummaryLine", "summarize_folders", "summarize_runs"]

ALWAYS_SHOWN = ("device", "model", "mode", "batch_size")
# What makes two runs processes of one configuration, most telling first.
IDENTITY = (
    *ALWAYS_SHOWN,
    "task",
    "data",
    "precision",
    "optimizer",
    "memory_format",
    "image_size",
    "num_classes",
    "processor",
    "threads",
    "power_mode",
    "device_key",
)
_FIGURES = (
    "run_id",
    "status",
    "step_s",
    "step_s_mad",
    "step_s_ci_low",
    "step_s_ci_high",
    "latency_valid",
    "throttled",
    "rss_peak_bytes",
    "accelerator_peak_bytes",
    "energy_per_step_j",
    "warnings",
)
_GROUP = "group"


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """One configuration.

    Attributes:
        identity: Values of the grouping columns.
        processes: Processes that ended ok.
        failed: Number of the others, by status.
        latency_invalid: Processes that ended ok, but whose latency is not valid; they are left out of the step times.
        step_s: Median over processes of their median steps; ``None`` if no process has one.
        step_s_low: Lower end of its interval.
        step_s_high: Upper end.
        interval: What the interval stands on; see :func:`devprof.store.intervals.process_interval`.
        within_rel: Spread within a process: median over processes of median absolute deviation over median.
        between_rel: Spread between processes: (largest - smallest) / median of their medians; ``None`` for one process.
        samples_per_s: Batch size over ``step_s``; ``None`` where lines hold several batch sizes.
        rss_peak_bytes: Largest of all processes that ended ok.
        accelerator_peak_bytes: The same on the accelerator.
        energy_per_step_j: Median over processes.
        sampled_power_w: By source and domain, median over processes of the mean of their raw readings.
        throttled: Number of processes by verdict, where there is one.
        warnings: Number of processes by the code of the warning.
    """

    identity: dict[str, Any]
    processes: int
    failed: dict[str, int]
    latency_invalid: int
    step_s: float | None
    step_s_low: float | None
    step_s_high: float | None
    interval: str | None
    within_rel: float | None
    between_rel: float | None
    samples_per_s: float | None
    rss_peak_bytes: int | None
    accelerator_peak_bytes: int | None
    energy_per_step_j: float | None
    sampled_power_w: dict[str, float]
    throttled: dict[str, int]
    warnings: dict[str, int]


@dataclass(frozen=True, slots=True)
class FolderSize:
    """Rows of a folder's tables."""

    folder: Path
    runs: int
    steps: int
    power_samples: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What :func:`summarize_folders` found.

    Attributes:
        folders: Size of each folder.
        lines: The configurations, sorted by what identifies them.
        shown: The identity columns that a table needs to tell the lines apart.
        runs_with_power: Runs with raw power readings.
        skipped: Files that could not be read.
    """

    folders: tuple[FolderSize, ...]
    lines: tuple[SummaryLine, ...]
    shown: tuple[str, ...]
    runs_with_power: int
    skipped: tuple[SkippedFile, ...]


def summarize_folders(folders: Sequence[Path], *, by: Sequence[str] = IDENTITY) -> Summary:
    """Summarise the runs of all folders; a run that lies in two of them counts once.

    Args:
        folders: Measurement folders.
        by: The columns of :data:`IDENTITY` that make a line.

    Raises:
        StoreError: If a folder does not exist.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    runs: list[pa.Table] = []
    power: list[pa.Table] = []
    sizes, skipped = [], []
    for folder in folders:
        rows, unread_runs = read_table(folder, "runs", (*IDENTITY, *_FIGURES))
        means, unread_power = power_by_run(folder)
        skipped += [*unread_runs, *unread_power]
        samples = pc.sum(means.column("samples")).as_py() or 0
        sizes.append(FolderSize(folder, rows.num_rows, count_rows(folder, "steps"), samples))
        for earlier in power:
            means = means.filter(pc.invert(pc.is_in(means.column("run_id"), earlier.column("run_id"))))
        runs.append(rows)
        power.append(means)
    means = pa.concat_tables(power)
    lines = summarize_runs(first_of_each_run(pa.concat_tables(runs)), means, by=by)
    with_power = pc.count_distinct(means.column("run_id")).as_py()
    return Summary(tuple(sizes), lines, _shown(lines, by), with_power, tuple(skipped))


def summarize_runs(runs: pa.Table, power: pa.Table, *, by: Sequence[str] = IDENTITY) -> tuple[SummaryLine, ...]:
    """A line per configuration, sorted by what identifies it.

    Args:
        runs: Rows of ``runs``, each run once.
        power: What :func:`devprof.store.sampled.power_by_run` makes of the runs' readings.
        by: The columns of :data:`IDENTITY` that make a line.
    """
    import pyarrow.compute as pc

    identities, rows = _with_groups(runs, by)
    ok = rows.filter(pc.equal(rows.column("status"), "ok"))
    failed = _counts(rows.filter(pc.not_equal(rows.column("status"), "ok")), "status")
    has_step = ok.filter(pc.is_valid(ok.column("step_s")))
    valid = pc.fill_null(has_step.column("latency_valid"), True)
    invalid = _counts(has_step.filter(pc.invert(valid)), "latency_valid")
    steps = _lists(has_step.filter(valid), ("step_s", "step_s_mad", "step_s_ci_low", "step_s_ci_high"))
    largest = _largest(ok, ("rss_peak_bytes", "accelerator_peak_bytes"))
    energy = _lists(ok.filter(pc.is_valid(ok.column("energy_per_step_j"))), ("energy_per_step_j",))
    watts = _sampled(ok, power)
    processes = _counts(ok, "status")
    throttled, warnings = _counts(ok, "throttled"), _counts(ok, "warnings")
    lines = [
        SummaryLine(
            identity=identity,
            processes=processes.get(group, {}).get("ok", 0),
            failed=failed.get(group, {}),
            latency_invalid=invalid.get(group, {}).get(False, 0),
            **_latency(steps.get(group), identity.get("batch_size")),
            **largest.get(group, dict.fromkeys(("rss_peak_bytes", "accelerator_peak_bytes"))),
            energy_per_step_j=median(energy[group][0]) if group in energy else None,
            sampled_power_w=watts.get(group, {}),
            throttled={verdict: number for verdict, number in throttled.get(group, {}).items() if verdict != "none"},
            warnings=_codes(warnings.get(group, {})),
        )
        for group, identity in enumerate(identities)
    ]
    return tuple(sorted(lines, key=lambda line: [(value is None, value) for value in line.identity.values()]))


def _with_groups(runs: pa.Table, by: Sequence[str]) -> tuple[list[dict[str, Any]], pa.Table]:
    """The identity of each group, and the rows with the number of their group in a column of its own."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbered = runs.select(list(by)).append_column("row", pa.array(range(runs.num_rows), pa.int64()))
    grouped = numbered.group_by(list(by), use_threads=False).aggregate([("row", "list")])
    members = grouped.column("row_list").combine_chunks()
    rows = runs.take(members.flatten()).append_column(_GROUP, pc.list_parent_indices(members))
    return grouped.select(list(by)).to_pylist(), rows


def _counts(rows: pa.Table, column: str) -> dict[int, dict[Any, int]]:
    """How often each value of a column occurs in each group; nulls are left out."""
    counted = rows.group_by([_GROUP, column], use_threads=False).aggregate([(column, "count")])
    found: dict[int, dict[Any, int]] = {}
    for group, value, count in zip(*(entry.to_pylist() for entry in counted.columns), strict=True):
        if value is not None:
            found.setdefault(group, {})[value] = count
    return found


def _lists(rows: pa.Table, columns: Sequence[str]) -> dict[int, list[list[float]]]:
    """The values of each column in each group."""
    grouped = rows.group_by(_GROUP, use_threads=False).aggregate([(column, "list") for column in columns])
    lists = zip(*(grouped.column(f"{column}_list").to_pylist() for column in columns), strict=True)
    return {group: list(values) for group, values in zip(grouped.column(_GROUP).to_pylist(), lists, strict=True)}


def _largest(rows: pa.Table, columns: Sequence[str]) -> dict[int, dict[str, int | None]]:
    grouped = rows.group_by(_GROUP, use_threads=False).aggregate([(column, "max") for column in columns])
    values = zip(*(grouped.column(f"{column}_max").to_pylist() for column in columns), strict=True)
    return {
        group: dict(zip(columns, found, strict=True))
        for group, found in zip(grouped.column(_GROUP).to_pylist(), values, strict=True)
    }


def _sampled(ok: pa.Table, power: pa.Table) -> dict[int, dict[str, float]]:
    """Median over the processes of a group of their mean watts, by source and domain."""
    import pyarrow.compute as pc

    sensors = power.filter(pc.is_valid(power.column("mean_w")))
    row = pc.index_in(sensors.column("run_id"), value_set=ok.column("run_id").combine_chunks())
    sensors = sensors.append_column(_GROUP, ok.column(_GROUP).take(row)).filter(pc.is_valid(row))
    keys = (_GROUP, "source", "domain")
    grouped = sensors.group_by(list(keys), use_threads=False).aggregate([("mean_w", "list")])
    found: dict[int, dict[str, float]] = {}
    for group, source, domain, means in zip(
        *(grouped.column(name).to_pylist() for name in (*keys, "mean_w_list")), strict=True
    ):
        found.setdefault(group, {})[f"{source} {domain}"] = median(means)
    return found


def _latency(lists: list[list[float]] | None, batch_size: int | None) -> dict[str, Any]:
    """Fields of a line that stand on the medians of its processes."""
    if lists is None:
        fields = ("step_s", "step_s_low", "step_s_high", "interval", "within_rel", "between_rel", "samples_per_s")
        return dict.fromkeys(fields)
    medians, deviations, lows, highs = lists
    centre = median(medians)
    spreads = [mad / step for mad, step in zip(deviations, medians, strict=True) if mad is not None]
    own = [(low, high) for low, high in zip(lows, highs, strict=True) if low is not None and high is not None]
    low, high, basis = process_interval(medians, own)
    return {
        "step_s": centre,
        "step_s_low": low,
        "step_s_high": high,
        "interval": basis,
        "within_rel": median(spreads) if spreads else None,
        "between_rel": (max(medians) - min(medians)) / centre if len(medians) > 1 else None,
        "samples_per_s": batch_size / centre if batch_size is not None else None,
    }


def _codes(texts: dict[str, int]) -> dict[str, int]:
    """Codes of warnings from the column's texts, which are JSON lists; a text of another tool stands for itself."""
    found: dict[str, int] = {}
    for text, count in texts.items():
        try:
            codes = json.loads(text)
        except ValueError:
            codes = text
        for code in codes if isinstance(codes, list) else [codes]:
            found[str(code)] = found.get(str(code), 0) + count
    return dict(sorted(found.items()))


def _shown(lines: Sequence[SummaryLine], by: Sequence[str]) -> tuple[str, ...]:
    """The columns that tell the lines apart; a device's key, which says nothing by itself, only where nothing else does."""
    others = [column for column in by if column != "device_key"]
    told_apart = len({tuple(line.identity[column] for column in others) for line in lines}) == len(lines)
    return tuple(
        column
        for column in (others if told_apart and others else by)
        if column in ALWAYS_SHOWN or len(by) < len(IDENTITY) or len({line.identity[column] for line in lines}) > 1
    )
