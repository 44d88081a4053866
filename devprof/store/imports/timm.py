"""CSV of ``benchmark.py`` of timm (huggingface/pytorch-image-models).

A row gives a run of inference, a run of training, or both. timm times a loop of steps on one batch in memory and writes
their mean in milliseconds: the mean stands in for the median, and every row carries the warning for it. The device and the
settings are in no column, at best in the file's name, so that the caller has to say them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devprof.errors import StoreError
from devprof.records import TASKS
from devprof.store.imports.collect import MEAN_FOR_MEDIAN, Collector, ImportReport
from devprof.store.imports.columns import parse_columns, parse_number, read_csv

__all__ = ["TimmSetting", "hints_from_name", "import_timm", "tasks_of"]

_MAPPED = ("step_time", "samples_per_sec", "batch_size", "img_size")
_UNMAPPED = {
    "param_count": "rounded to 0.01 million",
    "gmacs": "devprof counts the work of a model itself",
    "macts": "devprof counts the work of a model itself",
    "fwd_time": "timm and devprof divide a step at different places",
    "bwd_time": "timm and devprof divide a step at different places",
    "opt_time": "timm and devprof divide a step at different places",
}
# samples_per_sec comes from the clock around the whole loop, step_time from the steps in it.
_AGREEMENT = 0.05
# Names of published files, such as benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv.
_FILE_NAME = re.compile(
    r"-(?P<precision>fp32|fp16|bf16|amp)-(?P<memory_format>nchw|nhwc)-pt\w+-(?P<processor>cu|cpu)\d*-(?P<device>[^-.]+)"
)


@dataclass(frozen=True, slots=True)
class TimmSetting:
    """What timm's table does not say and the caller must.

    Attributes:
        device: Name of the device.
        processor: ``cuda``, ``cpu``, or a finer name.
        precision: ``amp``, ``fp32``, ``fp16`` or ``bf16``.
        memory_format: ``nchw`` or ``nhwc``.
        optimizer: Of the training runs; ``None`` if not known.
        framework: Such as ``torch-1.12``; ``None`` if not known.
    """

    device: str
    processor: str
    precision: str
    memory_format: str
    optimizer: str | None = None
    framework: str | None = None


def tasks_of(header: Sequence[str]) -> tuple[str, ...]:
    """The tasks that a table of timm has figures of; none if the header is not that of such a table."""
    return tuple(task for task in TASKS if "model" in header and f"{task}_step_time" in header)


def hints_from_name(path: Path) -> dict[str, str]:
    """What the name of a published file suggests about its setting, by field; to be shown, never to be relied on."""
    match = _FILE_NAME.search(path.name)
    if match is None:
        return {}
    hints = match.groupdict()
    return hints | {"processor": "cuda" if hints["processor"] == "cu" else "cpu"}


def import_timm(path: Path, folder: Path, *, setting: TimmSetting, version: str) -> ImportReport:
    """Import a result file of timm's ``benchmark.py`` into a measurement folder.

    Args:
        path: The table.
        folder: The measurement folder, made if absent.
        setting: What the table does not say.
        version: devprof's version, kept with the rows.

    Raises:
        StoreError: If the file cannot be read, is no such table, or the folder cannot be written.
    """
    header, rows = read_csv(path)
    tasks = tasks_of(header)
    if not tasks:
        raise StoreError(
            f"{path} is no table of timm's benchmark.py: "
            "it needs the column model, and train_step_time or infer_step_time"
        )
    collector = Collector(folder, version=version)
    build = {} if setting.framework is None else {"framework": setting.framework}
    for row in rows:
        for task in tasks:
            try:
                values = _values(row.texts(), task, setting)
            except ValueError as error:
                collector.reject(str(error), line=row.line, name=f"{row.cells.get('model', 'no model')} ({task})")
            else:
                collector.add(values | ({"versions": json.dumps(build)} if build else {}), build=build)
    mapped = {"model", "error", *(f"{task}_{figure}" for task in tasks for figure in _MAPPED)}
    bare = {column: re.sub(r"^(train|infer)_", "", column) for column in header if column not in mapped}
    return collector.finish(
        "timm",
        unknown_columns=[column for column, name in bare.items() if name not in _UNMAPPED],
        unmapped={column: _UNMAPPED[name] for column, name in bare.items() if name in _UNMAPPED},
        remarks=_remarks(tasks, setting),
    )


def _values(cells: Mapping[str, str], task: str, setting: TimmSetting) -> dict[str, Any]:
    if "error" in cells:
        raise ValueError(f"timm could not run it: {cells['error']}")
    for figure in ("step_time", "samples_per_sec", "batch_size"):
        if f"{task}_{figure}" not in cells:
            raise ValueError(f"{task}_{figure} is missing")
    texts = {
        "device": setting.device,
        "processor": setting.processor,
        "precision": setting.precision,
        "memory_format": setting.memory_format,
        "task": task,
        "mode": "full",
        "data": "memory",
        "batch_size": cells[f"{task}_batch_size"],
        "source": "timm benchmark.py",
        "warnings": MEAN_FOR_MEDIAN,
    }
    optional = {
        "model": cells.get("model"),
        "image_size": cells.get(f"{task}_img_size"),
        "optimizer": setting.optimizer if task == "train" else None,
    }
    values = parse_columns(texts | {column: text for column, text in optional.items() if text is not None})
    step_s = _step_s(cells, task, values["batch_size"])
    return values | {"step_s": step_s, "step_s_mean": step_s}


def _step_s(cells: Mapping[str, str], task: str, batch_size: int) -> float:
    """The time of a step, checked against the rate that timm measured with another clock."""
    milliseconds, rate = (parse_number(name, cells[name]) for name in (f"{task}_step_time", f"{task}_samples_per_sec"))
    step_s = milliseconds / 1000
    if step_s == 0:
        raise ValueError(f"{task}_step_time is 0, which cannot be")
    samples = rate * step_s
    if abs(samples - batch_size) > _AGREEMENT * batch_size:
        raise ValueError(
            f"{rate:g} samples per second in steps of {milliseconds:g} ms are {samples:.4g} samples a step, "
            f"not the batch size {batch_size}"
        )
    return step_s


def _remarks(tasks: Sequence[str], setting: TimmSetting) -> list[str]:
    remarks = [
        "timm writes means of step times: they stand in for the medians, with the warning mean-for-median",
        "timm does not write how many steps it timed: the column steps is empty",
    ]
    if "train" in tasks and setting.optimizer is None:
        remarks.append("the optimizer is not known: give it with --optimizer (timm's own default is sgd)")
    return remarks
