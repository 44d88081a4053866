"""Links, plans and logs of federated rounds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ClientPlan", "Evaluation", "Link", "RoundLog", "RoundPlan"]


@dataclass(frozen=True, slots=True)
class Link:
    """A client's network link, as its own side sees it.

    Attributes:
        up_mbps: Upload in megabits (10^6 bits) per second.
        down_mbps: Download in megabits per second.
        latency_s: Time added to each transfer.
    """

    up_mbps: float
    down_mbps: float
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        if not (self.up_mbps > 0 and self.down_mbps > 0 and self.latency_s >= 0):
            raise ValueError(f"a link needs positive rates and a latency of at least 0, got {self}")

    def upload_s(self, size_bytes: float) -> float:
        """Seconds to send ``size_bytes`` to the server."""
        return self.latency_s + size_bytes * 8e-6 / self.up_mbps

    def download_s(self, size_bytes: float) -> float:
        """Seconds to receive ``size_bytes`` from the server."""
        return self.latency_s + size_bytes * 8e-6 / self.down_mbps


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """What one client is asked to do in a round.

    Attributes:
        client: The client's stable name (not Flower's node id, which may change at each start).
        participates: Whether it is asked at all.
        reason: Why it is left out or cut down; empty when it simply does all its work.
        local_epochs: Passes over its data that the steps stand for, rounded up.
        local_steps: Optimizer steps to do at the most.
        batch_size: Samples per step.
        cutoff_s: The client's own limit: from receiving the message to the end of training; infinite for no limit.
        learning_rate_scale: Factor on the configured learning rate.
        predicted_s: Predicted seconds of its whole part of the round, transfers included; ``None`` where nothing is known.
        predicted_hi_s: The seconds within which it is done at the planned risk; ``None`` where nothing is known.
        predicted_energy_j: Predicted joules of its steps; ``None`` where its energy is not known or it takes no part.
        predicted_energy_hi_j: The same at the upper end of the interval, which budgets are held against.
    """

    client: str
    participates: bool
    reason: str
    local_epochs: int
    local_steps: int
    batch_size: int
    cutoff_s: float
    learning_rate_scale: float
    predicted_s: float | None
    predicted_hi_s: float | None
    predicted_energy_j: float | None = None
    predicted_energy_hi_j: float | None = None


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """A round's plan: the server's deadline (from sending to receipt, infinite for none) and each client's part."""

    server_round: int
    deadline_s: float
    clients: tuple[ClientPlan, ...]


@dataclass(frozen=True, slots=True)
class RoundLog:
    """What was planned for one client in one round, and what happened: a row of the table ``rounds``.

    Times count from the start of the run on one clock, virtual or the server's monotonic one.

    Attributes:
        strategy: Name of the strategy under which the round ran.
        server_round: Round number from 1.
        client: The client's stable name.
        device: Name of its device.
        processor: What its cut-off is set for.
        outcome: ``used``, ``partial`` (used, cut short), ``late`` (arrived too late), ``error``, ``missing`` or ``rejected``.
        detail: The reason, where there is one.
        sent_s: When the server sent the message.
        finished_s: When its reply reached the server; ``None`` if it never did.
        round_end_s: When the server closed the round.
        download_s: Time of the download.
        startup_s: Time from receipt to the first step.
        train_s: Time of the steps.
        upload_s: Time of the upload.
        local_steps: Steps planned.
        steps_done: Steps done, as the client says.
        examples_done: Samples trained on, as the client says.
        batch_size: Samples per step.
        cutoff_s: The client's own limit; ``None`` without one.
        deadline_s: The server's deadline for it, counted from ``sent_s``; ``None`` without one.
        predicted_s: Predicted seconds of its part; ``None`` without a prediction.
    """

    strategy: str
    server_round: int
    client: str
    device: str | None
    processor: str | None
    outcome: str
    detail: str | None
    sent_s: float
    finished_s: float | None
    round_end_s: float
    download_s: float | None = None
    startup_s: float | None = None
    train_s: float | None = None
    upload_s: float | None = None
    local_steps: int | None = None
    steps_done: int | None = None
    examples_done: int | None = None
    batch_size: int | None = None
    cutoff_s: float | None = None
    deadline_s: float | None = None
    predicted_s: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The global model's quality at a moment of a run: a row of the table ``evaluations``."""

    strategy: str
    server_round: int
    time_s: float
    accuracy: float
    loss: float | None = None
