"""The strategy of the run config: Flower's, a cut-off by processor, or a plan."""

import pytest
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx

from devprof.errors import DevprofError, UnknownNameError
from devprof.records import Link, Workload
from strategies.app.client_app import app
from strategies.app.config import DataConfig, ServerConfig, TrainConfig
from strategies.app.experiment import train_config
from strategies.app.strategy import INNER, inner_strategy, make_strategy
from strategies.app.task import make_task
from strategies.cutoff import CutoffStrategy
from strategies.planned import PlannedStrategy
from strategies.virtual import ReplayedStepTimes, VirtualDevice, VirtualGrid

NET = Workload("seed:net", image_size=8, num_classes=10)


def make(**settings):
    return make_strategy(ServerConfig(**settings), TrainConfig(), NET)


def test_each_name_makes_its_strategy(caplog):
    assert isinstance(make(strategy="fedavg"), FedAvg)
    assert isinstance(make(strategy="cutoff", cutoff_s=3.0), CutoffStrategy)
    assert isinstance(make(strategy="planned"), PlannedStrategy)
    assert "no cost-model is given" in caplog.text


def test_a_mistyped_name_finds_the_closest():
    with pytest.raises(UnknownNameError, match="closest: planned"):
        make(strategy="planed")
    with pytest.raises(UnknownNameError, match="closest: fedadam"):
        make(inner="fedadm")


def test_a_cutoff_without_tau_is_the_round_of_the_fastest_processor():
    devices = [device("pi", "cpu", 1.0), device("jetson", "gpu", 0.5)]
    data, training = DataConfig(split="iid", partitions=6), TrainConfig(local_epochs=2)
    strategy = make(strategy="cutoff", min_nodes=2)
    grid = VirtualGrid(app, devices, seed=0)
    initial = make_task(data, training).arrays()
    strategy.start(grid, initial, num_rounds=2, train_config=train_config(data, training))
    done = {(row.server_round, row.device): row.steps_done for row in strategy.round_logs}
    # Nothing is predicted in the first round; in the second the slow board ends when the fast one does.
    assert done == {(1, "pi"): 30, (1, "jetson"): 30, (2, "pi"): 15, (2, "jetson"): 30}


def test_a_cost_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DevprofError, match=r"none\.skops"):
        make(strategy="planned", cost_model=str(tmp_path / "none.skops"))


class TestInner:
    @pytest.mark.parametrize("name", INNER)
    def test_each_gets_the_shares_and_the_least_number_of_nodes(self, name):
        made = inner_strategy(ServerConfig(inner=name, fraction_train=0.5, min_nodes=3), TrainConfig())
        assert type(made) is INNER[name]
        assert (made.fraction_train, made.fraction_evaluate) == (0.5, 0.0)
        assert (made.min_train_nodes, made.min_available_nodes) == (3, 3)

    def test_clients_evaluate_where_that_is_asked_for(self):
        made = inner_strategy(ServerConfig(evaluate="both", fraction_train=0.5, min_nodes=3), TrainConfig())
        assert (made.fraction_evaluate, made.min_evaluate_nodes) == (0.5, 3)

    def test_fedprox_gets_its_mu_and_optimizers_their_rate(self):
        made = inner_strategy(ServerConfig(inner="fedprox"), TrainConfig(proximal_mu=0.2))
        assert isinstance(made, FedProx)
        assert made.proximal_mu == 0.2
        made = inner_strategy(ServerConfig(inner="fedadam", server_learning_rate=0.03), TrainConfig())
        assert isinstance(made, FedAdam)
        assert made.eta == 0.03

    def test_a_rate_for_a_strategy_without_one_is_refused(self):
        with pytest.raises(DevprofError, match=r"'fedavg' has no server-learning-rate; those that do are: fedavgm"):
            inner_strategy(ServerConfig(server_learning_rate=0.1), TrainConfig())


def device(name, processor, step_s):
    return VirtualDevice(
        name=name, processor=processor, link=Link(100, 100), startup_s=0.0, step_s=ReplayedStepTimes({16: [step_s]})
    )


def test_a_cutoff_by_processor_holds_from_the_first_round():
    devices = [device("pi", "cpu", 1.0), device("jetson", "gpu", 1.0), device("tpu", "other", 1.0)]
    data = DataConfig(split="iid", partitions=6)
    training = TrainConfig(local_epochs=2)
    strategy = make(strategy="cutoff", cutoff_per_processor="cpu=8,gpu=4", min_nodes=3)
    grid = VirtualGrid(app, devices, seed=0)
    initial = make_task(data, training).arrays()
    strategy.start(grid, initial, num_rounds=2, train_config=train_config(data, training))
    done = {(row.server_round, row.device): row.steps_done for row in strategy.round_logs}
    # 239 or 240 samples make 15 steps a pass; nodes say what they are before the first round.
    for number in (1, 2):
        assert {name: done[number, name] for name in ("pi", "jetson", "tpu")} == {"pi": 8, "jetson": 4, "tpu": 30}


def test_processors_that_are_not_named_have_the_common_cutoff():
    strategy = make(strategy="cutoff", cutoff_per_processor="cpu=8", cutoff_s=20.0)
    assigned = strategy.assign(1, [7], 0)
    assert assigned[7].values["cutoff-s"] == 20.0
