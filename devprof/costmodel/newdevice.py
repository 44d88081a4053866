"""How well a device that was hardly measured would be predicted: each well-known device treated as new.

With probes: a device keeps a few random rows, its kin devices keep theirs. Without any: all that is known of it is its
calibration. Draws are few, because a fit of a thousand rows should stay a matter of seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from devprof.costmodel.calibrations import (
    CALIBRATED_BATCH,
    DeviceOperators,
    calibrate_device,
    calibrated_widths,
    chain_observations,
)
from devprof.costmodel.devices import BESIDE_KIN, single_thread
from devprof.costmodel.evaluate import KNOWN_MODELS, UNSEEN_FAMILY, NewDeviceError, summarize_new_device
from devprof.costmodel.features import Tracer
from devprof.costmodel.heldout import is_little
from devprof.costmodel.interval import Widths
from devprof.costmodel.pool import FittedPool, Pool, kin_groups
from devprof.costmodel.predictor import Predictor
from devprof.costmodel.samples import Observation, Sample, time_observations
from devprof.costmodel.step import StepTracer
from devprof.errors import DevprofError
from devprof.records import MODES

__all__ = ["PROBES", "new_device_errors"]

PROBES: tuple[int, ...] = (0, 1, 3, 5, 10)
_PROBED = tuple(count for count in PROBES if count)

Rows = npt.NDArray[np.int64]
Found = dict[tuple[str, int], list[float]]

_MOST_DRAWS = 20
# A device is predicted from at most so many kin devices, and of a pool at most so many devices are treated as new: the time
# of a fit grows with the square of the number of devices.
_MOST_KIN = 3
_MOST_DEVICES = 4
# Fits may cost as much as this, all together. One fit of one device's few rows costs 4; all of it took 3 s on a two-core PC.
_BUDGET = 8000.0
# Rows from which on they, and no longer the number of costs, make a fit slow.
_MANY_ROWS = 700.0
# Of a calibrated device at most so many rows are predicted from its operators: tracing a step takes half a second.
_MOST_TRACED = 20
_MOST_FAMILIES = 3


def new_device_errors(
    samples: Sequence[Sample],
    calibrations: Mapping[str, DeviceOperators],
    tracer: Tracer,
    step_tracer: StepTracer,
    *,
    seed: int = 0,
) -> tuple[NewDeviceError, ...]:
    """The errors of each device with at least eight measured configurations, treated as if it were new.

    Args:
        samples: What was measured.
        calibrations: Operators by device.
        tracer: Gives the features of a model.
        step_tracer: Gives the operators of a model.
        seed: Of the draws.

    Returns:
        For each device both schemes and all of :data:`PROBES`, with a note where there is no number.

    Raises:
        MissingExtraError: If scipy or threadpoolctl is not installed.
    """
    observations = time_observations(samples)
    pools = kin_groups(observations) if observations else []
    draws = _draws(pools)
    found: list[NewDeviceError] = []
    with single_thread():
        for pool in pools:
            for place, device in enumerate(_well_known(pool)):
                random = np.random.default_rng((seed, place))
                found += _calibrated(observations, device, calibrations.get(device), (tracer, step_tracer), random)
                found += _probed(pool, device, draws if place < _MOST_DEVICES else 0, random)
    return tuple(found)


def _well_known(pool: Pool) -> list[str]:
    """The devices of a pool that can be treated as new, best-known first."""
    rows = pool.rows_of(lambda one: one.device)
    known = [device for device in pool.devices if not is_little(pool.of(device))]
    return sorted(known, key=lambda device: -len(rows[device]))


def _draws(pools: Sequence[Pool]) -> int:
    """How many draws each device gets within the budget. It depends on the table alone, so a second fit finds the same."""
    price = 0.0
    for pool in pools:
        devices = min(len(pool.devices), 1 + _MOST_KIN)
        tried = min(len(_well_known(pool)), _MOST_DEVICES) if devices > 1 else 0
        price += tried * 2 * len(_PROBED) * (devices + 1) ** 2 * (1 + len(pool.observations) / _MANY_ROWS)
    return 0 if price > _BUDGET else min(_MOST_DRAWS, int(_BUDGET / price)) if price else 0


def _probed(pool: Pool, device: str, draws: int, random: np.random.Generator) -> list[NewDeviceError]:
    """With one and more probes, from kin devices."""
    if len(pool.devices) < 2:
        return _without_number(
            device, _PROBED, "needs a kin device: another one that ran the same models at steady ratios"
        )
    if draws == 0:
        return _without_number(
            device, _PROBED, "not tried: there are so many rows or devices that it would take too long"
        )
    small = _smaller(pool, device)
    own = small.rows_of(lambda one: one.device)[device]
    near = small.without(own, small.fit())
    errors: Found = {(scheme, count): [] for scheme in (KNOWN_MODELS, UNSEEN_FAMILY) for count in _PROBED}
    for _ in range(draws):
        _try_once(small, near, random.permutation(own), errors, random)
    few = f"too few of its {len(own)} rows are left"
    return [
        summarize_new_device(device, scheme, count, draws, logs, empty=few) for (scheme, count), logs in errors.items()
    ]


def _smaller(pool: Pool, device: str) -> Pool:
    """The pool of a device and its best-known kin."""
    others = sorted((one for one in pool.devices if one != device), key=lambda one: -len(pool.of(one)))
    kept = {device, *others[:_MOST_KIN]}
    return Pool(tuple(one for one in pool.observations if one.device in kept))


def _try_once(pool: Pool, near: FittedPool, own: Rows, errors: Found, random: np.random.Generator) -> None:
    """One order of probes, of which more and more are kept, and one family that is hidden on all devices."""
    family = pool.observations[random.choice(own)].family
    hidden = np.array([row for row, one in enumerate(pool.observations) if one.family == family])
    asked, visible = own[np.isin(own, hidden)], own[~np.isin(own, hidden)]
    device = pool.observations[own[0]].device
    shared = {one.configuration.model for one in pool.observations if one.device != device}
    for count in _PROBED:
        out = np.sort(own[count:])
        known = np.array([row for row in out if pool.observations[row].configuration.model in shared], dtype=np.int64)
        if len(known):
            errors[KNOWN_MODELS, count] += list(pool.without(out, near).log_errors(known))
        if count <= len(visible):
            out = np.union1d(visible[count:], hidden)
            errors[UNSEEN_FAMILY, count] += list(pool.without(out, near).log_errors(np.sort(asked)))


def _calibrated(
    observations: Sequence[Observation],
    device: str,
    operators: DeviceOperators | None,
    tracers: tuple[Tracer, StepTracer],
    random: np.random.Generator,
) -> list[NewDeviceError]:
    """Without probes, from the device's operators and what kin devices say."""
    if operators is None:
        return _without_number(device, (0,), "needs devprof calibrate")
    own = [one for one in observations if one.device == device]
    asked = [own[place] for place in np.sort(random.permutation(len(own))[:_MOST_TRACED])]
    others = [one for one in observations if one.device != device]
    try:
        chains = chain_observations(device, operators, tracers[0])
        if not chains:
            return _without_number(device, (0,), "its calibration has no whole steps: run devprof calibrate again")
        calibrated, steps = calibrate_device(operators, [], tracers[1])
        opinions = {}
        for one in asked:
            what = one.configuration
            step = tracers[1](what.model, what.mode, what.image_size, what.num_classes, CALIBRATED_BATCH)
            opinions[what] = (CALIBRATED_BATCH, calibrated.seconds(step))
    except DevprofError as error:
        return _without_number(device, (0,), f"its operators cannot be summed: {error}")
    widths = calibrated_widths(operators, calibrated, steps)
    shared = {one.configuration.model for one in others}
    families = [str(one) for one in random.permutation(sorted({one.family for one in asked}))]
    errors: Found = {(KNOWN_MODELS, 0): [], (UNSEEN_FAMILY, 0): []}
    known = [one for one in asked if one.configuration.model in shared]
    if known:
        errors[KNOWN_MODELS, 0] = _log_errors(_predictor([*others, *chains], device, widths), known, opinions)
    elsewhere = {one.family for one in others}
    new = [one for one in asked if one.family not in elsewhere]
    if new:
        errors[UNSEEN_FAMILY, 0] += _log_errors(_predictor([*others, *chains], device, widths), new, opinions)
    for family in [one for one in families if one in elsewhere][:_MOST_FAMILIES]:
        predictor = _predictor([*(one for one in others if one.family != family), *chains], device, widths)
        errors[UNSEEN_FAMILY, 0] += _log_errors(predictor, [one for one in asked if one.family == family], opinions)
    return [
        summarize_new_device(device, scheme, count, 1, logs, empty="none of its models ran on another device")
        for (scheme, count), logs in errors.items()
    ]


def _predictor(observations: Sequence[Observation], device: str, widths: Widths) -> Predictor:
    """The predictor that a fit would make of a device that was only calibrated."""
    pool = next(pool for pool in kin_groups(observations) if device in pool.devices)
    fitted = pool.fit()
    by_mode: dict[str, Widths] = dict.fromkeys(MODES, widths)
    return Predictor(
        regression=fitted.bases[device],
        effects=fitted.known(device),
        corrections={},
        measured={},
        families=frozenset(),
        widths=by_mode,
        other_widths=by_mode,
        probed=True,
        opinion_weight=1.0 if len(pool.devices) == 1 else BESIDE_KIN,
    )


def _log_errors(
    predictor: Predictor, asked: Sequence[Observation], opinions: Mapping[Any, tuple[int, float]]
) -> list[float]:
    found = []
    for one in asked:
        what = one.configuration
        (predicted,) = predictor.predict_sizes(what, one.features, [one.batch_size], opinions[what])
        found.append(float(np.log(one.value / predicted.value)))
    return found


def _without_number(device: str, probes: Sequence[int], note: str) -> list[NewDeviceError]:
    return [
        NewDeviceError(device, scheme, count, note=note) for scheme in (KNOWN_MODELS, UNSEEN_FAMILY) for count in probes
    ]
