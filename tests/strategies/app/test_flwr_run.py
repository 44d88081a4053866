"""``flwr run .`` as a user types it: Flower's own simulation engine, offline."""

import subprocess
from pathlib import Path

import pytest
from tiny_datasets import write_idx

from devprof.records import Evaluation, RoundLog
from devprof.store.folder import read_records

ROOT = Path(__file__).parents[3]


def run(environment, config):
    """``flwr run .`` with a run config, to its end."""
    command = ["flwr", "run", ".", "local", "--stream", "--run-config", config]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
def test_the_app_runs_on_flowers_simulation_engine(flower_environment, tmp_path):
    output = tmp_path / "out"
    run(flower_environment, f"output='{output}' num-server-rounds=2")
    evaluations = read_records(output, "evaluations", Evaluation)
    assert [evaluation.server_round for evaluation in evaluations] == [0, 1, 2]
    assert evaluations[-1].accuracy > 0.5
    rows = read_records(output, "rounds", RoundLog)
    assert {row.outcome for row in rows} <= {"used", "partial"}
    # The first round is a normal one, the second is planned from what the first one told.
    assert all(row.predicted_s is None for row in rows if row.server_round == 1)
    assert all(row.predicted_s > 0 and row.cutoff_s > 0 for row in rows if row.server_round == 2)


@pytest.mark.slow
def test_it_trains_from_files_under_another_strategy_and_evaluates_on_both_sides(flower_environment, tmp_path):
    write_idx(tmp_path / "mnist", packed=True)
    output = tmp_path / "out"
    data = f"data='mnist' data-dir='{tmp_path}' split='digits' classes-per-client=5 partitions=2"
    how = "strategy='cutoff' cutoff-per-processor='cpu=200' inner='fedprox' proximal-mu=0.01 evaluate='both'"
    run(flower_environment, f"{data} {how} output='{output}' num-server-rounds=1 learning-rate=0.01")
    rounds = [(one.strategy, one.server_round) for one in read_records(output, "evaluations", Evaluation)]
    assert rounds == [("cutoff", 0), ("cutoff", 1), ("cutoff, on clients", 1)]
    rows = read_records(output, "rounds", RoundLog)
    assert [(row.outcome, row.cutoff_s, row.processor) for row in rows] == [("used", 200.0, "cpu")] * 2
