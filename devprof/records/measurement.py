"""What a measurement leaves behind: a run, its raw steps and its raw power readings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Measurement", "PowerSample", "StepTime"]


@dataclass(frozen=True, slots=True)
class StepTime:
    """One raw step of a run: nanoseconds of the monotonic clock, by phase where the pass recorded phases.

    Attributes:
        run_id: The run this step belongs to.
        index: Position in the run, from 0, warm-up included.
        kind: ``warmup``, ``measured`` or ``phases`` (the separate pass that stamps the phases).
        step_ns: The whole step.
        forward_ns: Forward pass and loss.
        backward_ns: Backward pass.
        optimizer_ns: Optimizer step and clearing of gradients.
        data_ns: Waiting for the next batch, before the forward pass.
    """

    run_id: str
    index: int
    kind: Literal["warmup", "measured", "phases"]
    step_ns: int
    forward_ns: int | None = None
    backward_ns: int | None = None
    optimizer_ns: int | None = None
    data_ns: int | None = None


@dataclass(frozen=True, slots=True)
class PowerSample:
    """One raw reading of a power source during a run: a row of the table ``power``.

    Attributes:
        run_id: The run it belongs to.
        t_ns: Monotonic clock of the reading.
        source: The meter, such as ``rapl`` or ``ina3221``.
        domain: The rail or zone that was read.
        power_w: Watts, for a sensor.
        energy_j: Cumulative joules, for a counter.
    """

    run_id: str
    t_ns: int
    source: str
    domain: str
    power_w: float | None = None
    energy_j: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One finished run: a row of the table ``runs``. The fields are the columns; see ``docs/measuring.md`` for each.

    ``step_s`` is the median of the measured steps. A run that failed has its ``status`` and ``error`` and nulls.
    """

    run_id: str
    started_utc: str
    devprof_version: str
    device: str
    device_key: str
    processor: str
    model: str
    task: str
    mode: str
    status: str
    batch_size: int
    power_mode: str | None = None
    threads: int | None = None
    suite: str | None = None
    configuration: str | None = None
    optimizer: str | None = None
    precision: str | None = None
    memory_format: str | None = None
    image_size: int | None = None
    num_classes: int | None = None
    data: str | None = None
    error: str | None = None
    repeat: int | None = None
    warmup_steps: int | None = None
    steps: int | None = None
    step_s: float | None = None
    step_s_mean: float | None = None
    step_s_p05: float | None = None
    step_s_p95: float | None = None
    step_s_mad: float | None = None
    step_s_ci_low: float | None = None
    step_s_ci_high: float | None = None
    steady: bool | None = None
    step_s_min: float | None = None
    step_s_p25: float | None = None
    step_s_p75: float | None = None
    step_s_p99: float | None = None
    step_s_std: float | None = None
    autocorrelation: float | None = None
    outliers: int | None = None
    change_points: int | None = None
    first_step_s: float | None = None
    latency_valid: bool | None = None
    throttled: str | None = None
    throttle_reasons: str | None = None
    forward_s: float | None = None
    backward_s: float | None = None
    optimizer_s: float | None = None
    data_s: float | None = None
    startup_s: float | None = None
    rss_baseline_bytes: int | None = None
    rss_model_bytes: int | None = None
    rss_optimizer_bytes: int | None = None
    rss_build_peak_bytes: int | None = None
    rss_first_step_bytes: int | None = None
    rss_steady_bytes: int | None = None
    rss_peak_bytes: int | None = None
    pss_start_bytes: int | None = None
    pss_end_bytes: int | None = None
    swapped_in_bytes: int | None = None
    major_faults: int | None = None
    accelerator_peak_bytes: int | None = None
    accelerator_allocated_bytes: int | None = None
    accelerator_context_bytes: int | None = None
    unified_memory_bytes: int | None = None
    energy_source: str | None = None
    energy_j: float | None = None
    energy_per_step_j: float | None = None
    energy_error_rel: float | None = None
    power_w: float | None = None
    idle_power_w: float | None = None
    power_coverage: float | None = None
    energy_net_j: float | None = None
    energy_rule: str | None = None
    energy_end: str | None = None
    energy_window_s: float | None = None
    idle_before_w: float | None = None
    idle_after_w: float | None = None
    power_quantum_w: float | None = None
    power_rejected: int | None = None
    sampler_cpu_s: float | None = None
    meter: str | None = None
    temp_start_c: float | None = None
    temp_max_c: float | None = None
    temp_end_c: float | None = None
    cooldown_s: float | None = None
    governor: str | None = None
    frequency_start_hz: float | None = None
    frequency_min_hz: float | None = None
    frequency_end_hz: float | None = None
    other_cpu_share: float | None = None
    involuntary_switches: int | None = None
    interop_threads: int | None = None
    affinity: str | None = None
    state: str | None = None
    parameters: int | None = None
    trainable_parameters: int | None = None
    duration_s: float | None = None
    versions: str | None = None
    facts: str | None = None
    warnings: str | None = None
    spans: str | None = None
    source: str | None = None
