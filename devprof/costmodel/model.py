"""The cost model as a user meets it: fit it to a table of runs, ask it, save it."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from devprof.costmodel.adapt import Adaptation, adapt
from devprof.costmodel.base import BaseModel
from devprof.costmodel.calibrations import CALIBRATED_BATCH, collect_operators
from devprof.costmodel.capacity import largest_batches
from devprof.costmodel.conditions import Conditions
from devprof.costmodel.devices import DeviceModel
from devprof.costmodel.energy import with_energy
from devprof.costmodel.families import model_kind
from devprof.costmodel.features import Features, Tracer
from devprof.costmodel.knowledge import Knowledge, learn
from devprof.costmodel.persist import read_state, write_state
from devprof.costmodel.predictor import Interval
from devprof.costmodel.samples import Configuration
from devprof.costmodel.state import dump_knowledge, load_knowledge
from devprof.costmodel.step import StepTracer
from devprof.costmodel.suggest import Probe, suggest_probes
from devprof.costmodel.summary import CostReport
from devprof.costmodel.table import PREDICTED_COLUMNS, predict_table
from devprof.errors import CostModelError, DevprofError, UnknownNameError
from devprof.records import MODES, Estimate
from devprof.registry import resolve

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PREDICTED_COLUMNS", "CostModel"]


class CostModel:
    """Predicts seconds and joules per training step and peak memory, for models that ran on a device and for others.

    Make one with :meth:`fit` or :meth:`load`.
    """

    def __init__(
        self, knowledge: Knowledge, tracer: Tracer | None = None, step_tracer: StepTracer | None = None
    ) -> None:
        self._known = knowledge
        self._tracer = tracer
        self._step_tracer = step_tracer
        # Of models that were only asked for: no part of the file.
        self._traced: dict[Configuration, Features] = {}

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        *,
        operators: pd.DataFrame | None = None,
        tracer: Tracer | None = None,
        step_tracer: StepTracer | None = None,
    ) -> CostModel:
        """Fits a cost model to measured runs.

        Args:
            frame: One row per run, columns as the fields of :class:`devprof.records.Measurement`. ``device``,
                ``model``, ``batch_size`` and ``step_s`` must be there. Failed, inference and throttled runs are left
                out and counted.
            operators: One row per timed operator, columns as the fields of :class:`devprof.records.OperatorTime`: what
                ``devprof calibrate`` found. Its devices need no row in ``frame``.
            tracer: Gives the features of a model; by default the installed one, which builds the model by its name.
            step_tracer: Gives the operators of a model, with the same default.

        Raises:
            CostModelError: If nothing is left to learn from; the text lists why.
            MissingExtraError: If a needed package is not installed.
        """
        tracers = (tracer or resolve("tracer"), step_tracer or resolve("step_tracer"))
        calibrations = {} if operators is None else collect_operators(operators)
        return cls(learn(frame, calibrations, *tracers), tracer, step_tracer)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices it can predict for, in the order of the table."""
        return tuple(self._known.devices)

    @property
    def report(self) -> CostReport:
        """What it was made from, how wrong it is on what was left out, and what each device is slow at."""
        return self._known.report

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
        sizes = {"image_size": image_size, "num_classes": num_classes}
        (estimate,) = self.predict_sizes(device, model, mode, [batch_size], **sizes)
        if memory_limit_bytes is None or estimate.memory_hi_bytes is None:
            return estimate
        return replace(estimate, fits=estimate.memory_hi_bytes <= memory_limit_bytes)

    def predict_sizes(
        self,
        device: str,
        model: str,
        mode: str,
        batch_sizes: Sequence[int],
        *,
        image_size: int | None = None,
        num_classes: int | None = None,
    ) -> list[Estimate]:
        """Predicts the training steps of one model at several batch sizes; arguments and errors as :meth:`predict`."""
        if min(batch_sizes, default=1) < 1:
            raise ValueError(f"batch_size must be at least 1, got {min(batch_sizes)}")
        chosen = self._device(device, mode)
        configuration = self._complete(chosen, model, mode, image_size, num_classes)
        features = self._features_of(configuration)
        steps = chosen.time.predict_sizes(configuration, features, batch_sizes, self._opinion(chosen, configuration))
        adaptation = self._known.adaptations.get(device)
        corrected = steps if adaptation is None else adaptation.correct(configuration, steps)
        estimates = [Estimate(one.value, one.low, one.high, one.basis) for one in corrected]
        if chosen.memory is not None:
            peaks = chosen.memory.predict_sizes(configuration, features, batch_sizes)
            bounds = chosen.memory.upper_bounds(configuration, features, np.array(batch_sizes, dtype=float))
            estimates = [
                replace(one, memory_bytes=peak.value, memory_hi_bytes=bound)
                for one, peak, bound in zip(estimates, peaks, bounds.tolist(), strict=True)
            ]
        if chosen.energy is None:
            return estimates
        energies = chosen.energy.predict_sizes(configuration, features, batch_sizes, chosen.time, steps)
        return [with_energy(*one) for one in zip(estimates, energies, steps, strict=True)]

    def largest_batch(
        self,
        device: str,
        model: str,
        mode: str,
        memory_limit_bytes: int,
        *,
        image_size: int | None = None,
        num_classes: int | None = None,
    ) -> int | None:
        """The largest batch size whose upper bound of memory is within a limit; arguments and errors as :meth:`predict`.

        Returns:
            The batch size, at most :data:`devprof.costmodel.capacity.MOST_SAMPLES`; 0 where one sample is too many; ``None``
            where no memory was measured on the device.
        """
        sizes = {"image_size": image_size, "num_classes": num_classes}
        found = self.largest_batches(device, model, mode, [memory_limit_bytes], **sizes)
        return None if found is None else found[0]

    def largest_batches(
        self,
        device: str,
        model: str,
        mode: str,
        memory_limits_bytes: Sequence[float],
        *,
        image_size: int | None = None,
        num_classes: int | None = None,
    ) -> list[int] | None:
        """The largest batch size that fits each of several limits; the rest as :meth:`largest_batch`."""
        chosen = self._device(device, mode)
        memory = chosen.memory
        if memory is None:
            return None
        configuration = self._complete(chosen, model, mode, image_size, num_classes)
        features = self._features_of(configuration)
        found = largest_batches(partial(memory.upper_bounds, configuration, features), memory_limits_bytes)
        return [int(size) for size in found]

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

    def adapt(self, device: str, rows: pd.DataFrame | Iterable[Mapping[str, Any]]) -> CostModel:
        """Corrects the predictions of a device by observed rounds, without refitting; see :mod:`devprof.costmodel.adapt`.

        This very model is changed, for whoever asks it: from then on predictions for the device are multiplied by what was
        learned, with the basis ``observed``.

        Args:
            device: A device of the fit.
            rows: Observed rounds, oldest first: ``model``, ``batch_size`` and ``step_s`` (mean seconds per step), perhaps
                ``mode`` (default ``full``), ``image_size`` and ``num_classes``. Not trusted: what makes no sense is skipped
                and counted (:meth:`adaptation`), what is far off counts little, and no factory is imported for a row.

        Returns:
            This model.

        Raises:
            UnknownNameError: If the device is not known.
        """
        chosen = self._device(device, MODES[0])
        fitted = {one.model for one in self._known.features}

        def predict(asked: Configuration, size: int) -> tuple[Configuration, Interval]:
            if asked.model not in fitted and not asked.model.startswith("seed:") and model_kind(asked.model) != "image":
                raise UnknownNameError("model", asked.model, fitted)
            own = self._complete(chosen, asked.model, asked.mode, asked.image_size, asked.num_classes)
            features = self._features_of(own)
            return own, chosen.time.predict_sizes(own, features, [size], self._opinion(chosen, own))[0]

        self._known.adaptations[device] = adapt(self._known.adaptations.get(device), rows, predict)
        return self

    def adaptation(self, device: str) -> Adaptation | None:
        """What :meth:`adapt` has learned of a device and which rows it skipped; ``None`` if it was never called."""
        return self._known.adaptations.get(device)

    def conditions(self, device: str) -> Conditions:
        """What measured rows tell of a device beside its steps: loading of data, and heat."""
        return self._known.conditions.get(device, Conditions())

    def data_s_per_sample(self, device: str) -> float | None:
        """Seconds that loading takes per sample, in the steps already where ``conditions(device).steps_include_data``."""
        return self.conditions(device).data_s_per_sample

    def thermal_factor(self, device: str) -> float | None:
        """How many times longer a step takes when the device throttles, at least 1; ``None`` where it was not measured."""
        return self.conditions(device).thermal_factor

    def suggest(self, count: int, device: str | None = None, *, models: Sequence[str] = ()) -> list[Probe]:
        """The configurations worth measuring next, the most telling first; see :mod:`devprof.costmodel.suggest`.

        Args:
            count: How many.
            device: A device of the fit, whose measured configurations are known already; ``None`` for a new one like those.
            models: Further models to choose from where the fit has fewer configurations than that which are not measured yet;
                those that cannot be traced in a mode are passed over.

        Raises:
            UnknownNameError: If the device is not known.
        """
        devices, features = self._known.devices, dict(self._known.features)
        chosen = self._device(device, MODES[0]) if device is not None else next(iter(devices.values()))
        measured = {} if device is None else chosen.time.measured
        known = [Probe(one, size, self._features_of(one)) for one, sizes in measured.items() for size in sizes]
        if len(features.keys() - measured.keys()) < count:
            for further in (self._complete(chosen, model, mode, None, None) for model in models for mode in MODES):
                with contextlib.suppress(DevprofError):
                    features[further] = self._features_of(further)
        sizes = Counter(size for one in devices.values() for own in one.time.measured.values() for size in own)
        usual = sizes.most_common(1)[0][0] if sizes else CALIBRATED_BATCH
        candidates = [Probe(one, usual, own) for one, own in features.items() if one not in measured]
        base = chosen.time.regression
        assert isinstance(base, BaseModel)
        return suggest_probes(base, candidates, known, count)

    def predict_frame(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predicts every row of a table.

        Args:
            frame: Columns ``device``, ``model``, ``batch_size``; ``mode`` (default ``full``), ``image_size``,
                ``num_classes`` and ``memory_limit_bytes`` where they are known.

        Returns:
            A copy with the columns :data:`PREDICTED_COLUMNS`; columns of these names in ``frame`` are replaced. A row
            that cannot be predicted has its reason in ``error`` and nulls; the others have a null there. ``fits`` and
            ``largest_batch`` are null without a limit.

        Raises:
            CostModelError: If a column that cannot be missing is missing.
        """
        return predict_table(self.predict_sizes, self.largest_batches, frame)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model to a file, all of it or nothing.

        Raises:
            CostModelError: If the file cannot be written.
            MissingExtraError: If skops is not installed.
        """
        write_state(path, dump_knowledge(self._known))

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, tracer: Tracer | None = None, step_tracer: StepTracer | None = None
    ) -> CostModel:
        """Reads a model that :meth:`save` wrote; it predicts the same to the last bit.

        Args:
            path: The file.
            tracer: For models that were not in the fit; by default the installed one.
            step_tracer: For models that were not measured on a calibrated device; by default the installed one.

        Raises:
            CostModelError: If the file is no cost model, is damaged, holds an untrusted type or has another schema.
            MissingExtraError: If skops is not installed.
        """
        state = read_state(path)
        try:
            knowledge = load_knowledge(state)
        except CostModelError as error:
            raise CostModelError(f"{os.fspath(path)}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CostModelError(f"{os.fspath(path)} is damaged ({error!r}): fit it again") from error
        return cls(knowledge, tracer, step_tracer)

    def _device(self, device: str, mode: str) -> DeviceModel:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        chosen = self._known.devices.get(device)
        if chosen is None:
            raise UnknownNameError(
                "device",
                device,
                self._known.devices,
                "Run `devprof measure` or `devprof calibrate` on it, then `devprof fit` with its folder.",
            )
        return chosen

    def _complete(
        self, device: DeviceModel, model: str, mode: str, image_size: int | None, num_classes: int | None
    ) -> Configuration:
        """Fills in what the caller left open: as measured on the device, else as is commonest for the kind."""

        def agrees(known: Configuration) -> bool:
            return image_size in (None, known.image_size) and num_classes in (None, known.num_classes)

        own = [one for one in device.configurations if one.model == model and agrees(one)]
        pool = [one for one in own if one.mode == mode] or own
        if pool:
            best = Counter((one.image_size, one.num_classes) for one in pool).most_common(1)[0][0]
            return Configuration(model, mode, *best)
        alike = [one for one in self._known.features if model_kind(one.model) == model_kind(model)]
        return Configuration(
            model,
            mode,
            image_size if image_size is not None else _commonest([one.image_size for one in alike]),
            num_classes if num_classes is not None else _commonest([one.num_classes for one in alike]),
        )

    def _opinion(self, device: DeviceModel, configuration: Configuration) -> tuple[int, float] | None:
        """What the sum over its operators says of a model that was not measured on a calibrated device."""
        if device.calibrated is None or configuration in device.time.corrections:
            return None
        tracer, own = self._step_tracer or resolve("step_tracer"), configuration
        step = tracer(own.model, own.mode, own.image_size, own.num_classes, CALIBRATED_BATCH)
        return CALIBRATED_BATCH, device.calibrated.seconds(step)

    def _features_of(self, configuration: Configuration) -> Features:
        features = self._known.features.get(configuration) or self._traced.get(configuration)
        if features is None:
            tracer = self._tracer or resolve("tracer")
            own = configuration
            features = tracer(own.model, own.mode, own.image_size, own.num_classes)
            self._traced[configuration] = features
        return features


def _commonest(values: Sequence[int | None]) -> int | None:
    known = Counter(value for value in values if value is not None)
    return known.most_common(1)[0][0] if known else None
