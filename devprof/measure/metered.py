"""A run with a meter: the sampler beside it, answers to its child, and the columns and readings that come of it."""

from __future__ import annotations

from dataclasses import dataclass

from devprof.measure.checks import Warn
from devprof.measure.protocol import ENOUGH, GO, Edge, Finished
from devprof.measure.rows import Columns
from devprof.meters.base import Channel
from devprof.meters.catalogue import split_spec
from devprof.meters.energy import LEAST_COVERAGE, Energy
from devprof.meters.sampling import SamplerReport, Sampling
from devprof.records import PowerSample

__all__ = ["TARGET_ERROR_REL", "MeterFigures", "Metered", "no_figures"]

TARGET_ERROR_REL = 0.02
"""A window is long enough for its energy when the bound of the relative error is not above this."""

# The meter's own gain is no reason for a longer window once the rest of the error is half as large.
_SHARE_OF_GAIN = 0.5
_IDLE_DRIFT = 0.05
_CLOCK_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class MeterFigures:
    """What a meter adds to a run.

    Attributes:
        columns: Of the row.
        warnings: About the meter.
        samples: Raw readings from the first idle time to the last, without the name of a run.
    """

    columns: Columns
    warnings: tuple[Warn, ...]
    samples: tuple[PowerSample, ...]


class Metered:
    """The parent's part of a run whose energy is measured.

    Args:
        sampling: The running sampler.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling

    def respond(self, edge: Edge) -> str | None:
        """The answer to the child at a moment that matters."""
        if edge.kind == "read":
            self._sampling.now()
            return GO
        if edge.begin_ns is None or edge.t_ns <= edge.begin_ns:
            return None
        energy = self._sampling.energy((edge.begin_ns, edge.t_ns))
        return ENOUGH if _end(energy) != "time" else None

    def figures(self, run_id: str, finished: Finished) -> MeterFigures:
        """End the sampler, and say what it measured of a run that came to its end."""
        report = self._sampling.stop()
        spans = {name: (begin, end) for name, (begin, end) in finished.spans_ns.items() if end > begin}
        if "window" not in spans:
            return MeterFigures({}, (Warn.POWER_LOST,), ())
        energy = self._sampling.energy(spans["window"])
        idle: dict[str, float | None] = {
            name: self._sampling.energy(spans[name]).power_w for name in ("idle-before", "idle-after") if name in spans
        }
        clock_off = (report.clock_error_s or 0.0) > _CLOCK_SHARE * energy.window_s
        columns = self._columns(energy, len(finished.step_ns), idle, report, usable=not clock_off)
        warnings = _warnings(energy, columns, report, clock_off=clock_off)
        return MeterFigures(columns, warnings, self._samples(run_id, spans))

    def _columns(
        self, energy: Energy, steps: int, idle: dict[str, float | None], report: SamplerReport, *, usable: bool
    ) -> Columns:
        info = self._sampling.info
        known = [power for power in idle.values() if power is not None]
        idle_w = sum(known) / len(known) if known else None
        energy_j = energy.energy_j if usable else None
        return {
            "energy_source": info.source,
            "energy_rule": info.rule,
            "meter": info.detail or None,
            "energy_window_s": energy.window_s,
            "energy_j": energy_j,
            "energy_per_step_j": None if energy_j is None else energy_j / steps,
            "energy_error_rel": None if energy_j is None else energy.error_rel,
            "energy_end": None if energy_j is None else _end(energy),
            "energy_net_j": None if energy_j is None or idle_w is None else energy_j - idle_w * energy.window_s,
            "power_w": None if energy_j is None else energy.power_w,
            "idle_power_w": idle_w,
            "idle_before_w": idle.get("idle-before"),
            "idle_after_w": idle.get("idle-after"),
            "power_coverage": energy.coverage,
            "power_quantum_w": _quantum_w(info.channels, energy.window_s),
            "power_rejected": sum(report.rejected.values()),
            "sampler_cpu_s": report.cpu_s,
        }

    def _samples(self, run_id: str, spans: dict[str, tuple[int, int]]) -> tuple[PowerSample, ...]:
        margin_ns = round(2e9 * self._sampling.period_s)
        first = min(begin for begin, _ in spans.values()) - margin_ns
        last = max(end for _, end in spans.values()) + margin_ns
        source = self._sampling.info.source
        return tuple(
            PowerSample(run_id, one.t_ns, source, one.domain, power_w=one.power_w, energy_j=one.energy_j)
            for one in self._sampling.readings()
            if first <= one.t_ns <= last
        )


def no_figures(meter: str) -> MeterFigures:
    """What is said of a run whose meter could not be opened."""
    return MeterFigures({"energy_source": split_spec(meter)[0], "power_coverage": 0.0}, (Warn.POWER_LOST,), ())


def _end(energy: Energy) -> str:
    """Why a window may end, or did: its ``bound`` is met, the rest is the ``meter``'s own error, or ``time`` is up."""
    if energy.error_rel is None or energy.window_error_rel is None:
        return "time"
    if energy.error_rel <= TARGET_ERROR_REL:
        return "bound"
    gain_rel = energy.error_rel - energy.window_error_rel
    return "meter" if energy.window_error_rel <= _SHARE_OF_GAIN * gain_rel else "time"


def _quantum_w(channels: tuple[Channel, ...], window_s: float) -> float:
    """The step of the mean power of a window: of a sensor its own, of a counter one step over the window."""
    return sum(
        channel.quantum / (window_s if channel.kind == "counter" else 1.0) for channel in channels if channel.headline
    )


def _warnings(energy: Energy, columns: Columns, report: SamplerReport, *, clock_off: bool) -> tuple[Warn, ...]:
    before, after = columns["idle_before_w"], columns["idle_after_w"]
    drifted = before is not None and after is not None and abs(after - before) > _IDLE_DRIFT * max(before, after)
    found = {
        Warn.POWER_LOST: energy.coverage < LEAST_COVERAGE,
        Warn.POWER_REJECTED: bool(report.rejected),
        Warn.METER_CLOCK: clock_off,
        Warn.ENERGY_BOUND: columns["energy_end"] in {"time", "meter"},
        Warn.IDLE_DRIFT: drifted,
    }
    return tuple(warning for warning, applies in found.items() if applies)
