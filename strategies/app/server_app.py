"""The ServerApp: federated training of the digits under the strategy that the run config names.

Keys of the run config are those of ``[tool.flwr.app.config]`` in ``pyproject.toml``; override them with
``flwr run . --run-config "strategy='fedavg' num-server-rounds=5"``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Strategy

from devprof.errors import DevprofError, UnknownNameError
from devprof.plan.settings import PlannerSettings
from devprof.records import Evaluation
from devprof.store.folder import ensure_writable, write_records
from strategies.app.experiment import evaluate_arrays, train_config
from strategies.app.task import IMAGE_SIZE, MODEL, initial_arrays
from strategies.composed import ComposedStrategy
from strategies.cutoff import CutoffStrategy
from strategies.directory import ClientDirectory
from strategies.estimators import CostModelEstimator
from strategies.grid import DeadlineGrid
from strategies.planned import PlannedStrategy

__all__ = ["STRATEGIES", "app", "make_strategy"]

STRATEGIES = ("fedavg", "cutoff", "planned")

_log = logging.getLogger(__name__)

app = ServerApp()

RunConfig = Mapping[str, bool | float | int | str]


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, evaluate on the server after each, and keep the round log where ``output`` says."""
    config = context.run_config
    settings = PlannerSettings(local_epochs=int(config["local-epochs"]), batch_size=int(config["batch-size"]))
    name = str(config["strategy"])
    output = str(config["output"])
    if output:
        ensure_writable(Path(output))
    strategy = make_strategy(name, settings, config)
    # A composed strategy brings its own deadlines; any other gets a grid for the round log alone.
    wrapped = (
        strategy.deadline_grid(grid) if isinstance(strategy, ComposedStrategy) else DeadlineGrid(grid, strategy=name)
    )
    seed = int(config["seed"])
    evaluations: list[Evaluation] = []

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        accuracy, loss = evaluate_arrays(arrays, seed)
        evaluations.append(Evaluation(name, server_round, wrapped.clock.now_s(), accuracy, loss))
        return MetricRecord({"accuracy": accuracy, "loss": loss})

    strategy.start(
        wrapped,
        initial_arrays(seed),
        num_rounds=int(config["num-server-rounds"]),
        train_config=train_config(
            settings,
            learning_rate=float(config["learning-rate"]),
            alpha=float(config["dirichlet-alpha"]),
            seed=seed,
        ),
        evaluate_fn=evaluate,
    )
    if output:
        write_records(Path(output), "evaluations", f"{name}-{context.run_id}", evaluations)
        write_records(Path(output), "rounds", f"{name}-{context.run_id}", wrapped.round_logs)
    used = sum(row.outcome in {"used", "partial"} for row in wrapped.round_logs)
    _log.warning(
        "devprof: %s reached accuracy %.3f after %d rounds; %d of %d replies were used",
        name,
        evaluations[-1].accuracy,
        evaluations[-1].server_round,
        used,
        len(wrapped.round_logs),
    )


def make_strategy(name: str, settings: PlannerSettings, config: RunConfig) -> Strategy:
    """The strategy of a run config.

    Args:
        name: One of :data:`STRATEGIES`.
        settings: The normal round.
        config: ``cutoff-s`` for ``cutoff``; ``cost-model``, a file's path or empty, for ``planned``.

    Raises:
        UnknownNameError: If there is no such strategy.
        DevprofError: If ``cutoff`` has no positive ``cutoff-s``.
    """
    inner = FedAvg(fraction_evaluate=0.0)
    if name == "fedavg":
        return inner
    if name == "cutoff":
        cutoff_s = float(config["cutoff-s"])
        if not cutoff_s > 0:
            raise DevprofError("the strategy 'cutoff' needs a positive cutoff-s in the run config")
        return CutoffStrategy(inner, lambda _: cutoff_s, lambda _: "any", name=name)
    if name == "planned":
        return PlannedStrategy(inner, settings, _estimator(str(config["cost-model"])), ClientDirectory(), name=name)
    raise UnknownNameError("strategy", name, STRATEGIES, f"There are: {', '.join(STRATEGIES)}.")


def _estimator(path: str) -> CostModelEstimator | None:
    if not path:
        _log.warning("no cost-model is given: the first round is not planned, and predictions are learned from it")
        return None
    from devprof.costmodel.model import CostModel

    return CostModelEstimator(CostModel.load(path), MODEL, image_size=IMAGE_SIZE, num_classes=10)
