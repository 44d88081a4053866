"""Where the catalogue and the cost model meet: a model's name to its features.

Layer 2, beside ``measure``: it may import islands. The cost model reaches it by name, through
:func:`devprof.registry.resolve`. Results are kept in the cache folder, because tracing takes a second per model and never
changes for the same versions.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from pathlib import Path

from devprof.atomic import write_atomically
from devprof.costmodel.features import FEATURES_VERSION, Features
from devprof.device.identity import installed_version
from devprof.errors import CostModelError, DevprofError, MissingExtraError
from devprof.paths import cache_folder
from devprof.records import MODES, Workload
from devprof.workloads.catalogue import build
from devprof.workloads.names import split_name

__all__ = ["trace_model"]


@functools.lru_cache(maxsize=4096)
def trace_model(model: str, mode: str, image_size: int | None = None, num_classes: int | None = None) -> Features:
    """The features of one training step of a model; see :mod:`devprof.costmodel.trace`.

    Args:
        model: A model name as everywhere.
        mode: ``full`` or ``head``.
        image_size: Height and width of the input; ``None`` for the model's own.
        num_classes: Outputs; ``None`` for the model's own.

    Raises:
        UnknownNameError: If there is no such model.
        WorkloadError: If it cannot be built.
        CostModelError: If it cannot be traced.
        MissingExtraError: If torch or timm is not installed.
    """
    chosen = next((known for known in MODES if known == mode), None)
    if chosen is None:
        raise DevprofError(f"unknown mode {mode!r}; use one of {', '.join(MODES)}")
    workload = Workload(model=model, mode=chosen, image_size=image_size, num_classes=num_classes)
    if split_name(model)[0] == "factory":
        # A user's own factory may change between two runs: only published models are kept.
        return _trace(workload)
    path = cache_folder() / "traces" / f"{_cache_key(model, mode, image_size, num_classes)}.json"
    features = _read(path)
    if features is None:
        features = _trace(workload)
        _write(path, features)
    return features


def _trace(workload: Workload) -> Features:
    try:
        from devprof.costmodel.trace import trace_training
    except ImportError as error:
        raise MissingExtraError("train", error.name or "torch", "tracing a model") from error

    trainable = build(workload, device="meta")
    return trace_training(trainable.model, trainable.make_batch, trainable.loss_fn)


def _cache_key(*parts: object) -> str:
    versions = [installed_version(name) for name in ("torch", "torchvision", "timm", "devprof")]
    return hashlib.sha256(json.dumps([FEATURES_VERSION, *versions, *parts]).encode()).hexdigest()[:32]


def _read(path: Path) -> Features | None:
    try:
        return Features.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, CostModelError):
        # A missing or damaged cache entry costs a second, nothing else.
        return None


def _write(path: Path, features: Features) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(features.to_dict()).encode())
