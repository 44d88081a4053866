"""The ClientApp: trains on its part of the digits, within the budget that the server sent.

Everything it needs to know comes in the message's config or from the node, so the same app runs in virtual time, in Flower's
simulation and on SuperNodes.
"""

from __future__ import annotations

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from strategies.app.data import Samples, client_samples
from strategies.app.task import evaluate, make_model, train
from strategies.client import TRAIN_CONFIG, Budget
from strategies.telemetry import RECORD_NAME

__all__ = ["app"]

app = ClientApp()


def _number(config: ConfigRecord, key: str, default: float) -> float:
    value = config.get(key, default)
    return float(value) if isinstance(value, (int, float)) else default


def _own_samples(config: ConfigRecord, context: Context) -> Samples:
    alpha = _number(config, "dirichlet-alpha", 0.0)
    return client_samples(
        int(context.node_config["partition-id"]),
        int(context.node_config["num-partitions"]),
        alpha=alpha if alpha > 0 else None,
        seed=int(_number(config, "seed", 0)),
    )


@app.train()
def train_round(message: Message, context: Context) -> Message:
    """Train the received model on the client's own samples and send it back with what was done."""
    budget = Budget.from_message(message)
    config = message.content.config_records[TRAIN_CONFIG]
    samples = _own_samples(config, context)
    model = make_model()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    batch_size = int(_number(config, "batch-size", 16))
    partition_id = int(context.node_config["partition-id"])
    loss = train(
        model,
        samples,
        budget,
        batch_size=batch_size,
        learning_rate=_number(config, "learning-rate", 0.01) * _number(config, "learning-rate-scale", 1.0),
        seed=hash((int(_number(config, "seed", 0)), int(_number(config, "server-round", 0)), partition_id))
        & 0xFFFFFFFF,
    )
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"train-loss": loss, "num-examples": len(samples)}),
            RECORD_NAME: budget.telemetry(context, batch_size).to_record(),
        }
    )
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate_round(message: Message, context: Context) -> Message:
    """Accuracy and loss of the received model on the client's own samples."""
    config = message.content.config_records[TRAIN_CONFIG]
    samples = _own_samples(config, context)
    model = make_model()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    accuracy, loss = evaluate(model, samples)
    metrics = MetricRecord({"eval-accuracy": accuracy, "eval-loss": loss, "num-examples": len(samples)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
