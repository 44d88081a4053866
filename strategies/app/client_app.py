"""The ClientApp: trains on its part of the data, within the budget that the server sent.

Everything it needs to know comes in the message's config or from the node, so the same app runs in virtual time, in Flower's
simulation and on SuperNodes. In deployment each message gets a fresh process: what is imported here is imported every round.
"""

from __future__ import annotations

import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from devprof.device.identity import default_threads
from devprof.device.limits import cpu_limit
from strategies.app.config import DataConfig, TrainConfig, from_config
from strategies.app.data import Samples, client_samples, held_back, training_size
from strategies.app.node import Node
from strategies.app.task import Task, evaluate, make_task, train
from strategies.client import TRAIN_CONFIG, Budget
from strategies.discovery import ACTION, describe_node
from strategies.profiling import profile_mod

__all__ = ["app"]

app = ClientApp(mods=[profile_mod])


def _own_samples(data: DataConfig, node: Node) -> tuple[Samples, Samples]:
    """For training and for evaluation."""
    samples = client_samples(data, node.partition, node.partitions, node.data_dir)
    return held_back(samples, data.test_share, data.seed)


def _received(message: Message, context: Context) -> tuple[ConfigRecord, DataConfig, TrainConfig, Node, Task]:
    """What the message asks for, and the model that it brought."""
    config = message.content.config_records.get(TRAIN_CONFIG) or ConfigRecord()
    data, training = from_config(DataConfig, config), from_config(TrainConfig, config)
    node = Node.from_config(context.node_config, data)
    if node.threads is not None:
        torch.set_num_threads(node.threads)
    elif cpu_limit() is not None:
        # Torch counts the machine's cores, not what a container may use of them: more threads would wait for each other.
        torch.set_num_threads(default_threads())
    task = make_task(data, training, node.torch_device)
    task.load(message.content.array_records["arrays"])
    return config, data, training, node, task


@app.train()
def train_round(message: Message, context: Context) -> Message:
    """Train the received model on the client's own samples and send it back with what was done."""
    budget = Budget.from_message(message)
    config, data, training, node, task = _received(message, context)
    samples, _ = _own_samples(data, node)
    server_round, scale = (
        config.get(key, default) for key, default in (("server-round", 0), ("learning-rate-scale", 1.0))
    )
    loss = train(
        task,
        samples,
        budget,
        training,
        seed=hash((data.seed, server_round, node.partition)) & 0xFFFFFFFF,
        learning_rate_scale=float(scale) if isinstance(scale, (int, float)) else 1.0,
    )
    content = RecordDict(
        {
            "arrays": task.arrays(),
            "metrics": MetricRecord({"train-loss": loss, "num-examples": len(samples)}),
        }
    )
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate_round(message: Message, context: Context) -> Message:
    """Accuracy and loss of the received model on the samples that the client keeps back, or on all where it keeps none."""
    _, data, _, node, task = _received(message, context)
    _, samples = _own_samples(data, node)
    accuracy, loss = evaluate(task, samples)
    metrics = MetricRecord({"eval-accuracy": accuracy, "eval-loss": loss, "num-examples": len(samples)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _size(message: Message, context: Context) -> int:
    """Samples that this client trains on."""
    data = from_config(DataConfig, message.content.config_records.get(TRAIN_CONFIG) or ConfigRecord())
    node = Node.from_config(context.node_config, data)
    return training_size(data, node.partition, node.partitions, node.data_dir)


app.query(ACTION)(describe_node(_size))
