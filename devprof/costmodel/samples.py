"""From a table of runs to what the cost model learns from, with a reason for every row that it does not use.

Imported tables may lack columns, mix settings and name models that cannot be built. Nothing is dropped silently:
rejected rows are counted by reason, models that cannot be traced carry the tracer's own words.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devprof.costmodel.families import model_family
from devprof.costmodel.features import Features, Tracer
from devprof.errors import CostModelError, DevprofError, MissingExtraError
from devprof.records import MODES

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Configuration",
    "Observation",
    "Sample",
    "Samples",
    "clean_records",
    "collect_samples",
    "memory_observations",
    "time_observations",
]

# A device's rows are comparable only under one setting; each device keeps the one that most of its rows have.
_SETTING = ("device_key", "processor", "optimizer", "precision", "memory_format", "data")


@dataclass(frozen=True, slots=True, order=True)
class Configuration:
    """What is trained, whatever the device and the batch size.

    Attributes:
        model: Name of the model.
        mode: ``full`` or ``head``.
        image_size: Height and width of the input; ``None`` where the table does not say or the model has its own input.
        num_classes: Outputs of the classifier; ``None`` where the table does not say.
    """

    model: str
    mode: str
    image_size: int | None = None
    num_classes: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured configuration at one batch size on one device; repeats are joined by their median.

    Attributes:
        device: Name of the device.
        configuration: What was trained.
        batch_size: Samples per step.
        step_s: Seconds per step.
        rss_peak_bytes: Peak memory of the process; ``None`` where no repeat measured it.
        features: The work of a step.
        rows: Number of rows joined.
        processor: What it ran on, such as ``cpu`` or ``cuda``; ``None`` where the table does not say.
    """

    device: str
    configuration: Configuration
    batch_size: int
    step_s: float
    rss_peak_bytes: float | None
    features: Features
    rows: int = 1
    processor: str | None = None

    @property
    def family(self) -> str:
        """The architecture family of the model."""
        return model_family(self.configuration.model)


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured cost, in seconds or bytes, with what it is learned from."""

    device: str
    processor: str | None
    configuration: Configuration
    family: str
    batch_size: int
    value: float
    features: Features

    @classmethod
    def of(cls, sample: Sample, value: float) -> Observation:
        """A sample reduced to one of its costs."""
        return cls(
            sample.device,
            sample.processor,
            sample.configuration,
            sample.family,
            sample.batch_size,
            value,
            sample.features,
        )


def time_observations(samples: Iterable[Sample]) -> list[Observation]:
    """The seconds per step of the samples."""
    return [Observation.of(sample, sample.step_s) for sample in samples]


def memory_observations(samples: Iterable[Sample]) -> list[Observation]:
    """The memory peaks of those samples that have one."""
    return [Observation.of(one, one.rss_peak_bytes) for one in samples if one.rss_peak_bytes is not None]


@dataclass(frozen=True, slots=True)
class Samples:
    """What a table gave.

    Attributes:
        samples: What can be learned from, in a fixed order.
        rejected: Number of rows left out, by reason.
        dropped_models: Models that cannot be traced, with the reason.
        total_rows: Rows of the table.
    """

    samples: tuple[Sample, ...]
    rejected: Mapping[str, int]
    dropped_models: Mapping[str, str]
    total_rows: int


@dataclass(frozen=True, slots=True)
class _Row:
    device: str
    configuration: Configuration
    batch_size: int
    step_s: float
    rss_peak_bytes: float | None
    setting: tuple[str | None, ...] = field(default=())


def clean_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries in which every kind of null is ``None``."""
    records = frame.to_dict("records")
    return [{str(name): _clean(value) for name, value in record.items()} for record in records]


def _clean(value: Any) -> Any:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def collect_samples(frame: pd.DataFrame, tracer: Tracer) -> Samples:
    """Sorts the rows of a table into samples and rejects, and traces every configuration once.

    Args:
        frame: Columns as the fields of :class:`devprof.records.Measurement`; ``device``, ``model``, ``batch_size`` and
            ``step_s`` must be there.
        tracer: Gives the features of a configuration.

    Raises:
        CostModelError: If a column that cannot be missing is missing.
        MissingExtraError: If tracing needs a package that is not installed.
    """
    missing = [name for name in ("device", "model", "batch_size", "step_s") if name not in frame.columns]
    if missing:
        raise CostModelError(
            f"the table of runs has no column {', '.join(missing)}: "
            "a cost model needs device, model, batch_size and step_s"
        )
    rejected: Counter[str] = Counter()
    rows: list[_Row] = []
    for record in clean_records(frame):
        row, reason = _read_row(record)
        if row is None:
            rejected[reason] += 1
        else:
            rows.append(row)
    rows = _one_setting_per_device(rows, rejected)
    features, dropped = _trace_all((row.configuration for row in rows), tracer)
    rejected.update(
        f"model {row.configuration.model} cannot be traced" for row in rows if row.configuration not in features
    )
    return Samples(_join_repeats(rows, features), dict(rejected), dropped, len(frame))


def _read_row(record: Mapping[str, Any]) -> tuple[_Row | None, str]:
    """A usable row, or why it is not one."""
    reason = _reason_against(record)
    if reason:
        return None, reason
    try:
        step_s, batch_size = float(record["step_s"]), int(record["batch_size"])
        image_size, num_classes = (_integer(record.get(name)) for name in ("image_size", "num_classes"))
        peak = record.get("rss_peak_bytes")
        peak_bytes = None if peak is None else float(peak)
    except (TypeError, ValueError):
        return None, "a number is not a number"
    if not (math.isfinite(step_s) and step_s > 0):
        return None, "step_s is not positive"
    if batch_size < 1:
        return None, "batch_size is below 1"
    if peak_bytes is not None and not (math.isfinite(peak_bytes) and peak_bytes > 0):
        peak_bytes = None
    mode = str(record.get("mode") or "full")
    configuration = Configuration(str(record["model"]), mode, image_size, num_classes)
    setting = tuple(None if record.get(name) is None else str(record[name]) for name in _SETTING)
    return _Row(str(record["device"]), configuration, batch_size, step_s, peak_bytes, setting), ""


def _reason_against(record: Mapping[str, Any]) -> str:
    """Why a row cannot be learned from; empty if it can."""
    status, task, mode = record.get("status"), record.get("task"), record.get("mode")
    if status not in (None, "ok"):
        return f"status is {status}"
    if task not in (None, "train"):
        return f"task is {task}"
    if mode is not None and mode not in MODES:
        return f"mode {mode} is unknown"
    if record.get("throttled") == "confirmed":
        return "the device throttled"
    if record.get("latency_valid") is False:
        return "memory was read back from swap"
    empty = next((name for name in ("device", "model", "batch_size", "step_s") if record.get(name) in (None, "")), None)
    return f"{empty} is empty" if empty else ""


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)


def _one_setting_per_device(rows: list[_Row], rejected: Counter[str]) -> list[_Row]:
    """Keeps, for each device, the rows of its commonest setting; ties go to the one seen last."""
    counts: dict[str, Counter[tuple[str | None, ...]]] = defaultdict(Counter)
    for row in reversed(rows):
        counts[row.device][row.setting] += 1
    kept = []
    for row in rows:
        chosen = counts[row.device].most_common(1)[0][0]
        if row.setting == chosen:
            kept.append(row)
            continue
        different = [name for name, mine, own in zip(_SETTING, row.setting, chosen, strict=True) if mine != own]
        rejected[f"{', '.join(different)} of {row.device} is not what most of its rows have"] += 1
    return kept


def _trace_all(
    configurations: Iterable[Configuration], tracer: Tracer
) -> tuple[dict[Configuration, Features], dict[str, str]]:
    features: dict[Configuration, Features] = {}
    dropped: dict[str, str] = {}
    for configuration in dict.fromkeys(configurations):
        try:
            features[configuration] = tracer(
                configuration.model, configuration.mode, configuration.image_size, configuration.num_classes
            )
        except MissingExtraError:
            # Not the model's fault: without the package no model can be traced.
            raise
        except DevprofError as error:
            dropped[configuration.model] = str(error)
    return features, dropped


def _join_repeats(rows: list[_Row], features: Mapping[Configuration, Features]) -> tuple[Sample, ...]:
    groups: dict[tuple[str, Configuration, int], list[_Row]] = defaultdict(list)
    for row in rows:
        if row.configuration in features:
            groups[row.device, row.configuration, row.batch_size].append(row)
    samples = []
    for (device, configuration, batch_size), group in groups.items():
        peaks = [row.rss_peak_bytes for row in group if row.rss_peak_bytes is not None]
        samples.append(
            Sample(
                device=device,
                configuration=configuration,
                batch_size=batch_size,
                step_s=statistics.median(row.step_s for row in group),
                rss_peak_bytes=statistics.median(peaks) if peaks else None,
                features=features[configuration],
                rows=len(group),
                processor=group[0].setting[_SETTING.index("processor")],
            )
        )
    return tuple(samples)
