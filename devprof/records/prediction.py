"""What a workload is predicted to cost, alone and beside what was then measured."""

from __future__ import annotations

from dataclasses import dataclass

from devprof.records.measurement import Measurement

__all__ = ["Estimate", "Prediction"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a workload is predicted to cost on a device.

    Attributes:
        step_s: Seconds per training step, the centre of the interval.
        step_s_lo: Lower bound of the 90 % interval.
        step_s_hi: Upper bound of the 90 % interval.
        basis: What the interval stands on: ``measured`` (this very configuration), ``known-pair``, ``known-model``,
            ``known-family``, ``new-family``, ``new-device`` or ``observed``.
        memory_bytes: Peak memory of the training process.
        memory_hi_bytes: Upper bound of the peak, which decides ``fits``.
        fits: Whether the upper bound fits the device's memory; ``None`` where either is unknown.
        energy_per_step_j: Joules per step; ``None`` without energy measurements, as are the three below.
        energy_per_step_j_lo: Lower bound of its 90 % interval.
        energy_per_step_j_hi: Upper bound of its 90 % interval.
        power_w: Mean watts while training: energy over time.
    """

    step_s: float
    step_s_lo: float
    step_s_hi: float
    basis: str
    memory_bytes: float | None = None
    memory_hi_bytes: float | None = None
    fits: bool | None = None
    energy_per_step_j: float | None = None
    energy_per_step_j_lo: float | None = None
    energy_per_step_j_hi: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """An estimate beside what was then measured: one point of the figure that shows how good the model is."""

    device: str
    model: str
    mode: str
    batch_size: int
    step_s: float
    step_s_lo: float
    step_s_hi: float
    basis: str
    measured_step_s: float | None = None
    measured_rss_peak_bytes: int | None = None
    memory_bytes: float | None = None
    memory_hi_bytes: float | None = None

    @classmethod
    def beside(cls, estimate: Estimate, run: Measurement) -> Prediction:
        """An estimate beside the run that shows whether it was right."""
        return cls(
            device=run.device,
            model=run.model,
            mode=run.mode,
            batch_size=run.batch_size,
            step_s=estimate.step_s,
            step_s_lo=estimate.step_s_lo,
            step_s_hi=estimate.step_s_hi,
            basis=estimate.basis,
            measured_step_s=run.step_s,
            measured_rss_peak_bytes=run.rss_peak_bytes,
            memory_bytes=estimate.memory_bytes,
            memory_hi_bytes=estimate.memory_hi_bytes,
        )
