"""The app's settings: from a run config (or a message's config) to checked values, and back to what goes over the wire.

Keys are flat and in kebab-case, as Flower's are; each is a field of a class here with ``_`` for ``-``. The server reads them
from the run config and sends :class:`DataConfig` and :class:`TrainConfig` to its clients, who read the same classes from the
message. Needs neither torch nor numpy.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets_meta import DatasetMeta, dataset_names, load_dataset_meta
from devprof.errors import DevprofError, UnknownNameError
from devprof.plan.settings import PlannerSettings
from devprof.records import MODES
from devprof.workloads.names import OPTIMIZERS

__all__ = [
    "EVALUATE",
    "SOURCES",
    "SPLITS",
    "DataConfig",
    "ServerConfig",
    "TrainConfig",
    "from_config",
    "to_config",
]

SPLITS = ("iid", "digits", "dirichlet")
SOURCES = ("local", "hub")
EVALUATE = ("server", "clients", "both")

ConfigValue = str | int | float | bool
Settings = TypeVar("Settings", "DataConfig", "TrainConfig", "ServerConfig")


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which data, and how they are split over clients.

    Attributes:
        data: Name of the data set, one of :func:`datasets_meta.dataset_names`.
        data_source: ``local`` (bundled, or files in ``data_dir``) or ``hub`` (through flwr-datasets, may use the network).
        data_dir: Folder of the data set's files, or one that has a folder of the data set's name; empty where none is needed.
        partitions: Parts that the training data are split into; 0 for the data set's own number, or else one a client.
        split: ``iid`` (at random), ``digits`` (a few classes each) or ``dirichlet`` (uneven shares of each class).
        classes_per_client: Classes of each client under ``digits``.
        dirichlet_alpha: Concentration of the Dirichlet draws: 0.1 is very uneven, 10 nearly even; 0 splits at random.
        test_share: Share of its samples that a client keeps back for evaluation, from 0 to 1.
        seed: Of the split, the initial model and the order of samples.
    """

    data: str = "digits"
    data_source: str = "local"
    data_dir: str = ""
    partitions: int = 0
    split: str = "dirichlet"
    classes_per_client: int = 2
    dirichlet_alpha: float = 0.3
    test_share: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        _one_of("data", self.data, dataset_names())
        _one_of("data-source", self.data_source, SOURCES)
        _one_of("split", self.split, SPLITS)
        _at_least("partitions", self.partitions, 0)
        _at_least("classes-per-client", self.classes_per_client, 1)
        _at_least("dirichlet-alpha", self.dirichlet_alpha, 0)
        _at_least("seed", self.seed, 0)
        _share("test-share", self.test_share)

    @property
    def meta(self) -> DatasetMeta:
        """The data set's description."""
        return load_dataset_meta(self.data)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """What clients train, and how.

    Attributes:
        model: As ``devprof measure`` takes it; empty for ``seed:net`` on grey images and ``mobilenetv2_100`` on others.
        mode: ``full``, or ``head`` for the classifier alone.
        image_size: Height and width that images are brought to; 0 for the data set's own.
        augment: Whether images are augmented where that suits the data set.
        local_epochs: Passes over its data in a normal round.
        batch_size: Samples per step.
        learning_rate: Step size at that batch size.
        optimizer: ``sgd`` or ``adam``.
        momentum: Of ``sgd``.
        weight_decay: L2 penalty of the optimizer.
        proximal_mu: Weight of the proximal term ``mu/2 ||w - w0||^2`` (FedProx; Li et al. 2020, arXiv 1812.06127); 0 for none.
    """

    model: str = ""
    mode: str = "full"
    image_size: int = 0
    augment: bool = True
    local_epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 0.05
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    proximal_mu: float = 0.0

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, MODES)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        for key in ("image_size", "weight_decay", "proximal_mu"):
            _at_least(_wire(key), getattr(self, key), 0)
        for key in ("local_epochs", "batch_size"):
            _at_least(_wire(key), getattr(self, key), 1)
        if not 0 < self.learning_rate < math.inf:
            raise DevprofError(f"the setting learning-rate must be positive and finite, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise DevprofError(f"the setting momentum must be at least 0 and below 1, got {self.momentum}")

    def model_for(self, meta: DatasetMeta) -> str:
        """The model's name, chosen for the data where the user named none."""
        return self.model or ("seed:net" if meta.input_shape[0] == 1 else "mobilenetv2_100")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What the server does: rounds, strategy, plan, evaluation.

    Attributes:
        strategy: ``fedavg``, ``cutoff`` or ``planned``.
        inner: The Flower strategy that samples and aggregates.
        num_server_rounds: Rounds.
        fraction_train: Share of the connected clients that a round asks.
        min_nodes: Clients that must be connected, and that a round asks at the least.
        server_learning_rate: Step size of the server's optimizer, for inner strategies that have one; 0 for their own.
        cutoff_s: Cut-off of ``cutoff`` for all processors that ``cutoff_per_processor`` does not name; 0 for none.
        cutoff_per_processor: Cut-offs by processor, such as ``cpu=120,jetson-orin-gpu=60``.
        cost_model: Path of a fitted cost model on the server's disk, for ``planned``; empty to learn from what clients do.
        batch_sizes: Batch sizes that ``planned`` may choose from, such as ``8,16,32``; empty for ``batch-size`` alone.
        max_epochs: Passes that ``planned`` may give to a client with time left; 0 for no more than ``local-epochs``.
        deadline_s: Deadline of ``planned`` in each round; 0 to choose the best.
        energy_budget_j: Energy that the fleet may spend in a round; 0 for no limit.
        allow_unknown_energy: Whether clients whose energy nobody knows yet take part under a budget, uncounted.
        miss_risk: Accepted probability that a client is late.
        coverage: Share of the data whose clients must be able to take part.
        min_steps: Steps below which a client's result is not worth its transfer.
        gamma: How far ``planned`` normalises weights by work: 0 averages by data, 1 is FedNova.
        evaluate: ``server``, ``clients`` or ``both``.
        client_test_share: Share of its samples that a client keeps back where clients evaluate.
        output: Folder for the round log; empty for none.
    """

    strategy: str = "planned"
    inner: str = "fedavg"
    num_server_rounds: int = 3
    fraction_train: float = 1.0
    min_nodes: int = 2
    server_learning_rate: float = 0.0
    cutoff_s: float = 0.0
    cutoff_per_processor: str = ""
    cost_model: str = ""
    batch_sizes: str = ""
    max_epochs: int = 0
    deadline_s: float = 0.0
    energy_budget_j: float = 0.0
    allow_unknown_energy: bool = False
    miss_risk: float = 0.05
    coverage: float = 0.8
    min_steps: int = 1
    gamma: float = 0.5
    evaluate: str = "server"
    client_test_share: float = 0.2
    output: str = ""

    def __post_init__(self) -> None:
        _one_of("evaluate", self.evaluate, EVALUATE)
        for key in ("num_server_rounds", "min_nodes", "min_steps"):
            _at_least(_wire(key), getattr(self, key), 1)
        for key in ("server_learning_rate", "cutoff_s", "max_epochs", "deadline_s", "energy_budget_j"):
            _at_least(_wire(key), getattr(self, key), 0)
        _share("fraction-train", self.fraction_train)
        _share("gamma", self.gamma)
        if self.clients_evaluate:
            _share("client-test-share", self.client_test_share)

    @property
    def clients_evaluate(self) -> bool:
        """Whether clients evaluate the model on samples that they do not train on."""
        return self.evaluate in {"clients", "both"}

    @property
    def server_evaluates(self) -> bool:
        """Whether the server evaluates the model on the test part of the data set."""
        return self.evaluate in {"server", "both"}

    def cutoffs(self) -> dict[str, float]:
        """The cut-offs by processor, in seconds.

        Raises:
            DevprofError: If ``cutoff-per-processor`` is no list of ``PROCESSOR=SECONDS``.
        """
        cutoffs: dict[str, float] = {}
        for entry in filter(None, (part.strip() for part in self.cutoff_per_processor.split(","))):
            processor, _, seconds = entry.rpartition("=")
            try:
                value = float(seconds)
            except ValueError:
                value = math.nan
            if not processor.strip() or not 0 < value < math.inf or processor.strip() in cutoffs:
                raise DevprofError(
                    "the setting cutoff-per-processor must be a list such as 'cpu=120,jetson-orin-gpu=60', each processor "
                    f"once and with a positive number of seconds, got {entry!r}"
                )
            cutoffs[processor.strip()] = value
        return cutoffs

    def planner_settings(self, training: TrainConfig) -> PlannerSettings:
        """The normal round, and what the planner may change of it.

        Raises:
            DevprofError: If the planner refuses a value; the text says which and why.
        """
        try:
            return PlannerSettings(
                local_epochs=training.local_epochs,
                batch_size=training.batch_size,
                batch_sizes=tuple(int(size) for size in self.batch_sizes.split(",") if size.strip()),
                max_epochs=self.max_epochs or None,
                miss_risk=self.miss_risk,
                coverage=self.coverage,
                deadline_s=self.deadline_s or None,
                energy_budget_j=self.energy_budget_j or None,
                allow_unknown_energy=self.allow_unknown_energy,
                min_steps=self.min_steps,
            )
        except ValueError as error:
            raise DevprofError(f"the settings of the planner cannot be used: {error}") from error


def from_config(kind: type[Settings], config: Mapping[str, Any]) -> Settings:
    """Settings from a run config or a message's config; keys that are absent keep their defaults, others are ignored.

    Args:
        kind: The class to make.
        config: Values by kebab-case key.

    Raises:
        DevprofError: If a value has the wrong type or is out of range; the text names the key.
        UnknownNameError: If it is a name that does not exist; carries the closest.
    """
    values: dict[str, ConfigValue] = {}
    for field in dataclasses.fields(kind):
        key = _wire(field.name)
        if key in config:
            values[field.name] = _typed(key, config[key], type(field.default))
    made: Any = kind
    settings: Settings = made(**values)
    return settings


def to_config(*settings: DataConfig | TrainConfig) -> dict[str, ConfigValue]:
    """The wire form: what :func:`from_config` reads. Empty texts are left out: Flower 1.41 cannot count their bytes."""
    values = {
        _wire(field.name): getattr(part, field.name) for part in settings for field in dataclasses.fields(type(part))
    }
    return {key: value for key, value in values.items() if value != ""}


def _wire(name: str) -> str:
    return name.replace("_", "-")


def _typed(key: str, value: object, kind: type) -> ConfigValue:
    """A value as the type of its default; a whole number may stand for a float, and a float without fraction for a whole."""
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (str, int, float)) and type(value) is kind:
        return value
    names = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
    raise DevprofError(f"the setting {key} must be {names[kind]}, got {value!r}")


def _one_of(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UnknownNameError(f"value of the setting {key}:", value, known, f"There are: {', '.join(known)}.")


def _at_least(key: str, value: float, least: float) -> None:
    if not least <= value < math.inf:
        raise DevprofError(f"the setting {key} must be at least {least} and finite, got {value}")


def _share(key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise DevprofError(f"the setting {key} must be from 0 to 1, got {value}")
