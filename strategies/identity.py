"""Which device a client runs on, as the client says it: for telemetry, and for the server's question before the first round.

What the node was started with (``--node-config "device-id='pi-3' device='pi4' energy-budget-j=500"``) comes first; what is
missing there, the board's fingerprint tells. A process of its own handles each message, so the fingerprint is kept in the
context, which outlives it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields

from flwr.app import ConfigRecord, Context, RecordDict

from devprof.device.identity import identify
from devprof.device.memory import available_memory_bytes, current_rss_bytes
from devprof.errors import DevprofError
from strategies.reading import RecordReader

__all__ = ["IDENTITY_RECORD", "Identity", "client_identity", "memory_for_training_bytes", "read_identity"]

IDENTITY_RECORD = "devprof-identity"

_log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 50
_MOST_SAMPLES = 10**12
_MOST_SECONDS = 24 * 3600.0
_MOST_JOULES = 1e12


@dataclass(frozen=True, slots=True)
class Identity:
    """What a node says it is.

    Attributes:
        device: Name of the device, as in the measurements.
        processor: What the cut-off is set for.
        device_id: Stable name of this very board; ``None`` where neither the node's config nor a serial number tells.
        device_key: Key of its fingerprint: rows of a measurement with this key hold for it.
        power_mode: The board's named power mode, where it has one.
        threads: Training threads it would use.
        memory_bytes: Memory that training could have now: free memory, and what this process holds already.
        samples: Size of its training data, where the app says it.
        startup_s: Seconds from the message (or the start of the process) to the answer.
        energy_budget_j: Joules that a round may take of its battery, where its operator set a limit.
    """

    device: str
    processor: str
    device_id: str | None = None
    device_key: str | None = None
    power_mode: str | None = None
    threads: int | None = None
    memory_bytes: int | None = None
    samples: int | None = None
    startup_s: float | None = None
    energy_budget_j: float | None = None

    def to_record(self) -> ConfigRecord:
        """The wire form, in kebab-case; what is not known is absent."""
        values = {field.name.replace("_", "-"): getattr(self, field.name) for field in fields(self)}
        return ConfigRecord({name: value for name, value in values.items() if value is not None})


def client_identity(context: Context) -> Identity:
    """This client's identity; the fingerprint is taken once and kept in ``context.state``.

    Args:
        context: The client's context; its node config may name ``device-id``, ``device``, ``processor``, ``energy-budget-j``.
    """
    kept = context.state.config_records.get(IDENTITY_RECORD)
    if kept is None:
        kept = _fingerprint(context).to_record()
        context.state[IDENTITY_RECORD] = kept
    return _from_record(kept)


def memory_for_training_bytes() -> int | None:
    """Memory that a training process could have now; ``None`` where the kernel does not say."""
    free, own = available_memory_bytes(), current_rss_bytes()
    return None if free is None else free + (own or 0)


def read_identity(content: RecordDict) -> Identity:
    """The validated identity in a reply.

    Raises:
        DevprofError: If the record is missing, or a value has the wrong type or is out of range; the text says which.
    """
    record = content.config_records.get(IDENTITY_RECORD)
    if record is None:
        raise DevprofError(f"the reply has no ConfigRecord {IDENTITY_RECORD!r}")
    return _from_record(record)


def _from_record(record: ConfigRecord) -> Identity:
    reader = RecordReader(record, DevprofError)
    return Identity(
        device=reader.name("device"),
        processor=reader.name("processor"),
        device_id=reader.optional_name("device-id"),
        device_key=reader.optional_name("device-key"),
        power_mode=reader.optional_name("power-mode"),
        threads=reader.optional_count("threads", least=1, most=1 << 20),
        memory_bytes=reader.optional_count("memory-bytes", least=1, most=_MOST_BYTES),
        samples=reader.optional_count("samples", most=_MOST_SAMPLES),
        startup_s=reader.optional_number("startup-s", most=_MOST_SECONDS),
        energy_budget_j=reader.optional_number("energy-budget-j", most=_MOST_JOULES),
    )


def _fingerprint(context: Context) -> Identity:
    """The node's config, completed by the board's fingerprint."""
    told = context.node_config
    board = identify()
    serial = dict(board.facts).get("serial_hash")
    device_id = told.get("device-id", serial)
    device = told.get("device")
    if device is None:
        _log.info("the node config names no device: it is %r by its fingerprint", board.name)
    return Identity(
        device=board.name if device is None else str(device),
        processor=str(told.get("processor", board.processor)),
        device_id=None if device_id is None else str(device_id),
        device_key=board.key,
        power_mode=board.power_mode,
        threads=board.threads,
        energy_budget_j=_joules(told.get("energy-budget-j")),
    )


def _joules(value: object) -> float | None:
    """A budget from the node config.

    Raises:
        DevprofError: If it is not a positive number: a limit that is not understood must not be ignored.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _MOST_JOULES:
        raise DevprofError(f"energy-budget-j in the node config must be a positive number of joules, got {value!r}")
    return float(value)
