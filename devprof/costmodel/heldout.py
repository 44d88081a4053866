"""What a fit says of measurements that it did not see: log residuals of left-out models, families and batch sizes.

Each model, then each family, is left out of the fit of all kin devices at once, so that no sibling and no copy on another
board helps. :mod:`devprof.costmodel.leaveout` does so without hundreds of fits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from devprof.costmodel.interval import Residuals
from devprof.costmodel.leaveout import LeaveOut
from devprof.costmodel.memory import fit_memory
from devprof.costmodel.pool import FittedPool, Pool
from devprof.costmodel.predictor import Regression, by_configuration, correction_of
from devprof.costmodel.samples import Observation, Sample

__all__ = [
    "PROBED",
    "Book",
    "by_family",
    "by_model",
    "device_residuals",
    "is_little",
    "memory_residuals",
    "time_residuals",
]

Rows = npt.NDArray[np.int64]
Collected = defaultdict[str, list[float]]
# Residuals by device and mode.
ByMode = dict[tuple[str, str], Residuals]

# A device with fewer measured configurations than this has too few residuals of its own.
PROBED = 8
_DRAWS = 8


def is_little(measured: Iterable[Observation | Sample]) -> bool:
    """Whether a device was measured with fewer than :data:`PROBED` configurations."""
    return len({one.configuration for one in measured}) < PROBED


def by_family(observation: Observation) -> str:
    """The group of leave-one-family-out."""
    return observation.family


def by_model(observation: Observation) -> str:
    """The group of leave-one-model-out."""
    return observation.configuration.model


class Book:
    """Residuals as they come, by device, mode, basis and group."""

    def __init__(self) -> None:
        self._values: defaultdict[tuple[str, str], defaultdict[str, Collected]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        self._costs: defaultdict[tuple[str, str], Collected] = defaultdict(lambda: defaultdict(list))

    def add_rows(self, pool: Pool, rows: Rows, basis: str, residuals: Iterable[float]) -> None:
        """Take in the residuals of rows of a pool."""
        for row, residual in zip(rows, residuals, strict=True):
            one = pool.observations[row]
            self.add(one, basis, by_family(one) if basis == "families" else by_model(one), residual)

    def add(self, one: Observation, basis: str, group: str, residual: float) -> None:
        """Take in the residual of one left-out measurement."""
        key = (one.device, one.configuration.mode)
        self._values[key][basis][group].append(float(residual))
        self._costs[key][basis].append(one.value)

    def close(self) -> ByMode:
        """All residuals, by device and mode."""
        return {
            key: Residuals(**{basis: dict(groups) for basis, groups in bases.items()}, costs=dict(self._costs[key]))
            for key, bases in self._values.items()
        }


def time_residuals(pool: Pool, fitted: FittedPool) -> ByMode:
    """The residuals of left-out step times, by device and mode.

    Args:
        pool: What was measured on kin devices.
        fitted: The fit to all of it.
    """
    book, left_out = Book(), LeaveOut(fitted)
    models, families = pool.rows_of(by_model), pool.rows_of(by_family)
    for rows in models.values():
        if len(models) < 2:
            break
        without = left_out.without(rows)
        book.add_rows(pool, rows, "models", without.log_errors(rows))
        _leave_batch_sizes_out(book, [pool.observations[row] for row in rows], without.bases)
        if len(pool.devices) > 1:
            _leave_model_to_kin(book, fitted, rows)
    for rows in families.values():
        if len(families) < 2:
            break
        book.add_rows(pool, rows, "families", left_out.without(rows).log_errors(rows))
    if len(models) < 2:
        _leave_batch_sizes_out(book, pool.observations, fitted.bases)
    return book.close()


def _leave_model_to_kin(book: Book, fitted: FittedPool, rows: Rows) -> None:
    """A model's residuals on each device, with its measurements on kin devices kept.

    The base stays the one that has seen them: some forty costs hardly move with one model on one device.
    """
    pool = fitted.pool
    for device in {pool.observations[row].device for row in rows}:
        own = np.array([row for row in rows if pool.observations[row].device == device])
        if len(own) == len(rows):
            continue
        logs = np.log([pool.observations[row].value for row in own])
        book.add_rows(pool, own, "kin", logs - fitted.base_logs(own) - fitted.effects_without(own))


def _leave_batch_sizes_out(book: Book, observations: Sequence[Observation], bases: Mapping[str, Regression]) -> None:
    """Each batch size of a configuration predicted from its others: going beyond them is another matter than between."""
    for device, regression in bases.items():
        for _, own in by_configuration([one for one in observations if one.device == device]):
            for left_out in own if len(own) > 1 else ():
                rest = [one for one in own if one is not left_out]
                sizes = [one.batch_size for one in rest]
                inside = min(sizes) < left_out.batch_size < max(sizes)
                curve = regression.curve(left_out.features, np.array([0.0, left_out.batch_size]))
                predicted = correction_of(rest, regression).apply(float(curve[0]), curve[1:])[0]
                residual = np.log(left_out.value / predicted)
                book.add(left_out, "between" if inside else "pairs", left_out.configuration.model, residual)


def memory_residuals(observations: Sequence[Observation]) -> ByMode:
    """The residuals of left-out memory peaks of one device, by mode."""
    book = Book()

    def leave_out(basis: str, key: Callable[[Observation], str]) -> None:
        groups = dict.fromkeys(key(one) for one in observations)
        for group in groups if len(groups) > 1 else ():
            model = fit_memory([one for one in observations if key(one) != group])
            own = [one for one in observations if key(one) == group]
            for one in own:
                predicted = model.curve(one.features, np.array([float(one.batch_size)]))[0]
                book.add(one, basis, group, np.log(one.value / predicted))
            if basis == "models":
                _leave_batch_sizes_out(book, own, {one.device: model for one in own})

    leave_out("models", by_model)
    leave_out("families", by_family)
    return book.close()


def device_residuals(pool: Pool, fitted: FittedPool, probes: int, *, seed: int = 0) -> dict[str, Residuals]:
    """What a device with few probes may be off by: kin devices treated as if they had no more.

    Every device with at least :data:`PROBED` configurations in turn keeps ``probes`` random rows of its own. Of the rest,
    known models are predicted with the others' rows (``kin``), one random family without them (``families``).

    Returns:
        Residuals by mode, groups named by device and model or family; empty where no kin device has enough rows.
    """
    random = np.random.default_rng(seed)
    book = Book()
    for device, own in pool.rows_of(lambda one: one.device).items():
        if is_little(pool.of(device)) or len(pool.devices) < 2:
            continue
        for _ in range(_DRAWS):
            kept = random.choice(own, min(probes, len(own) - 1), replace=False)
            out = np.setdiff1d(own, kept)
            near = pool.without(out, fitted)
            for row, residual in zip(out, near.log_errors(out), strict=True):
                one = pool.observations[row]
                book.add(one, "kin", f"{one.configuration.model} on {device}", residual)
            family = pool.observations[random.choice(out)].family
            hidden = np.array([row for row, one in enumerate(pool.observations) if one.family == family])
            rows = np.intersect1d(hidden, out)
            unseen = pool.without(np.union1d(hidden, out), near)
            for row, residual in zip(rows, unseen.log_errors(rows), strict=True):
                book.add(pool.observations[row], "families", f"{family} on {device}", residual)
    return _join_devices(book.close())


def _join_devices(residuals: ByMode) -> dict[str, Residuals]:
    joined: dict[str, tuple[dict[str, Sequence[float]], dict[str, Sequence[float]]]] = {}
    for (_, mode), one in residuals.items():
        kin, families = joined.setdefault(mode, ({}, {}))
        kin.update(one.kin)
        families.update(one.families)
    return {mode: Residuals(kin=kin, models=families, families=families) for mode, (kin, families) in joined.items()}
