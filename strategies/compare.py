"""A fair comparison of ways to treat slow clients: same devices, data, model, seed and virtual clock for all.

The first contender sets the time: it runs its rounds to the end, and every other one gets as much virtual time as it took
(and at most twelve times its rounds).
Accuracy is compared at equal time, and time at equal accuracy; the target is a share of the best that the first contender
reached, so it is fixed before the others run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.clientapp import ClientApp

from devprof.plan.estimator import StepEstimator
from devprof.plan.settings import ClientState, PlannerSettings
from devprof.records import Evaluation, RoundLog
from strategies.baselines import Contender, Fleet
from strategies.compat import seeded_sampling
from strategies.roundlog import wasted_work
from strategies.virtual import HorizonReached, VirtualDevice, VirtualGrid

__all__ = ["Comparison", "Experiment", "Outcome", "compare"]

# Rounds of a contender for each round of the first: more than any sensible fleet allows, so that only a wildly noisy clock
# meets it. Without a bound such a run would train for hours.
_MOST_ROUNDS = 12
_LAST_EVALUATIONS = 3


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is the same for all contenders.

    Attributes:
        client_app: What clients run.
        devices: One client each.
        samples: Size of each client's data.
        estimator: Predictions, for those who use them; it knows the devices by name.
        settings: The normal round.
        initial_arrays: The model at the start.
        evaluate: Accuracy and loss of a model.
        train_config: Config sent to every client.
        rounds: Rounds of the first contender.
        target_share: Share of the first contender's best accuracy that is the common target.
        seed: Of all draws.
    """

    client_app: ClientApp
    devices: Sequence[VirtualDevice]
    samples: Sequence[int]
    estimator: StepEstimator
    settings: PlannerSettings
    initial_arrays: ArrayRecord
    evaluate: Callable[[ArrayRecord], tuple[float, float]]
    train_config: ConfigRecord
    rounds: int
    target_share: float = 0.95
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one contender reached.

    Attributes:
        strategy: Its name.
        rounds: Rounds finished within the time.
        accuracy: Mean of the last three evaluations.
        time_to_target_s: Virtual seconds to the first evaluation at the target; ``None`` if it never got there.
        wasted: Share of device time whose result was not used.
    """

    strategy: str
    rounds: int
    accuracy: float
    time_to_target_s: float | None
    wasted: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that came of a comparison; ``time_s`` is the virtual time that each contender had."""

    time_s: float
    target_accuracy: float
    outcomes: tuple[Outcome, ...]
    evaluations: tuple[Evaluation, ...]
    round_logs: tuple[RoundLog, ...]

    def outcome(self, strategy: str) -> Outcome:
        """The outcome of one contender.

        Raises:
            KeyError: If it was not among them.
        """
        for outcome in self.outcomes:
            if outcome.strategy == strategy:
                return outcome
        raise KeyError(strategy)


@dataclass(frozen=True, slots=True)
class _Run:
    grid: VirtualGrid
    evaluations: list[Evaluation]
    round_logs: list[RoundLog]


def compare(
    experiment: Experiment,
    contenders: Sequence[Contender],
    *,
    on_start: Callable[[str], None] | None = None,
) -> Comparison:
    """Run all contenders, one after the other, each on a fresh federation.

    Args:
        experiment: What is the same for all.
        contenders: The first sets time and target.
        on_start: Called with the name of each contender before it runs.

    Raises:
        ValueError: If there is no contender or the numbers of devices and of data sizes differ.
    """
    if not contenders or len(experiment.devices) != len(experiment.samples):
        raise ValueError("a comparison needs at least one contender, and a data size for each device")
    runs: dict[str, _Run] = {}
    horizon_s: float | None = None
    for contender in contenders:
        if on_start is not None:
            on_start(contender.name)
        run = _run(experiment, contender, horizon_s)
        runs[contender.name] = run
        if horizon_s is None:
            horizon_s = run.evaluations[-1].time_s
    first = runs[contenders[0].name]
    target = experiment.target_share * max(evaluation.accuracy for evaluation in first.evaluations)
    return Comparison(
        time_s=first.evaluations[-1].time_s,
        target_accuracy=target,
        outcomes=tuple(_outcome(name, run, target) for name, run in runs.items()),
        evaluations=tuple(evaluation for run in runs.values() for evaluation in run.evaluations),
        round_logs=tuple(row for run in runs.values() for row in run.round_logs),
    )


def _run(experiment: Experiment, contender: Contender, horizon_s: float | None) -> _Run:
    grid = VirtualGrid(experiment.client_app, experiment.devices, seed=experiment.seed, horizon_s=horizon_s)
    evaluations: list[Evaluation] = []

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        accuracy, loss = experiment.evaluate(arrays)
        evaluations.append(Evaluation(contender.name, server_round, grid.clock.now_s(), accuracy, loss))
        return MetricRecord({"accuracy": accuracy, "loss": loss})

    with _quiet_logs(), seeded_sampling(experiment.seed):
        strategy, wrapped = contender.set_up(grid, _fleet(experiment, grid))
        try:
            strategy.start(
                wrapped,
                experiment.initial_arrays,
                num_rounds=experiment.rounds if horizon_s is None else _MOST_ROUNDS * experiment.rounds,
                train_config=ConfigRecord(dict(experiment.train_config)),
                evaluate_fn=evaluate,
            )
        except HorizonReached:
            wrapped.harvest_late()
    return _Run(grid, evaluations, wrapped.round_logs)


def _fleet(experiment: Experiment, grid: VirtualGrid) -> Fleet:
    nodes = grid.get_node_ids()
    clients = {
        node: ClientState(
            client=grid.client_name(node),
            device=device.name,
            processor=device.processor,
            samples=samples,
            link=device.link,
            startup_s=device.startup_s,
        )
        for node, device, samples in zip(nodes, experiment.devices, experiment.samples, strict=True)
    }
    size = experiment.initial_arrays.count_bytes()
    return Fleet(clients, experiment.estimator, experiment.settings, size)


def _outcome(name: str, run: _Run, target: float) -> Outcome:
    reached = [evaluation.time_s for evaluation in run.evaluations if evaluation.accuracy >= target]
    last = run.evaluations[-_LAST_EVALUATIONS:]
    return Outcome(
        strategy=name,
        rounds=run.evaluations[-1].server_round,
        accuracy=fmean(evaluation.accuracy for evaluation in last),
        time_to_target_s=reached[0] if reached else None,
        wasted=wasted_work(run.round_logs, device_s=_logged_device_s(run)),
    )


def _logged_device_s(run: _Run) -> float:
    """Device seconds of the rounds that were closed: the one that the horizon interrupted is nobody's waste."""
    now_s = run.grid.clock.now_s()
    jobs = [job for job in run.grid.jobs if job.category == "train"][: len(run.round_logs)]
    return sum(max(0.0, min(job.finished_s, now_s) - job.start_s) for job in jobs)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """A comparison has hundreds of rounds: who was late in each stands in the round log, and need not be told as well."""
    loggers = [logging.getLogger(name) for name in ("flwr", "strategies.grid", "strategies.cutoff")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
