"""A small made-up world: architectures whose work is known exactly, and a device whose costs are known exactly."""

import re

import numpy as np
import pandas as pd
import pytest

from devprof.costmodel.base import COLUMNS, work
from devprof.costmodel.features import FAMILIES, Features
from devprof.errors import CostModelError

# Multiply-accumulates or elements per sample of an architecture of size 1, by operator family.
ARCHITECTURES = {
    "plain": {"conv_macs": 2e8, "norm_elements": 2e6, "elementwise_elements": 4e6, "product_elements": 5e6},
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
    share = 1.0 if mode == "full" else 0.4
    work_per_sample = ARCHITECTURES[match[1]]
    parameters = 1e6 * float(match[2])
    return Features(
        per_sample=tuple(share * size * work_per_sample.get(family, 0.0) for family in FAMILIES),
        constant=(0.0,) * len(FAMILIES),
        parameters=parameters,
        trainable_parameters=parameters if mode == "full" else 1e3,
        operators=50.0 + 10 * float(match[2]),
        saved_per_sample_bytes=4 * share * size * 4e6,
        largest_per_sample_bytes=size * 1e6,
    )


# Seconds per unit on the made-up device: a slow small board.
TRUE_SECONDS = {
    "conv_macs": 1e-10,
    "conv_1x1_macs": 3e-10,
    "conv_depthwise_macs": 6e-9,
    "matmul_macs": 0.6e-10,
    "attention_macs": 0.8e-10,
    "product_elements": 1e-9,
    "norm_elements": 8e-9,
    "elementwise_elements": 5e-9,
    "transcendental_elements": 9e-9,
    "pooling_elements": 6e-9,
    "moved_elements": 9e-9,
    "operators": 2e-5,
    "trainable_parameters": 2e-8,
    "step": 1e-3,
}


def true_step_s(features, batch_size):
    return float(work(features, batch_size) @ np.array([TRUE_SECONDS.get(name, 0.0) for name in COLUMNS]))


def true_peak_bytes(features, batch_size):
    return (
        2.5e8
        + 4 * features.parameters
        + 8 * features.trainable_parameters
        + batch_size * (features.saved_per_sample_bytes + 2 * features.largest_per_sample_bytes)
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


@pytest.fixture
def tracer():
    return made_up_features


@pytest.fixture
def make_rows():
    return made_up_rows


@pytest.fixture
def true_step():
    return true_step_s


@pytest.fixture
def true_peak():
    return true_peak_bytes
