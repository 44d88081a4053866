"""Predictions corrected by what really happened: a filter on the logarithm of observed over predicted step time.

A device that throttles, shares its processor or differs from the measured one is off by a factor; the factor is learned from
each round's telemetry. Per board and per device name runs a :class:`~devprof.logfilter.LogFilter`; per board another on its
mean power, where it has a meter.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace
from typing import TypeVar

from devprof.logfilter import LogFilter
from devprof.plan.affine import estimate_from_points
from devprof.plan.estimator import Z90, StepEstimator
from devprof.records import Estimate

__all__ = ["CorrectedEstimator"]

Key = TypeVar("Key", bound=Hashable)

# What one observation of an unknown device is worth.
_FIRST_SD = 0.2
# A board is believed to be slower or faster than predicted by at most these factors, or by three standard deviations of a
# prediction that is wider: whatever a client claims, and however often, it moves its prediction no further. Heat and other load
# slow a board down by much, and the server's clock can tell; nothing makes one many times faster than it was measured.
_MOST_SLOWER = math.log(32.0)
_MOST_FASTER = math.log(4.0)


class CorrectedEstimator:
    """Any estimator, corrected by observed step times; alone, it knows what it has observed.

    Where the base predicts, the observed factor corrects it at every batch size, for the board that was observed and, more
    slowly mixed, for boards of the same device name. Where it does not, observations stand alone: see
    :func:`devprof.plan.affine.estimate_from_points` for how far they carry to other batch sizes.

    Args:
        base: What predicts before anything is observed; ``None`` for nothing.
    """

    def __init__(self, base: StepEstimator | None = None) -> None:
        self._base = base
        self._ratios: dict[tuple[str, str | None], LogFilter] = {}
        self._points: dict[tuple[str, str | None], dict[int, LogFilter]] = {}
        self._powers: dict[tuple[str, str], LogFilter] = {}

    def observe(
        self, device: str, batch_size: int, step_s: float, *, board: str | None = None, power_w: float | None = None
    ) -> None:
        """Learn from one round of one client.

        Args:
            device: Name of the device.
            batch_size: Samples per step.
            step_s: Mean seconds per step of the round.
            board: The client's stable name; ``None`` to learn about the device name only.
            power_w: Mean watts of the board's round; they tell the energy of its steps from then on, of no other board's.

        Raises:
            ValueError: If a value is not positive or not finite: validate telemetry before learning from it.
        """
        if batch_size < 1 or not (step_s > 0 and math.isfinite(step_s)):
            raise ValueError(f"an observation needs a positive batch size and time, got {batch_size} and {step_s} s")
        if power_w is not None and board is not None:
            if not 0 < power_w < math.inf:
                raise ValueError(f"power_w must be positive and finite, got {power_w}")
            _observe_new(self._powers, (device, board), math.log(power_w))
        base = self._predict(device, batch_size)
        if base is None:
            for key in {(device, None), (device, board)}:
                _observe_new(self._points.setdefault(key, {}), batch_size, math.log(step_s))
            return
        log_sd = _log_sd(base)
        prior = LogFilter.with_prior(0.0, log_sd)
        slower, faster = max(_MOST_SLOWER, 3 * log_sd), max(_MOST_FASTER, 3 * log_sd)
        seen = min(slower, max(-faster, math.log(step_s / base.step_s)))
        if board is not None:
            ratio = self._ratios.get((device, board))
            if ratio is None:
                # A new board starts from what its kin have shown, with the doubt of one that was never seen.
                kin = self._ratios.get((device, None), prior)
                ratio = replace(prior, mean=kin.mean)
                self._ratios[device, board] = ratio
            ratio.observe(seen)
        self._ratios.setdefault((device, None), prior).observe(seen)

    def estimate(self, device: str, batch_size: int) -> Estimate | None:
        """The estimate for a board of this name, or ``None`` where nothing is known or was observed."""
        return self._corrected((device, None), batch_size)

    def estimate_board(self, board: str, device: str, batch_size: int) -> Estimate | None:
        """The estimate for this board if it was observed, else as :meth:`estimate`."""
        observed = (device, board) in self._ratios or (device, board) in self._points
        found = self._corrected((device, board if observed else None), batch_size)
        power = self._powers.get((device, board))
        return found if found is None or power is None else _at_power(found, power)

    def forget(self, board: str, device: str) -> None:
        """Drop what was observed of a board, and of its device name if no other board of that name was observed."""
        self._ratios.pop((device, board), None)
        self._points.pop((device, board), None)
        self._powers.pop((device, board), None)
        observed = [*self._ratios, *self._points]
        if not any(name == device and other is not None for name, other in observed):
            self._ratios.pop((device, None), None)
            self._points.pop((device, None), None)

    def correction(self, device: str, board: str | None = None) -> float:
        """The factor on the base's prediction: 1.0 until something was observed."""
        ratio = self._ratios.get((device, board)) or self._ratios.get((device, None))
        return 1.0 if ratio is None else math.exp(ratio.mean)

    def _predict(self, device: str, batch_size: int) -> Estimate | None:
        return None if self._base is None else self._base.estimate(device, batch_size)

    def _corrected(self, key: tuple[str, str | None], batch_size: int) -> Estimate | None:
        base = self._predict(key[0], batch_size)
        if base is None:
            points = self._points.get(key) or self._points.get((key[0], None))
            return _estimate_points(points, batch_size) if points else None
        ratio = self._ratios.get(key) or self._ratios.get((key[0], None))
        if ratio is None:
            return base
        centre_s = base.step_s * math.exp(ratio.mean)
        factor = math.exp(Z90 * ratio.sd)
        corrected = replace(
            base, step_s=centre_s, step_s_lo=centre_s / factor, step_s_hi=centre_s * factor, basis="observed"
        )
        return _with_energy(corrected, base)


def _with_energy(corrected: Estimate, base: Estimate) -> Estimate:
    """A corrected estimate with the energy that goes with it: at unchanged power, energy follows time.

    The interval keeps the doubt about power, which is what that of energy has beyond that of time, in quadrature.
    """
    if base.energy_per_step_j is None:
        return corrected
    energy_j = base.energy_per_step_j * corrected.step_s / base.step_s

    def bound(old_j: float | None, old_s: float, new_s: float) -> float | None:
        if old_j is None or base.energy_per_step_j is None:
            return None
        energy, time = math.log(old_j / base.energy_per_step_j), math.log(old_s / base.step_s)
        power_squared = max(0.0, energy**2 - time**2)
        new = math.log(new_s / corrected.step_s)
        return energy_j * math.exp(math.copysign(math.sqrt(power_squared + new**2), new))

    return replace(
        corrected,
        energy_per_step_j=energy_j,
        energy_per_step_j_lo=bound(base.energy_per_step_j_lo, base.step_s_lo, corrected.step_s_lo),
        energy_per_step_j_hi=bound(base.energy_per_step_j_hi, base.step_s_hi, corrected.step_s_hi),
    )


def _at_power(estimate: Estimate, power: LogFilter) -> Estimate:
    """An estimate whose energy is that of its time at a measured power; the doubts about both add in quadrature."""
    power_w = math.exp(power.mean)
    energy_j = power_w * estimate.step_s

    def doubt(bound_s: float) -> float:
        return math.exp(math.hypot(math.log(bound_s / estimate.step_s), Z90 * power.sd))

    return replace(
        estimate,
        energy_per_step_j=energy_j,
        energy_per_step_j_lo=energy_j / doubt(estimate.step_s_lo),
        energy_per_step_j_hi=energy_j * doubt(estimate.step_s_hi),
        power_w=power_w,
    )


def _observe_new(filters: dict[Key, LogFilter], key: Key, value: float) -> None:
    """Tell a filter of a value in log space; a new one begins there."""
    known = filters.get(key)
    if known is None:
        filters[key] = known = LogFilter.with_prior(value, _FIRST_SD)
    known.observe(value)


def _estimate_points(points: dict[int, LogFilter], batch_size: int) -> Estimate:
    nearest = min(points, key=lambda known: (abs(math.log(batch_size / known)), known))
    steps = {known: math.exp(at.mean) for known, at in points.items()}
    return estimate_from_points(steps, batch_size, log_sd=points[nearest].sd)


def _log_sd(estimate: Estimate) -> float:
    return math.log(estimate.step_s_hi / estimate.step_s_lo) / (2 * Z90)
