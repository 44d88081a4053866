"""The app in virtual time: client, experiment, comparison, and every data set from files to a trained model."""

import subprocess
import sys

import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord
from flwr.serverapp.strategy import FedAvg, FedProx
from tiny_datasets import write_cifar, write_idx

from devprof.plan.settings import PlannerSettings
from devprof.records import Link
from strategies.app.client_app import app
from strategies.app.config import DataConfig, TrainConfig
from strategies.app.experiment import digits_experiment, server_evaluation, task_experiment, train_config
from strategies.app.task import make_task
from strategies.baselines import DROP, PLANNED, TAU, WAIT, contenders
from strategies.compare import compare
from strategies.estimators import MeasuredEstimator
from strategies.virtual import ReplayedStepTimes, VirtualDevice, VirtualGrid

STEP_S = {4: 0.0006, 16: 0.0008, 64: 0.0014}
SETTINGS = PlannerSettings(local_epochs=2, batch_size=16, min_steps=2)


def device(name, factor):
    times = ReplayedStepTimes({size: [step] for size, step in STEP_S.items()}, factor=factor)
    return VirtualDevice(name=name, processor=name, link=Link(100, 100, 0.001), startup_s=0.0, step_s=times)


def make_experiment(rounds=2, seed=1):
    devices = [device("fast", 1), device("fast", 1), device("middle", 2.5), device("slow", 5)]
    factors = {"fast": 1, "middle": 2.5, "slow": 5}
    estimator = MeasuredEstimator({name: {b: s * f for b, s in STEP_S.items()} for name, f in factors.items()})
    return digits_experiment(devices, estimator, SETTINGS, rounds=rounds, alpha=0.5, learning_rate=0.02, seed=seed)


def test_a_client_answers_with_arrays_metrics_and_telemetry():
    experiment = make_experiment()
    grid = VirtualGrid(app, experiment.devices, seed=0)
    strategy = FedAvg(fraction_evaluate=0.0)
    messages = strategy.configure_train(1, experiment.initial_arrays, experiment.train_config, grid)
    (reply, *_) = grid.send_and_receive(list(messages))
    assert reply.has_content(), reply.error
    told = reply.content["devprof"]
    samples = experiment.samples[reply.metadata.src_node_id - grid.get_node_ids()[0]]
    assert told["examples-done"] == 2 * samples
    assert told["steps-done"] == 2 * -(-samples // 16)
    assert reply.content["metrics"]["num-examples"] == samples


def test_clients_evaluate_too():
    experiment = make_experiment()
    grid = VirtualGrid(app, experiment.devices, seed=0)
    strategy = FedAvg(fraction_evaluate=1.0)
    messages = list(
        strategy.configure_evaluate(1, experiment.initial_arrays, ConfigRecord(dict(experiment.train_config)), grid)
    )
    metrics = strategy.aggregate_evaluate(1, grid.send_and_receive(messages))
    assert 0 <= metrics["eval-accuracy"] <= 1


@pytest.fixture(scope="module")
def comparison():
    return compare(make_experiment(rounds=4), contenders())


class TestComparison:
    def test_everybody_gets_the_same_virtual_time(self, comparison):
        assert [outcome.strategy for outcome in comparison.outcomes] == [WAIT, DROP, TAU, PLANNED]
        assert all(evaluation.time_s <= comparison.time_s for evaluation in comparison.evaluations)
        starts = [evaluation.accuracy for evaluation in comparison.evaluations if evaluation.server_round == 0]
        assert len(starts) == 4
        assert len(set(starts)) == 1

    def test_waiting_wastes_nothing_and_dropping_does(self, comparison):
        assert comparison.outcome(WAIT).wasted == 0
        assert comparison.outcome(DROP).wasted > 0.1
        assert comparison.outcome(TAU).wasted == pytest.approx(0, abs=0.01)
        assert comparison.outcome(PLANNED).wasted == pytest.approx(0, abs=0.01)

    def test_planned_rounds_are_shorter_and_reach_the_target_sooner(self, comparison):
        wait, planned = comparison.outcome(WAIT), comparison.outcome(PLANNED)
        assert planned.rounds > wait.rounds == 4
        assert planned.time_to_target_s < wait.time_to_target_s
        assert planned.accuracy >= wait.accuracy - 0.01

    def test_slow_clients_do_less_and_nobody_is_late_under_the_plan(self, comparison):
        rows = [row for row in comparison.round_logs if row.strategy == PLANNED]
        assert {row.outcome for row in rows} <= {"used", "partial"}
        share = {name: np.mean([row.steps_done for row in rows if row.device == name]) for name in ("fast", "slow")}
        assert share["slow"] < share["fast"]

    def test_the_log_names_clients_alike_for_all(self, comparison):
        names = [
            {row.client for row in comparison.round_logs if row.strategy == name} for name in (WAIT, DROP, TAU, PLANNED)
        ]
        assert all(one == names[0] for one in names)

    def test_an_unknown_contender_is_a_key_error(self, comparison):
        with pytest.raises(KeyError):
            comparison.outcome("nobody")


def test_a_comparison_is_reproducible():
    first, second = (compare(make_experiment(), contenders()[::3]) for _ in range(2))
    assert first.outcomes == second.outcomes
    assert first.round_logs == second.round_logs


def test_a_comparison_needs_contenders():
    with pytest.raises(ValueError, match="at least one contender"):
        compare(make_experiment(), [])


def test_evaluation_of_the_initial_model_is_near_chance():
    data, training = DataConfig(), TrainConfig()
    accuracy, loss = server_evaluation(data, training)(make_task(data, training).arrays())
    assert 0 <= accuracy < 0.4
    assert loss == pytest.approx(np.log(10), abs=0.5)


def rounds_of(data, training, strategy, *, rounds=2, nodes=3, node_config=None):
    """Accuracy after each round on the server, and the result."""
    grid = VirtualGrid(app, [device(f"board-{index}", 1) for index in range(nodes)], seed=0, node_config=node_config)
    evaluation, accuracies = server_evaluation(data, training), []

    def evaluate(_, arrays):
        accuracies.append(evaluation(arrays)[0])
        return MetricRecord({"accuracy": accuracies[-1]})

    result = strategy.start(
        grid,
        make_task(data, training).arrays(),
        num_rounds=rounds,
        train_config=train_config(data, training),
        evaluate_config=train_config(data, training),
        evaluate_fn=evaluate,
    )
    return accuracies, result


class TestDataSets:
    def test_idx_files_train_flowers_small_network(self, tmp_path):
        write_idx(tmp_path, packed=True)
        data = DataConfig(data="mnist", data_dir=str(tmp_path), split="iid", partitions=3)
        accuracies, _ = rounds_of(data, TrainConfig(learning_rate=0.02, local_epochs=8, batch_size=4), FedAvg(1.0, 0.0))
        assert accuracies[-1] > accuracies[0] + 0.2

    def test_more_partitions_than_nodes_leave_data_unused_and_the_nodes_folder_is_used(self, tmp_path):
        write_idx(tmp_path / "fashion-mnist")
        data = DataConfig(data="fashion-mnist", data_dir=str(tmp_path), partitions=20, split="iid")
        _, result = rounds_of(data, TrainConfig(), FedAvg(1.0, 0.0), rounds=1, node_config={"data-dir": str(tmp_path)})
        assert set(result.train_metrics_clientapp[1]) == {"train-loss"}

    @pytest.mark.slow
    @pytest.mark.parametrize(("version", "mode"), [("python", "full"), ("binary", "head")])
    def test_cifar_files_train_a_mobile_network(self, tmp_path, version, mode):
        write_cifar(tmp_path, version, packed=True)
        data = DataConfig(data="cifar10", data_dir=str(tmp_path), partitions=4, split="digits", classes_per_client=5)
        training = TrainConfig(model="mobilenetv3_small_050", mode=mode, batch_size=4, learning_rate=0.01)
        accuracies, result = rounds_of(data, training, FedAvg(1.0, 0.0), rounds=1, nodes=4)
        assert len(accuracies) == 2
        assert np.isfinite(result.train_metrics_clientapp[1]["train-loss"])

    def test_a_node_without_the_data_answers_with_the_reason(self, caplog):
        data = DataConfig(data="mnist", data_dir="/nowhere/at/all")
        grid = VirtualGrid(app, [device("board", 1)], seed=0)
        messages = FedAvg(1.0, 0.0, 1, 0, 1).configure_train(
            1, make_task(data, TrainConfig()).arrays(), train_config(data, TrainConfig()), grid
        )
        (reply,) = grid.send_and_receive(list(messages))
        assert "the data-dir /nowhere/at/all of the data set 'mnist' is no folder on this machine" in reply.error.reason

    def test_an_experiment_can_be_made_of_any_data_set(self, tmp_path):
        write_idx(tmp_path)
        data = DataConfig(data="mnist", data_dir=str(tmp_path), split="iid")
        estimator = MeasuredEstimator({"board": STEP_S})
        experiment = task_experiment(data, TrainConfig(), [device("board", 1)] * 4, estimator, SETTINGS, rounds=2)
        assert list(experiment.samples) == [15, 15, 15, 15]
        assert experiment.train_config["partitions"] == 4
        assert 0 <= experiment.evaluate(experiment.initial_arrays)[0] <= 1


def test_flowers_fedprox_sends_its_mu_to_the_client():
    data, losses = DataConfig(partitions=3), []
    for mu in (0.0, 50.0):
        # What the strategy says wins over what the run config says.
        strategy = FedProx(1.0, 0.0, proximal_mu=mu)
        accuracies, _ = rounds_of(data, TrainConfig(momentum=0.0, learning_rate=0.01), strategy, rounds=1)
        losses.append(accuracies[-1])
    assert losses[0] != losses[1]


def test_clients_evaluate_on_samples_that_they_keep_back():
    data, training = DataConfig(partitions=3, split="iid", test_share=0.25), TrainConfig()
    _, result = rounds_of(data, training, FedAvg(1.0, 1.0), rounds=2)
    (first, second) = (result.evaluate_metrics_clientapp[number] for number in (1, 2))
    assert set(first) == {"eval-accuracy", "eval-loss"}
    assert second["eval-accuracy"] > 0.3


def test_the_client_app_imports_torch_and_nothing_heavier():
    """In deployment each message starts a process that imports it."""
    heavy = {"torchvision", "timm", "sklearn", "scipy", "pandas", "pyarrow", "skops", "PIL", "flwr_datasets"}
    script = f"import sys, strategies.app.client_app; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
