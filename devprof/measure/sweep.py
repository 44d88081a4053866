"""Which configurations a command asks for, which of them are finished already, and the loop over the rest."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from devprof.measure.harness import Measured, MeasureOptions, configuration_key, measure_workload
from devprof.meters.sampling import Sampling
from devprof.records import MODES, TASKS, Device, Workload
from devprof.store.folder import FinishedKey

__all__ = ["Configuration", "combine", "key_of", "run_sweep", "with_repeats"]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One child's work: a workload and the number of its repeat."""

    workload: Workload
    repeat: int = 0


def combine(
    base: Workload,
    *,
    models: Sequence[str],
    modes: Sequence[str],
    tasks: Sequence[str],
    batch_sizes: Sequence[int],
) -> list[Workload]:
    """All combinations, each once.

    Args:
        base: Carries what is the same for all.
        models: Model names; modes and tasks likewise from :mod:`devprof.records`.
        modes: ``full``, ``head``; an inference has no mode but ``full``.
        tasks: ``train``, ``infer``.
        batch_sizes: Samples per step.
    """
    wanted_tasks = [task for task in TASKS if task in tasks]
    wanted_modes = [mode for mode in MODES if mode in modes]
    found = [
        replace(base, model=model, mode=mode, task=task, batch_size=size)
        for model, task, mode, size in itertools.product(models, wanted_tasks, wanted_modes, batch_sizes)
        if task == "train" or mode == wanted_modes[0]
    ]
    return list(dict.fromkeys(found))


def with_repeats(workloads: Sequence[Workload], repeats: int, *, seed: int = 0) -> list[Configuration]:
    """Each workload in several processes: all of them once, then all again in random order, and so on.

    A device that warms up or slows down in the course of hours hits all workloads alike that way, and shows as a spread
    between processes instead of as a difference between models.

    Args:
        workloads: What to measure, in the order of the first pass.
        repeats: Fresh processes per workload.
        seed: Of the random orders.
    """
    order = random.Random(seed)
    configurations = [Configuration(workload) for workload in workloads]
    for number in range(1, repeats):
        configurations += [Configuration(workload, number) for workload in order.sample(workloads, len(workloads))]
    return configurations


def key_of(configuration: Configuration, device: Device) -> FinishedKey:
    """By what a finished run of this configuration on this device is recognised in a folder."""
    return (device.key, configuration_key(configuration.workload), configuration.repeat)


def run_sweep(
    configurations: Iterable[Configuration],
    device: Device,
    options: MeasureOptions,
    *,
    sampling: Sampling | None = None,
    on_start: Callable[[Configuration], None] | None = None,
) -> Iterator[Measured]:
    """Measure one configuration after the other, yielding each row as soon as it stands.

    Args:
        configurations: What to measure, in this order.
        device: The device.
        options: Times and limits.
        sampling: The meter; ``None`` measures no energy.
        on_start: Called before each child starts.
    """
    for configuration in configurations:
        if on_start is not None:
            on_start(configuration)
        yield measure_workload(configuration.workload, device, options, repeat=configuration.repeat, sampling=sampling)
