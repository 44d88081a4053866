"""What a client says about its round, and how far it is believed.

Telemetry travels in a ConfigRecord named ``devprof`` beside the arrays and metrics of a reply: aggregation in Flower neither
checks nor uses ConfigRecords, while a second MetricRecord would end the run. It comes from a device that may be broken or
hostile, so it is validated before anything learns from it; a reply whose telemetry is refused still counts as a reply.
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict

from devprof.errors import DevprofError

__all__ = ["RECORD_NAME", "Telemetry", "TelemetryError", "read_telemetry"]

RECORD_NAME = "devprof"

_MAX_NAME = 200
_MAX_SHOWN = 100
_MAX_STEPS = 10**9
# No processor does a training step in less; and what divides or takes the logarithm of a step never meets a zero.
_MIN_STEP_S = 1e-9
_MAX_SECONDS = 30 * 24 * 3600.0
# A clock read a little before or after the work must not make honest telemetry look wrong.
_CLOCK_SLACK = 1.02
_CLOCK_SLACK_S = 0.25


class TelemetryError(DevprofError):
    """A reply's telemetry is missing or cannot be true; the text says which value and why."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A client's own account of its part of a round.

    Attributes:
        device: Name of the device, as in the measurements.
        processor: What the cut-off is set for.
        steps_done: Optimizer steps done.
        examples_done: Samples trained on, repeats counted.
        batch_size: Samples per full step.
        train_s: Seconds of the steps.
        startup_s: Seconds from the message to the first step.
        total_s: Seconds from the message to the end of training.
        cut: Whether the budget stopped the work before it was complete.
        rss_peak_bytes: Peak resident memory, where the client measured it.
        energy_j: Energy of its part, where the client has a meter.
    """

    device: str
    processor: str
    steps_done: int
    examples_done: int
    batch_size: int
    train_s: float
    startup_s: float
    total_s: float
    cut: bool
    rss_peak_bytes: int | None = None
    energy_j: float | None = None

    @property
    def step_s(self) -> float:
        """Mean seconds per step."""
        return self.train_s / self.steps_done

    def to_record(self) -> ConfigRecord:
        """The wire form; what was not measured is absent."""
        values: dict[str, str | int | float | bool] = {
            "device": self.device,
            "processor": self.processor,
            "steps-done": self.steps_done,
            "examples-done": self.examples_done,
            "batch-size": self.batch_size,
            "train-s": self.train_s,
            "startup-s": self.startup_s,
            "total-s": self.total_s,
            "cut": self.cut,
        }
        if self.rss_peak_bytes is not None:
            values["rss-peak-bytes"] = self.rss_peak_bytes
        if self.energy_j is not None:
            values["energy-j"] = self.energy_j
        return ConfigRecord(dict(values))


def read_telemetry(content: RecordDict, *, elapsed_s: float | None = None) -> Telemetry:
    """The validated telemetry of a reply.

    Args:
        content: The reply's content.
        elapsed_s: Seconds between sending the message and receiving the reply on the server's clock; a client cannot
            have worked for longer.

    Raises:
        TelemetryError: If the record or a value is missing, of the wrong type, negative, not finite or impossible.
    """
    record = content.config_records.get(RECORD_NAME)
    if record is None:
        raise TelemetryError(f"the reply has no ConfigRecord {RECORD_NAME!r}")
    reader = _Reader(record)
    telemetry = Telemetry(
        device=reader.name("device"),
        processor=reader.name("processor"),
        steps_done=reader.count("steps-done", most=_MAX_STEPS),
        examples_done=reader.count("examples-done", most=_MAX_STEPS * 1024),
        batch_size=reader.count("batch-size", least=1, most=_MAX_STEPS),
        train_s=reader.seconds("train-s"),
        startup_s=reader.seconds("startup-s"),
        total_s=reader.seconds("total-s"),
        cut=reader.flag("cut"),
        rss_peak_bytes=reader.count("rss-peak-bytes", most=1 << 50) if "rss-peak-bytes" in record else None,
        energy_j=reader.number("energy-j", most=1e12) if "energy-j" in record else None,
    )
    _check_consistent(telemetry, elapsed_s)
    return telemetry


def _check_consistent(told: Telemetry, elapsed_s: float | None) -> None:
    if told.steps_done > 0 and told.train_s < told.steps_done * _MIN_STEP_S:
        raise TelemetryError(f"{told.steps_done} steps in {told.train_s} s of training is impossible")
    if told.examples_done > told.steps_done * told.batch_size:
        raise TelemetryError(
            f"examples-done {told.examples_done} exceeds steps-done {told.steps_done} x batch-size {told.batch_size}"
        )
    if told.train_s + told.startup_s > told.total_s * _CLOCK_SLACK + _CLOCK_SLACK_S:
        raise TelemetryError(f"train-s {told.train_s} + startup-s {told.startup_s} exceeds total-s {told.total_s}")
    if elapsed_s is not None and told.total_s > elapsed_s * _CLOCK_SLACK + _CLOCK_SLACK_S:
        raise TelemetryError(f"total-s {told.total_s} is longer than the server waited ({elapsed_s:.3f} s)")


class _Reader:
    """Typed access to one ConfigRecord; every failure names the key and the value."""

    def __init__(self, record: ConfigRecord) -> None:
        self._record = record

    def _get(self, key: str) -> object:
        if key not in self._record:
            raise TelemetryError(f"the key {key!r} is missing")
        return self._record[key]

    def name(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME or not value.isprintable():
            raise TelemetryError(f"{key} must be a printable name of 1 to {_MAX_NAME} characters")
        return value

    def count(self, key: str, *, most: int, least: int = 0) -> int:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise TelemetryError(f"{key} must be a whole number from {least} to {most}, got {_shown(value)}")
        return value

    def number(self, key: str, *, most: float) -> float:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TelemetryError(f"{key} must be a number, got {_shown(value)}")
        # Not a number fails the comparison, and so does infinity; math.isfinite would overflow on a huge integer.
        if not 0 <= value <= most:
            raise TelemetryError(f"{key} must be from 0 to {most:g}, got {_shown(value)}")
        return float(value)

    def seconds(self, key: str) -> float:
        return self.number(key, most=_MAX_SECONDS)

    def flag(self, key: str) -> bool:
        value = self._get(key)
        if not isinstance(value, bool):
            raise TelemetryError(f"{key} must be true or false, got {_shown(value)}")
        return value


def _shown(value: object) -> str:
    """A hostile value in an error message: short, and without ``repr`` of an integer too long to be printed."""
    if isinstance(value, int) and value.bit_length() > _MAX_SHOWN:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, list):
        return f"a list of {len(value)} values"
    return repr(value[:_MAX_SHOWN] if isinstance(value, (str, bytes)) else value)[:_MAX_SHOWN]
