"""The ServerApp: federated training of a data set under the strategy that the run config names.

Keys of the run config are those of ``[tool.flwr.app.config]`` in ``pyproject.toml``; override them with
``flwr run . --run-config "strategy='fedavg' num-server-rounds=5"``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result

from devprof.records import Evaluation
from devprof.store.folder import ensure_writable, write_records
from strategies.app.config import DataConfig, ServerConfig, TrainConfig, from_config
from strategies.app.experiment import server_evaluation, train_config
from strategies.app.strategy import make_strategy
from strategies.app.task import make_task, workload
from strategies.clocks import Clock
from strategies.composed import ComposedStrategy
from strategies.grid import DeadlineGrid

__all__ = ["app"]

_log = logging.getLogger(__name__)

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, evaluate after each as ``evaluate`` says, and keep the round log where ``output`` says."""
    config = context.run_config
    server, training = from_config(ServerConfig, config), from_config(TrainConfig, config)
    data = from_config(DataConfig, config)
    if server.clients_evaluate:
        data = replace(data, test_share=server.client_test_share)
    if server.output:
        ensure_writable(Path(server.output))
    strategy = make_strategy(server, training, workload(training, data.meta))
    # A composed strategy brings its own deadlines; any other gets a grid for the round log alone.
    wrapped = (
        strategy.deadline_grid(grid)
        if isinstance(strategy, ComposedStrategy)
        else DeadlineGrid(grid, strategy=server.strategy, min_nodes=server.min_nodes)
    )
    quality = _Quality(server, wrapped.clock, server_evaluation(data, training) if server.server_evaluates else None)
    result = strategy.start(
        wrapped,
        make_task(data, training).arrays(),
        num_rounds=server.num_server_rounds,
        train_config=train_config(data, training),
        evaluate_config=train_config(data, training),
        evaluate_fn=quality.after_round,
    )
    quality.add_clients(result)
    if server.output:
        name = f"{server.strategy}-{context.run_id}"
        write_records(Path(server.output), "evaluations", name, quality.evaluations)
        write_records(Path(server.output), "rounds", name, wrapped.round_logs)
    used = sum(row.outcome in {"used", "partial"} for row in wrapped.round_logs)
    for name in dict.fromkeys(evaluation.strategy for evaluation in quality.evaluations):
        last = [evaluation for evaluation in quality.evaluations if evaluation.strategy == name][-1]
        _log.warning("devprof: %s reached accuracy %.3f after %d rounds", name, last.accuracy, last.server_round)
    _log.warning("devprof: %d of %d replies were used", used, len(wrapped.round_logs))


@dataclass(slots=True)
class _Quality:
    """How good the model was after each round: on the server's test data, and on what clients keep back."""

    server: ServerConfig
    clock: Clock
    evaluate: Callable[[ArrayRecord], tuple[float, float]] | None
    evaluations: list[Evaluation] = field(default_factory=list)
    times_s: dict[int, float] = field(default_factory=dict)

    def after_round(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Note when the round ended, and evaluate on the server if that is asked for."""
        self.times_s[server_round] = self.clock.now_s()
        if self.evaluate is None:
            return None
        accuracy, loss = self.evaluate(arrays)
        self._add(self.server.strategy, server_round, accuracy, loss)
        return MetricRecord({"accuracy": accuracy, "loss": loss})

    def add_clients(self, result: Result) -> None:
        """Take over what the clients found: means weighted by the samples that each kept back."""
        name = f"{self.server.strategy}, on clients" if self.server.server_evaluates else self.server.strategy
        for server_round, metrics in result.evaluate_metrics_clientapp.items():
            accuracy, loss = (metrics.get(key) for key in ("eval-accuracy", "eval-loss"))
            if isinstance(accuracy, (int, float)) and isinstance(loss, (int, float)):
                self._add(name, server_round, accuracy, loss)

    def _add(self, name: str, server_round: int, accuracy: float, loss: float) -> None:
        self.evaluations.append(Evaluation(name, server_round, self.times_s[server_round], accuracy, loss))
