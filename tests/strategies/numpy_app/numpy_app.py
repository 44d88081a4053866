"""Digits, a network of one hidden layer in numpy, and planned rounds that learn what boards take. A user's app, without torch."""

from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from devprof.plan.settings import PlannerSettings
from devprof.records import Evaluation
from devprof.store.folder import write_records
from strategies.client import Budget
from strategies.directory import ClientDirectory
from strategies.discovery import ACTION, describe_node
from strategies.planned import PlannedStrategy
from strategies.profiling import profile_mod

RATE = 0.1
BATCH = 16

server = ServerApp()
client = ClientApp(mods=[profile_mod])


def samples(path, part=None, parts=1):
    """Images and labels of one part; without a part those that the server keeps."""
    with np.load(path) as file:
        images, labels = file["images"], file["labels"]
    kept = len(labels) // 5
    if part is None:
        return images[:kept], labels[:kept]
    return images[kept + part :: parts], labels[kept + part :: parts]


def forward(weights, images):
    hidden = np.maximum(images @ weights[0], 0)
    scores = hidden @ weights[1]
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, shares / shares.sum(axis=1, keepdims=True)


def step(weights, images, labels, rate):
    hidden, shares = forward(weights, images)
    shares[np.arange(len(labels)), labels] -= 1
    back = (shares @ weights[1].T) * (hidden > 0)
    weights[1] -= rate * hidden.T @ shares / len(labels)
    weights[0] -= rate * images.T @ back / len(labels)


def own(message, context):
    config = message.content["config"]
    node = context.node_config
    return samples(config["data"], node["partition-id"], node["num-partitions"])


@client.train()
def train(message, context):
    budget = Budget.from_message(message)
    weights = [array.copy() for array in message.content["arrays"].to_numpy_ndarrays()]
    images, labels = own(message, context)
    config = message.content["config"]
    size = config.get("batch-size", BATCH)
    order = np.random.default_rng(config["server-round"])
    for _ in range(config["local-epochs"]):
        shuffled = order.permutation(len(labels))
        for chosen in budget.limit([shuffled[i : i + size] for i in range(0, len(labels), size)]):
            step(weights, images[chosen], labels[chosen], RATE * config.get("learning-rate-scale", 1.0))
    metrics = MetricRecord({"num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(weights), "metrics": metrics})
    return Message(content, reply_to=message)


client.query(ACTION)(describe_node(lambda message, context: len(own(message, context)[1])))


@server.main()
def main(grid, context):
    config = context.run_config
    images, labels = samples(config["data"])
    draw = np.random.default_rng(0)
    start = [draw.normal(0, 0.1, (images.shape[1], config["hidden"])), draw.normal(0, 0.1, (config["hidden"], 10))]
    nodes = config["min-nodes"]
    strategy = PlannedStrategy(
        FedAvg(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes, min_evaluate_nodes=0),
        PlannerSettings(local_epochs=config["local-epochs"], batch_size=BATCH, min_steps=1),
        None,
        ClientDirectory(),
    )
    quality = []

    def evaluate(server_round, arrays):
        _, shares = forward(arrays.to_numpy_ndarrays(), images)
        loss = -np.log(shares[np.arange(len(labels)), labels] + 1e-12).mean()
        accuracy = (shares.argmax(axis=1) == labels).mean()
        quality.append(Evaluation("planned", server_round, 0.0, float(accuracy), float(loss)))
        print(f"round {server_round}: accuracy {accuracy:.3f}", flush=True)

    strategy.start(
        grid,
        ArrayRecord(start),
        num_rounds=config["num-server-rounds"],
        train_config=ConfigRecord({"data": config["data"], "local-epochs": config["local-epochs"]}),
        evaluate_fn=evaluate,
    )
    write_records(Path(config["output"]), "evaluations", "planned", quality)
    write_records(Path(config["output"]), "rounds", "planned", strategy.round_logs)
