"""The demo's choices, and its small calculations; ``devprof.cli.demo`` tells the story."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devprof.measure.sweep import Configuration
from devprof.plan.settings import PlannerSettings
from devprof.records import Link, Measurement, StepTime, Workload
from devprof.units import format_seconds

if TYPE_CHECKING:
    import pandas as pd

    from strategies.compare import Comparison, Outcome
    from strategies.virtual import VirtualDevice

__all__ = [
    "CLASSES",
    "FITTED",
    "HELD_OUT",
    "LEARNING_RATE",
    "LINK",
    "SETTINGS",
    "DeviceClass",
    "Headline",
    "calibration_frame",
    "headline",
    "repeats_of_federated",
    "virtual_fleet",
]

# The federated network on its 8x8 digits. Its second repeat is a process of its own, whose raw steps are the true times of
# the federation: the cost model is fitted to the first.
_FEDERATED = [Workload("seed:net", image_size=8, num_classes=10, batch_size=size) for size in (4, 16, 64)]
_OTHERS = [
    Workload(model, batch_size=size, image_size=image)
    for model, image in (("seed:cnn", None), ("seed:lstm", None), ("resnet18", 64), ("mobilenetv3_small_050", 64))
    for size in (4, 32)
]
FITTED = [Configuration(workload, repeat) for workload in _FEDERATED for repeat in (0, 1)]
FITTED += [Configuration(workload) for workload in _OTHERS]
# Three between two measured batch sizes, and a network of a kind that was not measured at all. The three are convolutional by
# choice: processes of seed:lstm differ by up to two times on a two-core PC, and it was missed by half (README).
HELD_OUT = [
    Configuration(Workload("seed:cnn", batch_size=16)),
    Configuration(Workload("mobilenetv3_small_050", batch_size=16, image_size=64)),
    Configuration(Workload("resnet18", batch_size=16, image_size=64)),
    Configuration(Workload("seed:mlp", batch_size=16)),
]

LINK = Link(up_mbps=100.0, down_mbps=100.0, latency_s=0.001)
LEARNING_RATE = 0.02
SETTINGS = PlannerSettings(local_epochs=4, batch_size=16, min_steps=3)


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """A class of boards: how many there are, and how much slower than this machine."""

    name: str
    count: int
    factor: float


CLASSES = (DeviceClass("1x", 4, 1.0), DeviceClass("2.5x", 3, 2.5), DeviceClass("5x", 3, 5.0))


@dataclass(frozen=True, slots=True)
class Headline:
    """The demo's result as a table and a sentence; ``kept`` says whether planning kept its promise in this run."""

    title: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[str, ...], ...]
    verdict: str
    kept: bool


def calibration_frame(runs: Sequence[Measurement]) -> pd.DataFrame:
    """The rows that the cost model is fitted to: this machine's, and those of each slower class at its factor.

    Held-out configurations and the second repeats are left out.
    """
    import pandas as pd

    from devprof.measure.harness import configuration_key

    keys = {configuration_key(configuration.workload) for configuration in FITTED}
    fitted = [run for run in runs if run.configuration in keys and run.repeat == 0]
    rows = [dataclasses.asdict(run) for run in fitted]
    for one in CLASSES:
        rows += [
            dataclasses.asdict(dataclasses.replace(run, device=one.name, step_s=run.step_s * one.factor))
            for run in fitted
            if run.step_s is not None
        ]
    return pd.DataFrame(rows)


def repeats_of_federated(runs: Sequence[Measurement]) -> list[Measurement]:
    """The second repeats of the federated network: what the fit has not seen of it."""
    return [run for run in runs if run.repeat == 1]


def virtual_fleet(runs: Sequence[Measurement], steps: Sequence[StepTime]) -> list[VirtualDevice]:
    """One virtual device per client, whose steps are drawn from the raw steps of these runs, at its class's factor."""
    from strategies.virtual import ReplayedStepTimes, VirtualDevice

    measured: dict[int, list[float]] = {}
    for run in runs:
        own = [step.step_ns / 1e9 for step in steps if step.run_id == run.run_id and step.kind == "measured"]
        measured.setdefault(run.batch_size, []).extend(own)
    return [
        VirtualDevice(
            name=one.name,
            processor=one.name,
            link=LINK,
            startup_s=0.0,
            step_s=ReplayedStepTimes(measured, factor=one.factor),
        )
        for one in CLASSES
        for _ in range(one.count)
    ]


def headline(comparison: Comparison) -> Headline:
    """The table of outcomes, and one sentence that says whether planning was faster than waiting and as accurate."""
    from strategies.baselines import PLANNED, WAIT

    wait, planned = comparison.outcome(WAIT), comparison.outcome(PLANNED)
    target = f"{100 * comparison.target_accuracy:.1f} %"
    columns = (
        ("strategy", False),
        ("rounds", True),
        ("accuracy", True),
        (f"time to {target}", True),
        ("speed-up", True),
        ("wasted work", True),
    )
    rows = tuple(
        (
            outcome.strategy,
            str(outcome.rounds),
            f"{100 * outcome.accuracy:.1f} %",
            format_seconds(outcome.time_to_target_s),
            _speed_up(wait, outcome),
            f"{100 * outcome.wasted:.0f} %",
        )
        for outcome in comparison.outcomes
    )
    faster = planned.time_to_target_s is not None and (
        wait.time_to_target_s is None or planned.time_to_target_s < wait.time_to_target_s
    )
    as_accurate = planned.accuracy >= wait.accuracy - 0.01
    kept = faster and as_accurate
    title = f"Four ways to treat slow clients, {format_seconds(comparison.time_s)} of virtual time each"
    return Headline(title, columns, rows, _verdict(wait, planned, target, faster=faster, as_accurate=as_accurate), kept)


def _speed_up(wait: Outcome, outcome: Outcome) -> str:
    if wait.time_to_target_s is None or outcome.time_to_target_s is None:
        return "–"
    return f"{wait.time_to_target_s / outcome.time_to_target_s:.1f}x"


def _verdict(wait: Outcome, planned: Outcome, target: str, *, faster: bool, as_accurate: bool) -> str:
    times = f"{format_seconds(planned.time_to_target_s)} against {format_seconds(wait.time_to_target_s)} when waiting for all"
    ends = f"{100 * planned.accuracy:.1f} % against {100 * wait.accuracy:.1f} %"
    if faster and as_accurate:
        return f"Planned rounds reach {target} accuracy in {times}, and end at {ends}."
    if faster:
        return f"Planned rounds reach {target} accuracy in {times}, but end less accurate in this run, at {ends}."
    return f"Planned rounds were not faster to {target} accuracy in this run ({times}); they end at {ends}."
