"""JSON of pyperf (psf/pyperf), format 1.0, plain or compressed with gzip.

A run of pyperf is a process; here it is a run with its index as ``repeat`` and its values as raw steps. pyperf knows a
benchmark by its name only. What was run must therefore be said: by a name of the form ``MODEL/MODE/BATCH``, by metadata
``devprof_COLUMN`` that the benchmark itself put there, or by the caller.
"""

from __future__ import annotations

import gzip
import json
import statistics
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devprof.errors import StoreError
from devprof.records import MODES
from devprof.store.imports.collect import MEAN_FOR_MEDIAN, Collector, ImportReport, Series
from devprof.store.imports.columns import LARGEST_INTEGER, parse_columns

__all__ = ["import_pyperf", "is_pyperf", "read_json"]

_VERSION = "1.0"
_WORKLOAD = ("model", "mode", "batch_size")
# Columns that a benchmark's metadata may say, as devprof_COLUMN.
_SAYABLE = (
    *_WORKLOAD, "device", "processor", "power_mode", "threads", "task", "image_size", "num_classes", "optimizer",
    "precision", "memory_format", "data", "framework",
)  # fmt: skip
_FACTS = {
    "cpu_model_name": "cpu",
    "platform": "os",
    "hostname": "hostname",
    "date": "date",
    "load_avg_1min": "load_avg_1min",
}
_VERSIONS = {"python_version": "python", "perf_version": "pyperf"}
_USED = {
    "name",
    "unit",
    "loops",
    "inner_loops",
    "duration",
    *_FACTS,
    *_VERSIONS,
    *(f"devprof_{name}" for name in _SAYABLE),
}
_UNMAPPED = {
    "mem_max_rss": "may be the peak of the process that started the run",
    "command_max_rss": "may be the peak of the process that started the run",
}
# A century in nanoseconds still fits a column.
_LONGEST_S = 3.2e9
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class _Benchmark:
    """A benchmark of the file.

    Attributes:
        name: As pyperf knows it.
        texts: Columns of ``runs`` that are the same in all its runs, and ``framework``, as texts.
        metadata: What the file says about all its runs.
        runs: Its runs as they stand in the file.
    """

    name: str
    texts: Mapping[str, str]
    metadata: Mapping[str, Any]
    runs: Sequence[Any]


def read_json(path: Path) -> Any:
    """The content of a JSON file, which may be compressed with gzip.

    Raises:
        StoreError: If the file cannot be read or is not JSON.
    """
    try:
        raw = path.read_bytes()
        document = json.loads(gzip.decompress(raw) if raw.startswith(_GZIP) else raw)
        # Half of a surrogate pair can be escaped in JSON, and neither be stored nor shown.
        json.dumps(document, ensure_ascii=False).encode()
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read as JSON: {error}") from error
    return document


def is_pyperf(document: Any) -> bool:
    """Whether the content of a JSON file has the shape of pyperf's results."""
    return isinstance(document, dict) and isinstance(document.get("benchmarks"), list) and "version" in document


def import_pyperf(
    path: Path,
    folder: Path,
    *,
    version: str,
    given: Mapping[str, str] | None = None,
    names: Mapping[str, Mapping[str, str]] | None = None,
) -> ImportReport:
    """Import the results of pyperf into a measurement folder.

    Args:
        path: The results.
        folder: The measurement folder, made if absent.
        version: devprof's version, kept with the rows.
        given: Columns of ``runs`` (and ``framework``) that hold for all benchmarks, as texts; they win over metadata.
            Without ``device``, the host's name is the device.
        names: ``model``, ``mode`` and ``batch_size`` as texts, by name of a benchmark; they win over metadata.

    Raises:
        StoreError: If the file cannot be read, holds no results of pyperf in format 1.0, or the folder cannot be
            written.
    """
    document = read_json(path)
    if not is_pyperf(document):
        raise StoreError(f'{path} holds no results of pyperf: it needs the keys "benchmarks" and "version"')
    if document["version"] != _VERSION:
        raise StoreError(
            f"{path} is in pyperf's format {document['version']!r}, but only {_VERSION!r} can be imported: "
            "write it again with a present pyperf"
        )
    collector = Collector(folder, version=version)
    names = names or {}
    seen: list[str] = []
    keys: dict[str, None] = {}
    remarks: list[str] = []
    for number, entry in enumerate(document["benchmarks"], start=1):
        metadata = _common_metadata(document, entry)
        name = str(metadata.get("name") or f"number {number}")
        seen.append(name)
        try:
            benchmark = _read_benchmark(name, entry, metadata, given or {}, names)
        except ValueError as error:
            collector.reject(str(error), name=name)
        else:
            remarks += _collect_runs(benchmark, collector, keys)
    remarks += [f"no benchmark is called {name!r}, for which --map was given" for name in names if name not in seen]
    return collector.finish(
        "pyperf",
        unknown_columns=[key for key in keys if key not in _USED and key not in _UNMAPPED],
        unmapped={key: _UNMAPPED[key] for key in keys if key in _UNMAPPED},
        remarks=remarks,
    )


def _mapping(entry: Any, key: str) -> dict[str, Any]:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, dict) else {}


def _list(entry: Any, key: str) -> list[Any] | None:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, list) else None


def _common_metadata(document: Mapping[str, Any], entry: Any) -> dict[str, Any]:
    """What is said about all runs of a benchmark: pyperf moves metadata up as far as it is common."""
    runs = _list(entry, "runs") or []
    # A benchmark of a single run may have it all down there.
    alone = _mapping(runs[0], "metadata") if len(runs) == 1 else {}
    return {**alone, **_mapping(document, "metadata"), **_mapping(entry, "metadata")}


def _text(value: Any) -> str | None:
    """A scalar of JSON as text."""
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "" else None


def _texts(metadata: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, str]:
    """Texts of metadata under other names; what is absent or no scalar is left out."""
    found = {column: _text(metadata.get(key)) for key, column in columns.items()}
    return {column: text for column, text in found.items() if text is not None}


def _read_benchmark(
    name: str,
    entry: Any,
    metadata: Mapping[str, Any],
    given: Mapping[str, str],
    names: Mapping[str, Mapping[str, str]],
) -> _Benchmark:
    runs = _list(entry, "runs")
    if runs is None:
        raise ValueError("it has no list of runs")
    unit = metadata.get("unit", "second")
    if unit != "second":
        raise ValueError(f"its unit is {unit!r}, not second")
    texts = {
        **_from_name(name),
        **_texts(metadata, {"hostname": "device"}),
        **_texts(metadata, {f"devprof_{column}": column for column in _SAYABLE}),
        **names.get(name, {}),
        **given,
    }
    if any(column not in texts for column in _WORKLOAD):
        raise ValueError(
            "its name does not say what was run: give --map "
            f"'{name}=MODEL,MODE,BATCH', call it MODEL/MODE/BATCH (such as resnet18/full/16), "
            "or add the metadata devprof_model, devprof_mode and devprof_batch_size"
        )
    for column in ("device", "processor"):
        if column not in texts:
            raise ValueError(f"the {column} is not known: give --{column}, or add the metadata devprof_{column}")
    return _Benchmark(name, texts, metadata, runs)


def _from_name(name: str) -> dict[str, str]:
    parts = name.rsplit("/", 2)
    if len(parts) == 3 and parts[0] and parts[1] in MODES and parts[2].isdecimal():
        return dict(zip(_WORKLOAD, parts, strict=True))
    return {}


def _collect_runs(benchmark: _Benchmark, collector: Collector, keys: dict[str, None]) -> list[str]:
    """Hand over the runs that have values, note the keys of their metadata, and say what is worth a remark."""
    measured = [run for run in benchmark.runs if not isinstance(run, dict) or run.get("values")]
    most_loops = 1
    for repeat, run in enumerate(measured):
        metadata = {**benchmark.metadata, **_mapping(run, "metadata")}
        keys.update(dict.fromkeys(metadata))
        try:
            loops = _count(metadata, "loops") * _count(metadata, "inner_loops")
            timed, warm = _read_values(run)
            values = _columns(benchmark.texts, metadata, timed, loops)
        except ValueError as error:
            collector.reject(str(error), name=f"{benchmark.name}, run {repeat}")
            continue
        most_loops = max(most_loops, loops)
        values |= {"repeat": repeat, "warmup_steps": len(warm)}
        collector.add(values, build=_build(benchmark.texts, metadata), series=_series(warm, timed))
    remarks = []
    if len(measured) < len(benchmark.runs):
        skipped = len(benchmark.runs) - len(measured)
        remarks.append(f"{benchmark.name}: {skipped} calibration runs without values were skipped")
    if most_loops > 1:
        remarks.append(
            f"{benchmark.name}: a value is the mean of up to {most_loops} steps (pyperf's loops), which hides their "
            "spread; the runs have the warning mean-for-median"
        )
    return remarks


def _count(metadata: Mapping[str, Any], key: str) -> int:
    value = metadata.get(key, 1)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_INTEGER:
        raise ValueError(f"its {key} are {value!r:.40}, not a whole number of at least 1")
    return value


def _read_values(run: Any) -> tuple[list[float], list[float]]:
    """Measured and warm-up times of a run in seconds; pyperf has divided both by the number of loops."""
    values = _list(run, "values")
    warmups = _list(run, "warmups") if values is not None and "warmups" in run else []
    if values is None or warmups is None:
        raise ValueError("it is no run with lists of values and warmups")
    if not all(isinstance(entry, list) and len(entry) == 2 for entry in warmups):
        raise ValueError("its warmups are not pairs of loops and seconds")
    return [_seconds(value) for value in values], [_seconds(value) for _, value in warmups]


def _seconds(value: Any) -> float:
    # The shortest is what a whole nanosecond can hold.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 5.1e-10 <= value <= _LONGEST_S:
        raise ValueError(f"the value {value!r:.40} is no duration of a step in seconds")
    return float(value)


def _columns(
    texts: Mapping[str, str], metadata: Mapping[str, Any], timed: Sequence[float], loops: int
) -> dict[str, Any]:
    values = parse_columns({"source": "pyperf", **texts, **_texts(metadata, {"duration": "duration_s"})})
    versions = {**_texts(metadata, _VERSIONS), **_texts(texts, {"framework": "framework"})}
    facts = _texts(metadata, _FACTS)
    values |= {
        "steps": len(timed),
        "step_s": statistics.median(timed),
        "step_s_mean": statistics.fmean(timed),
        "versions": json.dumps(versions, sort_keys=True) if versions else None,
        "facts": json.dumps(facts, sort_keys=True) if facts else None,
    }
    if loops > 1:
        return values | {"warnings": MEAN_FOR_MEDIAN}
    values["step_s_min"] = min(timed)
    if len(timed) > 1:
        percentiles = statistics.quantiles(timed, n=100, method="inclusive")
        values |= {f"step_s_p{percent:02}": percentiles[percent - 1] for percent in (5, 25, 75, 95, 99)}
        values["step_s_mad"] = statistics.median(abs(value - values["step_s"]) for value in timed)
    return values


def _build(texts: Mapping[str, str], metadata: Mapping[str, Any]) -> dict[str, str]:
    """What tells devices of one name apart."""
    return {
        **_texts(metadata, {"cpu_model_name": "cpu", "python_version": "python"}),
        **_texts(texts, {"framework": "framework", "threads": "threads"}),
    }


def _series(warm: Sequence[float], timed: Sequence[float]) -> Series:
    return [
        *(("warmup", round(value * 1e9)) for value in warm),
        *(("measured", round(value * 1e9)) for value in timed),
    ]
