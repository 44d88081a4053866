"""The strategy that the settings name: one of Flower's, alone or inside one of devprof's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    Strategy,
)

from devprof.errors import DevprofError, UnknownNameError
from devprof.records import Workload
from strategies.app.config import ServerConfig, TrainConfig
from strategies.cutoff import CutoffStrategy
from strategies.cutoffs import FastestProcessor
from strategies.directory import ClientDirectory
from strategies.estimators import CostModelEstimator
from strategies.planned import PlannedStrategy

__all__ = ["INNER", "STRATEGIES", "inner_strategy", "make_strategy"]

_log = logging.getLogger(__name__)

STRATEGIES = ("fedavg", "cutoff", "planned")

INNER: Mapping[str, type[Strategy]] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedavgm": FedAvgM,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "fedmedian": FedMedian,
    "fedtrimmedavg": FedTrimmedAvg,
    "krum": Krum,
    "multikrum": MultiKrum,
}
# What the constructor calls the server's step size, where there is one.
_SERVER_RATE = {"fedavgm": "server_learning_rate", "fedadagrad": "eta", "fedadam": "eta", "fedyogi": "eta"}


def inner_strategy(server: ServerConfig, training: TrainConfig) -> Strategy:
    """Flower's strategy that samples clients and aggregates.

    Raises:
        UnknownNameError: If there is none of that name; carries the closest.
        DevprofError: If it has no step size on the server but the settings name one.
    """
    if server.inner not in INNER:
        raise UnknownNameError("inner strategy", server.inner, list(INNER), f"There are: {', '.join(INNER)}.")
    extra: dict[str, float] = {}
    if server.inner == "fedprox":
        extra["proximal_mu"] = training.proximal_mu
    if server.server_learning_rate > 0:
        if server.inner not in _SERVER_RATE:
            raise DevprofError(
                f"the inner strategy {server.inner!r} has no server-learning-rate; those that do are: {', '.join(_SERVER_RATE)}"
            )
        extra[_SERVER_RATE[server.inner]] = server.server_learning_rate
    make: Callable[..., Any] = INNER[server.inner]
    made: Strategy = make(
        fraction_train=server.fraction_train,
        fraction_evaluate=server.fraction_train if server.clients_evaluate else 0.0,
        min_train_nodes=server.min_nodes,
        min_evaluate_nodes=server.min_nodes if server.clients_evaluate else 0,
        min_available_nodes=server.min_nodes,
        **extra,
    )
    return made


def make_strategy(server: ServerConfig, training: TrainConfig, workload: Workload) -> Strategy:
    """The strategy of the settings.

    Args:
        server: Names the strategy, and what each needs: ``cutoff-s`` or ``cutoff-per-processor`` for ``cutoff``, or neither for
            the round of the fastest processor; the plan's settings for ``planned``; for both ``cost-model``, a file's path
            or empty.
        training: The normal round.
        workload: What clients train, for the cost model.

    Raises:
        UnknownNameError: If there is no such strategy.
        DevprofError: If a setting is missing or cannot be used.
    """
    name, inner = server.strategy, inner_strategy(server, training)
    if name == "fedavg":
        return inner
    if name == "cutoff":
        return _cutoff(server, training, workload, inner)
    if name == "planned":
        settings = server.planner_settings(training)
        return PlannedStrategy(
            inner,
            settings,
            _estimator(server.cost_model, workload),
            ClientDirectory(),
            gamma=server.gamma,
            momentum=training.momentum if training.optimizer == "sgd" else 0.0,
            name=name,
        )
    raise UnknownNameError("strategy", name, STRATEGIES, f"There are: {', '.join(STRATEGIES)}.")


def _cutoff(server: ServerConfig, training: TrainConfig, workload: Workload, inner: Strategy) -> Strategy:
    """One tau for each processor: as the settings say or, where they name none, the round of the fastest."""
    cutoffs, other_s = server.cutoffs(), server.cutoff_s or None
    directory = ClientDirectory()
    if not cutoffs and other_s is None:
        normal = server.planner_settings(training)
        fastest = FastestProcessor(normal, directory, _estimator(server.cost_model, workload))
        return CutoffStrategy(inner, fastest, directory, name=server.strategy)
    return CutoffStrategy(inner, cutoffs, directory, other_s=other_s, name=server.strategy)


def _estimator(path: str, workload: Workload) -> CostModelEstimator | None:
    if not path:
        _log.warning("no cost-model is given: the first round is not planned, and predictions are learned from it")
        return None
    from devprof.costmodel.model import CostModel

    return CostModelEstimator(
        CostModel.load(path),
        workload.model,
        workload.mode,
        image_size=workload.image_size,
        num_classes=workload.num_classes,
    )
