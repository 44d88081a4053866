"""The app in virtual time: client, task, experiment, comparison and the strategies of the server app."""

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg

from devprof.errors import DevprofError, UnknownNameError
from devprof.plan.settings import PlannerSettings
from devprof.records import Link
from strategies.app.client_app import app
from strategies.app.data import client_samples, load_digits_split
from strategies.app.experiment import digits_experiment, evaluate_arrays
from strategies.app.server_app import make_strategy
from strategies.app.task import batches, evaluate, initial_arrays, make_model, train
from strategies.baselines import DROP, PLANNED, TAU, WAIT, contenders
from strategies.client import Budget
from strategies.compare import compare
from strategies.cutoff import CutoffStrategy
from strategies.estimators import MeasuredEstimator
from strategies.planned import PlannedStrategy
from strategies.virtual import ReplayedStepTimes, VirtualDevice, VirtualGrid

STEP_S = {4: 0.0006, 16: 0.0008, 64: 0.0014}
SETTINGS = PlannerSettings(local_epochs=2, batch_size=16, min_steps=2)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def device(name, factor):
    times = ReplayedStepTimes({size: [step] for size, step in STEP_S.items()}, factor=factor)
    return VirtualDevice(name=name, processor=name, link=Link(100, 100, 0.001), startup_s=0.0, step_s=times)


def make_experiment(rounds=2, seed=1):
    devices = [device("fast", 1), device("fast", 1), device("middle", 2.5), device("slow", 5)]
    factors = {"fast": 1, "middle": 2.5, "slow": 5}
    estimator = MeasuredEstimator({name: {b: s * f for b, s in STEP_S.items()} for name, f in factors.items()})
    return digits_experiment(devices, estimator, SETTINGS, rounds=rounds, alpha=0.5, learning_rate=0.02, seed=seed)


def test_the_model_is_reproducible_and_leaves_the_global_random_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first, second = make_model(3), make_model(3)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_batches_cover_every_sample_once():
    samples = client_samples(0, 5, alpha=None, seed=0)
    sizes = [len(labels) for _, labels in batches(samples, 16, np.random.default_rng(0))]
    assert sum(sizes) == len(samples)
    assert set(sizes[:-1]) == {16}


def test_training_stays_within_its_budget_and_learns():
    samples = load_digits_split(0).train
    model = make_model()
    before = evaluate(model, samples)[1]
    budget = Budget(local_steps=30)
    train(model, samples, budget, batch_size=16, learning_rate=0.05, seed=0)
    assert (budget.steps_done, budget.examples_done) == (30, 480)
    assert evaluate(model, samples)[1] < before


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
    accuracy, loss = evaluate_arrays(initial_arrays(0), 0)
    assert 0 <= accuracy < 0.4
    assert loss == pytest.approx(np.log(10), abs=0.5)


RUN_CONFIG = {"cutoff-s": 3.0, "cost-model": ""}


class TestServerAppStrategies:
    def test_each_name_makes_its_strategy(self, caplog):
        assert isinstance(make_strategy("fedavg", SETTINGS, RUN_CONFIG), FedAvg)
        assert isinstance(make_strategy("cutoff", SETTINGS, RUN_CONFIG), CutoffStrategy)
        assert isinstance(make_strategy("planned", SETTINGS, RUN_CONFIG), PlannedStrategy)
        assert "no cost-model is given" in caplog.text

    def test_a_mistyped_name_finds_the_closest(self):
        with pytest.raises(UnknownNameError, match="closest: planned"):
            make_strategy("planed", SETTINGS, RUN_CONFIG)

    def test_a_cutoff_needs_its_tau(self):
        with pytest.raises(DevprofError, match="cutoff-s"):
            make_strategy("cutoff", SETTINGS, RUN_CONFIG | {"cutoff-s": 0.0})

    def test_a_cost_model_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(DevprofError, match=r"none\.skops"):
            make_strategy("planned", SETTINGS, RUN_CONFIG | {"cost-model": str(tmp_path / "none.skops")})
