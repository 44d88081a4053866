"""What a composed strategy has to know about the one that it wraps: which cannot be wrapped, and why."""

from __future__ import annotations

from flwr.serverapp.strategy import Strategy

__all__ = ["loss_key", "refuse_unfit"]

_PRIVATE = (
    "its noise is scaled to equal weights of a fixed number of clients, which deadlines and unequal work break, so the stated "
    "privacy would not hold. Use it without cut-off."
)
_TREES = (
    "its model is a growing list of trees: there are no steps to plan or to cut, nothing is averaged by weight, and a reply "
    "cannot be compared with what was sent. Start it on a strategies.grid.DeadlineGrid for deadlines and the round log."
)


def refuse_unfit(inner: Strategy) -> None:
    """Refuse a strategy whose promise would not hold under deadlines, unequal work and new weights.

    Raises:
        ValueError: If it is, or derives from, one of Flower's for differential privacy or for boosted trees.
    """
    for base in type(inner).__mro__:
        if base.__module__.startswith("flwr."):
            for start, reason in (("DifferentialPrivacy", _PRIVATE), ("FedXgb", _TREES)):
                if base.__name__.startswith(start):
                    raise ValueError(f"{type(inner).__name__} cannot be wrapped: {reason}")


def loss_key(inner: Strategy) -> str | None:
    """Name of the metric without which a strategy cannot use a reply: q-FedAvg weighs by the loss; ``None`` for the others."""
    key = getattr(inner, "train_loss_key", None)
    return key if isinstance(key, str) else None
