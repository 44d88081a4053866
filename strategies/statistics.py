"""Batch-norm statistics and counters: the part of a model that is measured, not trained, and must not be averaged like weights.

A server optimizer treats what it sees as weights: Adam can make a running variance negative, momentum makes a counter run
away, and weights that correct for unequal work would let a client that saw little data say the most about its mean. So the
inner strategy never sees these arrays, and what they become is said here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, RecordDict

from strategies.screening import is_floating, read_array

__all__ = ["MODES", "NormLayer", "Seen", "SplitModel", "norm_layers"]

MODES = ("pool", "local", "inner")

_MEAN, _VARIANCE, _COUNTER = "running_mean", "running_var", "num_batches_tracked"
# How far a client's statistics may lie outside those of the middle half of the clients, in standard deviations.
_MOST_DEVIATIONS = 10.0
_FEWEST_TO_COMPARE = 3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NormLayer:
    """The arrays of one layer with running statistics, by name.

    Attributes:
        mean: The running mean.
        variance: The running variance.
        counter: The number of batches, where the layer counts them.
        affine: Weight and bias, where the layer has them.
    """

    mean: str
    variance: str
    counter: str | None
    affine: tuple[str, ...]

    @property
    def statistics(self) -> tuple[str, ...]:
        """What is measured and not trained."""
        return (self.mean, self.variance) if self.counter is None else (self.mean, self.variance, self.counter)


def norm_layers(arrays: ArrayRecord) -> list[NormLayer]:
    """The layers with running statistics, found by PyTorch's names: batch norm, and instance norm where it tracks them.

    A layer is a ``running_mean`` and a ``running_var`` of one floating shape under the same prefix; arrays without names (a
    record made of a list) have none that could be found.
    """
    layers = []
    for name in arrays:
        prefix, dot, last = name.rpartition(".")
        own = {part: f"{prefix}{dot}{part}" for part in (_VARIANCE, _COUNTER, "weight", "bias")}
        if last != _MEAN or own[_VARIANCE] not in arrays:
            continue
        mean, variance = arrays[name], arrays[own[_VARIANCE]]
        if tuple(mean.shape) != tuple(variance.shape) or not (is_floating(mean) and is_floating(variance)):
            continue
        affine = tuple(own[part] for part in ("weight", "bias") if own[part] in arrays)
        layers.append(NormLayer(name, own[_VARIANCE], own[_COUNTER] if own[_COUNTER] in arrays else None, affine))
    return layers


@dataclass(frozen=True, slots=True)
class Seen:
    """The arrays of a reply, and the data that its statistics come from.

    Attributes:
        arrays: All its arrays, screened.
        examples: Samples that it trained on this round; ``None`` if unknown, which counts as the mean of the others.
        steps: Steps that it did; ``None`` if unknown, which counts as many.
    """

    arrays: ArrayRecord
    examples: float | None
    steps: float | None


class SplitModel:
    """A model in two parts: what the inner strategy aggregates, and what it never sees.

    Args:
        sent: The whole model, as clients get it.
        mode: ``pool`` aggregates statistics here; ``local`` leaves whole batch-norm layers, weights included, as they are
            (FedBN: each client keeps its own); ``inner`` splits nothing.
        momentum: That of the layers, as in PyTorch: the share of each step in the running statistics.

    Attributes:
        sent: The whole model.
        shared: The inner strategy's part; the same object where nothing is split off.
        ignored: Names that replies need not have.
    """

    def __init__(self, sent: ArrayRecord, mode: str = "pool", momentum: float = 0.1) -> None:
        self.sent = sent
        layers = [] if mode == "inner" else norm_layers(sent)
        own = {name for layer in layers for name in layer.statistics}
        if mode == "local":
            own |= {name for layer in layers for name in layer.affine}
        buffers = [] if mode == "inner" else [name for name in sent if name not in own and not is_floating(sent[name])]
        if len(own) + len(buffers) == len(sent):
            # Nothing is left to aggregate: then these are the model, whatever their names are.
            own, layers, buffers = set(), [], []
        self.ignored = frozenset(own) if mode == "local" else frozenset()
        self._pooled = [] if mode == "local" else layers
        self._middled = [*(layer.counter for layer in self._pooled if layer.counter is not None), *buffers]
        self._momentum = momentum
        apart = own.union(buffers)
        self.shared = sent if not apart else ArrayRecord({n: array for n, array in sent.items() if n not in apart})

    def shared_part(self, arrays: ArrayRecord) -> ArrayRecord:
        """The inner strategy's part of a reply's arrays."""
        return ArrayRecord({name: arrays[name] for name in self.shared})

    def completed(self, content: RecordDict) -> RecordDict:
        """A message's content with the whole model wherever it carries the inner strategy's part.

        All messages get the same record, as Flower's strategies do it: its bytes go to the SuperLink once.
        """
        if self.shared is self.sent:
            return content
        made = RecordDict()
        for name, record in content.items():
            made[name] = self._completed(record) if isinstance(record, ArrayRecord) else record
        return made

    def _completed(self, record: ArrayRecord) -> ArrayRecord:
        if record is self.shared:
            return self.sent
        # A strategy that sends other weights than it was given: its own, with the statistics of the model.
        if set(record) == set(self.shared):
            return ArrayRecord({name: record.get(name, array) for name, array in self.sent.items()})
        return record

    def restored(self, aggregate: ArrayRecord, seen: Sequence[Seen]) -> ArrayRecord:
        """The whole model of the inner strategy's aggregate and the statistics of the replies.

        Order and precision are those of the model that was sent: strategies compute in other ones, and the next round would
        send twice the bytes.

        Args:
            aggregate: What the inner strategy made of its part.
            seen: The replies that it aggregated.
        """
        apart = self._statistics(seen)
        whole = {}
        for name, sent in self.sent.items():
            if name in apart:
                whole[name] = apart[name]
            elif name in aggregate:
                whole[name] = _typed(aggregate[name], sent)
            elif name not in self.shared:
                whole[name] = sent
        extra = {name: array for name, array in aggregate.items() if name not in whole}
        return ArrayRecord(whole | extra)

    def _statistics(self, seen: Sequence[Seen]) -> dict[str, Array]:
        if not seen:
            return {}
        weights = _statistics_weights(seen, self._momentum)
        made: dict[str, Array] = {}
        for layer in self._pooled:
            means, variances = (
                np.stack([read_array(own.arrays[name]).astype(np.float64) for own in seen])
                for name in (layer.mean, layer.variance)
            )
            mean, variance = _pooled(means, variances, weights)
            made[layer.mean] = _typed(Array(np.asarray(mean)), self.sent[layer.mean])
            made[layer.variance] = _typed(Array(np.asarray(variance)), self.sent[layer.variance])
        for name in self._middled:
            ordered = np.sort(np.stack([read_array(own.arrays[name]) for own in seen]), axis=0)
            made[name] = Array(np.asarray(ordered[(len(seen) - 1) // 2]))
        return made


def _statistics_weights(seen: Sequence[Seen], momentum: float) -> Floats:
    """Shares by which statistics are pooled: examples over the share of the way that the statistics have come.

    After ``k`` steps running statistics have moved by ``1 - (1 - momentum)^k`` from those that were sent to the client's own.
    Divided by that, each client draws the pooled ones by the examples that it has seen, however few its steps were.
    """
    known = [own.examples for own in seen if own.examples is not None]
    usual = sum(known) / len(known) if known else 1.0
    examples = np.array([usual if own.examples is None else own.examples for own in seen])
    steps = np.array([math.inf if own.steps is None else own.steps for own in seen])
    weights = examples / (1.0 - (1.0 - momentum) ** steps)
    shares: Floats = weights / weights.sum()
    return shares


def _pooled(means: Floats, variances: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of a mixture, by the law of total variance: mean variance plus variance of the means.

    From three clients on, statistics far outside the middle half of the clients' are drawn in to ten standard deviations, so
    that one client moves the pooled ones by a bounded amount; a feature that only few clients have is not cut off.

    Args:
        means: One row per client.
        variances: Likewise; a negative one (noise that a client adds for privacy) counts as zero.
        weights: Positive, of sum 1.
    """
    variances = np.maximum(variances, 0.0)
    if len(means) >= _FEWEST_TO_COMPARE:
        usual = np.quantile(variances, 0.75, axis=0, method="lower")
        # Where three quarters of the clients see a constant, nothing says how far is far.
        usual = np.where(usual > 0, usual, np.inf)
        reach = _MOST_DEVIATIONS * np.sqrt(usual)
        variances = np.minimum(variances, _MOST_DEVIATIONS**2 * usual)
        low = np.quantile(means, 0.25, axis=0, method="higher") - reach
        high = np.quantile(means, 0.75, axis=0, method="lower") + reach
        means = np.clip(means, low, high)
    shares = weights.reshape(-1, *[1] * (means.ndim - 1))
    mean: Floats = (shares * means).sum(axis=0)
    variance: Floats = (shares * (variances + (means - mean) ** 2)).sum(axis=0)
    return mean, variance


def _typed(array: Array, like: Array) -> Array:
    if array.dtype == like.dtype:
        return array
    values = array.numpy()
    # What overflows is infinite, and an aggregate that is not finite is not taken.
    with np.errstate(over="ignore"):
        return Array(np.asarray(values if is_floating(like) else np.rint(values), dtype=like.dtype))
