"""What a client says about its round, and how far it is believed.

Telemetry travels in a ConfigRecord named ``devprof`` beside the arrays and metrics of a reply: aggregation in Flower neither
checks nor uses ConfigRecords, while a second MetricRecord would end the run. It comes from a device that may be broken or
hostile, so it is validated before anything learns from it; a reply whose telemetry is refused still counts as a reply.
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict

from devprof.errors import DevprofError
from strategies.reading import RecordReader

__all__ = ["RECORD_NAME", "Telemetry", "TelemetryError", "exceeds", "read_telemetry"]

RECORD_NAME = "devprof"

_MAX_STEPS = 10**9
_MAX_BYTES = 1 << 50
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
        total_s: Seconds from the message to the end of training; with a profiling mod, to the reply.
        cut: Whether the budget stopped the work before it was complete.
        rss_peak_bytes: Peak resident memory, where the client measured it.
        energy_j: Energy of its part, where the client has a meter.
        received_bytes: Bytes of the arrays that it was sent.
        sent_bytes: Bytes of the arrays that it sends back.
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
    received_bytes: int | None = None
    sent_bytes: int | None = None

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
        measured = {
            "rss-peak-bytes": self.rss_peak_bytes,
            "energy-j": self.energy_j,
            "received-bytes": self.received_bytes,
            "sent-bytes": self.sent_bytes,
        }
        values |= {name: value for name, value in measured.items() if value is not None}
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
    reader = RecordReader(record, TelemetryError)
    telemetry = Telemetry(
        device=reader.name("device"),
        processor=reader.name("processor"),
        steps_done=reader.count("steps-done", most=_MAX_STEPS),
        examples_done=reader.count("examples-done", most=_MAX_STEPS * 1024),
        batch_size=reader.count("batch-size", least=1, most=_MAX_STEPS),
        train_s=reader.number("train-s", most=_MAX_SECONDS),
        startup_s=reader.number("startup-s", most=_MAX_SECONDS),
        total_s=reader.number("total-s", most=_MAX_SECONDS),
        cut=reader.flag("cut"),
        rss_peak_bytes=reader.optional_count("rss-peak-bytes", most=_MAX_BYTES),
        energy_j=reader.optional_number("energy-j", most=1e12),
        received_bytes=reader.optional_count("received-bytes", most=_MAX_BYTES),
        sent_bytes=reader.optional_count("sent-bytes", most=_MAX_BYTES),
    )
    _check_consistent(telemetry, elapsed_s)
    return telemetry


def exceeds(seconds: float, limit_s: float) -> bool:
    """Whether a time is beyond a limit by more than two clocks, read one after the other, can differ."""
    return seconds > limit_s * _CLOCK_SLACK + _CLOCK_SLACK_S


def _check_consistent(told: Telemetry, elapsed_s: float | None) -> None:
    if told.steps_done > 0 and told.train_s < told.steps_done * _MIN_STEP_S:
        raise TelemetryError(f"{told.steps_done} steps in {told.train_s} s of training is impossible")
    if told.examples_done > told.steps_done * told.batch_size:
        raise TelemetryError(
            f"examples-done {told.examples_done} exceeds steps-done {told.steps_done} x batch-size {told.batch_size}"
        )
    if exceeds(told.train_s + told.startup_s, told.total_s):
        raise TelemetryError(f"train-s {told.train_s} + startup-s {told.startup_s} exceeds total-s {told.total_s}")
    if elapsed_s is not None and exceeds(told.total_s, elapsed_s):
        raise TelemetryError(f"total-s {told.total_s} is longer than the server waited ({elapsed_s:.3f} s)")
