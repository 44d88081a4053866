"""Metrics of replies, made fit for a weighted average whatever single clients sent.

Flower averages every metric over all replies: one loss that is not a number makes the average none, a list of another length
ends the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["MetricShape", "Value", "finite_metrics", "is_finite", "metric_shape"]

Value = int | float | list[int] | list[float]
MetricShape = frozenset[tuple[str, int | None]]


def is_finite(value: object) -> bool:
    """Whether a metric is a number, or a list of numbers, that is finite as a float."""
    if isinstance(value, list):
        return all(is_finite(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False


def metric_shape(metrics: Mapping[str, object], key: str) -> MetricShape:
    """What metrics must share to be averaged: their names and the lengths of lists, without the weight's name ``key``."""
    return frozenset(
        (name, len(value) if isinstance(value, list) else None) for name, value in metrics.items() if name != key
    )


def finite_metrics(
    metrics: Sequence[Mapping[str, Value]], weights: Sequence[float]
) -> tuple[list[dict[str, Value]], list[str]]:
    """Metrics without values that are not finite.

    Such a value is replaced by the weighted mean of the others', so that the average is that of those who gave a number. A
    metric for which nobody gave one is dropped.

    Args:
        metrics: One mapping per reply, all of one :func:`metric_shape`.
        weights: The weight of each reply, positive.

    Returns:
        New mappings, and the names of the metrics that were touched.
    """
    made: list[dict[str, Value]] = [dict(own) for own in metrics]
    touched = []
    for name in metrics[0] if metrics else ():
        good = [is_finite(own[name]) for own in made]
        if all(good):
            continue
        touched.append(name)
        if not any(good):
            for own in made:
                del own[name]
            continue
        values = np.array([own[name] for own, fine in zip(made, good, strict=True) if fine], dtype=np.float64)
        share = np.array([weight for weight, fine in zip(weights, good, strict=True) if fine])
        mean = (share / share.sum()) @ values
        for own, fine in zip(made, good, strict=True):
            if not fine:
                own[name] = mean.tolist()
    return made, touched
