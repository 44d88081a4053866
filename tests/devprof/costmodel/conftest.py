"""A small made-up world: architectures whose work is known exactly, and a device whose costs are known exactly."""

import json
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from devprof.costmodel.base import COLUMNS, work
from devprof.costmodel.families import model_family
from devprof.costmodel.features import WORK, Features
from devprof.costmodel.operators import FAMILIES
from devprof.costmodel.samples import Configuration, Observation
from devprof.costmodel.signature import step_signature
from devprof.costmodel.step import Operator, Step
from devprof.errors import CostModelError

# Multiply-accumulates or elements per sample of an architecture of size 1 in one pass over it, by operator family.
ARCHITECTURES = {
    "plain": {"conv_macs": 2e8, "norm_elements": 2e6, "elementwise_elements": 4e6, "conv_elements": 5e6},
    "thin": {"conv_1x1_macs": 4e7, "conv_depthwise_macs": 4e6, "norm_elements": 3e6, "elementwise_elements": 5e6},
    "token": {"matmul_macs": 3e8, "attention_macs": 4e7, "norm_elements": 1e6, "transcendental_elements": 2e6},
    "cross": {"conv_macs": 5e7, "conv_1x1_macs": 6e7, "pooling_elements": 1e6, "moved_elements": 2e6},
}
_NAME = re.compile(r"([a-z]+)(\d+)")


def made_up_features(model, mode="full", image_size=None, num_classes=None):
    match = _NAME.fullmatch(model)
    if match is None or match[1] not in ARCHITECTURES:
        raise CostModelError(f"{model} is not an architecture of the made-up world")
    size = float(match[2]) * ((image_size or 224) / 224) ** 2
    # Forward once; backward twice as much, or next to nothing.
    passes = {"forward": 1.0, "backward": 2.0 if mode == "full" else 0.01}
    once = ARCHITECTURES[match[1]]
    parameters = 1e6 * float(match[2])
    return Features(
        per_sample=tuple(
            passes[phase] * size * once.get(kind, 0.0) for phase, _, kind in (name.partition("_") for name in WORK)
        ),
        constant=(0.0,) * len(WORK),
        forward_operators=20.0 + 4 * float(match[2]),
        backward_operators=30.0 + 6 * float(match[2]) if mode == "full" else 5.0,
        parameters=parameters,
        trainable_parameters=parameters if mode == "full" else 1e3,
        trainable_tensors=20.0 if mode == "full" else 2.0,
        live_bytes=((0.0, (16.0 if mode == "full" else 4.0) * size * 1e6),),
        largest_bytes=(0.0, size * 1e6),
    )


# Seconds per unit on the made-up device: a slow small board.
ONCE = {
    "conv_macs": 1e-10,
    "conv_1x1_macs": 3e-10,
    "conv_depthwise_macs": 6e-9,
    "matmul_macs": 0.6e-10,
    "attention_macs": 0.8e-10,
    "conv_elements": 1e-9,
    "norm_elements": 8e-9,
    "elementwise_elements": 5e-9,
    "transcendental_elements": 9e-9,
    "pooling_elements": 6e-9,
    "moved_elements": 9e-9,
}
TRUE_SECONDS = {
    **{f"forward_{name}": seconds for name, seconds in ONCE.items()},
    **{f"backward_{name}": 1.2 * seconds for name, seconds in ONCE.items()},
    "forward_operators": 3e-5,
    "backward_operators": 1.5e-5,
    "trainable_parameters": 2e-8,
    "step": 1e-3,
}


def true_step_s(features, batch_size):
    seconds = np.array([TRUE_SECONDS.get(name, 0.0) for name in COLUMNS])
    return float((work(features, np.array([batch_size])) @ seconds)[0])


def true_peak_bytes(features, batch_size):
    return (
        2.5e8
        + 4 * features.parameters
        + 4 * features.trainable_parameters
        + float(features.peak_bytes(np.array([batch_size]))[0])
        + 0.5 * batch_size * features.largest_bytes[1]
    )


# Watts of the made-up device: idle, and beyond it while it multiplies, moves memory, and does the rest.
IDLE_W = 2.0
DYNAMIC_W = {"products": 4.0, "traffic": 3.0, "overheads": 1.5}


def true_energy_j(features, batch_size):
    seconds = np.array([TRUE_SECONDS.get(name, 0.0) for name in COLUMNS])
    kinds = ["overheads" if "operators" in name or name == "step" else "traffic" for name in COLUMNS]
    kinds = ["products" if name.endswith("_macs") else kind for name, kind in zip(COLUMNS, kinds, strict=True)]
    watts = np.array([IDLE_W + DYNAMIC_W[kind] for kind in kinds])
    return float((work(features, np.array([batch_size])) @ (seconds * watts))[0])


def metered(frame):
    """A table of the made-up world with what an exact meter says of its rows."""
    traced = [made_up_features(row.model, row.mode, 224) for row in frame.itertuples()]
    joules = np.array([true_energy_j(one, size) for one, size in zip(traced, frame.batch_size, strict=True)])
    seconds = np.array([true_step_s(one, size) for one, size in zip(traced, frame.batch_size, strict=True)])
    power_w = joules / seconds
    return frame.assign(
        energy_source="ina3221",
        power_w=power_w,
        energy_per_step_j=power_w * frame.step_s,
        idle_power_w=IDLE_W,
        power_coverage=1.0,
    )


def made_up_rows(
    *,
    models=("plain1", "plain2", "plain4", "thin1", "thin3", "token1", "token2", "cross1", "cross2"),
    batch_sizes=(4, 16),
    modes=("full", "head"),
    device="board",
    noise=0.0,
    seed=0,
):
    rng = np.random.default_rng(seed)
    rows = []
    for model in models:
        for mode in modes:
            for batch_size in batch_sizes:
                features = made_up_features(model, mode, 224)
                rows.append(
                    {
                        "device": device,
                        "model": model,
                        "mode": mode,
                        "task": "train",
                        "status": "ok",
                        "batch_size": batch_size,
                        "image_size": 224,
                        "num_classes": 1000,
                        "step_s": true_step_s(features, batch_size) * np.exp(noise * rng.standard_normal()),
                        "rss_peak_bytes": true_peak_bytes(features, batch_size),
                    }
                )
    return pd.DataFrame(rows)


def made_up_step(model, mode="full", image_size=None, num_classes=None, batch_size=16):
    """One operator for each kind of work, as large as the whole of it."""
    features = made_up_features(model, mode, image_size, num_classes)
    amounts = dict(zip(WORK, features.work(np.array([batch_size]))[0], strict=True))
    operators = Counter()
    for phase in ("forward", "backward"):
        for family in FAMILIES:
            macs = amounts.get(f"{phase}_{family}_macs", 0.0)
            elements = amounts[f"{phase}_{family}_elements"] or macs / 100
            if elements:
                shape = {"t": [batch_size, max(1, round(elements / batch_size))], "d": "float32"}
                signature = json.dumps([f"aten.{family}.{phase}", [shape], {}], separators=(",", ":"))
                operators[Operator(signature, phase == "backward", family, macs, elements)] += 1
    return Step(
        batch_size=batch_size,
        operators=operators,
        parameters=round(features.parameters),
        trainable_parameters=round(features.trainable_parameters),
        trainable_tensors=round(features.trainable_tensors),
        buffer_bytes=0,
        batch_bytes=0,
        saved_bytes=0,
        live_bytes=(),
        storages=(round(features.peak_bytes(np.array([batch_size]))[0]),),
    )


def true_operator_s(operator):
    """An operator alone on the made-up device."""
    return 2e-6 + 1e-10 * operator.macs + 2e-9 * operator.elements


def true_calibrated_s(step):
    """A whole step there: its operators, and what they do not show alone."""
    alone = sum(count * true_operator_s(operator) for operator, count in step.operators.items())
    return 1.05 * alone + 1e-9 * sum(step.storages) + 3e-8 * step.trainable_parameters


CALIBRATED = tuple(f"{kind}{size}" for kind in ("plain", "thin", "token") for size in (1, 2, 3, 5, 8, 13))
CHAIN_STEPS = ("plain1", "plain4", "thin2", "token2", "cross1")


def made_up_operators(device="board", models=CALIBRATED, chains=CHAIN_STEPS):
    """A table as ``devprof calibrate`` would make it; the chains are models of the made-up world."""
    steps = [made_up_step(model, mode) for model in models for mode in ("full", "head")]
    distinct = {operator.signature: operator for step in steps for operator in step.operators}
    for size in (16, 64, 256):
        signature = json.dumps(["aten.relu.default", [{"t": [size], "d": "float32"}], {}], separators=(",", ":"))
        distinct[signature] = Operator(signature, False, "elementwise", 0.0, 2.0 * size)
    common = {"device": device, "processor": "cpu", "status": "ok"}
    rows = [
        common
        | {
            "signature": one.signature,
            "family": one.family,
            "macs": one.macs,
            "elements": one.elements,
            "seconds": true_operator_s(one),
        }
        for one in distinct.values()
    ]
    for model in chains:
        for mode in ("full", "head"):
            seconds = true_calibrated_s(made_up_step(model, mode))
            signature = step_signature(model, mode, 16)
            sizes = {"family": "step", "macs": 0.0, "elements": 0.0}
            peak = true_peak_bytes(made_up_features(model, mode), 16)
            rows.append(common | sizes | {"signature": signature, "seconds": seconds, "rss_peak_bytes": peak})
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def step_tracer():
    return made_up_step


@pytest.fixture
def make_operators():
    return made_up_operators


@pytest.fixture
def true_calibrated():
    return true_calibrated_s


@pytest.fixture
def true_operator():
    return true_operator_s


@pytest.fixture
def observe(tracer, true_step):
    """Observations of models at batch sizes on a device, exact or off by a factor."""

    def make(names, sizes=(8,), *, device="board", mode="full", processor="cpu", factor=lambda model: 1.0):
        return [
            Observation(
                device,
                processor,
                Configuration(name, mode, 224, 1000),
                model_family(name),
                size,
                factor(name) * true_step(tracer(name, mode, 224), size),
                tracer(name, mode, 224),
            )
            for name in names
            for size in sizes
        ]

    return make


@pytest.fixture(scope="session")
def tracer():
    return made_up_features


@pytest.fixture
def make_rows():
    return made_up_rows


@pytest.fixture
def with_meter():
    return metered


@pytest.fixture
def true_seconds():
    return TRUE_SECONDS


@pytest.fixture
def true_energy():
    return true_energy_j


@pytest.fixture
def true_step():
    return true_step_s


@pytest.fixture
def true_peak():
    return true_peak_bytes
