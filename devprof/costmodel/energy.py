"""Energy of a training step on one device: predicted step time times predicted power, with an interval of its own.

The energy of a model over the batch size has the shape that the power of :mod:`devprof.costmodel.power` gives it, and
what is known of its time corrects both of its parts, the fixed and the growing one. A model whose energy was measured keeps
what this was off by, again part by part. Power is energy over time, so the three always agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from devprof.costmodel.families import model_family
from devprof.costmodel.features import Features
from devprof.costmodel.interval import Widths
from devprof.costmodel.predictor import Interval, Predictor
from devprof.costmodel.samples import Configuration
from devprof.records import Estimate

__all__ = ["EnergyPredictor", "with_energy"]


@dataclass(frozen=True, slots=True)
class EnergyPredictor:
    """Predicts joules per step on one device.

    Attributes:
        joules: The base in joules, with what measured energies correct of it; its effects are those of power, its families
            those whose energy was measured.
        power_widths: Half widths of the interval of power alone, in log space.
        meter_error_rel: Bound on the relative error of the meter, the median of the rows; it widens every interval.
    """

    joules: Predictor
    power_widths: Widths
    meter_error_rel: float = 0.0

    def predict_sizes(
        self,
        configuration: Configuration,
        features: Features,
        batch_sizes: Sequence[int],
        time: Predictor,
        steps: Sequence[Interval],
    ) -> list[Interval]:
        """The joules of a step of a configuration at several batch sizes.

        Where its energy was measured, the interval comes from residuals of left-out batch sizes; where only its time was
        measured on the device, or the interval of its time comes from other devices, from that interval and the one of
        power, combined in quadrature; elsewhere from residuals of energy of left-out models and families.

        Args:
            configuration: What is trained.
            features: Its work.
            batch_sizes: Samples per step.
            time: The predictor of its time.
            steps: What that predicted, one for each batch size.
        """
        if configuration in self.joules.corrections:
            found = self.joules.predict_sizes(configuration, features, batch_sizes)
        else:
            curve = self.joules.regression.curve(features, np.array([0.0, *batch_sizes]))
            own = time.corrections.get(configuration)
            if own is None:
                # What is known of a model that was not measured is one factor on its time, the same at all batch sizes.
                seconds = time.regression.curve(features, np.array(batch_sizes, dtype=float))
                values = curve[1:] * np.array([one.value for one in steps]) / seconds
            else:
                values = own.apply(float(curve[0]), curve[1:])
            values = values * math.exp(self.joules.effects.of(configuration.model, configuration.mode))
            spreads = np.exp(self._widths(configuration, time, steps))
            found = [
                Interval(float(value), float(value / spread), float(value * spread), step.basis)
                for value, spread, step in zip(values, spreads, steps, strict=True)
            ]
        wider = 1 + self.meter_error_rel
        return [replace(one, low=one.low / wider, high=one.high * wider) for one in found]

    def _widths(self, configuration: Configuration, time: Predictor, steps: Sequence[Interval]) -> list[float]:
        """Half widths in log space at each batch size of a configuration whose energy was not measured."""
        known = model_family(configuration.model) in self.joules.families
        if time.probed or configuration in time.corrections:
            power = self.power_widths.of("known-family" if known else "new-family")
            return [math.hypot(power, math.log(max(one.high / one.value, one.value / one.low))) for one in steps]
        return [self.joules.half_width(configuration, one.basis if known else "new-family") for one in steps]


def with_energy(estimate: Estimate, energy: Interval, step: Interval) -> Estimate:
    """An estimate with its energy and, as energy over time, its power.

    Args:
        estimate: The step, perhaps corrected by observed rounds; at unchanged power, energy follows time.
        energy: Its joules, as predicted for ``step``.
        step: Its seconds before such a correction.
    """
    slower = estimate.step_s / step.value
    return replace(
        estimate,
        power_w=energy.value / step.value,
        energy_per_step_j=energy.value * slower,
        energy_per_step_j_lo=energy.low * slower,
        energy_per_step_j_hi=energy.high * slower,
    )
