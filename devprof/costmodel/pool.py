"""Estimates the base of kin devices together: the most probable costs given what was measured on all of them.

Kin devices run the same models with ratios of their times that hardly vary from model to model: generations of one board,
sizes of one chip. They share a profile of costs and each deviates from it a little, so that a new board needs a few probes
only. The estimate maximises the posterior of a Gaussian model in log space; errors of rows hang together as
:mod:`devprof.costmodel.effects` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from devprof.costmodel.base import BaseModel, Shape, combine, overlap_of, parameter_shape, shares, start, work_matrix
from devprof.costmodel.effects import NOISE_SD, Effects, Label, covariance
from devprof.costmodel.samples import Observation
from devprof.costmodel.solver import Whitener, maximise_posterior, whitening
from devprof.errors import CostModelError

__all__ = ["FittedPool", "Pool", "kin_groups"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# Devices with this many configurations in common are kin if the logarithms of their ratios spread less than this (standard
# deviation): two generations of one board 0.1, desktop GPUs of three generations 0.1 to 0.2, a board and a PC 0.4.
_ENOUGH_SHARED = 5
_MOST_SPREAD = 0.25
# A device with this many measured configurations needs no help of others that it does not resemble.
_STANDS_ALONE = 10


@dataclass(frozen=True)
class Pool:
    """What was measured on kin devices.

    Attributes:
        observations: All of them; at least one.
    """

    observations: tuple[Observation, ...]

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """The devices in the order of their first observation."""
        return tuple(dict.fromkeys(one.device for one in self.observations))

    @cached_property
    def labels(self) -> list[Label]:
        """What each observation shares with others."""
        return [
            Label(one.family, one.configuration.model, one.configuration.mode, one.device) for one in self.observations
        ]

    @cached_property
    def overlap(self) -> float:
        """How work and overhead overlap on these devices."""
        return overlap_of(self.observations[0].processor)

    @cached_property
    def _works(self) -> Array:
        return work_matrix((one.features, one.batch_size) for one in self.observations)

    @cached_property
    def measured(self) -> Array:
        """Log seconds of the observations."""
        return np.log([one.value for one in self.observations])

    @cached_property
    def shape(self) -> Shape:
        """How the costs hang together on these devices."""
        return parameter_shape(self.overlap)

    @cached_property
    def sds(self) -> Array:
        """Standard deviation of each parameter around 0: first of what is shared, then of each device's own."""
        count, shape = len(self.devices), self.shape
        return shape.sds if count == 1 else np.concatenate([shape.sds, *[shape.own_sds] * count])

    @cached_property
    def _device(self) -> Rows:
        return np.array([self.devices.index(one.device) for one in self.observations])

    @cached_property
    def _start(self) -> Array:
        # From the device that is known best: costs of devices differ too much to start from all of them.
        own = self._device == np.bincount(self._device).argmax()
        return start(self._works[own], np.exp(self.measured[own]))

    @cached_property
    def effects(self) -> Array:
        """Covariance of what the base does not explain of the observations, without noise."""
        return covariance(self.labels, self.labels)

    def fit(self, rows: Rows | None = None, near: FittedPool | None = None) -> FittedPool:
        """The most probable costs.

        Args:
            rows: The observations to learn from; all if ``None``.
            near: A fit of this pool to start from.
        """
        chosen = np.arange(len(self.observations)) if rows is None else rows
        whiten = self.whitener(chosen)
        first = np.zeros(len(self.sds)) if near is None else near.parameters

        def model(parameters: Array) -> tuple[Array, Callable[[], Array]]:
            return self.logs(parameters, chosen), lambda: self.slopes(parameters, chosen)

        parameters = maximise_posterior(model, self.measured[chosen], whiten, self.sds, first)
        return self.at(parameters, chosen, whiten)

    def at(self, parameters: Array, rows: Rows, whiten: Whitener | None = None) -> FittedPool:
        """What some parameters leave unexplained of some observations."""
        residuals = self.measured[rows] - self.logs(parameters, rows)
        whiten = self.whitener(rows) if whiten is None else whiten
        return FittedPool(self, rows, parameters, residuals, whiten.undo(whiten(residuals)))

    def whitener(self, rows: Rows) -> Whitener:
        """Makes the errors of some observations independent; those of different families are."""
        place = {row: number for number, row in enumerate(rows)}
        blocks = []
        for every, inverse in self._blocks:
            own = np.array([row for row in every if row in place], dtype=np.int64)
            if len(own):
                places = np.array([place[row] for row in own])
                blocks.append((places, inverse if len(own) == len(every) else self._whitening(own)))
        return Whitener(blocks)

    @cached_property
    def _blocks(self) -> list[tuple[Rows, Array]]:
        return [(rows, self._whitening(rows)) for rows in self.rows_of(lambda one: one.family).values()]

    def _whitening(self, rows: Rows) -> Array:
        return whitening(self.effects[np.ix_(rows, rows)] + NOISE_SD**2 * np.eye(len(rows)))

    def logs(self, parameters: Array, rows: Rows) -> Array:
        """Log seconds of some observations by the base alone."""
        return np.log(combine(self._parts(parameters, rows), self.overlap))

    def slopes(self, parameters: Array, rows: Rows) -> Array:
        """How :meth:`logs` moves with each parameter, shape (rows, parameters)."""
        shape = self.shape
        own = shares(self._parts(parameters, rows), self.overlap) @ shape.matrix
        count, width = len(self.devices), len(shape.sds)
        if count == 1:
            return own
        wide = np.zeros((len(rows), width * (count + 1)))
        wide[:, :width] = own
        for number in range(count):
            mine = self._device[rows] == number
            wide[mine, width * (number + 1) : width * (number + 2)] = own[mine]
        return wide

    def pulled(self, parameters: Array, rows: Rows, values: Array) -> Array:
        """The transpose of :meth:`slopes` times values, shape (parameters,), without the matrix."""
        moved = shares(self._parts(parameters, rows), self.overlap) * values[:, None]
        count = len(self.devices)
        own = np.array([moved[self._device[rows] == number].sum(axis=0) for number in range(count)]) @ self.shape.matrix
        whole: Array = own[0] if count == 1 else np.concatenate([own.sum(axis=0), *own])
        return whole

    def _parts(self, parameters: Array, rows: Rows) -> Array:
        parts: Array = self._works[rows] * self.costs(parameters)[self._device[rows]]
        return parts

    def without(self, out: Rows, near: FittedPool) -> FittedPool:
        """A fit to all observations but some."""
        return self.fit(np.setdiff1d(np.arange(len(self.observations)), out), near)

    def of(self, device: str) -> list[Observation]:
        """The observations of one device."""
        return [one for one in self.observations if one.device == device]

    def rows_of(self, key: Callable[[Observation], str]) -> dict[str, Rows]:
        """The rows of each group."""
        groups: dict[str, list[int]] = {}
        for row, one in enumerate(self.observations):
            groups.setdefault(key(one), []).append(row)
        return {name: np.array(rows) for name, rows in groups.items()}

    def costs(self, parameters: Array) -> Array:
        """Seconds per unit, shape (devices, columns)."""
        shape = self.shape
        blocks = parameters.reshape(-1, len(shape.sds))
        own = blocks if len(self.devices) == 1 else blocks[0] + blocks[1:]
        costs: Array = np.exp(np.log(self._start) + own @ shape.matrix.T)
        return costs


@dataclass(frozen=True)
class FittedPool:
    """The most probable costs of kin devices, and what they leave unexplained.

    Attributes:
        pool: What it was fitted to.
        rows: Which of its observations were used.
        parameters: The logarithms behind the costs.
        residuals: Log of measured over base of the used observations.
        pulls: The inverse of the errors' covariance times the residuals: with it, effects are one product away.
    """

    pool: Pool
    rows: Rows
    parameters: Array
    residuals: Array
    pulls: Array

    @cached_property
    def bases(self) -> Mapping[str, BaseModel]:
        """The base of each device."""
        costs = self.pool.costs(self.parameters)
        return {
            device: BaseModel(tuple(float(cost) for cost in own), self.pool.overlap)
            for device, own in zip(self.pool.devices, costs, strict=True)
        }

    def effects_without(self, out: Rows) -> Array:
        """The expected log of measured over base of some used observations, learned from the other ones."""
        shared = self.pool.effects
        # Those of other families say nothing of them.
        kept = ~np.isin(self.rows, out) & (shared[np.ix_(out, self.rows)] > 0).any(axis=0)
        rows = self.rows[kept]
        own = shared[np.ix_(rows, rows)] + NOISE_SD**2 * np.eye(len(rows))
        expected: Array = shared[np.ix_(out, rows)] @ np.linalg.solve(own, self.residuals[kept])
        return expected

    def known(self, device: str) -> Effects:
        """What is known of models and families on a device of the pool."""
        modes = dict.fromkeys(one.configuration.mode for one in self.pool.observations)
        models = dict.fromkeys((one.family, one.configuration.model) for one in self.pool.observations)
        families = dict.fromkeys(family for family, _ in models)
        labels = [Label(family, model, mode, device) for family, model in models for mode in modes]
        others = [Label(family, "", mode, device) for family in families for mode in modes]
        logs = covariance([*labels, *others], [self.pool.labels[row] for row in self.rows]) @ self.pulls
        return Effects(
            {(label.model, label.mode): float(log) for label, log in zip(labels, logs, strict=False)},
            {(label.family, label.mode): float(log) for label, log in zip(others, logs[len(labels) :], strict=True)},
            frozenset((one.configuration.model, one.configuration.mode) for one in self.pool.observations),
        )

    def base_logs(self, rows: Rows) -> Array:
        """Log seconds of observations by the base alone."""
        return self.pool.logs(self.parameters, rows)

    def log_errors(self, rows: Rows) -> Array:
        """Log of measured over predicted, effects included, of observations that were not used."""
        expected = self.base_logs(rows) + self.pool.effects[np.ix_(rows, self.rows)] @ self.pulls
        errors: Array = self.pool.measured[rows] - expected
        return errors


def kin_groups(observations: Sequence[Observation]) -> list[Pool]:
    """Sorts devices into groups of kin, largest first.

    A device joins the group whose best-known device runs the same configurations at the steadiest ratio. One with too few
    configurations in common to tell joins the group of its kind of processor with which it shares most: some costs of
    such a processor are better than none.

    Raises:
        CostModelError: If there is no observation.
    """
    if not observations:
        raise CostModelError("there is no measured step to fit a time model to: run `devprof measure` first")
    by_device: dict[str, list[Observation]] = {}
    for one in observations:
        by_device.setdefault(one.device, []).append(one)
    groups: list[list[str]] = []
    for device in sorted(by_device, key=lambda name: (-len(by_device[name]), name)):
        chosen = _kin_of(by_device[device], [(group, by_device[group[0]]) for group in groups])
        if chosen is None:
            groups.append([device])
        else:
            chosen.append(device)
    return [Pool(tuple(one for device in group for one in sorted(by_device[device], key=_order))) for group in groups]


def _order(one: Observation) -> tuple[str, str, int, int, int]:
    """A fixed order, because the rule for large errors looks at what is left of each after those before it."""
    configuration = one.configuration
    sizes = (configuration.image_size or 0, configuration.num_classes or 0, one.batch_size)
    return (configuration.model, configuration.mode, *sizes)


def _kin_of(own: Sequence[Observation], groups: Sequence[tuple[list[str], Sequence[Observation]]]) -> list[str] | None:
    mine = {(one.configuration, one.batch_size): np.log(one.value) for one in own}
    best, best_rank = None, (0, 0.0)  # the first of equals is the largest group
    for group, others in groups:
        if overlap_of(others[0].processor) != overlap_of(own[0].processor):
            continue
        ratios = [
            float(mine[one.configuration, one.batch_size] - np.log(one.value))
            for one in others
            if (one.configuration, one.batch_size) in mine
        ]
        spread = float(np.std(ratios)) if ratios else 0.0
        tells = len(ratios) >= _ENOUGH_SHARED
        if spread > _MOST_SPREAD if tells else len(mine) >= _STANDS_ALONE:
            continue
        rank = (2, -spread) if tells else (1, float(len(ratios)))
        if rank > best_rank:
            best, best_rank = group, rank
    return best
