"""The app's task as an experiment in virtual time: one client per device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from flwr.app import ArrayRecord, ConfigRecord

from devprof.plan.estimator import StepEstimator
from devprof.plan.settings import PlannerSettings
from strategies.app.client_app import app
from strategies.app.config import DataConfig, TrainConfig, to_config
from strategies.app.data import client_samples, server_samples
from strategies.app.task import MODEL, evaluate, make_task
from strategies.compare import Experiment
from strategies.virtual import VirtualDevice

__all__ = ["digits_experiment", "server_evaluation", "task_experiment", "train_config"]


def train_config(data: DataConfig, training: TrainConfig) -> ConfigRecord:
    """What every client of the app is told in every round, unless a strategy tells it otherwise."""
    return ConfigRecord(dict(to_config(data, training)))


def server_evaluation(data: DataConfig, training: TrainConfig) -> Callable[[ArrayRecord], tuple[float, float]]:
    """What gives accuracy and loss of a model's arrays on the test part of the data set; it keeps model and data in memory."""
    task = make_task(data, training)

    def evaluated(arrays: ArrayRecord) -> tuple[float, float]:
        task.load(arrays)
        return evaluate(task, server_samples(data))

    return evaluated


def task_experiment(
    data: DataConfig,
    training: TrainConfig,
    devices: Sequence[VirtualDevice],
    estimator: StepEstimator,
    settings: PlannerSettings,
    *,
    rounds: int,
) -> Experiment:
    """Federated training of any data set and model of the app, on virtual devices.

    Args:
        data: The data set and its split; without a number of partitions, one for each device.
        training: What clients do; epochs and batch size are those of ``settings``.
        devices: One client each, with the partitions from 0 on.
        estimator: Predictions of step times of the model on these devices, by name.
        settings: The normal round.
        rounds: Rounds of the contender that sets the time.

    Raises:
        DevprofError: If there are fewer partitions than devices, or the data cannot be had.
    """
    data = replace(data, partitions=data.partitions or len(devices))
    training = replace(training, local_epochs=settings.local_epochs, batch_size=settings.batch_size)
    samples = [len(client_samples(data, client, data.partitions)) for client in range(len(devices))]
    return Experiment(
        client_app=app,
        devices=devices,
        samples=samples,
        estimator=estimator,
        settings=settings,
        initial_arrays=make_task(data, training).arrays(),
        evaluate=server_evaluation(data, training),
        train_config=train_config(data, training),
        rounds=rounds,
        seed=data.seed,
    )


def digits_experiment(
    devices: Sequence[VirtualDevice],
    estimator: StepEstimator,
    settings: PlannerSettings,
    *,
    rounds: int,
    alpha: float,
    learning_rate: float,
    seed: int,
) -> Experiment:
    """Federated training of the app's small network on the digits that scikit-learn bundles.

    Args:
        devices: One client each.
        estimator: Predictions of step times of the app's network on these devices, by name.
        settings: The normal round.
        rounds: Rounds of the contender that sets the time.
        alpha: Concentration of the Dirichlet split; small is uneven.
        learning_rate: Of the clients' SGD.
        seed: Of split, initial model, order of samples and step times.
    """
    data = DataConfig(data="digits", split="dirichlet", dirichlet_alpha=alpha, seed=seed)
    training = TrainConfig(model=MODEL, learning_rate=learning_rate)
    return task_experiment(data, training, devices, estimator, settings, rounds=rounds)
