"""Messages made and changed without touching anybody else's: one config per client, weights on copies of replies.

Flower's strategies give all messages of a round the same record, and some take records of replies apart while they aggregate.
Everything here returns new messages with new records; only the arrays' bytes, which nobody can change, are shared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from strategies.client import TRAIN_CONFIG
from strategies.compat import copy_message
from strategies.metrics import MetricShape, Value, is_finite, metric_shape
from strategies.screening import RejectedReplyError

__all__ = [
    "ConfigValue",
    "ReplyShape",
    "config_key",
    "most_common",
    "reply_shape",
    "reweighted",
    "told_metrics",
    "told_weight",
    "weight_key",
    "with_config",
]

ConfigValue = str | int | float | bool


def config_key(strategy: Strategy) -> str:
    """Name of the ConfigRecord that a strategy writes; Flower's default where it names none."""
    return str(getattr(strategy, "configrecord_key", TRAIN_CONFIG))


def weight_key(strategy: Strategy) -> str:
    """Name of the metric by which a strategy weighs replies; Flower's default where it names none."""
    return str(getattr(strategy, "weighted_by_key", "num-examples"))


def with_config(
    message: Message,
    values: Mapping[str, ConfigValue | None],
    *,
    key: str = TRAIN_CONFIG,
    defaults: Mapping[str, ConfigValue] | None = None,
    content: RecordDict | None = None,
) -> Message:
    """A new message to the same node whose config has these values.

    The client's :class:`~strategies.client.Budget` reads the record ``config``; where the strategy's own config has another
    name, that record stays as it is beside it.

    Args:
        message: The message to follow; it stays as it is.
        values: What to write; ``None`` removes a key that the user or the strategy set.
        key: Name of the strategy's own config record.
        defaults: What to write where neither the user nor the strategy wrote anything.
        content: What takes the place of the message's content; ``None`` leaves it.
    """
    given = message.content if content is None else content
    config = {**(defaults or {}), **_config(given, key), **_config(given, TRAIN_CONFIG)}
    for name, value in values.items():
        if value is None:
            config.pop(name, None)
        else:
            config[name] = value
    made = RecordDict()
    for name, record in given.items():
        if name != TRAIN_CONFIG:
            made[name] = ConfigRecord(dict(record)) if isinstance(record, ConfigRecord) else record
    made[TRAIN_CONFIG] = ConfigRecord(config)
    metadata = message.metadata
    return Message(
        made, metadata.dst_node_id, metadata.message_type, ttl=metadata.ttl, group_id=metadata.group_id or None
    )


def _config(content: RecordDict, key: str) -> ConfigRecord:
    return content.config_records.get(key) or ConfigRecord()


def told_weight(reply: Message, key: str) -> float | None:
    """The weight that a reply claims for itself; ``None`` if it has none that is a positive number."""
    for metrics in reply.content.metric_records.values():
        value = metrics.get(key)
        if isinstance(value, (int, float)) and is_finite(value) and value > 0:
            return float(value)
    return None


def reweighted(
    reply: Message,
    weight: float,
    key: str,
    *,
    arrays: ArrayRecord | None = None,
    metrics: Mapping[str, Value] | None = None,
) -> Message:
    """A copy of a reply with another weight; the reply itself stays as it is.

    Args:
        reply: A reply with exactly one MetricRecord and at most one ArrayRecord.
        weight: The new weight.
        key: Name of the metric that the strategy weighs by; it is added where the reply lacks it.
        arrays: What takes the place of its arrays; ``None`` leaves them.
        metrics: What takes the place of its metrics; ``None`` leaves them.

    Raises:
        ValueError: If the weight is not a positive number: a sum of zeros would end the run in a division.
    """
    if not (weight > 0 and math.isfinite(weight)):
        raise ValueError(f"a reply's weight must be positive and finite, got {weight}")
    copied = copy_message(reply)
    content = copied.content
    if arrays is not None:
        content[next(iter(content.array_records))] = arrays
    name = next(iter(content.metric_records))
    values = dict(content.metric_records[name]) if metrics is None else dict(metrics)
    content[name] = MetricRecord({**values, key: float(weight)})
    return copied


@dataclass(frozen=True, slots=True)
class ReplyShape:
    """What replies must have in common to be aggregated: the names of their records, and their metrics."""

    arrays: str | None
    metrics: str
    values: MetricShape


def reply_shape(reply: Message, key: str, *, train: bool = True) -> ReplyShape:
    """The shape of a reply.

    Flower ends the whole run if one reply lacks a record or has other metrics than the first.

    Args:
        reply: A reply with content.
        key: The weight's name; whether a reply has it does not matter, since it will be written anew.
        train: Whether it must have arrays, too.

    Raises:
        RejectedReplyError: If it has not exactly one MetricRecord or, in training, not exactly one ArrayRecord.
    """
    arrays, metrics = reply.content.array_records, reply.content.metric_records
    for records, kind, needed in ((arrays, "ArrayRecord", train), (metrics, "MetricRecord", True)):
        if needed and len(records) != 1:
            raise RejectedReplyError(f"it must have exactly one {kind}, and has {len(records)}")
    name = next(iter(metrics))
    return ReplyShape(next(iter(arrays)) if train else None, name, metric_shape(metrics[name], key))


def most_common(shapes: Sequence[ReplyShape]) -> ReplyShape | None:
    """The shape of the most replies, among equals the first; ``None`` without any."""
    return Counter(shapes).most_common(1)[0][0] if shapes else None


def told_metrics(reply: Message, key: str = "") -> dict[str, Value]:
    """The metrics of a reply with one MetricRecord, without the weight's name ``key``."""
    return {name: value for name, value in next(iter(reply.content.metric_records.values())).items() if name != key}
