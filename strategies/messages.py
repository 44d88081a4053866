"""Messages made and changed without touching anybody else's: one config per client, weights on copies of replies.

Flower's strategies give all messages of a round the same record, and some take records of replies apart while they aggregate.
Everything here returns new messages with new records; only the arrays' bytes, which nobody can change, are shared.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from strategies.client import TRAIN_CONFIG
from strategies.compat import copy_message

__all__ = [
    "ConfigValue",
    "config_key",
    "reweighted",
    "split_replies",
    "told_weight",
    "weight_key",
    "with_config",
]

_log = logging.getLogger(__name__)

ConfigValue = str | int | float | bool


def config_key(strategy: Strategy) -> str:
    """Name of the ConfigRecord that a strategy writes; Flower's default where it names none."""
    return str(getattr(strategy, "configrecord_key", TRAIN_CONFIG))


def weight_key(strategy: Strategy) -> str:
    """Name of the metric by which a strategy weighs replies; Flower's default where it names none."""
    return str(getattr(strategy, "weighted_by_key", "num-examples"))


def with_config(message: Message, values: Mapping[str, ConfigValue | None], *, key: str = TRAIN_CONFIG) -> Message:
    """A new message to the same node whose config has these values.

    The client's :class:`~strategies.client.Budget` reads the record ``config``; where the strategy's own config has another
    name, that record stays as it is beside it.

    Args:
        message: The message to follow; it stays as it is.
        values: What to write; ``None`` removes a key that the user or the strategy set.
        key: Name of the strategy's own config record.
    """
    config = {**_config(message.content, key), **_config(message.content, TRAIN_CONFIG)}
    for name, value in values.items():
        if value is None:
            config.pop(name, None)
        else:
            config[name] = value
    content = RecordDict()
    for name, record in message.content.items():
        if name != TRAIN_CONFIG:
            content[name] = ConfigRecord(dict(record)) if isinstance(record, ConfigRecord) else record
    content[TRAIN_CONFIG] = ConfigRecord(config)
    metadata = message.metadata
    return Message(
        content, metadata.dst_node_id, metadata.message_type, ttl=metadata.ttl, group_id=metadata.group_id or None
    )


def _config(content: RecordDict, key: str) -> ConfigRecord:
    return content.config_records.get(key) or ConfigRecord()


def told_weight(reply: Message, key: str) -> float | None:
    """The weight that a reply claims for itself; ``None`` if it has none that is a positive number."""
    for metrics in reply.content.metric_records.values():
        value = metrics.get(key)
        if isinstance(value, (int, float)) and math.isfinite(value) and value > 0:
            return float(value)
    return None


def reweighted(reply: Message, weight: float, key: str) -> Message:
    """A copy of a reply with another weight; the reply itself stays as it is.

    Args:
        reply: A reply with exactly one MetricRecord.
        weight: The new weight.
        key: Name of the metric that the strategy weighs by; it is added where the reply lacks it.

    Raises:
        ValueError: If the weight is not a positive number: a sum of zeros would end the run in a division.
    """
    if not (weight > 0 and math.isfinite(weight)):
        raise ValueError(f"a reply's weight must be positive and finite, got {weight}")
    copied = copy_message(reply)
    metrics = next(iter(copied.content.metric_records.values()))
    metrics[key] = float(weight)
    return copied


@dataclass(frozen=True, slots=True)
class _Shape:
    """What replies must have in common to be aggregated: names of records and of what is in them."""

    arrays: tuple[str, frozenset[str]]
    metrics: tuple[str, frozenset[str]]


def split_replies(replies: Iterable[Message], key: str) -> tuple[list[Message], list[Message]]:
    """Replies that can be aggregated together, and errors.

    Flower ends the whole run if one reply lacks a record or has other keys than the first. Here the largest group of replies of
    one shape stays (among equals the first), and the others are named in a warning.

    Args:
        replies: What came back.
        key: The weight's name; whether a reply has it does not matter, since it will be written anew.

    Returns:
        Usable replies and error replies, each in the order given.
    """
    errors: list[Message] = []
    shaped: list[tuple[Message, _Shape]] = []
    for reply in replies:
        if reply.has_error():
            errors.append(reply)
        elif (shape := _shape(reply, key)) is None:
            _log.warning(
                "the reply of node %d is left out: it must have exactly one ArrayRecord and one MetricRecord",
                reply.metadata.src_node_id,
            )
        else:
            shaped.append((reply, shape))
    return _largest_group(shaped), errors


def _largest_group(shaped: Sequence[tuple[Message, _Shape]]) -> list[Message]:
    if not shaped:
        return []
    ((common, _),) = Counter(shape for _, shape in shaped).most_common(1)
    for reply, shape in shaped:
        if shape != common:
            _log.warning(
                "the reply of node %d is left out: its arrays or metrics have other names than those of most clients",
                reply.metadata.src_node_id,
            )
    return [reply for reply, shape in shaped if shape == common]


def _shape(reply: Message, key: str) -> _Shape | None:
    arrays, metrics = reply.content.array_records, reply.content.metric_records
    if len(arrays) != 1 or len(metrics) != 1:
        return None
    array_name, metric_name = next(iter(arrays)), next(iter(metrics))
    return _Shape(
        (array_name, frozenset(arrays[array_name])),
        (metric_name, frozenset(_names(metrics[metric_name]) - {key})),
    )


def _names(metrics: MetricRecord) -> set[str]:
    return set(metrics.keys())
