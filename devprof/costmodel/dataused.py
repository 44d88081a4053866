"""Which measurements a cost model was made from, device by device: the first page of its card."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from devprof.costmodel.families import model_family, model_kind

__all__ = ["SETTINGS", "DeviceData", "describe_data"]

# Columns that say how a device was used; a prediction holds for the same values only.
SETTINGS: tuple[str, ...] = (
    *("processor", "threads", "power_mode", "optimizer", "precision", "memory_format", "data"),
)
# What the speed of a step depends on; the column has more, such as how torch was built.
_VERSIONS = ("framework", "torch", "torchvision", "timm", "cuda", "cudnn", "python")
# Other values of the column ``source`` name somebody's table, whose rows bear the date of their import.
_TOOLS = ("devprof", "timm benchmark.py", "pyperf")


@dataclass(frozen=True, slots=True)
class DeviceData:
    """What was learned from of one device.

    Attributes:
        device: Name of the device.
        rows: Runs that were learned from, repeats included; 0 for a device that was only calibrated.
        configurations: Different configurations and batch sizes among them.
        models: Names of the models.
        families: Their architecture families.
        kinds: ``image`` for image models; other models are each a kind of their own.
        modes: ``full``, ``head`` or both.
        batch_sizes: Measured batch sizes.
        several_sizes: Models that were measured at two batch sizes or more in some mode.
        image_sizes: Measured image sizes; empty where the table does not say.
        setting: How the device was used, the values by column; columns of which the table says nothing are not there.
        first_day: Day of the first measurement; ``None`` where the table does not say, as for published tables.
        last_day: Day of the last.
        versions: Versions of devprof, torch and others that measured, the values by name.
        sources: Published tables that rows are from.
        memory_rows: Rows with a memory peak.
        energy_rows: Rows with a measured energy.
        operators: Operators that a calibration timed.
    """

    device: str
    rows: int = 0
    configurations: int = 0
    models: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    several_sizes: int = 0
    image_sizes: tuple[int, ...] = ()
    setting: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    first_day: str | None = None
    last_day: str | None = None
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    memory_rows: int = 0
    energy_rows: int = 0
    operators: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The description as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DeviceData:
        """The description that :meth:`to_dict` wrote."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        for name in ("setting", "versions"):
            plain[name] = {str(key): tuple(values) for key, values in data[name].items()}
        return cls(**plain)


def describe_data(records: Iterable[Mapping[str, Any]], operators: Mapping[str, int]) -> tuple[DeviceData, ...]:
    """The description of each device.

    Args:
        records: The rows that were learned from, nulls as ``None``.
        operators: Number of timed operators of each calibrated device.
    """
    by_device: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        by_device.setdefault(str(record["device"]), []).append(record)
    for device in operators:
        by_device.setdefault(device, [])
    return tuple(_describe(device, own, operators.get(device, 0)) for device, own in by_device.items())


def _describe(device: str, own: Sequence[Mapping[str, Any]], operators: int) -> DeviceData:
    models = sorted({str(row["model"]) for row in own})
    sizes: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for row in own:
        sizes[str(row["model"]), _mode(row)].add(int(row["batch_size"]))
    measured = [row for row in own if row.get("source") in (None, *_TOOLS)]
    days = sorted(str(row["started_utc"])[:10] for row in measured if row.get("started_utc") is not None)
    keys = ("model", "mode", "batch_size", "image_size", "num_classes")
    return DeviceData(
        device=device,
        rows=len(own),
        configurations=len({tuple(row.get(key) for key in keys) for row in own}),
        models=tuple(models),
        families=tuple(sorted({model_family(model) for model in models})),
        kinds=tuple(sorted({model_kind(model) for model in models})),
        modes=tuple(sorted({_mode(row) for row in own})),
        batch_sizes=tuple(sorted({size for of in sizes.values() for size in of})),
        several_sizes=len({model for (model, _), of in sizes.items() if len(of) > 1}),
        image_sizes=tuple(sorted({int(row["image_size"]) for row in own if row.get("image_size") is not None})),
        setting={name: values for name in SETTINGS if (values := _values(own, name))},
        first_day=days[0] if days else None,
        last_day=days[-1] if days else None,
        versions=_versions(own, measured),
        sources=tuple(sorted({str(row["source"]) for row in own if row not in measured})),
        memory_rows=_known(own, "rss_peak_bytes"),
        energy_rows=sum(any(row.get(name) is not None for name in ("energy_per_step_j", "energy_j")) for row in own),
        operators=operators,
    )


def _mode(row: Mapping[str, Any]) -> str:
    return str(row.get("mode") or "full")


def _known(rows: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(row.get(name) is not None for row in rows)


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[str, ...]:
    return tuple(sorted({_text(row[name]) for row in rows if row.get(name) is not None}))


def _text(value: Any) -> str:
    """A value as text; whole numbers lose the point that a column with nulls gave them."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _versions(own: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Versions by name. What imported a published table did not measure it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in measured:
        if row.get("devprof_version") is not None:
            found["devprof"].add(str(row["devprof_version"]))
    for text in {str(row["versions"]) for row in own if row.get("versions") is not None}:
        try:
            versions = json.loads(text)
        except ValueError:
            continue
        if isinstance(versions, dict):
            for name in _VERSIONS:
                if versions.get(name) is not None:
                    found[name].add(str(versions[name]))
    return {name: tuple(sorted(values)) for name, values in found.items()}
