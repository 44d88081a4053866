"""One configuration, one fresh child: measure it and make a row of whatever happened."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple

from devprof.device.identity import installed_version
from devprof.device.throttle import judge
from devprof.measure.child import WORKER, ChildEnd, run_child
from devprof.measure.cooldown import wait_until_cool
from devprof.measure.metered import Metered, MeterFigures, no_figures
from devprof.measure.monitor import watched_states
from devprof.measure.pattern import pattern_s
from devprof.measure.protocol import Request
from devprof.measure.rows import Columns, finished_columns, ready_columns, state_columns, step_rows
from devprof.meters.base import MeterError
from devprof.meters.sampling import Sampling
from devprof.records import Device, Measurement, PowerSample, StepTime, Workload

__all__ = ["MeasureOptions", "Measured", "configuration_key", "measure_workload"]

_LOG = logging.getLogger(__name__)
# The child stops on its own a little earlier, so that a slow model yields its few steps instead of a timeout.
_STOP_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """How to measure: the same for all configurations of a sweep.

    Attributes:
        min_time_s: Timed window at the least.
        min_steps: Timed steps at the least.
        phase_steps: Steps of the separate pass for phases; ``None`` for a few.
        timeout_s: Wall time after which a child is ended.
        suite: Name of the suite, kept with the rows.
        affinity: CPUs to bind the child to; ``None`` leaves it free.
        max_start_temp_c: Wait until the hottest zone is not above this; ``None`` does not wait.
        cooldown_timeout_s: The longest such wait.
        worker: The command of the child.
        idle_s: Seconds of idle power before and after a run with a meter or a pattern.
        max_window_s: The longest timed window for the sake of the energy's error bound.
        sync_s: Length of each part of the pattern of load and idle by which a run is found in the log of a meter that is not
            read from here; 0 shows none.
    """

    min_time_s: float = 10.0
    min_steps: int = 5
    phase_steps: int | None = None
    timeout_s: float = 600.0
    suite: str | None = None
    affinity: tuple[int, ...] | None = None
    max_start_temp_c: float | None = None
    cooldown_timeout_s: float = 600.0
    worker: Sequence[str] = WORKER
    idle_s: float = 30.0
    max_window_s: float = 120.0
    sync_s: float = 0.0


class Measured(NamedTuple):
    """What measuring one configuration leaves: the row, also of a run that failed, raw steps, and a meter's raw readings."""

    run: Measurement
    steps: Sequence[StepTime] = ()
    power: Sequence[PowerSample] = ()


def configuration_key(workload: Workload) -> str:
    """Hash of a workload as it was asked for: a sweep goes on where it stopped by comparing it."""
    return hashlib.sha256(json.dumps(dataclasses.asdict(workload), sort_keys=True).encode()).hexdigest()[:12]


def measure_workload(
    workload: Workload, device: Device, options: MeasureOptions, *, repeat: int = 0, sampling: Sampling | None = None
) -> Measured:
    """Measure one configuration in a fresh child process.

    Args:
        workload: The configuration.
        device: The device as rows name it; its processor and threads are used.
        options: Times and limits.
        repeat: Number of this repeat, kept with the row.
        sampling: The meter; ``None`` measures no energy. One that has ended costs the energy, not the run.

    Raises:
        KeyboardInterrupt: If the user interrupts; the child is ended first.
    """
    waited_s, cool_enough = None, True
    if options.max_start_temp_c is not None:
        waited_s, cool_enough = wait_until_cool(options.max_start_temp_c, options.cooldown_timeout_s)
    now = datetime.now(timezone.utc)
    run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    begin = time.perf_counter()
    metered = None if sampling is None else _metered(sampling)
    request = _request(workload, device, options, metered=metered is not None)
    with watched_states(device.processor) as watched:
        child = run_child(
            request,
            options.timeout_s + 2 * (request.idle_s + pattern_s(request.sync_s)),
            worker=options.worker,
            respond=metered.respond if metered else None,
        )
    figures = _figures(sampling, metered, run_id, child)
    # What clocks do while the process rests on purpose says nothing of the run.
    states = watched.outside(child.finished.spans.idle_ns if child.finished else ())
    throttling = judge(states)
    row: Columns = {
        "run_id": run_id,
        "started_utc": now.isoformat(timespec="seconds"),
        "devprof_version": installed_version("devprof") or "unknown",
        **_device_columns(device),
        "suite": options.suite,
        "configuration": configuration_key(workload),
        "repeat": repeat,
        "duration_s": time.perf_counter() - begin,
        "cooldown_s": waited_s,
        "energy_source": "none",
        "source": "devprof",
        **dataclasses.asdict(workload),
        **state_columns(states, throttling),
        "status": child.status,
        "error": child.error,
    }
    if child.ready is not None:
        row |= ready_columns(child.ready)
    if child.finished is None:
        return Measured(Measurement(**row))
    row |= finished_columns(
        child.finished, throttled=throttling.verdict, cool_enough=cool_enough, warnings=figures.warnings
    )
    row |= figures.columns
    return Measured(Measurement(**row), step_rows(run_id, child.finished), figures.samples)


def _figures(sampling: Sampling | None, metered: Metered | None, run_id: str, child: ChildEnd) -> MeterFigures:
    """What the meter says of a run; nothing of one without a meter, or that did not come to its end."""
    if sampling is None or child.finished is None:
        return MeterFigures({}, (), ())
    return no_figures(sampling) if metered is None else metered.figures(run_id, child.finished)


def _metered(sampling: Sampling) -> Metered | None:
    """The meter's part of a run; ``None`` if the sampler has ended and cannot be started again."""
    if not sampling.alive:
        try:
            sampling.restart()
        except MeterError as error:
            _LOG.warning("the meter %s cannot be read, so this run has no energy: %s", sampling.spec, error)
            return None
    return Metered(sampling)


def _request(workload: Workload, device: Device, options: MeasureOptions, *, metered: bool) -> Request:
    return Request(
        workload=workload,
        processor=device.processor,
        threads=device.threads,
        min_time_s=options.min_time_s,
        min_steps=options.min_steps,
        phase_steps=options.phase_steps,
        stop_after_s=options.timeout_s * _STOP_SHARE,
        affinity=options.affinity,
        metered=metered,
        idle_s=options.idle_s if metered or options.sync_s > 0 else 0.0,
        max_window_s=options.max_window_s,
        sync_s=options.sync_s,
    )


def _device_columns(device: Device) -> Columns:
    return {
        "device": device.name,
        "device_key": device.key,
        "processor": device.processor,
        "power_mode": device.power_mode,
        "threads": device.threads,
        "facts": json.dumps(dict(device.facts), sort_keys=True),
    }
