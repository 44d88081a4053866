"""Fitted predictors as plain data and back, exactly: what a cost model's file holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from typing import Any

import numpy as np

from devprof.costmodel.adapt import Adaptation
from devprof.costmodel.base import COLUMNS, BaseModel
from devprof.costmodel.calibrated import PARTS, Calibrated
from devprof.costmodel.conditions import Conditions
from devprof.costmodel.corrections import Correction
from devprof.costmodel.devices import DeviceModel
from devprof.costmodel.effects import Effects
from devprof.costmodel.energy import EnergyPredictor
from devprof.costmodel.features import Features
from devprof.costmodel.interval import Widths
from devprof.costmodel.knowledge import Knowledge
from devprof.costmodel.memory import MEMORY_COLUMNS, MemoryModel
from devprof.costmodel.operator_times import OperatorTimes, TimedOperator
from devprof.costmodel.predictor import Predictor, Regression
from devprof.costmodel.samples import Configuration
from devprof.costmodel.summary import CostReport
from devprof.errors import CostModelError

__all__ = ["dump_configuration", "dump_knowledge", "load_knowledge"]


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


def dump_knowledge(known: Knowledge) -> dict[str, Any]:
    """All that a cost model knows as plain data."""
    # Nested plain values travel as JSON text: it keeps every bit of a float and takes a fiftieth of the space.
    features = [[dump_configuration(key), value.to_dict()] for key, value in known.features.items()]
    return {
        "devices": [{"name": name, **dump_device(one)} for name, one in known.devices.items()],
        "features": json.dumps(features),
        "report": json.dumps(known.report.to_dict()),
        "conditions": json.dumps({name: one.to_dict() for name, one in known.conditions.items()}),
        "adaptations": json.dumps({name: one.to_dict() for name, one in known.adaptations.items()}),
    }


def load_knowledge(state: Mapping[str, Any]) -> Knowledge:
    """What :func:`dump_knowledge` wrote.

    Raises:
        CostModelError: If it has other columns than this devprof.
        AttributeError, KeyError, TypeError, ValueError: If it is damaged.
    """
    return Knowledge(
        devices={str(one["name"]): load_device(one) for one in state["devices"]},
        features={load_configuration(key): Features.from_dict(value) for key, value in json.loads(state["features"])},
        report=CostReport.from_dict(json.loads(state["report"])),
        conditions={name: Conditions(**one) for name, one in json.loads(state["conditions"]).items()},
        adaptations={name: Adaptation.from_dict(one) for name, one in json.loads(state["adaptations"]).items()},
    )


def dump_device(device: DeviceModel) -> dict[str, Any]:
    """All predictors of a device as plain data."""
    return {
        "time": _dump(device.time),
        "memory": None if device.memory is None else _dump(device.memory),
        "configurations": json.dumps([dump_configuration(one) for one in device.configurations]),
        "calibrated": None if device.calibrated is None else _dump_calibrated(device.calibrated),
        "energy": None if device.energy is None else _dump_energy(device.energy),
    }


def load_device(data: Mapping[str, Any]) -> DeviceModel:
    """The device that :func:`dump_device` wrote.

    Raises:
        CostModelError: If it has other columns than this devprof.
    """
    memory = data["memory"]
    configurations = tuple(load_configuration(one) for one in json.loads(data["configurations"]))
    calibrated = None if data["calibrated"] is None else _load_calibrated(data["calibrated"])
    energy = None if data["energy"] is None else _load_energy(data["energy"])
    return DeviceModel(
        _load(data["time"]), None if memory is None else _load(memory), configurations, calibrated, energy
    )


def _dump_energy(energy: EnergyPredictor) -> dict[str, Any]:
    return {
        "joules": _dump(energy.joules),
        "power_widths": asdict(energy.power_widths),
        "meter_error_rel": energy.meter_error_rel,
    }


def _load_energy(data: Mapping[str, Any]) -> EnergyPredictor:
    return EnergyPredictor(_load(data["joules"]), Widths(**data["power_widths"]), float(data["meter_error_rel"]))


def _dump_calibrated(calibrated: Calibrated) -> dict[str, Any]:
    return {
        "operators": json.dumps([astuple(one) for one in calibrated.times.timed]),
        "parts": list(PARTS),
        "costs": np.array(calibrated.costs),
        "overlap": calibrated.overlap,
    }


def _load_calibrated(data: Mapping[str, Any]) -> Calibrated:
    if list(data["parts"]) != list(PARTS):
        raise CostModelError("the calibration has other parts than this devprof: fit it again")
    timed = [
        TimedOperator(str(signature), str(family), float(macs), float(elements), float(seconds))
        for signature, family, macs, elements, seconds in json.loads(data["operators"])
    ]
    return Calibrated(OperatorTimes(timed), tuple(float(cost) for cost in data["costs"]), float(data["overlap"]))


def _dump(predictor: Predictor) -> dict[str, Any]:
    # Nested plain values travel as JSON text: it keeps every bit of a float and takes a fiftieth of the space.
    measured = [
        [dump_configuration(one), [correction.fixed, correction.growing], list(predictor.measured[one].items())]
        for one, correction in predictor.corrections.items()
    ]
    effects = predictor.effects
    return {
        **_dump_regression(predictor.regression),
        "measured": json.dumps(measured),
        "model_effects": json.dumps([[*key, log, key in effects.measured] for key, log in effects.models.items()]),
        "family_effects": json.dumps([[*key, log] for key, log in effects.families.items()]),
        "families": sorted(predictor.families),
        "widths": {mode: asdict(widths) for mode, widths in predictor.widths.items()},
        "other_widths": {mode: asdict(widths) for mode, widths in predictor.other_widths.items()},
        "probed": predictor.probed,
        "opinion_weight": predictor.opinion_weight,
    }


def _dump_regression(regression: Regression) -> dict[str, Any]:
    if isinstance(regression, BaseModel):
        return {"columns": list(COLUMNS), "coefficients": np.array(regression.seconds), "overlap": regression.overlap}
    assert isinstance(regression, MemoryModel)
    return {"columns": list(MEMORY_COLUMNS), "coefficients": np.array(regression.factors)}


def _load_regression(data: Mapping[str, Any]) -> Regression:
    columns, coefficients = list(data["columns"]), tuple(float(value) for value in data["coefficients"])
    if columns == list(COLUMNS):
        return BaseModel(coefficients, float(data["overlap"]))
    if columns == list(MEMORY_COLUMNS):
        return MemoryModel(coefficients)
    raise CostModelError("the cost model has other kinds of work than this devprof: fit it again")


def _load(data: Mapping[str, Any]) -> Predictor:
    measured = [
        (load_configuration(one), Correction(*map(float, factors)), {int(size): float(value) for size, value in own})
        for one, factors, own in json.loads(data["measured"])
    ]
    models = [
        (str(model), str(mode), float(log), bool(seen)) for model, mode, log, seen in json.loads(data["model_effects"])
    ]
    return Predictor(
        regression=_load_regression(data),
        effects=Effects(
            {(model, mode): log for model, mode, log, _ in models},
            {(str(family), str(mode)): float(log) for family, mode, log in json.loads(data["family_effects"])},
            frozenset((model, mode) for model, mode, _, seen in models if seen),
        ),
        corrections={configuration: correction for configuration, correction, _ in measured},
        measured={configuration: own for configuration, _, own in measured},
        families=frozenset(str(family) for family in data["families"]),
        widths={str(mode): Widths(**widths) for mode, widths in data["widths"].items()},
        other_widths={str(mode): Widths(**widths) for mode, widths in data["other_widths"].items()},
        probed=bool(data["probed"]),
        opinion_weight=float(data["opinion_weight"]),
    )
