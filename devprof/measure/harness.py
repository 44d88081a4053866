"""One configuration, one fresh child: measure it and make a row of whatever happened."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from devprof.device.identity import installed_version
from devprof.device.throttle import judge
from devprof.measure.child import WORKER, run_child
from devprof.measure.cooldown import wait_until_cool
from devprof.measure.monitor import watched_states
from devprof.measure.protocol import Request
from devprof.measure.rows import Columns, finished_columns, ready_columns, state_columns, step_rows
from devprof.records import Device, Measurement, StepTime, Workload

__all__ = ["MeasureOptions", "configuration_key", "measure_workload"]

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


def configuration_key(workload: Workload) -> str:
    """Hash of a workload as it was asked for: a sweep goes on where it stopped by comparing it."""
    return hashlib.sha256(json.dumps(dataclasses.asdict(workload), sort_keys=True).encode()).hexdigest()[:12]


def measure_workload(
    workload: Workload, device: Device, options: MeasureOptions, *, repeat: int = 0
) -> tuple[Measurement, list[StepTime]]:
    """Measure one configuration in a fresh child process.

    Args:
        workload: The configuration.
        device: The device as rows name it; its processor and threads are used.
        options: Times and limits.
        repeat: Number of this repeat, kept with the row.

    Returns:
        The row, also for a run that failed, and its raw steps.

    Raises:
        KeyboardInterrupt: If the user interrupts; the child is ended first.
    """
    request = Request(
        workload=workload,
        processor=device.processor,
        threads=device.threads,
        min_time_s=options.min_time_s,
        min_steps=options.min_steps,
        phase_steps=options.phase_steps,
        stop_after_s=options.timeout_s * _STOP_SHARE,
        affinity=options.affinity,
    )
    waited_s, cool_enough = None, True
    if options.max_start_temp_c is not None:
        waited_s, cool_enough = wait_until_cool(options.max_start_temp_c, options.cooldown_timeout_s)
    now = datetime.now(timezone.utc)
    run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    begin = time.perf_counter()
    with watched_states(device.processor) as states:
        child = run_child(request, options.timeout_s, worker=options.worker)
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
        return Measurement(**row), []
    row |= finished_columns(child.finished, throttled=throttling.verdict, cool_enough=cool_enough)
    return Measurement(**row), step_rows(run_id, child.finished)


def _device_columns(device: Device) -> Columns:
    return {
        "device": device.name,
        "device_key": device.key,
        "processor": device.processor,
        "power_mode": device.power_mode,
        "threads": device.threads,
        "facts": json.dumps(dict(device.facts), sort_keys=True),
    }
