"""Where the catalogue and the cost model meet: a model's name to its features and its operators.

Layer 2, beside ``measure``: it may import islands. The cost model reaches it by name, through
:func:`devprof.registry.resolve`. Results are kept in the cache folder, because tracing takes a second per model and never
changes for the same versions.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from devprof.atomic import write_atomically
from devprof.costmodel.features import FEATURES_VERSION, Features
from devprof.costmodel.step import STEP_VERSION, Step
from devprof.device.identity import installed_version
from devprof.errors import CostModelError, DevprofError, MissingExtraError
from devprof.paths import cache_folder
from devprof.records import MODES, Workload
from devprof.workloads.catalogue import build
from devprof.workloads.names import CHAINS, split_name

__all__ = ["trace_model", "trace_operators"]

Trace = TypeVar("Trace", Features, Step)


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
    workload = _workload(model, mode, image_size, num_classes)
    return _kept(workload, (FEATURES_VERSION,), _trace, Features.from_dict)


@functools.lru_cache(maxsize=256)
def trace_operators(
    model: str, mode: str, image_size: int | None = None, num_classes: int | None = None, batch_size: int = 16
) -> Step:
    """The operators of one training step of a model at one batch size; see :mod:`devprof.costmodel.step`.

    Args:
        model: As for :func:`trace_model`, like the others.
        mode: ``full`` or ``head``.
        image_size: Height and width of the input; ``None`` for the model's own.
        num_classes: Outputs; ``None`` for the model's own.
        batch_size: Samples in the batch.

    Raises:
        DevprofError: As :func:`trace_model`.
    """
    workload = replace(_workload(model, mode, image_size, num_classes), batch_size=batch_size)
    return _kept(workload, (STEP_VERSION, "step", batch_size), _trace_step, Step.from_dict)


def _workload(model: str, mode: str, image_size: int | None, num_classes: int | None) -> Workload:
    chosen = next((known for known in MODES if known == mode), None)
    if chosen is None:
        raise DevprofError(f"unknown mode {mode!r}; use one of {', '.join(MODES)}")
    return Workload(model=model, mode=chosen, image_size=image_size, num_classes=num_classes)


def _kept(
    workload: Workload, kind: tuple[object, ...], trace: Callable[[Workload], Trace], load: Callable[[Any], Trace]
) -> Trace:
    """A trace from the cache, or made and kept there."""
    if split_name(workload.model)[0] == "factory" and workload.model not in CHAINS:
        # A user's own factory may change between two runs: only published models are kept.
        return trace(workload)
    parts = (*kind, workload.model, workload.mode, workload.image_size, workload.num_classes)
    path = cache_folder() / "traces" / f"{_cache_key(*parts)}.json.gz"
    try:
        return load(json.loads(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, CostModelError):
        # A missing or damaged entry costs a second, nothing else.
        traced = trace(workload)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # No time stamp: the same trace is the same file.
        write_atomically(path, gzip.compress(json.dumps(traced.to_dict()).encode(), compresslevel=5, mtime=0))
    return traced


def _trace(workload: Workload) -> Features:
    trace_training, _ = _tracers()
    trainable = build(workload, device="meta")
    return trace_training(trainable.model, trainable.make_batch, trainable.loss_fn)


def _trace_step(workload: Workload) -> Step:
    _, trace_step = _tracers()
    trainable = build(workload, device="meta")
    batch = trainable.make_batch(workload.batch_size)
    return trace_step(trainable.model, *batch, trainable.loss_fn, workload.batch_size)


def _tracers() -> tuple[Callable[..., Features], Callable[..., Step]]:
    try:
        from devprof.costmodel.trace import trace_step, trace_training
    except ImportError as error:
        raise MissingExtraError("train", error.name or "torch", "tracing a model") from error
    return trace_training, trace_step


@functools.cache
def _versions() -> tuple[str | None, ...]:
    """Of what decides a trace; looked up once, because a table has hundreds of configurations."""
    return tuple(installed_version(name) for name in ("torch", "torchvision", "timm", "devprof"))


def _cache_key(*parts: object) -> str:
    return hashlib.sha256(json.dumps([*_versions(), *parts]).encode()).hexdigest()[:32]
