"""Fitted predictors as plain data and back, exactly: what a cost model's file holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from devprof.costmodel.base import COLUMNS, BaseModel
from devprof.costmodel.evaluate import Regression
from devprof.costmodel.interval import Widths
from devprof.costmodel.lines import Line
from devprof.costmodel.memory import MEMORY_COLUMNS, MemoryModel
from devprof.costmodel.predictor import Predictor
from devprof.costmodel.samples import Configuration
from devprof.errors import CostModelError

__all__ = ["dump_configuration", "dump_memory", "dump_time", "load_configuration", "load_memory", "load_time"]


def dump_configuration(configuration: Configuration) -> list[Any]:
    """A configuration as a list of plain values."""
    return [configuration.model, configuration.mode, configuration.image_size, configuration.num_classes]


def load_configuration(data: Sequence[Any]) -> Configuration:
    """The configuration that :func:`dump_configuration` wrote."""
    model, mode, image_size, num_classes = data
    return Configuration(
        str(model),
        str(mode),
        None if image_size is None else int(image_size),
        None if num_classes is None else int(num_classes),
    )


def dump_time(predictor: Predictor) -> dict[str, Any]:
    """A time predictor as plain data."""
    assert isinstance(predictor.regression, BaseModel)
    return {"columns": list(COLUMNS), "coefficients": np.array(predictor.regression.seconds), **_dump(predictor)}


def load_time(data: Mapping[str, Any]) -> Predictor:
    """The time predictor that :func:`dump_time` wrote."""
    return _load(data, COLUMNS, BaseModel)


def dump_memory(predictor: Predictor) -> dict[str, Any]:
    """A memory predictor as plain data."""
    assert isinstance(predictor.regression, MemoryModel)
    return {"columns": list(MEMORY_COLUMNS), "coefficients": np.array(predictor.regression.factors), **_dump(predictor)}


def load_memory(data: Mapping[str, Any]) -> Predictor:
    """The memory predictor that :func:`dump_memory` wrote."""
    return _load(data, MEMORY_COLUMNS, MemoryModel)


def _dump(predictor: Predictor) -> dict[str, Any]:
    return {
        "configurations": json.dumps([dump_configuration(configuration) for configuration in predictor.lines]),
        "lines": np.array([[line.fixed, line.per_sample] for line in predictor.lines.values()]),
        # Pairs, because keys of JSON objects are text; in the order of the configurations.
        "measured": json.dumps([list(predictor.measured[one].items()) for one in predictor.lines]),
        "ratio_keys": json.dumps([list(key) for key in predictor.ratios]),
        "ratios": np.array(list(predictor.ratios.values())),
        "families": sorted(predictor.families),
        "widths": asdict(predictor.widths),
        "other_widths": asdict(predictor.other_widths),
    }


def _load(
    data: Mapping[str, Any], columns: Sequence[str], build: Callable[[tuple[float, ...]], Regression]
) -> Predictor:
    if list(data["columns"]) != list(columns):
        raise CostModelError("the cost model has other operator families than this devprof: fit it again")
    configurations = [load_configuration(one) for one in json.loads(data["configurations"])]
    lines = [Line(float(fixed), float(per_sample)) for fixed, per_sample in data["lines"]]
    keys = [(str(model), str(mode)) for model, mode in json.loads(data["ratio_keys"])]
    return Predictor(
        regression=build(tuple(float(value) for value in data["coefficients"])),
        lines=dict(zip(configurations, lines, strict=True)),
        measured={
            configuration: {int(size): float(value) for size, value in own}
            for configuration, own in zip(configurations, json.loads(data["measured"]), strict=True)
        },
        ratios=dict(zip(keys, (float(value) for value in data["ratios"]), strict=True)),
        families=frozenset(str(family) for family in data["families"]),
        widths=Widths(**data["widths"]),
        other_widths=Widths(**data["other_widths"]),
    )
