"""From a workload to a model that can be trained: every source of models behind one function.

torch, timm and torchvision are imported when a model is built, not before.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from devprof.errors import MissingExtraError, UnknownNameError, WorkloadError
from devprof.records import Workload
from devprof.workloads.compat import ensure_torchvision_operators
from devprof.workloads.names import DEFAULT_CLASSES, DEFAULT_IMAGE_SIZE, SEED_NAMES, require_known, split_name
from devprof.workloads.own import build_own
from devprof.workloads.trainable import Trainable

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Trainable", "build"]

_log = logging.getLogger(__name__)

_Builder = Callable[[str, Workload], Trainable]

# Constructors are foreign code: what they raise for an input that does not suit them becomes the workload's error.
_FAILURES = (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, LookupError, ImportError, OSError)


def build(workload: Workload, *, device: str = "cpu") -> Trainable:
    """Build a workload's model, without weights from anywhere (random initialisation).

    Args:
        workload: Its model, mode, image size and number of classes are used.
        device: A torch device; ``meta`` gives shapes without memory.

    Raises:
        UnknownNameError: If there is no model of that name; carries the closest names.
        MissingExtraError: If torch or timm is not installed.
        WorkloadError: If the model cannot be built for this input, with the reason.
    """
    source, name = split_name(workload.model)
    builders: dict[str, _Builder] = {
        "seed": _build_seed,
        "timm": _build_timm,
        "torchvision": _build_torchvision,
        "fastervit": _build_fastervit,
        "factory": build_own,
    }
    try:
        trainable = _build_on(device, builders[source], name, workload)
    except _FAILURES as error:
        raise WorkloadError(f"the model {workload.model!r} cannot be built: {error}") from error
    trainable.model.train()
    if workload.mode == "head":
        _freeze_all_but(_classifier(trainable.model, workload.model), trainable.model)
    return trainable


def _build_on(device: str, builder: _Builder, name: str, workload: Workload) -> Trainable:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("train", "torch", "building a model") from error

    # A user's factory also makes data, which belongs to the host; only its model moves.
    first = "cpu" if builder is build_own and device != "meta" else device
    try:
        with torch.device(first):
            trainable = builder(name, workload)
    except RuntimeError as error:
        if device != "meta":
            raise
        # Constructors that read values, such as a schedule of drop rates, cannot run without memory.
        _log.info("%s cannot be built without memory (%s); it is built on the CPU and then emptied", name, error)
        with torch.device("cpu"):
            trainable = builder(name, workload)
    trainable.model.to(device)
    return trainable


def _image_trainable(model: nn.Module, size: int, classes: int) -> Trainable:
    return Trainable(model, (3, size, size), classes, size)


def _build_seed(name: str, workload: Workload) -> Trainable:
    from devprof.workloads.seeds import SEEDS

    seed = SEEDS.get(f"seed:{name}")
    if seed is None:
        raise UnknownNameError("model", workload.model, SEED_NAMES)
    if workload.image_size is not None and not seed.takes_images:
        raise WorkloadError(
            f"{workload.model} takes no images: its input is {seed.input_shape}; leave the image size out"
        )
    size = workload.image_size or seed.input_shape[-1]
    shape = (seed.input_shape[0], size, size) if seed.takes_images else seed.input_shape
    classes = workload.num_classes or seed.num_classes
    return Trainable(seed.build(shape, classes), shape, classes, size if seed.takes_images else None)


def _build_timm(name: str, workload: Workload) -> Trainable:
    ensure_torchvision_operators()
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError("train", "timm", f"building the model {name!r}") from error
    if not timm.is_model(name):
        require_known(name)
    classes = workload.num_classes or DEFAULT_CLASSES
    size = workload.image_size or DEFAULT_IMAGE_SIZE
    config: Any = timm.get_pretrained_cfg(name, allow_unregistered=True)
    # Transformers with position embeddings are built for one size; other networks refuse the argument.
    fixed = config is not None and config.fixed_input_size and config.input_size[-1] != size
    extra: dict[str, Any] = {"img_size": size} if fixed else {}
    return _image_trainable(timm.create_model(name, pretrained=False, num_classes=classes, **extra), size, classes)


def _build_torchvision(name: str, workload: Workload) -> Trainable:
    ensure_torchvision_operators()
    try:
        from torchvision import models
    except ImportError as error:
        raise MissingExtraError("train", "torchvision", f"building the model {workload.model!r}") from error
    if name not in models.list_models(module=models):
        require_known(workload.model)
    classes = workload.num_classes or DEFAULT_CLASSES
    size = workload.image_size or DEFAULT_IMAGE_SIZE
    builder: Any = models.get_model_builder(name)
    extra: dict[str, Any] = {"init_weights": True} if "init_weights" in inspect.signature(builder).parameters else {}
    return _image_trainable(builder(weights=None, num_classes=classes, **extra), size, classes)


def _build_fastervit(name: str, workload: Workload) -> Trainable:
    """FasterViT from its own package (arXiv 2306.06189), which is under a licence of its own and optional."""
    require_known(workload.model)
    # The package builds on timm, which loads torchvision.
    ensure_torchvision_operators()
    fastervit = importlib.import_module("fastervit")
    classes = workload.num_classes or DEFAULT_CLASSES
    size = workload.image_size or DEFAULT_IMAGE_SIZE
    extra = {} if size == DEFAULT_IMAGE_SIZE else {"resolution": size}
    return _image_trainable(fastervit.create_model(name, pretrained=False, num_classes=classes, **extra), size, classes)


def _classifier(model: nn.Module, name: str) -> list[nn.Module]:
    """What mode ``head`` trains: what timm calls the classifier, elsewhere the last linear layer."""
    from torch import nn

    ask: Any = getattr(model, "get_classifier", None)
    found = ask() if callable(ask) else None
    if isinstance(found, nn.Module):
        found = [found]
    parts = [part for part in found or [] if isinstance(part, nn.Module) and any(True for _ in part.parameters())]
    if parts:
        return parts
    linears: list[nn.Module] = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise WorkloadError(f"the model {name!r} has no classifier that mode head could train")
    return linears[-1:]


def _freeze_all_but(parts: Iterable[nn.Module], model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for part in parts:
        for parameter in part.parameters():
            parameter.requires_grad_(True)
