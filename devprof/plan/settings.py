"""What the planner is told: the clients, and what the user wants of a round."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from devprof.records import Link

__all__ = ["ClientState", "PlannerSettings"]


@dataclass(frozen=True, slots=True)
class ClientState:
    """A client as the planner sees it.

    Attributes:
        client: Its stable name, unique in a round.
        device: Name of its device, as in the measurements.
        processor: What its cut-off is set for.
        samples: Size of its training data.
        link: Its network link.
        startup_s: Seconds from receipt of the message to the first step.
        memory_limit_bytes: Memory it may use for training; ``None`` if unknown.
        overhead_s: Seconds of scheduling and transport that neither link nor start-up explain: between sending and receipt, and
            between the end of training and the arrival of the reply.
        fixed_sd_s: Standard deviation of transfers, overhead and start-up together.
        energy_budget_j: Joules that its steps of this round may take; ``None`` for no limit.
        rounds_left_out: Rounds in a row that it was sampled and left out.
    """

    client: str
    device: str
    processor: str
    samples: int
    link: Link
    startup_s: float = 0.0
    memory_limit_bytes: int | None = None
    overhead_s: float = 0.0
    fixed_sd_s: float = 0.0
    energy_budget_j: float | None = None
    rounds_left_out: int = 0

    def __post_init__(self) -> None:
        for name in ("samples", "startup_s", "overhead_s", "fixed_sd_s", "energy_budget_j", "rounds_left_out"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} of client {self.client!r} must be at least 0 and finite, got {value}")


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """What a round should be.

    Attributes:
        local_epochs: Passes over its data that every client would make without limits: the normal round.
        batch_size: The configured samples per step, for which the learning rate was chosen.
        batch_sizes: Sizes that the planner may choose from; empty for the configured one alone.
        min_steps: Steps below which a client's result is not worth its transfer.
        max_epochs: Passes that a client with time left may make; ``None`` for no more than ``local_epochs``.
        miss_risk: Accepted probability that a client cannot do its planned steps in time, at most 0.5.
        coverage: Share of the data whose clients must be able to do ``min_steps`` by a chosen deadline.
        server_s: Seconds that the server adds to each round.
        deadline_s: The user's own deadline, from sending to arrival of the reply; ``None`` to choose the best.
        critical_batch_size: Batch size at which half of each sample's worth is lost to averaging (gradient-noise scale,
            McCandlish et al. 2018): progress per step is proportional to ``B / (B + critical_batch_size)``.
        step_noise: Standard deviation of a single step's time relative to its mean.
        energy_budget_j: Joules that the steps of all clients together may take in a round; ``None`` for no limit.
        allow_unknown_energy: Whether clients whose energy nobody knows take part although a budget is set, uncounted; without
            it they are left out, because no promise could be made for them.
        turn_after_rounds: Rounds that a client is left out for want of time before a chosen deadline is stretched to what it
            needs; ``None`` for never. A deadline that the user set is never stretched.
        turn_factor: How many times the best deadline a stretched one may be; a client that needs more stays out.
    """

    local_epochs: int = 1
    batch_size: int = 16
    batch_sizes: tuple[int, ...] = ()
    min_steps: int = 1
    max_epochs: int | None = None
    miss_risk: float = 0.05
    coverage: float = 0.8
    server_s: float = 0.0
    deadline_s: float | None = None
    critical_batch_size: float = 32.0
    step_noise: float = 0.1
    energy_budget_j: float | None = None
    allow_unknown_energy: bool = False
    turn_after_rounds: int | None = 5
    turn_factor: float = 4.0

    def __post_init__(self) -> None:
        for name in ("local_epochs", "batch_size", "min_steps", "turn_after_rounds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if any(size < 1 for size in self.batch_sizes):
            raise ValueError(f"batch_sizes must all be at least 1, got {self.batch_sizes}")
        if self.max_epochs is not None and self.max_epochs < self.local_epochs:
            raise ValueError(f"max_epochs {self.max_epochs} is below local_epochs {self.local_epochs}")
        if not 0 < self.miss_risk <= 0.5:
            raise ValueError(f"miss_risk must be above 0 and at most 0.5, got {self.miss_risk}")
        if not 0 < self.coverage <= 1:
            raise ValueError(f"coverage must be above 0 and at most 1, got {self.coverage}")
        self._check_quantities()

    def _check_quantities(self) -> None:
        for name in ("server_s", "critical_batch_size", "step_noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")
        for name in ("deadline_s", "energy_budget_j"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, or None, got {value}")
        if not 1 <= self.turn_factor < math.inf:
            raise ValueError(f"turn_factor must be at least 1 and finite, got {self.turn_factor}")

    @property
    def most_epochs(self) -> int:
        """Passes over its data that no client exceeds."""
        return self.local_epochs if self.max_epochs is None else self.max_epochs

    @property
    def risk_quantile(self) -> float:
        """Standard deviations beyond the mean that ``miss_risk`` leaves."""
        return NormalDist().inv_cdf(1 - self.miss_risk)

    @property
    def candidates(self) -> tuple[int, ...]:
        """The batch sizes to choose from, ascending."""
        return tuple(sorted(set(self.batch_sizes or (self.batch_size,))))

    def learning_rate_scale(self, batch_size: int) -> float:
        """Factor on the learning rate at another batch size: ``(1 + Bc/B0) / (1 + Bc/B)`` (McCandlish et al. 2018, for SGD)."""
        noise = self.critical_batch_size
        return (1 + noise / self.batch_size) / (1 + noise / batch_size)
