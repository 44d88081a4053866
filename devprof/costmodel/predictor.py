"""One cost (time or memory) on one device: the base, what measured models correct of it, and how far off it may be."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from devprof.costmodel.evaluate import (
    Fit,
    Observation,
    Regression,
    by_family,
    by_model,
    fit_observations,
    leave_one_batch_size_out,
    leave_one_group_out,
)
from devprof.costmodel.features import Features, model_family, model_kind
from devprof.costmodel.interval import Widths, calibrate
from devprof.costmodel.lines import Line, fit_line
from devprof.costmodel.samples import Configuration

__all__ = ["Interval", "Predictor", "Residuals", "fit_predictor"]

# A mode that was never measured borrows the coefficients of the other one. On the Raspberry Pi tables that is off by
# about 20 % where a base of the same mode is off by 13 %.
_OTHER_MODE_FACTOR = 1.5


_ENOUGH_IMAGE_FAMILIES = 3

# A configuration that was measured, measured again in another process: processes minutes apart differed by up to 7 % on a
# two-core PC, and published repeats by 5 % on average. In log space.
_AGAIN = 0.1


@dataclass(frozen=True, slots=True)
class Interval:
    """A predicted cost with its 90 % interval and the basis of that interval."""

    value: float
    low: float
    high: float
    basis: str


@dataclass(frozen=True, slots=True)
class Residuals:
    """Log residuals of what was left out, by group: what the widths and the error reports are made of."""

    between: Mapping[str, Sequence[float]]
    pairs: Mapping[str, Sequence[float]]
    models: Mapping[str, Sequence[float]]
    families: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Predictor:
    """Predicts one cost on one device.

    Attributes:
        regression: The base.
        lines: The own line of each measured configuration.
        measured: Measured cost of each configuration by batch size.
        ratios: Measured over base of each measured (model, mode), for its other image sizes and numbers of classes.
        families: Families with a measured model.
        widths: Half widths of the interval by basis, for image models.
        other_widths: The same for models of other kinds.
    """

    regression: Regression
    lines: Mapping[Configuration, Line]
    measured: Mapping[Configuration, Mapping[int, float]]
    ratios: Mapping[tuple[str, str], float]
    families: frozenset[str]
    widths: Widths
    other_widths: Widths

    def predict(self, configuration: Configuration, features: Features, batch_size: int) -> Interval:
        """The cost of a step of a configuration at a batch size."""
        own = self.lines.get(configuration)
        if own is not None:
            return self._known(configuration, own.at(batch_size), batch_size)
        line = self.regression.line(features)
        ratio = self.ratios.get((configuration.model, configuration.mode))
        if ratio is not None:
            return self._interval(configuration, line.at(batch_size) * ratio, "known-family")
        basis = "known-family" if model_family(configuration.model) in self.families else "new-family"
        return self._interval(configuration, line.at(batch_size), basis)

    def predict_other_mode(self, configuration: Configuration, features: Features, batch_size: int) -> Interval:
        """The same from the base alone and with a wider interval, for a mode that was not measured on the device."""
        value = self.regression.line(features).at(batch_size)
        return self._interval(configuration, value, "new-family", _OTHER_MODE_FACTOR)

    def _known(self, configuration: Configuration, value: float, batch_size: int) -> Interval:
        """A measured configuration: surest at a batch size that was measured itself.

        The centre stays on the line, which is monotone in the batch size; the interval reaches around the measurement.
        """
        sizes, widths = self.measured[configuration], self._widths(configuration)
        measured = sizes.get(batch_size)
        if measured is None:
            inside = min(sizes) < batch_size < max(sizes)
            spread = math.exp(widths.between if inside else widths.known_pair)
            return Interval(value, value / spread, value * spread, "known-pair")
        spread = math.exp(min(_AGAIN, widths.between))
        return Interval(value, min(value, measured) / spread, max(value, measured) * spread, "measured")

    def _interval(self, configuration: Configuration, value: float, basis: str, widen: float = 1.0) -> Interval:
        spread = math.exp(widen * self._widths(configuration).of(basis))
        return Interval(value, value / spread, value * spread, basis)

    def _widths(self, configuration: Configuration) -> Widths:
        return self.widths if model_kind(configuration.model) == "image" else self.other_widths


def fit_predictor(observations: Sequence[Observation], fit: Fit) -> tuple[Predictor, Residuals]:
    """Fits the base and the corrections, and calibrates the interval on what is left out in turn.

    Args:
        observations: Measured costs on one device; at least one.
        fit: How the base is fitted.
    """
    regression = fit_observations(fit, observations)
    residuals = Residuals(
        between=leave_one_batch_size_out(observations, fit, between=True),
        pairs=leave_one_batch_size_out(observations, fit, between=False),
        models=leave_one_group_out(observations, fit, by_model),
        families=leave_one_group_out(observations, fit, by_family),
    )
    siblings: dict[str, set[str]] = defaultdict(set)
    for one in observations:
        siblings[one.family].add(one.configuration.model)
    with_sibling = {
        model: values for model, values in residuals.models.items() if len(siblings[model_family(model)]) > 1
    }
    # Small models of other kinds are far harder to predict than image models among themselves: where there are enough
    # image models, their intervals come from their own residuals.
    images = {one.family for one in observations if model_kind(one.configuration.model) == "image"}
    chosen = images if len(images) >= _ENOUGH_IMAGE_FAMILIES else set(siblings)
    predictor = Predictor(
        regression=regression,
        lines=_own_lines(observations, regression),
        measured=_measured(observations),
        ratios=_ratios(observations, regression),
        families=frozenset(siblings),
        widths=calibrate(
            {model: values for model, values in residuals.pairs.items() if model_family(model) in chosen},
            {model: values for model, values in with_sibling.items() if model_family(model) in chosen},
            {family: values for family, values in residuals.families.items() if family in chosen},
            {model: values for model, values in residuals.between.items() if model_family(model) in chosen},
        ),
        other_widths=calibrate(residuals.pairs, with_sibling, residuals.families, residuals.between),
    )
    return predictor, residuals


def _own_lines(observations: Sequence[Observation], regression: Regression) -> dict[Configuration, Line]:
    members: dict[Configuration, list[Observation]] = defaultdict(list)
    for one in observations:
        members[one.configuration].append(one)
    return {
        configuration: fit_line(
            regression.line(own[0].features), [one.batch_size for one in own], [one.value for one in own]
        )
        for configuration, own in members.items()
    }


def _measured(observations: Sequence[Observation]) -> dict[Configuration, dict[int, float]]:
    logs: dict[Configuration, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in observations:
        logs[one.configuration][one.batch_size].append(math.log(one.value))
    return {
        configuration: {size: math.exp(float(np.mean(values))) for size, values in own.items()}
        for configuration, own in logs.items()
    }


def _ratios(observations: Sequence[Observation], regression: Regression) -> dict[tuple[str, str], float]:
    logs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in observations:
        base = regression.line(one.features).at(one.batch_size)
        logs[one.configuration.model, one.configuration.mode].append(math.log(one.value / base))
    return {key: float(np.exp(np.mean(values))) for key, values in logs.items()}
