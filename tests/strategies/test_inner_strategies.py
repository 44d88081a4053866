"""Every strategy of Flower, wrapped, on a network with batch norm, with a client that sends no numbers and one that is late."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as flower
from torch import nn

from devprof.plan.settings import ClientState, PlannerSettings
from devprof.records import Link
from strategies.aggregation import AggregationSettings
from strategies.client import Budget
from strategies.cutoff import CutoffStrategy
from strategies.directory import ClientDirectory
from strategies.estimators import MeasuredEstimator
from strategies.grid import DeadlineGrid
from strategies.planned import PlannedStrategy
from strategies.virtual import ReplayedStepTimes, VirtualDevice, VirtualGrid

LINK = Link(80.0, 80.0)
SETTINGS = PlannerSettings(local_epochs=2, batch_size=10)
STEPS = MeasuredEstimator({"fast": {10: 0.1}, "slow": {10: 0.3}, "stuck": {10: 0.3}}, log_sd=0.0)
BROKEN, STUCK, COUNT = 0, 1, 10
KINDS = {
    "FedAvg": {},
    "FedProx": {"proximal_mu": 0.1},
    "FedAdam": {},
    "FedYogi": {},
    "FedAdagrad": {},
    "FedAvgM": {"server_momentum": 0.9},
    "FedMedian": {},
    "FedTrimmedAvg": {},
    "Krum": {"num_malicious_nodes": 1},
    "MultiKrum": {"num_malicious_nodes": 1, "num_nodes_to_select": 3},
    "Bulyan": {"num_malicious_nodes": 1},
    "QFedAvg": {"client_learning_rate": 0.05, "train_loss_key": "loss"},
}


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch):
    """Some strategies collect garbage once per reply, which takes a second per round with torch loaded."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


app = ClientApp()


@app.train()
def train(message, context):
    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.05)
    partition = context.node_config["partition-id"]
    inputs = torch.randn(100, 4, generator=torch.Generator().manual_seed(partition)) + 0.1 * partition
    targets = (inputs.sum(dim=1) > 0.4 * partition).long()
    budget = Budget.from_message(message)
    losses = []
    for _ in range(budget.local_epochs):
        for chosen in budget.limit(list(torch.arange(100).split(10))):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    if partition == BROKEN:
        model.load_state_dict({name: value * math.nan for name, value in model.state_dict().items()})
        losses = [math.nan]
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"loss": float(np.mean(losses)), "num-examples": 100}),
        }
    )
    content["devprof"] = budget.telemetry(context, 10).to_record()
    return Message(content, reply_to=message)


def federation():
    times = {"fast": 0.1, "slow": 0.3, "stuck": 60.0}
    names = ["fast", "stuck", "slow", *["fast"] * (COUNT - 3)]
    return VirtualGrid(
        app, [VirtualDevice(n, "cpu", LINK, 0.0, ReplayedStepTimes({10: [times[n]]})) for n in names], seed=1
    )


def wrapped(how, inner, grid):
    nodes = grid.get_node_ids()
    if how == "cutoff":
        names = {node: f"c{node - nodes[0]}" for node in nodes}
        return CutoffStrategy(
            inner,
            {"cpu": 1.5},
            lambda _: "cpu",
            local_epochs=2,
            batch_size=10,
            transport_allowance_s=1.0,
            client_name=names.get,
        )
    devices = ["fast", "stuck", "slow", *["fast"] * (COUNT - 3)]
    known = {node: ClientState(f"c{i}", devices[i], "cpu", 100, LINK) for i, node in enumerate(nodes)}
    return PlannedStrategy(inner, SETTINGS, STEPS, ClientDirectory(known), transport_allowance_s=1.0)


def run(how, name, **more):
    inner = getattr(flower, name)(
        fraction_evaluate=0.0, min_available_nodes=2, min_train_nodes=2, **(KINDS[name] | more)
    )
    grid = federation()
    strategy = wrapped(how, inner, grid)
    result = strategy.start(grid, ArrayRecord(network().state_dict()), num_rounds=3)
    return strategy, result


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("how", ["planned", "cutoff"])
def test_bad_clients_spoil_no_strategy(how, name):
    strategy, result = run(how, name)
    for row in strategy.round_logs:
        usual = {"used", "partial"}
        expected = {f"c{BROKEN}": {"rejected"}, f"c{STUCK}": {"missing", "late"}}.get(row.client, usual)
        assert row.outcome in expected, row
    rows = [row for row in strategy.round_logs if row.client == f"c{BROKEN}"]
    assert len(rows) == 3
    assert {row.detail for row in rows} == {"the array '0.weight' has 32 of 32 values that are not finite"}
    sent, got = network().state_dict(), result.arrays.to_torch_state_dict()
    assert list(got) == list(sent)
    assert {name: value.dtype for name, value in got.items()} == {name: value.dtype for name, value in sent.items()}
    assert all(torch.isfinite(value.float()).all() for value in got.values())
    assert (got["1.running_var"] > 0).all()
    assert got["1.num_batches_tracked"] > 10
    losses = [metrics["loss"] for metrics in result.train_metrics_clientapp.values()]
    assert losses[2] < losses[0]
    network().load_state_dict(got)


def test_statistics_are_the_same_under_every_inner_strategy_in_the_first_round():
    found = []
    for name in ("FedAvg", "FedAdam", "Krum"):
        grid = federation()
        inner = getattr(flower, name)(fraction_evaluate=0.0, **KINDS[name])
        result = wrapped("cutoff", inner, grid).start(grid, ArrayRecord(network().state_dict()), num_rounds=1)
        found.append(result.arrays["1.running_var"].numpy())
    assert np.allclose(found[0], found[1])
    assert np.allclose(found[0], found[2])


def test_without_the_split_a_server_optimizer_makes_a_variance_negative():
    grid = federation()
    strategy = wrapped("cutoff", flower.FedAvgM(fraction_evaluate=0.0, server_momentum=0.9), grid)
    strategy.aggregation = AggregationSettings(batch_norm="inner")
    result = strategy.start(grid, ArrayRecord(network().state_dict()), num_rounds=3)
    assert result.arrays["1.running_var"].numpy().min() < 0


def test_grid_tells_when_a_reply_came_and_takes_note_of_a_rejection():
    grid = DeadlineGrid(federation())
    nodes = grid.get_node_ids()
    messages = [
        Message(
            RecordDict({"arrays": ArrayRecord(network().state_dict()), "config": ConfigRecord({"local-steps": 4})}),
            node,
            "train",
        )
        for node in (nodes[2], nodes[3])
    ]
    assert len(grid.send_and_receive(messages)) == 2
    slow, fast = (message.metadata.message_id for message in messages)
    assert grid.waited_s(slow) == pytest.approx(1.2, abs=0.01)
    assert grid.waited_s(fast) == pytest.approx(0.4, abs=0.01)
    assert grid.waited_s("other") is None
    grid.mark_rejected(fast, "no reason")
    grid.mark_rejected("other", "no reason")
    assert [(row.outcome, row.detail, row.steps_done) for row in grid.round_logs] == [
        ("used", None, 4),
        ("rejected", "no reason", 4),
    ]


fedbn = ClientApp()


@fedbn.train()
def train_with_own_batch_norm(message, context):
    """What a client does under ``batch_norm="local"``: its own layers over what it received, and into its state."""
    arrays = message.content["arrays"].to_torch_state_dict()
    if "batch-norm" in context.state:
        arrays |= context.state["batch-norm"].to_torch_state_dict()
    message.content["arrays"] = ArrayRecord(arrays)
    answer = train(message, context)
    trained = answer.content["arrays"].to_torch_state_dict()
    own = {name: value for name, value in trained.items() if name.startswith("1.")}
    context.state["batch-norm"] = ArrayRecord(own)
    answer.content["arrays"] = ArrayRecord({name: value for name, value in trained.items() if name not in own})
    return answer


def test_clients_that_keep_their_batch_norm_send_none():
    device = VirtualDevice("fast", "cpu", LINK, 0.0, ReplayedStepTimes({10: [0.1]}))
    grid = VirtualGrid(fedbn, [device] * 4, seed=1)
    strategy = CutoffStrategy(flower.FedAvg(fraction_evaluate=0.0), {"cpu": 60.0}, lambda _: "cpu", local_epochs=2)
    strategy.aggregation = AggregationSettings(batch_norm="local")
    sent = ArrayRecord(network().state_dict())
    result = strategy.start(grid, sent, num_rounds=2)
    assert [row.outcome for row in strategy.round_logs].count("used") == 6
    for name, array in sent.items():
        assert (result.arrays[name].data == array.data) == name.startswith("1."), name
    kept = [node.context.state["batch-norm"] for node in grid._nodes.values()]
    assert {int(own["1.num_batches_tracked"].numpy()) for own in kept[1:]} == {40}


class Rejoining(VirtualGrid):
    """The second node leaves after its first message and comes back as the third, which has the same device."""

    def get_node_ids(self):
        first, second, third, *_ = super().get_node_ids()
        return [first, third if any(job.node_id == second for job in self.jobs) else second]


def test_node_that_rejoins_under_a_new_id_is_a_new_client_and_its_old_reply_is_late():
    device = VirtualDevice("fast", "cpu", LINK, 0.0, ReplayedStepTimes({10: [0.1]}))
    leaving = VirtualDevice("slow", "cpu", LINK, 0.0, ReplayedStepTimes({10: [3.0]}))
    # The node with partition 0 sends no numbers, so the first is one more device.
    grid = Rejoining(app, [device, leaving, device], seed=1)
    first, second, third = list(grid._nodes)
    strategy = CutoffStrategy(
        flower.FedAvg(fraction_evaluate=0.0), {"cpu": 1.0}, lambda _: "cpu", local_epochs=1, transport_allowance_s=0.5
    )
    result = strategy.start(grid, ArrayRecord(network().state_dict()), num_rounds=4)
    outcomes = {}
    for row in strategy.round_logs:
        outcomes.setdefault(row.client, []).append(row.outcome)
    assert outcomes == {str(first): ["rejected"] * 4, str(second): ["late"], str(third): ["used"] * 3}
    assert list(result.train_metrics_clientapp) == [2, 3, 4]
