"""One cost (time or memory) on one device: the base, what measurements correct of it, and how far off it may be."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from devprof.costmodel.capacity import monotone_bounds
from devprof.costmodel.corrections import Correction, fit_correction
from devprof.costmodel.effects import Effects
from devprof.costmodel.families import model_family, model_kind
from devprof.costmodel.features import Features
from devprof.costmodel.interval import Widths
from devprof.costmodel.samples import Configuration, Observation

__all__ = [
    "Interval",
    "Predictor",
    "Regression",
    "by_configuration",
    "correct",
    "correction_of",
    "measured_values",
]

Array = npt.NDArray[np.float64]

# A mode that was never measured borrows the coefficients of the other one. On the Raspberry Pi tables that is off by
# about 20 % where a base of the same mode is off by 13 %.
_OTHER_MODE_FACTOR = 1.5

# A configuration that was measured, measured again in another process: processes minutes apart differed by up to 7 % on a
# two-core PC, and published repeats by 5 % on average. In log space.
_AGAIN = 0.1


class Regression(Protocol):
    """Predicts a cost from features; the cost never falls with the batch size."""

    def curve(self, features: Features, batch_sizes: Array) -> Array:
        """The cost of a step at each batch size."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """A predicted cost with its 90 % interval and the basis of that interval."""

    value: float
    low: float
    high: float
    basis: str


@dataclass(frozen=True, slots=True)
class Predictor:
    """Predicts one cost on one device.

    Attributes:
        regression: The base.
        effects: What is known of models beyond it.
        corrections: The own factors of each measured configuration.
        measured: Measured cost of each configuration by batch size.
        families: Families with a model measured on the device.
        widths: Half widths of the interval by mode and basis, for image models.
        other_widths: The same for models of other kinds.
        probed: Whether so little was measured on the device that intervals come from kin devices treated likewise.
        opinion_weight: How much a sum over the operators of a model counts beside the base, between 0 and 1.
    """

    regression: Regression
    effects: Effects
    corrections: Mapping[Configuration, Correction]
    measured: Mapping[Configuration, Mapping[int, float]]
    families: frozenset[str]
    widths: Mapping[str, Widths]
    other_widths: Mapping[str, Widths]
    probed: bool = False
    opinion_weight: float = 0.0

    def predict(self, configuration: Configuration, features: Features, batch_size: int) -> Interval:
        """The cost of a step of a configuration at a batch size."""
        return self.predict_sizes(configuration, features, [batch_size])[0]

    def predict_sizes(
        self,
        configuration: Configuration,
        features: Features,
        batch_sizes: Sequence[int],
        opinion: tuple[int, float] | None = None,
    ) -> list[Interval]:
        """The costs of a step of a configuration at several batch sizes.

        Args:
            configuration: What is trained.
            features: Its work.
            batch_sizes: Samples per step.
            opinion: Another estimate of the cost, with its batch size; not asked where the configuration was measured.
        """
        asked = batch_sizes if opinion is None else [*batch_sizes, opinion[0]]
        curve = self.regression.curve(features, np.array([0.0, *asked]))
        fixed, values = float(curve[0]), curve[1 : len(batch_sizes) + 1]
        own = self.corrections.get(configuration)
        if own is not None:
            corrected = own.apply(fixed, values)
            return [
                self._known(configuration, float(value), size)
                for value, size in zip(corrected, batch_sizes, strict=True)
            ]
        effect = math.exp(self.effects.of(configuration.model, configuration.mode))
        if opinion is not None:
            effect *= (opinion[1] / (float(curve[-1]) * effect)) ** self.opinion_weight
        basis, width = self._basis(configuration)
        spread = math.exp(width)
        centres = (float(value) * effect for value in values)
        return [Interval(centre, centre / spread, centre * spread, basis) for centre in centres]

    def half_width(self, configuration: Configuration, basis: str) -> float:
        """The half width in log space of the interval of a configuration on one of the bases."""
        widths, factor = self._widths(configuration)
        return factor * widths.of(basis)

    def upper_bounds(self, configuration: Configuration, features: Features, batch_sizes: Array) -> Array:
        """The upper ends of the intervals, made never to fall with the batch size; see :mod:`devprof.costmodel.capacity`."""
        curve = self.regression.curve(features, np.concatenate([[0.0], batch_sizes]))
        own = self.corrections.get(configuration)
        if own is None:
            effect = math.exp(self.effects.of(configuration.model, configuration.mode))
            bounds: Array = curve[1:] * effect * math.exp(self._basis(configuration)[1])
            return bounds
        sizes, (widths, _) = self.measured[configuration], self._widths(configuration)
        inside = (min(sizes) < batch_sizes) & (batch_sizes < max(sizes))
        spread = np.where(inside, math.exp(widths.between), math.exp(widths.known_pair))
        known = self.predict_sizes(configuration, features, list(sizes))
        highs = {size: one.high for size, one in zip(sizes, known, strict=True)}
        return monotone_bounds(own.apply(float(curve[0]), curve[1:]) * spread, batch_sizes, highs)

    def _basis(self, configuration: Configuration) -> tuple[str, float]:
        """What the interval of a configuration that was not measured stands on, and its half width."""
        widths, factor = self._widths(configuration)
        if configuration.mode not in self.widths and not self.probed:
            return "new-family", factor * widths.new_family
        if (configuration.model, configuration.mode) in self.effects.measured:
            basis = "known-model"
        else:
            basis = "known-family" if model_family(configuration.model) in self.families else "new-family"
        return ("new-device" if self.probed else basis), factor * widths.of(basis)

    def _known(self, configuration: Configuration, value: float, batch_size: int) -> Interval:
        """A measured configuration: surest at a batch size that was measured itself.

        The centre stays on the curve, which is monotone in the batch size; the interval reaches around the measurement.
        """
        sizes, (widths, _) = self.measured[configuration], self._widths(configuration)
        measured = sizes.get(batch_size)
        if measured is None:
            inside = min(sizes) < batch_size < max(sizes)
            spread = math.exp(widths.between if inside else widths.known_pair)
            return Interval(value, value / spread, value * spread, "known-pair")
        spread = math.exp(min(_AGAIN, widths.between))
        return Interval(value, min(value, measured) / spread, max(value, measured) * spread, "measured")

    def _widths(self, configuration: Configuration) -> tuple[Widths, float]:
        """The widths for a configuration, and a factor on them."""
        by_mode = self.widths if model_kind(configuration.model) == "image" else self.other_widths
        own = by_mode.get(configuration.mode)
        return (next(iter(by_mode.values())), _OTHER_MODE_FACTOR) if own is None else (own, 1.0)


def correct(observations: Sequence[Observation], regression: Regression) -> dict[Configuration, Correction]:
    """The correction of each measured configuration."""
    return {configuration: correction_of(own, regression) for configuration, own in by_configuration(observations)}


def correction_of(own: Sequence[Observation], regression: Regression) -> Correction:
    """The correction of one configuration from its observations."""
    curve = regression.curve(own[0].features, np.array([0.0, *(one.batch_size for one in own)]))
    return fit_correction(float(curve[0]), curve[1:], [one.value for one in own])


def by_configuration(observations: Sequence[Observation]) -> list[tuple[Configuration, list[Observation]]]:
    """The observations of each configuration."""
    members: dict[Configuration, list[Observation]] = defaultdict(list)
    for one in observations:
        members[one.configuration].append(one)
    return list(members.items())


def measured_values(observations: Sequence[Observation]) -> dict[Configuration, dict[int, float]]:
    """Measured cost of each configuration by batch size; repeats joined by their geometric mean."""
    measured: dict[Configuration, dict[int, float]] = {}
    for configuration, own in by_configuration(observations):
        logs: dict[int, list[float]] = defaultdict(list)
        for one in own:
            logs[one.batch_size].append(math.log(one.value))
        measured[configuration] = {size: math.exp(float(np.mean(values))) for size, values in logs.items()}
    return measured
