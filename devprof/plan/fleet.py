"""The costs of a fleet's clients as arrays, and the steps that each can do by a deadline.

With ``k`` steps of mean time ``t``, a relative noise ``v`` per step and a standard deviation ``s`` of the prediction itself,
the steps take ``k*t`` with variance ``k*(v*t)^2 + (k*s)^2``: noise averages out over steps, a wrong prediction does not. A
client is promised no more steps than it does in time with probability ``1 - miss_risk``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from devprof.plan.estimator import Z90, BoardEstimator, StepEstimator
from devprof.plan.settings import ClientState, PlannerSettings
from devprof.records import Estimate

__all__ = ["Fleet", "Lookup", "fits_memory", "fixed_seconds", "look_up", "transfer_seconds"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Lookup = Callable[[ClientState, int], Estimate | None]


def fixed_seconds(client: ClientState, payload_bytes: float) -> float:
    """Seconds of a client's round that do not depend on its steps: both transfers, start-up and overhead."""
    return transfer_seconds(client, payload_bytes) + client.startup_s + client.overhead_s


def transfer_seconds(client: ClientState, payload_bytes: float) -> float:
    """Seconds to bring the model to the client and the result back."""
    return client.link.download_s(payload_bytes) + client.link.upload_s(payload_bytes)


def look_up(estimator: StepEstimator | None) -> Lookup:
    """The estimator as a function of client and batch size, asking once per device name (or board) and size.

    The function raises ``ValueError`` if an estimate is not a positive, finite time.
    """
    known: dict[tuple[str, str, int], Estimate | None] = {}
    boards = isinstance(estimator, BoardEstimator)

    def ask(client: ClientState, batch_size: int) -> Estimate | None:
        if estimator is None:
            return None
        key = (client.client if boards else "", client.device, batch_size)
        if key not in known:
            found = (
                estimator.estimate_board(client.client, client.device, batch_size)
                if isinstance(estimator, BoardEstimator)
                else estimator.estimate(client.device, batch_size)
            )
            if found is not None and not (0 < found.step_s <= found.step_s_hi < math.inf):
                raise ValueError(
                    f"the estimate for {client.device!r} at batch size {batch_size} is no step time with an upper bound: "
                    f"step_s {found.step_s}, step_s_hi {found.step_s_hi}"
                )
            known[key] = found
        return known[key]

    return ask


@dataclass(frozen=True, slots=True)
class _Option:
    """Training at one batch size, one value per client."""

    step_s: Floats
    step_sd_s: Floats
    batch_size: Ints
    epoch_steps: Ints


@dataclass(frozen=True, slots=True)
class Fleet:
    """Clients with a prediction, one array element each. Build it with :meth:`build`.

    Attributes:
        weight: Share of the fleet's data.
        fixed_s: Transfers and start-up.
        preferred: Training at the batch size with the most progress per second.
        fastest: Training at the batch size that reaches the least useful number of steps soonest: the resort of a client that
            cannot do so at the preferred size.
        fits: Whether any batch size fits the client's memory; the other arrays mean nothing where it does not.
        settings: What the user wants of a round.
    """

    weight: Floats
    fixed_s: Floats
    preferred: _Option
    fastest: _Option
    fits: npt.NDArray[np.bool_]
    settings: PlannerSettings

    @classmethod
    def build(
        cls, clients: Sequence[ClientState], lookup: Lookup, settings: PlannerSettings, *, payload_bytes: float
    ) -> Fleet:
        """The fleet of these clients; each must have samples, and an estimate at one candidate batch size or more."""
        sizes = np.array(settings.candidates, dtype=np.int64)
        samples = np.array([client.samples for client in clients], dtype=np.int64)
        step_s, step_sd_s, affordable = _cost_table(clients, lookup, settings)
        epoch_steps = -(-samples[:, None] // sizes[None, :])
        # A batch beyond the data is the data; too few steps in the whole round waste the client.
        enough = (sizes[None, :] <= samples[:, None]) & (settings.local_epochs * epoch_steps >= settings.min_steps)
        fits: npt.NDArray[np.bool_] = np.asarray(affordable.any(axis=1))
        sensible = affordable & enough
        smallest = np.zeros_like(affordable)
        smallest[np.arange(len(clients)), affordable.argmax(axis=1)] = True
        allowed = np.where(sensible.any(axis=1, keepdims=True), sensible, smallest & affordable)
        progress = (sizes / (sizes + settings.critical_batch_size))[None, :] / step_s
        preferred = np.where(allowed, progress, -1.0).argmax(axis=1)
        least = np.minimum(settings.min_steps, _most_epochs(settings) * epoch_steps)
        soonest = np.where(allowed, _seconds_at_risk(least, step_s, step_sd_s, settings), np.inf).argmin(axis=1)

        def option(choice: Ints) -> _Option:
            row = np.arange(len(clients))
            return _Option(step_s[row, choice], step_sd_s[row, choice], sizes[choice], epoch_steps[row, choice])

        fixed_s = np.array([fixed_seconds(client, payload_bytes) for client in clients], dtype=np.float64)
        weight = samples / max(1, int(samples.sum()))
        return cls(weight, fixed_s, option(preferred), option(soonest), fits, settings)

    def select(self, chosen: npt.NDArray[np.bool_]) -> Fleet:
        """The fleet of the chosen clients, weights of its own."""

        def part(option: _Option) -> _Option:
            return _Option(
                option.step_s[chosen], option.step_sd_s[chosen], option.batch_size[chosen], option.epoch_steps[chosen]
            )

        weight = self.weight[chosen]
        return Fleet(
            weight / weight.sum() if weight.size else weight,
            self.fixed_s[chosen],
            part(self.preferred),
            part(self.fastest),
            self.fits[chosen],
            self.settings,
        )

    @property
    def normal_steps(self) -> Ints:
        """Steps of the normal round."""
        return self.settings.local_epochs * self.preferred.epoch_steps

    @property
    def most_steps(self) -> Ints:
        """Steps that no client exceeds."""
        return _most_epochs(self.settings) * self.preferred.epoch_steps

    @property
    def least_steps(self) -> Ints:
        """Steps below which a client is not asked."""
        return np.minimum(self.settings.min_steps, self.most_steps)

    def seconds_at_risk(self, steps: Floats | Ints) -> Floats:
        """Seconds within which ``steps`` at the preferred batch size are done with probability ``1 - miss_risk``."""
        return self.fixed_s + _seconds_at_risk(steps, self.preferred.step_s, self.preferred.step_sd_s, self.settings)

    def earliest_s(self) -> Floats:
        """The first deadline by which each client can do its least number of steps, at any allowed batch size."""
        option = self.fastest
        least = np.minimum(self.settings.min_steps, _most_epochs(self.settings) * option.epoch_steps)
        return self.fixed_s + _seconds_at_risk(least, option.step_s, option.step_sd_s, self.settings)

    def steps_by(self, deadline_s: Floats | float) -> Ints:
        """Steps of each client by a deadline (last axis) at the preferred batch size; 0 where the least is not reached.

        More time never means fewer steps.
        """
        t, s = self.preferred.step_s, self.preferred.step_sd_s
        quantile = _quantile(self.settings)
        left = np.maximum(np.asarray(deadline_s) - self.fixed_s, 0.0)
        noise = (quantile * self.settings.step_noise * t) ** 2
        # k*t + z*sqrt(k*(v*t)^2 + (k*s)^2) = left is quadratic in k; the discriminant is written without differences, and
        # the root in the form that holds where the quadratic term vanishes, so that no digits are lost.
        half = 2 * left * t + noise
        root = np.sqrt(4 * left * t * noise + noise**2 + (2 * quantile * s * left) ** 2)
        steps = np.floor(2 * left**2 / (half + root + np.finfo(float).tiny) + 1e-9)
        steps = np.minimum(steps, self.most_steps)
        return np.where(steps >= self.least_steps, steps, 0).astype(np.int64)


def _cost_table(
    clients: Sequence[ClientState], lookup: Lookup, settings: PlannerSettings
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Step time, its standard deviation, and whether it is known and fits the memory: clients by batch sizes."""
    shape = (len(clients), len(settings.candidates))
    step_s, step_sd_s = np.ones(shape), np.zeros(shape)
    affordable = np.zeros(shape, dtype=np.bool_)
    for column, batch_size in enumerate(settings.candidates):
        for row, client in enumerate(clients):
            found = lookup(client, batch_size)
            if found is None:
                continue
            step_s[row, column] = found.step_s
            step_sd_s[row, column] = (found.step_s_hi - found.step_s) / Z90
            affordable[row, column] = fits_memory(client, found)
    return step_s, step_sd_s, affordable


def fits_memory(client: ClientState, estimate: Estimate) -> bool:
    """Whether training at this estimate's upper bound of memory fits the client; unknown memory is taken to fit."""
    if estimate.fits is False:
        return False
    if client.memory_limit_bytes is None or estimate.memory_hi_bytes is None:
        return True
    return estimate.memory_hi_bytes <= client.memory_limit_bytes


def _most_epochs(settings: PlannerSettings) -> int:
    return settings.local_epochs if settings.max_epochs is None else settings.max_epochs


def _quantile(settings: PlannerSettings) -> float:
    return NormalDist().inv_cdf(1 - settings.miss_risk)


def _seconds_at_risk(steps: Floats | Ints, step_s: Floats, step_sd_s: Floats, settings: PlannerSettings) -> Floats:
    variance = steps * (settings.step_noise * step_s) ** 2 + (steps * step_sd_s) ** 2
    seconds: Floats = steps * step_s + _quantile(settings) * np.sqrt(variance)
    return seconds
