"""Mean power while a device trains: idle power plus what products, memory traffic and overheads draw beyond it.

The time base says of how many seconds of each column a step consists (see :mod:`devprof.costmodel.base`). Each column is
of one of three kinds, and each kind draws watts of its own::

    watts_k = idle + dynamic * exp(deviation_k)
    joules of a step = the sum of the base with watts_k * seconds per unit as its costs
    power = joules / seconds

On a processor that works and starts operators one after the other this is the idle power plus the mean of the dynamic powers,
each kind weighing as much as its share of the step. All watts are positive, so energy is never negative and never falls
with the batch size. On small boards all networks draw nearly the same, so deviations are drawn towards 0: one measured row
gives one power for all, and further rows tell the kinds apart. What siblings draw beyond it carries over as random effects
of families and models, as it does for time (see :mod:`devprof.costmodel.effects`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from devprof.costmodel.base import COLUMNS, OVERHEADS, BaseModel, combine, shares, work_matrix
from devprof.costmodel.effects import Effects
from devprof.costmodel.samples import Observation
from devprof.costmodel.solver import Whitener, maximise_posterior, whitening
from devprof.errors import CostModelError
from devprof.records import MODES

__all__ = ["KINDS", "FittedPower", "PowerRow", "PowerTable"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
# Family and model of a row.
_Label = tuple[str, str]

KINDS: tuple[str, ...] = ("products", "traffic", "overheads")


def _kind(column: str) -> str:
    if column.endswith("_macs"):
        return "products"
    return "overheads" if column in (*OVERHEADS, "samples") else "traffic"


# Shape (columns, kinds): 1 where a column is of the kind.
_IS_KIND = np.array([[float(_kind(column) == kind) for kind in KINDS] for column in COLUMNS])

# Standard deviations in log space: of the dynamic power of all kinds, of one kind around it, of families, models and single
# rows. Assumed, not tuned: no published table that is at hand has power beside the steps of many networks on one device.
_DYNAMIC_SD, _KIND_SD = 5.0, 0.5
_FAMILY_SD, _MODEL_SD, _NOISE_SD = 0.03, 0.05, 0.05
# A device that idles above what it draws at work was idle at another moment: some dynamic power must be left.
_MOST_IDLE = 0.95
# Where a fit starts from another one, whose idle power was higher.
_LEAST_DYNAMIC = 0.01


@dataclass(frozen=True, slots=True)
class PowerRow:
    """One measured mean power.

    Attributes:
        observation: What was trained; its value is in watts.
        idle_power_w: Watts of the idle device; ``None`` where they were not measured.
        error_rel: Bound on the relative error of the meter; ``None`` where it is not known.
    """

    observation: Observation
    idle_power_w: float | None = None
    error_rel: float | None = None


@dataclass(frozen=True)
class PowerTable:
    """What was measured of the power of one device.

    Attributes:
        rows: At least one; powers are positive.
        seconds: The device's time base.
    """

    rows: tuple[PowerRow, ...]
    seconds: BaseModel

    def fit(self, rows: Rows | None = None, near: FittedPower | None = None) -> FittedPower:
        """The most probable watts of each kind, errors being relative.

        Args:
            rows: Those to learn from; all if ``None``.
            near: A fit of this table to start from.

        Raises:
            CostModelError: If there is no row.
        """
        chosen = np.arange(len(self.rows)) if rows is None else rows
        if not len(chosen):
            raise CostModelError(
                "there is no measured power to fit to: `power_w` and `energy_per_step_j` are empty in every row"
            )
        logs, idle = self.logs[chosen], self._idle(chosen)
        usual = float(np.exp(logs.mean())) - idle
        noise = np.array([_NOISE_SD**2 + (self.rows[row].error_rel or 0.0) ** 2 for row in chosen])
        covariance = self._covariance[np.ix_(chosen, chosen)] + np.diag(noise)
        whiten = Whitener([(np.arange(len(chosen)), whitening(covariance))])
        sds = np.array([_DYNAMIC_SD, *[_KIND_SD] * len(KINDS)])
        parts = self._parts[chosen]

        def model(parameters: Array) -> tuple[Array, Callable[[], Array]]:
            dynamic = usual * np.exp(parameters[0] + parameters[1:])
            joules = parts * (_IS_KIND @ (idle + dynamic))

            def jacobian() -> Array:
                by_kind = shares(joules, self.seconds.overlap) @ _IS_KIND * (dynamic / (idle + dynamic))
                return np.hstack([by_kind.sum(axis=1, keepdims=True), by_kind])

            return np.log(combine(joules, self.seconds.overlap)) - self._log_seconds[chosen], jacobian

        first = np.zeros(len(sds))
        if near is not None:
            # The same watts, from what is usual among these rows.
            first[1:] = np.log(np.maximum(np.array(near.watts) - idle, _LEAST_DYNAMIC * usual) / usual)
        parameters = maximise_posterior(model, logs, whiten, sds, first)
        pulls = whiten.undo(whiten(logs - model(parameters)[0]))
        watts = idle + usual * np.exp(parameters[0] + parameters[1:])
        return FittedPower(self, chosen, idle, tuple(float(value) for value in watts), pulls)

    @cached_property
    def logs(self) -> Array:
        """The logarithms of the measured watts."""
        return np.log([row.observation.value for row in self.rows])

    @cached_property
    def labels(self) -> list[_Label]:
        """Family and model of each row."""
        return [(row.observation.family, row.observation.configuration.model) for row in self.rows]

    @cached_property
    def _parts(self) -> Array:
        works = work_matrix((row.observation.features, row.observation.batch_size) for row in self.rows)
        parts: Array = works * np.array(self.seconds.seconds)
        return parts

    @cached_property
    def _log_seconds(self) -> Array:
        return np.log(combine(self._parts, self.seconds.overlap))

    @cached_property
    def _covariance(self) -> Array:
        return _covariance(self.labels, self.labels)

    def _idle(self, chosen: Rows) -> float:
        """Watts that all kinds draw."""
        own = [self.rows[row] for row in chosen]
        idles = [row.idle_power_w for row in own if row.idle_power_w is not None]
        lowest = min(row.observation.value for row in own)
        return min(float(np.median(idles)), _MOST_IDLE * lowest) if idles else 0.0


@dataclass(frozen=True)
class FittedPower:
    """The power of one device.

    Attributes:
        table: What it was fitted to.
        rows: Which of its rows were used.
        idle_power_w: Watts that all kinds draw; 0 where no idle power was measured, and then part of each kind.
        watts: Gross watts of each of :data:`KINDS`.
        pulls: The inverse of the errors' covariance times the residuals: with it, effects are one product away.
    """

    table: PowerTable
    rows: Rows
    idle_power_w: float
    watts: tuple[float, ...]
    pulls: Array

    @cached_property
    def joules(self) -> BaseModel:
        """Joules per unit of work: a base whose costs are joules instead of seconds."""
        seconds = self.table.seconds
        costs = np.array(seconds.seconds) * (_IS_KIND @ np.array(self.watts))
        return BaseModel(tuple(float(cost) for cost in costs), seconds.overlap)

    def log_errors(self, rows: Rows) -> Array:
        """Log of measured over predicted power, effects included, of rows that were not used."""
        table = self.table
        joules = table._parts[rows] * (_IS_KIND @ np.array(self.watts))  # noqa: SLF001 - one idea in two classes
        carried = table._covariance[np.ix_(rows, self.rows)] @ self.pulls  # noqa: SLF001
        expected = np.log(combine(joules, table.seconds.overlap)) - table._log_seconds[rows]  # noqa: SLF001
        errors: Array = table.logs[rows] - expected - carried
        return errors

    @cached_property
    def effects(self) -> Effects:
        """What measured models and their siblings draw beyond the kinds, the same in all modes."""
        labels = [self.table.labels[row] for row in self.rows]
        models = list(dict.fromkeys(labels))
        families = list(dict.fromkeys(family for family, _ in labels))
        own = _covariance(models, labels) @ self.pulls
        others = _covariance([(name, "") for name in families], labels) @ self.pulls
        return Effects(
            {(model, mode): float(log) for (_, model), log in zip(models, own, strict=True) for mode in MODES},
            {(family, mode): float(log) for family, log in zip(families, others, strict=True) for mode in MODES},
            frozenset((model, mode) for _, model in models for mode in MODES),
        )


def _covariance(rows: Sequence[_Label], columns: Sequence[_Label]) -> Array:
    """Covariance of the effects between families and models, without noise; shape (rows, columns)."""
    left, right = (np.array(side, dtype=object).reshape(-1, 2) for side in (rows, columns))
    same = left[:, None, :] == right[None, :, :]
    total: Array = same[..., 0] * _FAMILY_SD**2 + same[..., 1] * _MODEL_SD**2
    return total
