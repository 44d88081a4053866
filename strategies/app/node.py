"""What a client's node says of itself: which part of the data is its own, where they lie, how many threads it may use."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from devprof.errors import DevprofError
from strategies.app.config import DataConfig

__all__ = ["Node"]

# Where neither the user, the data set nor the engine says how many parts there are.
_PARTITIONS = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Node:
    """A node's own settings, from its node config.

    Attributes:
        partition: Number of its part of the training data.
        partitions: Parts that the training data are split into.
        data_dir: Folder of the data on this node; empty for the run config's.
        threads: Threads of a training step; ``None`` for torch's own choice.
        torch_device: Where it trains, as torch names it: ``cpu``, ``cuda``.
    """

    partition: int
    partitions: int
    data_dir: str = ""
    threads: int | None = None
    torch_device: str = "cpu"

    @classmethod
    def from_config(cls, config: Mapping[str, object], data: DataConfig) -> Node:
        """Read ``partition-id``, ``num-partitions``, ``device-id``, ``data-dir``, ``threads`` and ``torch-device``.

        The number of parts is the run config's, or the data set's own, or the engine's number of nodes. A node without a
        ``partition-id`` gets the part that the hash of its ``device-id`` names: the same in every run, but two nodes may
        share one.

        Raises:
            DevprofError: If neither id is there, or a value makes no sense.
        """
        told = _count(config, "num-partitions", least=1)
        partitions = data.partitions or data.meta.partitions or told or _PARTITIONS
        partition = _count(config, "partition-id", least=0)
        if partition is None:
            partition = _derived(config, partitions)
        return cls(
            partition,
            partitions,
            data_dir=str(config.get("data-dir", "")),
            threads=_count(config, "threads", least=1),
            torch_device=str(config.get("torch-device", "cpu")),
        )


def _derived(config: Mapping[str, object], partitions: int) -> int:
    device_id = str(config.get("device-id", ""))
    if not device_id:
        raise DevprofError(
            "the node config has neither partition-id nor device-id, so this client has no data: start the SuperNode with "
            f'--node-config "partition-id=0" (0 to {partitions - 1})'
        )
    partition = int.from_bytes(hashlib.sha256(device_id.encode()).digest()[:8], "big") % partitions
    _log.warning(
        "the node config has no partition-id: device-id %r gets part %d of %d, which another may have, too",
        device_id,
        partition,
        partitions,
    )
    return partition


def _count(config: Mapping[str, object], key: str, *, least: int) -> int | None:
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DevprofError(f"{key} in the node config must be a whole number of at least {least}, got {value!r}")
    return value
