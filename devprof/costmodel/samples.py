"""From a table of runs to what the cost model learns from, with a reason for every row that it does not use.

Imported tables may lack columns, mix settings and name models that cannot be built. Nothing is dropped silently:
rejected rows are counted by reason, models that cannot be traced carry the tracer's own words.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from devprof.costmodel.families import model_family
from devprof.costmodel.features import Features, Tracer
from devprof.costmodel.metering import Metered, join_metered, read_metered
from devprof.errors import CostModelError, DevprofError, MissingExtraError
from devprof.records import MODES

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Configuration",
    "Observation",
    "Row",
    "Sample",
    "Samples",
    "Setting",
    "clean_records",
    "collect_samples",
    "memory_observations",
    "time_observations",
]


class Setting(NamedTuple):
    """How a row was measured; ``None`` for what the table does not say.

    A device's rows are comparable only under one setting; each device keeps the one that most of its rows have.
    """

    device_key: str | None
    processor: str | None
    optimizer: str | None
    precision: str | None
    memory_format: str | None
    data: str | None

    def same_but_data(self, other: Setting) -> bool:
        """Whether only the data may differ."""
        return self._replace(data=None) == other._replace(data=None)


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
        metered: Its power and energy; ``None`` where no repeat measured them.
    """

    device: str
    configuration: Configuration
    batch_size: int
    step_s: float
    rss_peak_bytes: float | None
    features: Features
    rows: int = 1
    processor: str | None = None
    metered: Metered | None = None

    @property
    def family(self) -> str:
        """The architecture family of the model."""
        return model_family(self.configuration.model)


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured cost, in seconds, bytes, watts or joules, with what it is learned from."""

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
        rows: All rows with a step time: also those of a device that throttled, and of other settings.
        settings: The setting that each device's samples have.
        power_rejected: Number of rows whose time is used and whose power is not, by reason.
        used: Places of the rows that the samples were made from.
    """

    samples: tuple[Sample, ...]
    rejected: Mapping[str, int]
    dropped_models: Mapping[str, str]
    total_rows: int
    rows: tuple[Row, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    power_rejected: Mapping[str, int] = field(default_factory=dict)
    used: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A finished training run, as the table tells of it.

    Attributes:
        device: Name of the device.
        configuration: What was trained.
        batch_size: Samples per step.
        step_s: Seconds per step, loading of data included.
        rss_peak_bytes: Peak memory of the process; ``None`` if not measured.
        setting: How it was measured.
        data_s: Seconds per step spent waiting for the next batch; ``None`` if not measured.
        throttled: Whether the hardware says that it throttled.
    """

    device: str
    configuration: Configuration
    batch_size: int
    step_s: float
    rss_peak_bytes: float | None
    setting: Setting
    data_s: float | None = None
    throttled: bool = False
    metered: Metered | None = None
    unmetered: str = ""
    place: int = 0


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
    every: list[Row] = []
    for place, record in enumerate(clean_records(frame)):
        row, reason = _read_row(record)
        if row is None:
            rejected[reason] += 1
        else:
            every.append(replace(row, place=place))
    cool = [row for row in every if not row.throttled]
    if len(cool) < len(every):
        rejected["the device throttled"] = len(every) - len(cool)
    settings = _settings(cool)
    rows = _one_setting_per_device(cool, settings, rejected)
    features, dropped = _trace_all((row.configuration for row in rows), tracer)
    rejected.update(
        f"model {row.configuration.model} cannot be traced" for row in rows if row.configuration not in features
    )
    known = [row for row in rows if row.configuration in features]
    unmetered = Counter(row.unmetered for row in known if row.unmetered)
    return Samples(
        _join_repeats(rows, features),
        dict(rejected),
        dropped,
        len(frame),
        tuple(every),
        settings,
        dict(unmetered),
        tuple(row.place for row in known),
    )


def _read_row(record: Mapping[str, Any]) -> tuple[Row | None, str]:
    """A usable row, or why it is not one."""
    reason = _reason_against(record)
    if reason:
        return None, reason
    try:
        step_s, batch_size = float(record["step_s"]), int(record["batch_size"])
        image_size, num_classes = (_integer(record.get(name)) for name in ("image_size", "num_classes"))
        peak_bytes, data_s = (_positive(record.get(name)) for name in ("rss_peak_bytes", "data_s"))
    except (TypeError, ValueError):
        return None, "a number is not a number"
    if not (math.isfinite(step_s) and step_s > 0):
        return None, "step_s is not positive"
    if batch_size < 1:
        return None, "batch_size is below 1"
    mode = str(record.get("mode") or "full")
    configuration = Configuration(str(record["model"]), mode, image_size, num_classes)
    setting = Setting(*(None if record.get(name) is None else str(record[name]) for name in Setting._fields))
    throttled, power = record.get("throttled") == "confirmed", read_metered(record, step_s)
    own = (str(record["device"]), configuration, batch_size, step_s, peak_bytes, setting)
    return Row(*own, data_s, throttled, *power), ""


def _reason_against(record: Mapping[str, Any]) -> str:
    """Why a row cannot be learned from; empty if it can."""
    status, task, mode = record.get("status"), record.get("task"), record.get("mode")
    if status not in (None, "ok"):
        return f"status is {status}"
    if task not in (None, "train"):
        return f"task is {task}"
    if mode is not None and mode not in MODES:
        return f"mode {mode} is unknown"
    if record.get("latency_valid") is False:
        return "memory was read back from swap"
    empty = next((name for name in ("device", "model", "batch_size", "step_s") if record.get(name) in (None, "")), None)
    return f"{empty} is empty" if empty else ""


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)


def _positive(value: Any) -> float | None:
    """A measured amount; ``None`` for one that cannot be."""
    number = None if value is None else float(value)
    return number if number is not None and math.isfinite(number) and number > 0 else None


def _settings(rows: list[Row]) -> dict[str, Setting]:
    """The commonest setting of each device, in the order of the table; ties go to the one seen last."""
    counts: dict[str, Counter[Setting]] = {row.device: Counter() for row in rows}
    for row in reversed(rows):
        counts[row.device][row.setting] += 1
    return {device: own.most_common(1)[0][0] for device, own in counts.items()}


def _one_setting_per_device(rows: list[Row], settings: Mapping[str, Setting], rejected: Counter[str]) -> list[Row]:
    """Keeps, for each device, the rows of its setting."""
    kept = []
    for row in rows:
        chosen = settings[row.device]
        if row.setting == chosen:
            kept.append(row)
            continue
        different = [name for name, mine, own in zip(Setting._fields, row.setting, chosen, strict=True) if mine != own]
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


def _join_repeats(rows: list[Row], features: Mapping[Configuration, Features]) -> tuple[Sample, ...]:
    groups: dict[tuple[str, Configuration, int], list[Row]] = defaultdict(list)
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
                processor=group[0].setting.processor,
                metered=join_metered([row.metered for row in group]),
            )
        )
    return tuple(samples)
