"""``flwr run .`` as a user types it: Flower's own simulation engine, offline."""

import subprocess
from pathlib import Path

import pytest

from devprof.records import Evaluation, RoundLog
from devprof.store.folder import read_records

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_the_app_runs_on_flowers_simulation_engine(flower_environment, tmp_path):
    output = tmp_path / "out"
    command = ["flwr", "run", ".", "local", "--stream", "--run-config", f"output='{output}' num-server-rounds=2"]
    done = subprocess.run(
        command, cwd=ROOT, env=flower_environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    evaluations = read_records(output, "evaluations", Evaluation)
    assert [evaluation.server_round for evaluation in evaluations] == [0, 1, 2]
    assert evaluations[-1].accuracy > 0.5
    rows = read_records(output, "rounds", RoundLog)
    assert {row.outcome for row in rows} <= {"used", "partial"}
    # The first round is a normal one, the second is planned from what the first one told.
    assert all(row.predicted_s is None for row in rows if row.server_round == 1)
    assert all(row.predicted_s > 0 and row.cutoff_s > 0 for row in rows if row.server_round == 2)
