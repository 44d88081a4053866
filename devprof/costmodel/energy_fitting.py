"""From measured powers to the energy of a device: its base, what measurements correct of it, and its intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from devprof.costmodel.base import BaseModel
from devprof.costmodel.corrections import Correction
from devprof.costmodel.energy import EnergyPredictor
from devprof.costmodel.fitting import Modes, assemble
from devprof.costmodel.heldout import Book, by_family, by_model
from devprof.costmodel.interval import Groups, Residuals, Widths, calibrate
from devprof.costmodel.metering import Metered
from devprof.costmodel.power import FittedPower, PowerRow, PowerTable
from devprof.costmodel.predictor import Predictor, Regression, by_configuration, correction_of
from devprof.costmodel.samples import Configuration, Observation, Sample
from devprof.costmodel.solver import solve_non_negative

__all__ = ["FittedEnergy", "fit_energy_predictor"]

# Basis, configuration and batch size of what was left out.
_Place = tuple[str, Configuration, int]

# How strongly measured powers at several batch sizes are taken to be off by one factor: noise of 0.05 over a spread of
# the two parts' factors of 0.15, both assumed.
_ALIKE = 0.05 / 0.15
# Half width of power alone where no family was left out, on a processor that works through operators one after the other:
# all networks keep it busy. An accelerator waits as often as it works, so there the wider rule of all costs holds.
_ASSUMED_CPU = 0.4


@dataclass(frozen=True, slots=True)
class FittedEnergy:
    """The energy of a device and what it is off by.

    Attributes:
        predictor: Of joules per step.
        energy_residuals: Log of measured over predicted energy of what was left out, by mode.
        power_residuals: The same of power.
    """

    predictor: EnergyPredictor
    energy_residuals: Modes
    power_residuals: Modes


def fit_energy_predictor(
    samples: Sequence[Sample], time: Predictor, observations: Sequence[Observation], residuals: Modes
) -> FittedEnergy:
    """Fits the energy of one device.

    Residuals of energy are those of time and of power of the same left-out model or family, added row by row. Seconds by
    kind of work stay those of the whole time base: how a step divides into kinds has then seen what was left out, how long
    it takes and what it draws has not.

    Args:
        samples: What was measured on the device; those without power are passed over.
        time: The predictor of its times.
        observations: The step times behind ``residuals``, in the order in which they were left out.
        residuals: Of left-out step times, by mode.

    Raises:
        CostModelError: If no power was measured.
        MissingExtraError: If scipy is not installed.
    """
    metered = [(one, one.metered) for one in samples if one.metered is not None]
    assert isinstance(time.regression, BaseModel)
    rows = [PowerRow(Observation.of(one, own.power_w), own.idle_power_w, own.error_rel) for one, own in metered]
    energies = [Observation.of(one, own.energy_per_step_j) for one, own in metered]
    table = PowerTable(tuple(rows), time.regression)
    power = table.fit()
    powers, joules = _left_out(power, metered, _times_left_out(observations, residuals))
    powers_of = [row.observation for row in rows]
    for one, basis, residual in _batch_sizes_left_out(energies, powers_of, power, time.regression, observations):
        joules.add(one, basis, one.configuration.model, residual)
    modes = {mode: one for (_, mode), one in joules.close().items()}
    power_modes = {mode: one for (_, mode), one in powers.close().items()}
    power_widths = _power_widths(power_modes, time.regression)
    predictor = assemble(energies, power.joules, power.effects, modes)
    predictor = replace(
        predictor,
        corrections={
            configuration: _correction(own, power, time.regression, time.corrections[configuration])
            for configuration, own in by_configuration([row.observation for row in rows])
        },
        widths=_with_time(predictor.widths, time.widths, power_widths, modes),
        other_widths=_with_time(predictor.other_widths, time.other_widths, power_widths, modes),
    )
    known = [own.error_rel for _, own in metered if own.error_rel is not None]
    meter_error = float(np.median(known)) if known else 0.0
    return FittedEnergy(EnergyPredictor(predictor, power_widths, meter_error), modes, power_modes)


def _left_out(
    power: FittedPower, metered: Sequence[tuple[Sample, Metered]], times: Mapping[_Place, float]
) -> tuple[Book, Book]:
    """The residuals of power and of energy, each model and each family left out of power as it was of time.

    Args:
        power: The fit to all.
        metered: The samples behind its rows.
        times: The residuals of left-out step times.
    """
    powers, joules = Book(), Book()
    table = power.table
    for bases, key in ((("models", "kin"), by_model), (("families",), by_family)):
        groups = np.array([key(row.observation) for row in table.rows], dtype=object)
        for group in dict.fromkeys(groups):
            out, rest = np.flatnonzero(groups == group), np.flatnonzero(groups != group)
            if not len(rest):
                break
            for row, off in zip(out, table.fit(rest, power).log_errors(out), strict=True):
                one, (sample, own) = table.rows[row].observation, metered[int(row)]
                powers.add(one, bases[0], group, off)
                for basis in bases:
                    timed = times.get((basis, one.configuration, one.batch_size))
                    if timed is not None:
                        # Measured joules may differ from watts times the median step.
                        beyond = math.log(own.energy_per_step_j / (own.power_w * sample.step_s))
                        energy = Observation.of(sample, own.energy_per_step_j)
                        joules.add(energy, basis, group, timed + float(off) + beyond)
    return powers, joules


def _times_left_out(observations: Sequence[Observation], residuals: Modes) -> dict[_Place, float]:
    """The residual of each left-out step time by basis, configuration and batch size.

    Residuals of a group are in the order of its rows, so each finds its row again.
    """
    found = {}
    for mode, own in residuals.items():
        for basis, key in (("models", by_model), ("kin", by_model), ("families", by_family)):
            groups: Groups = getattr(own, basis)
            for group, values in groups.items():
                rows = [one for one in observations if one.configuration.mode == mode and key(one) == group]
                for one, value in zip(rows, values, strict=True):
                    found[basis, one.configuration, one.batch_size] = value
    return found


def _batch_sizes_left_out(
    energies: Sequence[Observation],
    powers: Sequence[Observation],
    power: FittedPower,
    seconds: Regression,
    times: Sequence[Observation],
) -> Iterator[tuple[Observation, str, float]]:
    """Each measured energy, predicted from times and powers at the other batch sizes of its configuration.

    Yields:
        What was left out, ``between`` others or beyond them (``pairs``), and the log of measured over predicted.
    """
    powers_of, times_of = dict(by_configuration(powers)), dict(by_configuration(times))
    for configuration, own in by_configuration(energies):
        for left_out in own if len(own) > 1 else ():
            size = left_out.batch_size
            timed = correction_of([one for one in times_of[configuration] if one.batch_size != size], seconds)
            rest = [one for one in powers_of[configuration] if one.batch_size != size]
            curve = power.joules.curve(left_out.features, np.array([0.0, size]))
            predicted = _correction(rest, power, seconds, timed).apply(float(curve[0]), curve[1:])[0]
            sizes = [one.batch_size for one in rest]
            basis = "between" if min(sizes) < size < max(sizes) else "pairs"
            yield left_out, basis, math.log(left_out.value / predicted)


def _correction(own: Sequence[Observation], power: FittedPower, seconds: Regression, timed: Correction) -> Correction:
    """That of the energy of one configuration: what corrects its time, and what its power is still off by then.

    One batch size scales both parts of the energy alike; more tell them apart, beside a prior that keeps them alike, because
    meters are noisy and power hardly changes with the batch size beyond what the kinds of work say.

    Args:
        own: Its measured powers.
        power: The power of the device.
        seconds: The base of its times.
        timed: What corrects that for the configuration.
    """
    sizes = np.array([0.0, *(one.batch_size for one in own)])
    joules, base = (one.curve(own[0].features, sizes) for one in (power.joules, seconds))
    fixed, whole = timed.fixed * float(joules[0]), timed.apply(float(joules[0]), joules[1:])
    measured = np.array([one.value for one in own]) * timed.apply(float(base[0]), base[1:])
    ratio = float(np.exp(np.mean(np.log(measured / whole))))
    rows = np.column_stack([np.full_like(whole, fixed), whole - fixed]) * ratio / measured[:, None]
    matrix = np.vstack([rows, _ALIKE * np.eye(2)])
    factors = ratio * solve_non_negative(matrix, np.concatenate([np.ones(len(own)), [_ALIKE, _ALIKE]]))
    return Correction(timed.fixed * float(factors[0]), timed.growing * float(factors[1]))


def _power_widths(modes: Modes, seconds: BaseModel) -> Widths:
    """The widths of power alone, of all modes: what a model draws hardly depends on what of it is trained."""
    joined = _joined(modes)
    if joined.families or seconds.overlap != 1.0:
        return calibrate(joined)
    note = f"no family could be left out, half widths of {_ASSUMED_CPU} are assumed"
    return Widths(_ASSUMED_CPU, _ASSUMED_CPU, _ASSUMED_CPU, _ASSUMED_CPU, _ASSUMED_CPU, note)


def _with_time(own: Mapping[str, Widths], time: Mapping[str, Widths], power: Widths, modes: Modes) -> dict[str, Widths]:
    """Widths of energy in all modes of the time.

    Those of time and of power in quadrature where no family's energy was left out; elsewhere its own, but never narrower than
    those of time, because few residuals cancel by chance.
    """
    found = {}
    for mode, timed in time.items():
        judged = mode in modes and bool(modes[mode].families)
        widths = {}
        for name in (one.name for one in fields(Widths) if one.name != "note"):
            of_time = float(getattr(timed, name))
            both = math.hypot(of_time, float(getattr(power, name)))
            widths[name] = max(of_time, float(getattr(own[mode], name))) if judged else both
        note = own[mode].note if judged else "no family's energy could be left out, from those of time and of power"
        found[mode] = Widths(**widths, note=note)
    return found


def _joined(modes: Modes) -> Residuals:
    """Residuals of all modes as one: what a model draws hardly depends on what it trains."""
    models: dict[str, list[float]] = {}
    families: dict[str, list[float]] = {}
    for one in modes.values():
        for groups, joined in ((one.models, models), (one.families, families)):
            for group, values in groups.items():
                joined.setdefault(group, []).extend(values)
    # Another batch size of a measured model is no harder than a model that was left out.
    return Residuals(pairs=models, models=models, families=families)
