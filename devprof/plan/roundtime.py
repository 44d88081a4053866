"""The time of one client's round: download, start-up, steps, upload."""

from __future__ import annotations

import math
from dataclasses import dataclass

from devprof.records import Estimate, Link

__all__ = ["RoundTime", "round_time", "steps_per_epoch"]


@dataclass(frozen=True, slots=True)
class RoundTime:
    """What one client's part of a round takes, by phase.

    Attributes:
        download_s: Seconds to receive the model.
        startup_s: Seconds from receipt to the first step.
        train_s: Seconds of the steps, at the centre of the interval.
        upload_s: Seconds to send the result.
        total_s: The sum of the four.
        total_lo_s: The sum with the steps at the lower end of their 90 % interval.
        total_hi_s: The sum with the steps at the upper end.
        steps: Optimizer steps.
    """

    download_s: float
    startup_s: float
    train_s: float
    upload_s: float
    total_s: float
    total_lo_s: float
    total_hi_s: float
    steps: int


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Optimizer steps in one pass over the data, the partial last batch counted as one.

    Raises:
        ValueError: If either is below 1.
    """
    if samples < 1 or batch_size < 1:
        raise ValueError(f"an epoch needs at least one sample and a batch of one, got {samples} and {batch_size}")
    return -(-samples // batch_size)


def round_time(
    estimate: Estimate,
    *,
    epochs: int,
    samples: int,
    batch_size: int,
    payload_bytes: float,
    link: Link,
    startup_s: float = 0.0,
) -> RoundTime:
    """The time of a client's round of ``epochs`` passes over its data.

    Steps are ``epochs * ceil(samples / batch_size)``, each at the price of a full batch: the partial last batch of an epoch
    makes the result an upper bound, by less than one step per epoch.

    Args:
        estimate: Seconds per step at this batch size.
        epochs: Passes over the data.
        samples: Size of the client's data.
        batch_size: Samples per step.
        payload_bytes: Size of the model as sent, taken to be the same both ways.
        link: The client's link.
        startup_s: Seconds from receipt of the message to the first step.

    Raises:
        ValueError: If a count is below 1, or a size or time is negative or not finite.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if not (math.isfinite(payload_bytes) and payload_bytes >= 0):
        raise ValueError(f"payload_bytes must be at least 0 and finite, got {payload_bytes}")
    if not (math.isfinite(startup_s) and startup_s >= 0):
        raise ValueError(f"startup_s must be at least 0 and finite, got {startup_s}")
    if not 0 < estimate.step_s_lo <= estimate.step_s <= estimate.step_s_hi < math.inf:
        raise ValueError(f"an estimate needs 0 < step_s_lo <= step_s <= step_s_hi, got {estimate}")
    steps = epochs * steps_per_epoch(samples, batch_size)
    download_s, upload_s = link.download_s(payload_bytes), link.upload_s(payload_bytes)
    fixed_s = download_s + startup_s + upload_s
    return RoundTime(
        download_s=download_s,
        startup_s=startup_s,
        train_s=steps * estimate.step_s,
        upload_s=upload_s,
        total_s=fixed_s + steps * estimate.step_s,
        total_lo_s=fixed_s + steps * estimate.step_s_lo,
        total_hi_s=fixed_s + steps * estimate.step_s_hi,
        steps=steps,
    )
