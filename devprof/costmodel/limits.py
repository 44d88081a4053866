"""What a cost model must not be used for, read off what it was made from: the last page of its card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from devprof.costmodel.dataused import SETTINGS, DeviceData
from devprof.costmodel.evaluate import ErrorReport
from devprof.costmodel.interval import ENOUGH_GROUPS
from devprof.costmodel.summary import CostReport
from devprof.records import MODES

__all__ = ["limits_of"]

# A 90 % interval that covered less of what was left out does not deserve its name.
_LEAST_COVERAGE = 0.85
_LONG = 6


def limits_of(report: CostReport) -> tuple[str, ...]:
    """What the data of a fit do not support, one sentence for each use.

    Args:
        report: The report of the fit; its own ``not_for`` is not looked at.
    """
    measured = [one for one in report.data if one.rows]
    return (
        *_devices(report.data),
        *_settings(measured),
        *_batch_sizes(measured),
        *_sizes(measured),
        *_kinds(measured),
        *_modes(measured),
        *_few_families(measured),
        *_columns(measured),
        *_intervals(report),
    )


def _devices(data: Sequence[DeviceData]) -> Iterable[str]:
    names = ", ".join(one.device for one in data)
    yield f"devices other than {names}: none was measured or calibrated; run devprof measure or devprof calibrate there"
    only = [one.device for one in data if not one.rows]
    if only:
        yield f"exact figures on {', '.join(only)}: calibrated, but no model was measured there; a few probes would tell"


def _grouped(data: Sequence[DeviceData], words: Callable[[DeviceData], str]) -> list[tuple[str, str]]:
    """Devices of which the same is said, and what is said."""
    groups: dict[str, list[str]] = {}
    for one in data:
        groups.setdefault(words(one), []).append(one.device)
    return [(", ".join(devices), text) for text, devices in groups.items() if text]


def _settings(data: Sequence[DeviceData]) -> Iterable[str]:
    for devices, setting in _grouped(data, _setting):
        yield f"{devices} in another setting than the measured one: {setting}"


def _setting(one: DeviceData) -> str:
    known = [f"{_plain(name)} {' or '.join(values)}" for name, values in one.setting.items()]
    unknown = [_plain(name) for name in SETTINGS if name not in one.setting]
    text = ", ".join(known) or "the table says nothing of it"
    return text + (f" (not in the table: {', '.join(unknown)})" if known and unknown else "")


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _batch_sizes(data: Sequence[DeviceData]) -> Iterable[str]:
    for devices, text in _grouped(data, _batches):
        yield f"batch sizes far from the measured ones on {devices}: {text}"


def _batches(one: DeviceData) -> str:
    sizes = list(one.batch_sizes)
    short = ", ".join(map(str, sizes)) if len(sizes) <= _LONG else f"{sizes[0]} to {sizes[-1]}"
    if one.several_sizes == 0:
        return f"{short}, each model at one only, so that how time grows with the batch is prior knowledge"
    return f"{short}; {one.several_sizes} of {len(one.models)} models at two or more"


def _sizes(data: Sequence[DeviceData]) -> Iterable[str]:
    images = [one for one in data if "image" in one.kinds]
    for devices, text in _grouped(images, lambda one: ", ".join(map(str, one.image_sizes)) if one.image_sizes else ""):
        if text.count(",") == 0:
            yield f"image sizes far from {text} pixels on {devices}: no other was measured"


def _kinds(data: Sequence[DeviceData]) -> Iterable[str]:
    for devices, text in _grouped(data, lambda one: " and ".join(_kind(kind) for kind in one.kinds)):
        yield f"other kinds of models on {devices} (such as other inputs or recurrent ones): only {text} ran there"


def _kind(kind: str) -> str:
    return "image models" if kind == "image" else kind


def _modes(data: Sequence[DeviceData]) -> Iterable[str]:
    for mode in MODES:
        without = [one for one in data if mode not in one.modes]
        for devices, text in _grouped(without, lambda one: ", ".join(one.modes)):
            yield f"mode {mode} on {devices}, beyond a rough idea: only mode {text} was measured there"


def _few_families(data: Sequence[DeviceData]) -> Iterable[str]:
    few = [one for one in data if len(one.families) < ENOUGH_GROUPS]
    for devices, count in _grouped(few, lambda one: str(len(one.families))):
        yield (
            f"close figures for families not measured on {devices}: only {count} of the {ENOUGH_GROUPS} families that it "
            "takes were; each further kind helps more than a further size"
        )


def _columns(data: Sequence[DeviceData]) -> Iterable[str]:
    no_memory = [one.device for one in data if not one.memory_rows]
    if no_memory:
        yield f"memory, and whether a model fits, on {', '.join(no_memory)}: no row has a memory peak"
    no_energy = [one.device for one in data if not one.energy_rows]
    if no_energy:
        yield f"energy on {', '.join(no_energy)}: no row has a measured energy"


def _intervals(report: CostReport) -> Iterable[str]:
    """Intervals with too few residuals, and those that covered too little."""
    costs = {"step time": report.errors, "memory": report.memory_errors, "energy": report.energy_errors}
    for cost, errors in costs.items():
        for error in errors:
            covered = error.coverage_90
            if covered is not None and covered < _LEAST_COVERAGE:
                yield (
                    f"90 % intervals of {cost} on {error.device}, {error.mode}, at face value ({error.scheme}): "
                    f"they covered {covered:.0%} of {_of(error)}"
                )
    # The notes themselves are long, and stand in the card under "How intervals were made".
    groups: dict[str, list[str]] = {}
    for name, note in report.interval_notes.items():
        bases = dict.fromkeys(part.partition(":")[0] for part in note.split("; "))
        groups.setdefault(", ".join(bases), []).append(name)
    for bases_text, names in groups.items():
        yield f"90 % intervals at face value for {bases_text} on {'; '.join(names)}: too few residuals, so wider by rule"


def _of(error: ErrorReport) -> str:
    return f"{error.rows} rows in {error.groups} groups"
