"""Weights for replies of unequal work.

Plain averaging lets a client that did fewer steps pull the model less, by exactly the share of work it lacks: the fixed point
is that of another objective, and no smaller step or longer run mends it. Normalised averaging (FedNova; Wang et al., NeurIPS
2020) divides each update by its work, which amplifies the noise of small updates. A power between the two trades one for the
other.

Work and data are what clients say of themselves, so how far a weight follows them is bounded. Work changes a weight by a factor
from ``1/r`` to ``r`` (``max_ratio``). Data that only the client vouches for counts for at most ``c`` times the median of the
others (``max_ratio`` of :func:`capped_claims`). One liar among ``n`` clients can thus have at most the share
``a = c / (c + ceil((n - 1) / 2))`` of the data's weight (if its data are known, their true share), and of the final weight
``r^2 a / (r^2 a + 1 - a)``; the others stay in proportion to their data within ``r^2``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["capped_claims", "effective_steps", "tempered_weights"]


def tempered_weights(
    samples: Sequence[float], work: Sequence[float | None], *, gamma: float, max_ratio: float
) -> list[float]:
    """Aggregation weights ``p_i * clip((mean work / h_i)^gamma, 1/max_ratio, max_ratio)``.

    ``gamma`` 0 is averaging by data, 1 the direction of FedNova's update. An average's weights sum to 1, so its length
    stays that of a convex combination, a little shorter than FedNova's where work differs.

    Args:
        samples: Weight of each client's data, positive.
        work: Local work of each client: :func:`effective_steps` times learning-rate factor; ``None`` where unknown, which
            counts as mean work.
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


def effective_steps(steps: float, *, momentum: float = 0.0, decay: float = 0.0) -> float:
    """How far local steps move a model, in plain gradient steps: FedNova's ``h``, the 1-norm of the accumulation vector.

    ``steps`` for plain SGD; ``(k - rho (1 - rho^k) / (1 - rho)) / (1 - rho)`` with momentum ``rho``; with a pull of ``decay``
    per step towards the start ``(1 - (1 - decay)^k) / decay``; with both the sum over steps of the momentum's step, decayed.
    The momentum buffer begins at zero in each round, as it does in a client that makes its optimizer anew.

    Args:
        steps: Steps done, at least 0.
        momentum: That of SGD, from 0 to below 1.
        decay: Learning rate times the weight of the proximal term, from 0 to below 1.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Wang, Liu, Liang, Joshi, Poor, "Tackling the objective inconsistency problem in heterogeneous federated
        optimization", NeurIPS 2020, section 4.
    """
    if not 0 <= steps < math.inf:
        raise ValueError(f"steps must be at least 0 and finite, got {steps}")
    for name, value in (("momentum", momentum), ("decay", decay)):
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
    if steps == 0:
        return 0.0
    kept = 1.0 - decay
    plain = _geometric_sum(decay, steps)
    if momentum == 0:
        return plain
    # Sum over j of momentum^j * kept^(k - j), with the larger of the two in front.
    larger, smaller = max(momentum, kept), min(momentum, kept)
    lag = momentum * math.pow(larger, steps - 1) * _geometric_sum((larger - smaller) / larger, steps)
    return (plain - lag) / (1.0 - momentum)


def _geometric_sum(loss: float, count: float) -> float:
    """``1 + q + ... + q^(count - 1)`` for ``q = 1 - loss``, exact for a loss next to 0."""
    if loss == 0:
        return float(count)
    return 1.0 if loss == 1 else float(-math.expm1(count * math.log1p(-loss)) / loss)


def capped_claims(
    samples: Sequence[float | None], known: Sequence[bool], *, max_ratio: float = 3.0
) -> list[float | None]:
    """Sizes of the clients' data, with those that only the client vouches for capped by the median of the others.

    Of two middle values the larger is the median, so that one small claim among few does not cap an honest one. A claim that
    is at most ``max_ratio`` times that of every other client is never changed.

    Args:
        samples: Size of each client's data, positive; ``None`` for a client without any, which counts in no median.
        known: Whether the server knows it by itself; such a size is never changed.
        max_ratio: Largest claim, in medians of the others; at least 1.

    Returns:
        The sizes in the order given, ``None`` where there was none. A single client's claim stays: it has all the weight
        anyway.

    Raises:
        ValueError: If a size is not positive and finite, or ``max_ratio`` is below 1.
    """
    if not 1 <= max_ratio < math.inf:
        raise ValueError(f"max_ratio must be at least 1 and finite, got {max_ratio}")
    ordered = sorted(value for value in samples if value is not None)
    if any(not (value > 0 and math.isfinite(value)) for value in ordered):
        raise ValueError(f"samples must all be positive and finite, got {list(samples)}")
    middle = (len(ordered) - 1) // 2

    def believed(value: float, sure: bool) -> float:
        if sure or len(ordered) < 2:
            return float(value)
        # The median of the others: what lies at the middle once this client's own value is taken out.
        others = ordered[middle + 1] if value <= ordered[middle] else ordered[middle]
        return min(float(value), max_ratio * others)

    return [None if value is None else believed(value, sure) for value, sure in zip(samples, known, strict=True)]
