"""Which configurations a command asks for, which of them are finished already, and the loop over the rest."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from devprof.measure.harness import MeasureOptions, configuration_key, measure_workload
from devprof.records import MODES, TASKS, Device, Measurement, StepTime, Workload

__all__ = ["Configuration", "expand", "finished_keys", "is_finished", "run_sweep"]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One child's work: a workload and the number of its repeat."""

    workload: Workload
    repeat: int = 0


def expand(
    base: Workload,
    *,
    models: Sequence[str],
    modes: Sequence[str],
    tasks: Sequence[str],
    batch_sizes: Sequence[int],
    repeats: int,
    seed: int = 0,
) -> list[Configuration]:
    """All combinations, repeats outermost; repeats after the first come in random order, so that drift hits all alike.

    Args:
        base: Carries what is the same for all.
        models: Model names; modes and tasks likewise from :mod:`devprof.records`.
        modes: ``full``, ``head``; an inference has no mode but ``full``.
        tasks: ``train``, ``infer``.
        batch_sizes: Samples per step.
        repeats: Fresh processes per combination.
        seed: Of the random order.
    """
    wanted_tasks = [task for task in TASKS if task in tasks]
    wanted_modes = [mode for mode in MODES if mode in modes]
    first = [
        replace(base, model=model, mode=mode, task=task, batch_size=size)
        for model, task, mode, size in itertools.product(models, wanted_tasks, wanted_modes, batch_sizes)
        if task == "train" or mode == wanted_modes[0]
    ]
    order = random.Random(seed)
    configurations = [Configuration(workload) for workload in first]
    for repeat in range(1, repeats):
        configurations += [Configuration(workload, repeat) for workload in order.sample(first, len(first))]
    return configurations


Key = tuple[str, str | None, int | None]


def finished_keys(runs: Iterable[Measurement]) -> frozenset[Key]:
    """What tells finished runs apart for :func:`is_finished`; made once per sweep."""
    return frozenset((run.device_key, run.configuration, run.repeat) for run in runs)


def is_finished(configuration: Configuration, device: Device, finished: frozenset[Key]) -> bool:
    """Whether a run of this configuration on this device is among the finished ones, whatever its status."""
    return (device.key, configuration_key(configuration.workload), configuration.repeat) in finished


def run_sweep(
    configurations: Sequence[Configuration],
    device: Device,
    options: MeasureOptions,
    *,
    on_start: Callable[[Configuration], None] | None = None,
) -> Iterator[tuple[Measurement, list[StepTime]]]:
    """Measure one configuration after the other, yielding each row as soon as it stands.

    Args:
        configurations: What to measure, in this order.
        device: The device.
        options: Times and limits.
        on_start: Called before each child starts.
    """
    for configuration in configurations:
        if on_start is not None:
            on_start(configuration)
        yield measure_workload(configuration.workload, device, options, repeat=configuration.repeat)
