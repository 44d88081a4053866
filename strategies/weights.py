"""Weights for replies of unequal work.

Plain averaging lets a client that did fewer steps pull the model less, by exactly the share of work it lacks: the fixed point
is that of another objective, and no smaller step or longer run mends it. Normalised averaging (FedNova; Wang et al., NeurIPS
2020) divides each update by its work, which amplifies the noise of small updates. A power between the two trades one for the
other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["tempered_weights"]


def tempered_weights(
    samples: Sequence[float], work: Sequence[float | None], *, gamma: float, max_ratio: float
) -> list[float]:
    """Aggregation weights ``p_i * clip((mean work / h_i)^gamma, 1/max_ratio, max_ratio)``.

    ``gamma`` 0 is averaging by data, 1 the direction of FedNova's update. An average's weights sum to 1, so its length
    stays that of a convex combination, a little shorter than FedNova's where work differs.

    Args:
        samples: Weight of each client's data, positive.
        work: Local work of each client: steps times learning-rate factor; ``None`` where unknown, which counts as mean work.
        gamma: From 0 to 1.
        max_ratio: Largest factor by which work may change a weight, at least 1.

    Returns:
        Positive weights in units of samples.

    Raises:
        ValueError: If an argument is out of its range.
    """
    check_tempering(gamma, max_ratio)
    if any(not (value > 0 and math.isfinite(value)) for value in samples):
        raise ValueError(f"samples must all be positive, got {list(samples)}")
    if any(value is not None and not (value > 0 and math.isfinite(value)) for value in work):
        raise ValueError(f"work must be positive where it is known, got {list(work)}")
    known = [(size, done) for size, done in zip(samples, work, strict=True) if done is not None]
    total = sum(size for size, _ in known)
    if not known:
        return [float(size) for size in samples]
    mean = sum(size * done for size, done in known) / total

    def factor(done: float | None) -> float:
        return 1.0 if done is None else min(max_ratio, max(1 / max_ratio, (mean / done) ** gamma))

    return [size * factor(done) for size, done in zip(samples, work, strict=True)]


def check_tempering(gamma: float, max_ratio: float) -> None:
    """Raise ``ValueError`` unless ``gamma`` is from 0 to 1 and ``max_ratio`` at least 1."""
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be from 0 (average by data) to 1 (FedNova), got {gamma}")
    if not 1 <= max_ratio < math.inf:
        raise ValueError(f"max_ratio must be at least 1 and finite, got {max_ratio}")
