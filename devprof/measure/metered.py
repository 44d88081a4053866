"""A run with a meter: the sampler beside it, answers to its child, and the columns and readings that come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devprof.measure.checks import Warn
from devprof.measure.protocol import ENOUGH, GO, Edge, Finished
from devprof.measure.rows import Columns
from devprof.measure.runspans import SpanNs
from devprof.meters.base import Channel, MeterInfo, Reading
from devprof.meters.catalogue import split_spec
from devprof.meters.energy import LEAST_COVERAGE, Energy, integrate
from devprof.meters.sampling import Sampling
from devprof.meters.shifted import with_clock_error
from devprof.records import PowerSample

__all__ = [
    "CLOCK_SHARE",
    "METER_WARNINGS",
    "TARGET_ERROR_REL",
    "Heard",
    "MeterFigures",
    "Metered",
    "meter_figures",
    "no_figures",
]

TARGET_ERROR_REL = 0.02
"""A window is long enough for its energy when the bound of the relative error is not above this."""

CLOCK_SHARE = 0.01
"""A meter's clock must be known to this share of the window."""

METER_WARNINGS = (Warn.POWER_LOST, Warn.POWER_REJECTED, Warn.METER_CLOCK, Warn.ENERGY_BOUND, Warn.IDLE_DRIFT)
"""The warnings that are about a meter."""

# Where the meter's own error alone is above the target, a window is long enough when its part of the error is this small.
_WINDOW_ERROR_REL = 0.01
_IDLE_DRIFT = 0.05
_IDLE_COVERAGE = 0.5


@dataclass(frozen=True, slots=True)
class Heard:
    """What a meter said during a run, wherever it was heard.

    Attributes:
        info: What the meter is.
        readings: What a sieve let through, on this machine's monotonic clock.
        period_s: Seconds between two readings as planned.
        rejected: How many readings could not be true.
        clock_error_s: Bound by which the stamps may be off, where another clock made them.
        sampler_cpu_s: Processor time that reading took on the device.
    """

    info: MeterInfo
    readings: Sequence[Reading]
    period_s: float
    rejected: int = 0
    clock_error_s: float | None = None
    sampler_cpu_s: float | None = None

    def energy(self, span_ns: SpanNs) -> Energy:
        """Energy of a span; its bound allows for the clock."""
        found = integrate(self.readings, self.info.channels, span_ns, period_s=self.period_s)
        return with_clock_error(found, self.readings, self.info.channels, span_ns, self.clock_error_s or 0.0)


@dataclass(frozen=True, slots=True)
class MeterFigures:
    """What a meter adds to a run.

    Attributes:
        columns: Of the row.
        warnings: About the meter.
        samples: Raw readings from the first span of the run to the last.
    """

    columns: Columns
    warnings: tuple[Warn, ...]
    samples: tuple[PowerSample, ...]


class Metered:
    """The parent's part of a run whose energy is measured. It begins here.

    Args:
        sampling: The running sampler.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        sampling.forget()
        sampling.now()
        self._before = sampling.report()

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
        """What the meter measured of a run that came to its end."""
        self._sampling.now()
        report = self._sampling.report().since(self._before)
        heard = Heard(
            self._sampling.info,
            self._sampling.readings(),
            self._sampling.period_s,
            sum(report.rejected.values()),
            report.clock_error_s,
            report.cpu_s,
        )
        return meter_figures(run_id, finished.spans.timed_ns, len(finished.step_ns), heard)


def meter_figures(run_id: str, spans_ns: Mapping[str, SpanNs], steps: int, heard: Heard) -> MeterFigures:
    """What a meter says of a run that came to its end.

    Args:
        run_id: The run.
        spans_ns: Its spans: ``window``, and the idle times where there are any.
        steps: Timed steps in the window.
        heard: What the meter said.
    """
    if "window" not in spans_ns:
        return MeterFigures({}, (Warn.POWER_LOST,), ())
    energy = heard.energy(spans_ns["window"])
    idle = {
        name: _idle_w(heard.energy(spans_ns[name]), heard.info.channels)
        for name in ("idle-before", "idle-after")
        if name in spans_ns
    }
    clock_off = (heard.clock_error_s or 0.0) > CLOCK_SHARE * energy.window_s
    columns = _columns(energy, steps, idle, heard, usable=not clock_off)
    warnings = _warnings(energy, columns, heard, clock_off=clock_off)
    return MeterFigures(columns, warnings, _samples(run_id, spans_ns, heard))


def _idle_w(energy: Energy, channels: Sequence[Channel]) -> float | None:
    """Mean watts of an idle time; half of it is enough, because nothing changes in it."""
    parts = [energy.channels[channel.domain] for channel in channels if channel.headline]
    known = [part.power_w for part in parts if part.power_w is not None and part.coverage >= _IDLE_COVERAGE]
    return sum(known) if len(known) == len(parts) else None


def _columns(energy: Energy, steps: int, idle: Mapping[str, float | None], heard: Heard, *, usable: bool) -> Columns:
    info = heard.info
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
        "power_rejected": heard.rejected,
        "sampler_cpu_s": heard.sampler_cpu_s,
    }


def _samples(run_id: str, spans_ns: Mapping[str, SpanNs], heard: Heard) -> tuple[PowerSample, ...]:
    margin_ns = round(2e9 * heard.period_s)
    first = min(begin for begin, _ in spans_ns.values()) - margin_ns
    last = max(end for _, end in spans_ns.values()) + margin_ns
    return tuple(
        PowerSample(run_id, one.t_ns, heard.info.source, one.domain, power_w=one.power_w, energy_j=one.energy_j)
        for one in heard.readings
        if first <= one.t_ns <= last
    )


def no_figures(sampling: Sampling) -> MeterFigures:
    """What is said of a run whose sampler has ended before it."""
    name, _ = split_spec(sampling.spec)
    return MeterFigures({"energy_source": name, "power_coverage": 0.0}, (Warn.POWER_LOST,), ())


def _end(energy: Energy) -> str:
    """Why a window may end, or did: its ``bound`` is met, the rest is the ``meter``'s own error, or ``time`` is up."""
    if energy.error_rel is None or energy.window_error_rel is None:
        return "time"
    if energy.error_rel <= TARGET_ERROR_REL:
        return "bound"
    own_rel = energy.error_rel - energy.window_error_rel
    return "meter" if own_rel > TARGET_ERROR_REL and energy.window_error_rel <= _WINDOW_ERROR_REL else "time"


def _quantum_w(channels: tuple[Channel, ...], window_s: float) -> float:
    """The step of the mean power of a window: of a sensor its own, of a counter one step over the window."""
    return sum(
        channel.quantum / (window_s if channel.kind == "counter" else 1.0) for channel in channels if channel.headline
    )


def _warnings(energy: Energy, columns: Columns, heard: Heard, *, clock_off: bool) -> tuple[Warn, ...]:
    before, after = columns["idle_before_w"], columns["idle_after_w"]
    drifted = before is not None and after is not None and abs(after - before) > _IDLE_DRIFT * max(before, after)
    found = {
        Warn.POWER_LOST: energy.coverage < LEAST_COVERAGE,
        Warn.POWER_REJECTED: heard.rejected > 0,
        Warn.METER_CLOCK: clock_off,
        Warn.ENERGY_BOUND: columns["energy_end"] in {"time", "meter"},
        Warn.IDLE_DRIFT: drifted,
    }
    return tuple(warning for warning, applies in found.items() if applies)
