"""The cost model as a user meets it: fit it to a table of runs, ask it, save it."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devprof.costmodel.base import BaseModel, fit_base
from devprof.costmodel.evaluate import (
    FAMILY_OUT,
    MODEL_OUT,
    ErrorReport,
    Observation,
    memory_observations,
    summarize,
    time_observations,
)
from devprof.costmodel.features import Features, Tracer, model_kind
from devprof.costmodel.memory import fit_memory
from devprof.costmodel.persist import read_state, write_state
from devprof.costmodel.predictor import Predictor, Residuals, fit_predictor
from devprof.costmodel.samples import Configuration, Sample, Samples, clean_records, collect_samples
from devprof.costmodel.state import (
    dump_configuration,
    dump_memory,
    dump_time,
    load_configuration,
    load_memory,
    load_time,
)
from devprof.costmodel.summary import Coefficient, CostReport, describe_coefficients
from devprof.errors import CostModelError, DevprofError, UnknownNameError
from devprof.records import MODES, Estimate
from devprof.registry import resolve

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PREDICTED_COLUMNS", "CostModel"]

_log = logging.getLogger(__name__)

PREDICTED_COLUMNS: tuple[str, ...] = (
    "step_s",
    "step_s_lo",
    "step_s_hi",
    "memory_bytes",
    "memory_hi_bytes",
    "fits",
    "basis",
    "error",
)


@dataclass(frozen=True, slots=True)
class _DeviceModel:
    """The predictors of one device: time by mode, memory of all modes together."""

    times: Mapping[str, Predictor]
    memory: Predictor | None
    configurations: tuple[Configuration, ...]


class CostModel:
    """Predicts seconds per training step and peak memory, for models that ran on a device and for others.

    Make one with :meth:`fit` or :meth:`load`.
    """

    def __init__(
        self,
        devices: Mapping[str, _DeviceModel],
        features: Mapping[Configuration, Features],
        report: CostReport,
        tracer: Tracer | None = None,
    ) -> None:
        self._devices = dict(devices)
        self._features = dict(features)
        self._report = report
        self._tracer = tracer

    @classmethod
    def fit(cls, frame: pd.DataFrame, *, tracer: Tracer | None = None) -> CostModel:
        """Fits a cost model to measured runs.

        Args:
            frame: One row per run, columns as the fields of :class:`devprof.records.Measurement`. ``device``,
                ``model``, ``batch_size`` and ``step_s`` must be there. Failed, inference and throttled runs are left
                out and counted.
            tracer: Gives the features of a model; by default the installed one, which builds the model by its name.

        Raises:
            CostModelError: If nothing is left to learn from; the text lists why.
            MissingExtraError: If a needed package is not installed.
        """
        collected = collect_samples(frame, tracer or resolve("tracer"))
        if not collected.samples:
            raise CostModelError(_nothing_left(collected))
        by_device: dict[str, list[Sample]] = defaultdict(list)
        for sample in collected.samples:
            by_device[sample.device].append(sample)
        fitted = [_fit_device(device, own) for device, own in by_device.items()]
        report = CostReport(
            total_rows=collected.total_rows,
            used_rows=sum(sample.rows for sample in collected.samples),
            rejected=collected.rejected,
            dropped_models=collected.dropped_models,
            errors=tuple(error for one in fitted for error in one.errors),
            memory_errors=tuple(error for one in fitted for error in one.memory_errors),
            coefficients=tuple(row for one in fitted for row in one.coefficients),
            interval_notes={name: note for one in fitted for name, note in one.notes.items() if note},
        )
        features = {sample.configuration: sample.features for sample in collected.samples}
        devices = {device: one.model for device, one in zip(by_device, fitted, strict=True)}
        return cls(devices, features, report, tracer)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices it can predict for, in the order of the table."""
        return tuple(self._devices)

    @property
    def report(self) -> CostReport:
        """What it was made from, how wrong it is on what was left out, and what each device is slow at."""
        return self._report

    def predict(
        self,
        device: str,
        model: str,
        mode: str,
        batch_size: int,
        *,
        image_size: int | None = None,
        num_classes: int | None = None,
        memory_limit_bytes: int | None = None,
    ) -> Estimate:
        """Predicts one training step.

        Args:
            device: A device of the fit.
            model: Name of a model; it need not have run on the device.
            mode: ``full`` or ``head``.
            batch_size: Samples per step.
            image_size: Height and width of the input in pixels. By default the size that the model was measured with
                on the device, else the commonest one of its kind.
            num_classes: Outputs of the classifier, with the same default.
            memory_limit_bytes: The device's memory; decides ``fits``.

        Raises:
            UnknownNameError: If the device or the model is not known.
            CostModelError: If the model cannot be traced.
            ValueError: If the mode is unknown or the batch size is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        chosen = self._device(device, mode)
        configuration = self._complete(chosen, model, mode, image_size, num_classes)
        features = self._features_of(configuration)
        predictor = chosen.times.get(mode)
        if predictor is None:
            _log.info("%s was never measured in mode %s: coefficients of its other mode are used", device, mode)
            step = next(iter(chosen.times.values())).predict_other_mode(configuration, features, batch_size)
        else:
            step = predictor.predict(configuration, features, batch_size)
        memory = None if chosen.memory is None else chosen.memory.predict(configuration, features, batch_size)
        fits = None if memory is None or memory_limit_bytes is None else memory.high <= memory_limit_bytes
        return Estimate(
            step_s=step.value,
            step_s_lo=step.low,
            step_s_hi=step.high,
            basis=step.basis,
            memory_bytes=None if memory is None else memory.value,
            memory_hi_bytes=None if memory is None else memory.high,
            fits=fits,
        )

    def features(
        self, device: str, model: str, mode: str, *, image_size: int | None = None, num_classes: int | None = None
    ) -> Features:
        """What a step of a model consists of: the features from which :meth:`predict` answers the same question.

        Args:
            device: A device of the fit, whose measured image size and number of classes are the defaults.
            model: Name of a model.
            mode: ``full`` or ``head``.
            image_size: As in :meth:`predict`.
            num_classes: As in :meth:`predict`.

        Raises:
            UnknownNameError: If the device or the model is not known.
            CostModelError: If the model cannot be traced.
            ValueError: If the mode is unknown.
        """
        return self._features_of(self._complete(self._device(device, mode), model, mode, image_size, num_classes))

    def predict_frame(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predicts every row of a table.

        Args:
            frame: Columns ``device``, ``model``, ``batch_size``; ``mode`` (default ``full``), ``image_size``,
                ``num_classes`` and ``memory_limit_bytes`` where they are known.

        Returns:
            A copy with the columns :data:`PREDICTED_COLUMNS`; columns of these names in ``frame`` are replaced. A row
            that cannot be predicted has its reason in ``error`` and nulls; the others have a null there.

        Raises:
            CostModelError: If a column that cannot be missing is missing.
        """
        import pandas as pd

        missing = [name for name in ("device", "model", "batch_size") if name not in frame.columns]
        if missing:
            raise CostModelError(f"the table of queries has no column {', '.join(missing)}")
        rows = [self._predict_record(record) for record in clean_records(frame)]
        predicted = pd.DataFrame(rows, columns=list(PREDICTED_COLUMNS), index=frame.index)
        for name in ("step_s", "step_s_lo", "step_s_hi", "memory_bytes", "memory_hi_bytes"):
            predicted[name] = predicted[name].astype(float)
        for name in ("fits", "basis", "error"):
            predicted[name] = pd.Series([row[name] for row in rows], index=frame.index, dtype=object)
        kept = frame.drop(columns=[name for name in PREDICTED_COLUMNS if name in frame.columns])
        return pd.concat([kept, predicted], axis=1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model to a file, all of it or nothing.

        Raises:
            CostModelError: If the file cannot be written.
            MissingExtraError: If skops is not installed.
        """
        devices = [
            {
                "name": name,
                "times": {mode: dump_time(predictor) for mode, predictor in one.times.items()},
                "memory": None if one.memory is None else dump_memory(one.memory),
                "configurations": json.dumps(
                    [dump_configuration(configuration) for configuration in one.configurations]
                ),
            }
            for name, one in self._devices.items()
        ]
        # Nested plain values travel as JSON text: it keeps every bit of a float and takes a fiftieth of the space.
        features = [[dump_configuration(key), value.to_dict()] for key, value in self._features.items()]
        report = json.dumps(self._report.to_dict())
        write_state(path, {"devices": devices, "features": json.dumps(features), "report": report})

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, tracer: Tracer | None = None) -> CostModel:
        """Reads a model that :meth:`save` wrote; it predicts the same to the last bit.

        Args:
            path: The file.
            tracer: For models that were not in the fit; by default the installed one.

        Raises:
            CostModelError: If the file is no cost model, is damaged, holds an untrusted type or has another schema.
            MissingExtraError: If skops is not installed.
        """
        state = read_state(path)
        try:
            devices = {str(one["name"]): _load_device(one) for one in state["devices"]}
            features = {
                load_configuration(key): Features.from_dict(value) for key, value in json.loads(state["features"])
            }
            report = CostReport.from_dict(json.loads(state["report"]))
        except CostModelError as error:
            raise CostModelError(f"{os.fspath(path)}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CostModelError(f"{os.fspath(path)} is damaged ({error!r}): fit it again") from error
        return cls(devices, features, report, tracer)

    def _predict_record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(PREDICTED_COLUMNS)
        empty = [name for name in ("device", "model", "batch_size") if record[name] is None]
        if empty:
            return row | {"error": f"{', '.join(empty)} is empty"}
        try:
            options = {
                name: None if record.get(name) is None else int(record[name])
                for name in ("image_size", "num_classes", "memory_limit_bytes")
            }
            estimate = self.predict(
                str(record["device"]),
                str(record["model"]),
                str(record.get("mode") or "full"),
                int(record["batch_size"]),
                **options,
            )
        except (DevprofError, ValueError, TypeError) as error:
            return row | {"error": str(error)}
        return row | {name: getattr(estimate, name) for name in PREDICTED_COLUMNS if name != "error"}

    def _device(self, device: str, mode: str) -> _DeviceModel:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        chosen = self._devices.get(device)
        if chosen is None:
            raise UnknownNameError(
                "device", device, self._devices, "Run `devprof measure` on it, then `devprof fit` with its folder."
            )
        return chosen

    def _complete(
        self, device: _DeviceModel, model: str, mode: str, image_size: int | None, num_classes: int | None
    ) -> Configuration:
        """Fills in what the caller left open: as measured on the device, else as is commonest for the kind."""

        def agrees(known: Configuration) -> bool:
            return image_size in (None, known.image_size) and num_classes in (None, known.num_classes)

        own = [one for one in device.configurations if one.model == model and agrees(one)]
        pool = [one for one in own if one.mode == mode] or own
        if pool:
            best = Counter((one.image_size, one.num_classes) for one in pool).most_common(1)[0][0]
            return Configuration(model, mode, *best)
        alike = [one for one in self._features if model_kind(one.model) == model_kind(model)]
        return Configuration(
            model,
            mode,
            image_size if image_size is not None else _commonest([one.image_size for one in alike]),
            num_classes if num_classes is not None else _commonest([one.num_classes for one in alike]),
        )

    def _features_of(self, configuration: Configuration) -> Features:
        features = self._features.get(configuration)
        if features is None:
            tracer = self._tracer or resolve("tracer")
            features = tracer(
                configuration.model, configuration.mode, configuration.image_size, configuration.num_classes
            )
        return features


@dataclass(frozen=True, slots=True)
class _Fitted:
    model: _DeviceModel
    errors: tuple[ErrorReport, ...]
    memory_errors: tuple[ErrorReport, ...]
    coefficients: tuple[Coefficient, ...]
    notes: Mapping[str, str]


def _fit_device(device: str, samples: Sequence[Sample]) -> _Fitted:
    by_mode: dict[str, list[Observation]] = defaultdict(list)
    for one in time_observations(samples):
        by_mode[one.configuration.mode].append(one)
    times: dict[str, Predictor] = {}
    errors: list[ErrorReport] = []
    coefficients: list[Coefficient] = []
    notes: dict[str, str] = {}
    for mode, observations in by_mode.items():
        times[mode], residuals = fit_predictor(observations, fit_base)
        errors += _error_reports(device, mode, observations, residuals)
        base = times[mode].regression
        assert isinstance(base, BaseModel)
        coefficients += describe_coefficients(device, mode, base, observations)
        notes[f"{device}, {mode}"] = times[mode].widths.note
    memory, memory_errors = None, []
    peaks = memory_observations(samples)
    if peaks:
        memory, residuals = fit_predictor(peaks, fit_memory)
        memory_errors = _error_reports(device, "memory", peaks, residuals)
        notes[f"{device}, memory"] = memory.widths.note
    configurations = tuple(dict.fromkeys(sample.configuration for sample in samples))
    model = _DeviceModel(times, memory, configurations)
    return _Fitted(model, tuple(errors), tuple(memory_errors), tuple(coefficients), notes)


def _error_reports(
    device: str, mode: str, observations: Sequence[Observation], residuals: Residuals
) -> list[ErrorReport]:
    schemes = ((FAMILY_OUT, residuals.families), (MODEL_OUT, residuals.models))
    return [summarize(device, mode, scheme, observations, groups) for scheme, groups in schemes]


def _load_device(data: Mapping[str, Any]) -> _DeviceModel:
    times = {str(mode): load_time(one) for mode, one in data["times"].items()}
    memory = None if data["memory"] is None else load_memory(data["memory"])
    return _DeviceModel(times, memory, tuple(load_configuration(one) for one in json.loads(data["configurations"])))


def _commonest(values: Sequence[int | None]) -> int | None:
    known = Counter(value for value in values if value is not None)
    return known.most_common(1)[0][0] if known else None


def _nothing_left(collected: Samples) -> str:
    reasons = [f"{count} x {reason}" for reason, count in collected.rejected.items()]
    reasons += [f"{model}: {reason}" for model, reason in list(collected.dropped_models.items())[:3]]
    detail = "; ".join(reasons) or "the table is empty"
    return (
        f"none of {collected.total_rows} rows can be learned from ({detail}). "
        "A cost model needs rows with status ok, task train and a positive step_s"
    )
