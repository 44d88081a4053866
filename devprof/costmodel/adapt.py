"""Learning on the job: predictions of a device corrected by observed rounds, without refitting.

``log(observed / predicted) = device + model + noise``. What a device does now (it throttles, shares its processor, has another
power mode) is common to all its models and drifts; what the fit got wrong about one model stays. Each has a
:class:`~devprof.logfilter.LogFilter`: an observation is divided between the two by how uncertain each is (a Kalman filter of
both that neglects their covariance), so a model that was measured tells of the device, and a model of a new family mostly of
itself. Beyond the guard of three standard deviations an observation moves one of them, by a bounded amount: the device, or a
model that is new on a device which others have told of. A second observation that agrees is believed at once, as a change of
the device, except for the share that the doubt about a model never observed before has in it.
"""

from __future__ import annotations

import copy
import math
import numbers
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, TypeGuard

from devprof.costmodel.interval import LEVEL
from devprof.costmodel.predictor import Interval
from devprof.costmodel.samples import Configuration, clean_records
from devprof.errors import DevprofError
from devprof.logfilter import LogFilter
from devprof.records import MODES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Adaptation", "Observed", "PredictOne", "adapt", "read_observed"]

# Standard deviations of half of the 90 % interval.
_HALF = NormalDist().inv_cdf((1 + LEVEL) / 2)
# How far a device in use is from the same device when it was measured, before anything was observed. Processes minutes apart
# differ by 7 %; rounds share the machine with whatever else runs there.
_DEVICE_SD = 0.1
# By how much devices change at once: throttling makes them 1.2 to 3 times slower.
_JUMP_SD = 0.4
# Nothing is a hundred times as slow as predicted, or as fast; a time in milliseconds is, and its neighbours agree with it.
_ABSURD = math.log(100.0)
_LARGEST = 2**31 - 1

# (configuration, perhaps without sizes; batch size) -> the configuration with its sizes, and its uncorrected step.
PredictOne = Callable[[Configuration, int], tuple[Configuration, Interval]]


@dataclass(frozen=True, slots=True)
class Observed:
    """One observed round: its mean step."""

    configuration: Configuration
    batch_size: int
    step_s: float


@dataclass(slots=True)
class Adaptation:
    """What observed rounds have taught of one device.

    Attributes:
        device: Log of the factor on all its predictions.
        models: Log of the further factor of each configuration that was observed.
        taken: Rows that were learned from.
        doubted: How many of those were beyond the guard when they came.
        skipped: Rows that were not, by reason.
    """

    device: LogFilter = field(default_factory=lambda: LogFilter.with_prior(0.0, _DEVICE_SD))
    models: dict[Configuration, LogFilter] = field(default_factory=dict)
    taken: int = 0
    doubted: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def factor(self) -> float:
        """The factor on predictions of models that were not observed."""
        return math.exp(self.device.mean)

    def observe(self, configuration: Configuration, predicted: Interval, step_s: float) -> None:
        """Take in one observed step.

        Args:
            configuration: What was trained.
            predicted: Its uncorrected step.
            step_s: Seconds per step, as observed.
        """
        ratio = math.log(step_s / predicted.value)
        if abs(ratio) > _ABSURD:
            self.skipped["step_s is over a hundred times off the prediction: is it in seconds?"] += 1
            return
        own = self.models.get(configuration)
        if own is None:
            own = self.models[configuration] = LogFilter.with_prior(0.0, _sd(predicted))
            # What the fit got wrong about a model does not change from round to round.
            own.drift = 0.0
        self.taken += 1
        newcomer = own.observations == 0 or own.suspect is not None
        others = any(one.observations for key, one in self.models.items() if key != configuration)
        first, second = (own, self.device) if newcomer and others else (self.device, own)
        mean, variance = first.mean, first.variance
        if first.observe(ratio - second.mean, second.variance + own.noise):
            second.observe(ratio - mean, variance + own.noise)
            return
        self.doubted += 1
        if first is self.device and first.suspect is None and own.observations == 0:
            # It jumped, to a model that nothing else is known of: the doubt about the prediction has its share.
            share = own.variance / (own.variance + _JUMP_SD**2)
            moved = first.mean - mean
            first.mean, own.mean = first.mean - share * moved, own.mean + share * moved

    def correct(self, configuration: Configuration, steps: Sequence[Interval]) -> list[Interval]:
        """Predicted steps of a configuration times what was observed.

        The interval of an observed configuration is that of the filter, and never wider than the predicted one; others keep
        the width that they had.
        """
        if not self.taken:
            return list(steps)
        own = self.models.get(configuration)
        if own is None:
            factor = self.factor
            return [Interval(one.value * factor, one.low * factor, one.high * factor, "observed") for one in steps]
        factor = math.exp(self.device.mean + own.mean)
        sd = math.sqrt(self.device.variance + own.variance + own.noise)
        corrected = []
        for one in steps:
            spread, value = math.exp(_HALF * min(sd, _sd(one))), one.value * factor
            corrected.append(Interval(value, value / spread, value * spread, "observed"))
        return corrected

    def to_dict(self) -> dict[str, Any]:
        """The state as plain JSON types."""
        models = [[*_key(configuration), asdict(one)] for configuration, one in self.models.items()]
        plain = {"taken": self.taken, "doubted": self.doubted, "skipped": dict(self.skipped)}
        return {"device": asdict(self.device), "models": models, **plain}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Adaptation:
        """The state that :meth:`to_dict` wrote."""
        return cls(
            device=LogFilter(**data["device"]),
            models={Configuration(*key): LogFilter(**one) for *key, one in data["models"]},
            taken=int(data["taken"]),
            doubted=int(data["doubted"]),
            skipped=Counter(data["skipped"]),
        )


def adapt(
    known: Adaptation | None, rows: pd.DataFrame | Iterable[Mapping[str, Any]], predict: PredictOne
) -> Adaptation:
    """An adaptation that has seen further rows; ``known`` is left as it was.

    Args:
        known: What was learned before; ``None`` for nothing.
        rows: As for :meth:`devprof.costmodel.model.CostModel.adapt`.
        predict: Gives the uncorrected step; where it raises, rows are skipped.
    """
    found = Adaptation() if known is None else copy.deepcopy(known)
    predicted: dict[tuple[Configuration, int], tuple[Configuration, Interval] | None] = {}
    for record in clean_records(rows) if _is_frame(rows) else rows:
        observed, reason = read_observed(record)
        if observed is None:
            found.skipped[reason] += 1
            continue
        key = (observed.configuration, observed.batch_size)
        if key not in predicted:
            predicted[key] = _predicted(predict, *key)
        answer = predicted[key]
        if answer is None:
            found.skipped["model is not known or cannot be predicted"] += 1
        else:
            found.observe(*answer, observed.step_s)
    return found


def read_observed(record: object) -> tuple[Observed | None, str]:
    """A row as an observation, or why it is none; reasons are few, whatever a row holds."""
    if not isinstance(record, Mapping):
        return None, "the row is no mapping"
    model, mode = record.get("model"), record.get("mode")
    mode = MODES[0] if _empty(mode) else mode
    batch_size, step_s = _count(record.get("batch_size")), _number(record.get("step_s"))
    sizes = {name: record.get(name) for name in ("image_size", "num_classes") if not _empty(record.get(name))}
    counts = {name: _count(value) for name, value in sizes.items()}
    faults = {
        "model is no name": not isinstance(model, str) or not model,
        "mode is unknown": not isinstance(mode, str) or mode not in MODES,
        "batch_size is no positive whole number": batch_size is None,
        "step_s is not positive and finite": step_s is None or not 0 < step_s < math.inf,
        "image_size or num_classes is no positive whole number": None in counts.values(),
    }
    reason = next((reason for reason, wrong in faults.items() if wrong), "")
    if reason or batch_size is None or step_s is None:
        return None, reason
    return Observed(Configuration(str(model), str(mode), **counts), batch_size, step_s), ""


def _is_frame(rows: object) -> TypeGuard[pd.DataFrame]:
    return hasattr(rows, "to_dict")


def _empty(value: object) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, str) and not value)


def _number(value: object) -> float | None:
    """A number of any library; ``None`` for what is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _count(value: object) -> int | None:
    """A whole number from 1 to what a count can be; tables with nulls hold them as floats."""
    number = _number(value)
    if number is None or not 1 <= number <= _LARGEST or number != math.floor(number):
        return None
    return int(number)


def _predicted(predict: PredictOne, configuration: Configuration, size: int) -> tuple[Configuration, Interval] | None:
    try:
        complete, step = predict(configuration, size)
    except (DevprofError, ValueError, ArithmeticError):
        return None
    return (complete, step) if 0 < step.low <= step.value <= step.high < math.inf else None


def _sd(step: Interval) -> float:
    """Standard deviation of the logarithm of a step, from its interval."""
    return math.log(step.high / step.low) / (2 * _HALF)


def _key(one: Configuration) -> list[Any]:
    return [one.model, one.mode, one.image_size, one.num_classes]
