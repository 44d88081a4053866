"""The app's task as an experiment in virtual time: digits, non-IID, one client per device."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.app import ArrayRecord, ConfigRecord

from devprof.plan.estimator import StepEstimator
from devprof.plan.settings import PlannerSettings
from strategies.app.client_app import app
from strategies.app.data import client_samples, load_digits_split
from strategies.app.task import evaluate, initial_arrays, make_model
from strategies.compare import Experiment
from strategies.virtual import VirtualDevice

__all__ = ["digits_experiment", "evaluate_arrays", "train_config"]


def train_config(settings: PlannerSettings, *, learning_rate: float, alpha: float, seed: int) -> ConfigRecord:
    """What every client of the app is told in every round, unless a strategy tells it otherwise."""
    return ConfigRecord(
        {
            "local-epochs": settings.local_epochs,
            "batch-size": settings.batch_size,
            "learning-rate": learning_rate,
            "dirichlet-alpha": alpha,
            "seed": seed,
        }
    )


def evaluate_arrays(arrays: ArrayRecord, seed: int) -> tuple[float, float]:
    """Accuracy and loss of a model on the test part of the digits."""
    model = make_model()
    model.load_state_dict(arrays.to_torch_state_dict())
    return evaluate(model, load_digits_split(seed).test)


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
    """Federated training of the app's network on the digits.

    Args:
        devices: One client each.
        estimator: Predictions of step times of the app's network on these devices, by name.
        settings: The normal round.
        rounds: Rounds of the contender that sets the time.
        alpha: Concentration of the Dirichlet split; small is uneven.
        learning_rate: Of the clients' SGD.
        seed: Of split, initial model, order of samples and step times.
    """
    samples = [len(client_samples(client, len(devices), alpha=alpha, seed=seed)) for client in range(len(devices))]
    return Experiment(
        client_app=app,
        devices=devices,
        samples=samples,
        estimator=estimator,
        settings=settings,
        initial_arrays=initial_arrays(seed),
        evaluate=lambda arrays: evaluate_arrays(arrays, seed),
        train_config=train_config(settings, learning_rate=learning_rate, alpha=alpha, seed=seed),
        rounds=rounds,
        seed=seed,
    )
