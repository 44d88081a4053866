"""Settings: from the run config to checked values, and over the wire; node configs."""

import dataclasses
import re
from pathlib import Path

import pytest
import tomllib
from flwr.app import ConfigRecord
from hypothesis import given
from hypothesis import strategies as st

from devprof.errors import DevprofError, UnknownNameError
from devprof.plan.settings import PlannerSettings
from strategies.app.config import DataConfig, ServerConfig, TrainConfig, from_config, to_config
from strategies.app.node import Node

ROOT = Path(__file__).parents[3]
RUN_CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
KINDS = (DataConfig, TrainConfig, ServerConfig)
# Written by the server: the share that clients keep back, where they evaluate.
WIRE_ONLY = {"test-share"}


def fields():
    return {field.name.replace("_", "-"): field.default for kind in KINDS for field in dataclasses.fields(kind)}


def test_the_run_config_of_the_project_has_all_settings_at_their_defaults():
    assert {key: value for key, value in fields().items() if key not in WIRE_ONLY} == RUN_CONFIG
    assert all(type(RUN_CONFIG[key]) is type(fields()[key]) for key in RUN_CONFIG)


def test_every_setting_is_documented_with_its_default():
    text = (ROOT / "docs" / "app.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| `([^`]*)` \|", text, re.MULTILINE))
    shown = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in RUN_CONFIG.items()}
    assert rows == {key: value or '""' for key, value in shown.items()}


def test_settings_survive_the_wire():
    data = DataConfig(data="cifar10", data_dir="/data", split="digits", partitions=7, test_share=0.25)
    training = TrainConfig(
        model="resnet18", mode="head", image_size=64, optimizer="adam", proximal_mu=0.01, augment=False
    )
    record = ConfigRecord(to_config(data, training))
    # Flower counts the bytes of a record, which fails on an empty text.
    assert record.count_bytes() > 0
    assert (from_config(DataConfig, record), from_config(TrainConfig, record)) == (data, training)
    assert from_config(TrainConfig, ConfigRecord(to_config(DataConfig(), TrainConfig()))) == TrainConfig()


def test_what_is_absent_keeps_its_default_and_what_is_unknown_is_ignored():
    assert from_config(TrainConfig, {"server-round": 3}) == TrainConfig()


@pytest.mark.parametrize(("value", "learning_rate"), [(1, 1.0), (0.5, 0.5)])
def test_a_whole_number_may_stand_for_a_float(value, learning_rate):
    found = from_config(TrainConfig, {"learning-rate": value}).learning_rate
    assert (found, type(found)) == (learning_rate, float)
    assert from_config(TrainConfig, {"batch-size": 8.0}).batch_size == 8


@pytest.mark.parametrize(
    ("kind", "config", "reason"),
    [
        (TrainConfig, {"batch-size": "16"}, "batch-size must be a whole number, got '16'"),
        (TrainConfig, {"batch-size": 1.5}, "batch-size must be a whole number"),
        (TrainConfig, {"batch-size": True}, "batch-size must be a whole number"),
        (TrainConfig, {"batch-size": 0}, "batch-size must be at least 1"),
        (TrainConfig, {"learning-rate": 0.0}, "learning-rate must be positive"),
        (TrainConfig, {"learning-rate": float("nan")}, "learning-rate must be positive"),
        (TrainConfig, {"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        (TrainConfig, {"proximal-mu": -0.1}, "proximal-mu must be at least 0"),
        (TrainConfig, {"augment": 1}, "augment must be true or false"),
        (TrainConfig, {"model": 3}, "model must be a text in quotes"),
        (DataConfig, {"dirichlet-alpha": float("inf")}, "dirichlet-alpha must be at least 0 and finite"),
        (DataConfig, {"test-share": 1.5}, "test-share must be from 0 to 1"),
        (ServerConfig, {"fraction-train": -1}, "fraction-train must be from 0 to 1"),
        (ServerConfig, {"min-nodes": 0}, "min-nodes must be at least 1"),
        (ServerConfig, {"gamma": 2.0}, "gamma must be from 0 to 1"),
    ],
)
def test_a_bad_setting_is_named(kind, config, reason):
    with pytest.raises(DevprofError, match=re.escape(f"the setting {reason}")):
        from_config(kind, config)


@pytest.mark.parametrize(
    ("kind", "config", "closest"),
    [
        (DataConfig, {"data": "fashion"}, "fashion-mnist"),
        (DataConfig, {"split": "dirichelt"}, "dirichlet"),
        (DataConfig, {"data-source": "lokal"}, "local"),
        (TrainConfig, {"mode": "heads"}, "head"),
        (TrainConfig, {"optimizer": "adamw"}, "adam"),
        (ServerConfig, {"evaluate": "client"}, "clients"),
    ],
)
def test_a_mistyped_name_finds_the_closest(kind, config, closest):
    with pytest.raises(UnknownNameError) as error:
        from_config(kind, config)
    assert error.value.closest[0] == closest


class TestServer:
    def test_cutoffs_are_read_by_processor(self):
        config = ServerConfig(cutoff_per_processor="cpu=120, jetson-orin-gpu@15W=60.5,")
        assert config.cutoffs() == {"cpu": 120.0, "jetson-orin-gpu@15W": 60.5}
        assert ServerConfig().cutoffs() == {}

    @pytest.mark.parametrize(
        "text", ["cpu", "cpu=", "=3", "cpu=fast", "cpu=0", "cpu=-1", "cpu=inf", "cpu=nan", "cpu=1,cpu=2"]
    )
    def test_a_cutoff_that_cannot_be_read_is_shown(self, text):
        with pytest.raises(DevprofError, match="cutoff-per-processor must be a list such as"):
            ServerConfig(cutoff_per_processor=text).cutoffs()

    @given(st.text(alphabet="cpu=,1. e-", max_size=20))
    def test_any_text_is_read_or_refused(self, text):
        try:
            cutoffs = ServerConfig(cutoff_per_processor=text).cutoffs()
        except DevprofError:
            return
        assert all(processor and seconds > 0 for processor, seconds in cutoffs.items())

    def test_the_planner_gets_its_settings(self):
        server = ServerConfig(batch_sizes="8,16, 32", max_epochs=5, deadline_s=60.0, miss_risk=0.1, coverage=0.5)
        assert server.planner_settings(TrainConfig(local_epochs=3, batch_size=8)) == PlannerSettings(
            local_epochs=3,
            batch_size=8,
            batch_sizes=(8, 16, 32),
            max_epochs=5,
            deadline_s=60.0,
            miss_risk=0.1,
            coverage=0.5,
        )
        assert ServerConfig().planner_settings(TrainConfig()) == PlannerSettings(local_epochs=2, batch_size=16)

    @pytest.mark.parametrize("config", [{"batch_sizes": "8;16"}, {"max_epochs": 1}, {"miss_risk": 0.9}])
    def test_what_the_planner_refuses_is_said(self, config):
        with pytest.raises(DevprofError, match="settings of the planner cannot be used"):
            ServerConfig(**config).planner_settings(TrainConfig(local_epochs=2))


def test_the_model_follows_from_the_data_unless_it_is_named():
    assert TrainConfig().model_for(DataConfig().meta) == "seed:net"
    assert TrainConfig().model_for(DataConfig(data="cifar10").meta) == "mobilenetv2_100"
    assert TrainConfig(model="resnet18").model_for(DataConfig().meta) == "resnet18"


class TestNode:
    def test_the_number_of_parts_is_the_users_or_the_data_sets_or_the_engines(self):
        told = {"partition-id": 3, "num-partitions": 4}
        assert Node.from_config(told, DataConfig()) == Node(3, 4)
        assert Node.from_config(told, DataConfig(data="mnist")) == Node(3, 50)
        assert Node.from_config(told, DataConfig(data="mnist", partitions=7)) == Node(3, 7)
        assert Node.from_config({"partition-id": 3}, DataConfig()) == Node(3, 10)

    def test_a_node_has_its_own_folder_threads_and_device(self):
        config = {"partition-id": 0, "data-dir": "/mnt/data", "threads": 2, "torch-device": "cuda"}
        assert Node.from_config(config, DataConfig()) == Node(0, 10, "/mnt/data", 2, "cuda")

    def test_a_device_id_names_a_part_that_stays_the_same(self, caplog):
        data = DataConfig(data="mnist")
        parts = [Node.from_config({"device-id": f"pi4-{number}"}, data).partition for number in range(20)]
        assert parts == [Node.from_config({"device-id": f"pi4-{number}"}, data).partition for number in range(20)]
        assert set(parts) <= set(range(50))
        assert len(set(parts)) > 10
        assert "which another may have, too" in caplog.text

    def test_without_any_id_the_error_says_what_to_do(self):
        with pytest.raises(DevprofError, match=r"neither partition-id nor device-id.*partition-id=0.*0 to 49"):
            Node.from_config({"device": "pi4"}, DataConfig(data="mnist"))

    @pytest.mark.parametrize("config", [{"partition-id": -1}, {"partition-id": "0"}, {"partition-id": 0, "threads": 0}])
    def test_a_value_that_makes_no_sense_is_named(self, config):
        with pytest.raises(DevprofError, match="in the node config must be a whole number of at least"):
            Node.from_config(config, DataConfig())
