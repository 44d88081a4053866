"""The ServerApp on a virtual federation: what it evaluates, logs and writes."""

import pytest
from flwr.app import Context, RecordDict

from devprof.errors import DevprofError, StoreError
from devprof.records import Evaluation, Link, RoundLog
from devprof.store.folder import read_records
from strategies.app.client_app import app as client_app
from strategies.app.server_app import main
from strategies.virtual import ReplayedStepTimes, VirtualDevice, VirtualGrid

BASE = {"partitions": 6, "split": "iid", "num-server-rounds": 2, "strategy": "fedavg"}


def run(nodes=3, **config):
    times = ReplayedStepTimes({4: [0.1], 16: [0.2]})
    devices = [
        VirtualDevice(name="pi4", processor="cpu", link=Link(100, 100), startup_s=0.0, step_s=times)
        for _ in range(nodes)
    ]
    run_config = BASE | {key.replace("_", "-"): value for key, value in config.items()}
    main(VirtualGrid(client_app, devices, seed=0), Context(1, 1, {}, RecordDict(), run_config))


@pytest.mark.parametrize(
    ("evaluate", "expected"),
    [
        ("server", {"fedavg": [0, 1, 2]}),
        ("clients", {"fedavg": [1, 2]}),
        ("both", {"fedavg": [0, 1, 2], "fedavg, on clients": [1, 2]}),
    ],
)
def test_evaluations_and_round_log_are_written(tmp_path, caplog, evaluate, expected):
    run(evaluate=evaluate, output=str(tmp_path), client_test_share=0.5)
    evaluations = read_records(tmp_path, "evaluations", Evaluation)
    found = {name: [one.server_round for one in evaluations if one.strategy == name] for name in expected}
    assert found == expected
    assert len(evaluations) == sum(map(len, expected.values()))
    times = {one.server_round: one.time_s for one in evaluations}
    assert times[2] > times[1] > 0
    rows = read_records(tmp_path, "rounds", RoundLog)
    assert [row.server_round for row in rows] == [1, 1, 1, 2, 2, 2]
    # 239 or 240 samples in passes of 16; half of them when the other half is kept back.
    assert {row.steps_done for row in rows} == {30 if evaluate == "server" else 16}
    assert "reached accuracy" in caplog.text
    assert "6 of 6 replies were used" in caplog.text


def test_rounds_are_planned_from_what_the_first_one_told(tmp_path):
    run(strategy="planned", batch_sizes="4,16", local_epochs=1, output=str(tmp_path))
    rows = read_records(tmp_path, "rounds", RoundLog)
    assert all(row.predicted_s is None for row in rows if row.server_round == 1)
    assert all(row.predicted_s > 0 for row in rows if row.server_round == 2)


def test_a_bad_setting_ends_the_run_before_it_begins(tmp_path):
    with pytest.raises(DevprofError, match="min-nodes must be at least 1"):
        run(min_nodes=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        run(output=str(tmp_path / "file"))


def test_missing_data_end_the_run_before_a_client_trains():
    with pytest.raises(DevprofError, match="name their folder as data-dir"):
        run(data="mnist")
