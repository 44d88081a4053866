"""From a workload to a model that can be trained: every source of models behind one function.

torch, timm and torchvision are imported when a model is built, not before.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devprof.errors import MissingExtraError, UnknownNameError, WorkloadError
from devprof.records import Workload
from devprof.workloads.compat import ensure_torchvision_operators
from devprof.workloads.names import SEED_NAMES, require_known, split_name

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["DEFAULT_IMAGE_SIZE", "Trainable", "build"]

DEFAULT_IMAGE_SIZE = 224
_DEFAULT_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Trainable:
    """A model ready for the training step.

    Attributes:
        model: In training mode; in mode ``head`` all but the classifier is frozen.
        input_shape: Shape of one sample.
        num_classes: Outputs of the classifier.
        image_size: Height and width of the input, ``None`` where the input is no image.
    """

    model: nn.Module
    input_shape: tuple[int, ...]
    num_classes: int
    image_size: int | None

    def make_batch(self, batch_size: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Random inputs (standard normal) and class indices on the model's device."""
        import torch

        device = next(self.model.parameters()).device
        if device.type == "meta":
            return (
                torch.empty((batch_size, *self.input_shape), device=device),
                torch.empty(batch_size, dtype=torch.long, device=device),
            )
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn((batch_size, *self.input_shape), generator=generator)
        targets = torch.randint(self.num_classes, (batch_size,), generator=generator)
        return inputs.to(device), targets.to(device)

    def parameter_counts(self) -> tuple[int, int]:
        """Parameters: all of them, and those that are trained."""
        counts = [(parameter.numel(), parameter.requires_grad) for parameter in self.model.parameters()]
        return sum(count for count, _ in counts), sum(count for count, trained in counts if trained)


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
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("train", "torch", "building a model") from error
    source, name = split_name(workload.model)
    builders = {"seed": _build_seed, "torchvision": _build_torchvision, "fastervit": _build_fastervit}
    builders |= {"factory": _build_factory, "timm": _build_timm}
    with torch.device(device):
        try:
            trainable = builders[source](name, workload)
        except (RuntimeError, TypeError, ValueError, AssertionError, KeyError) as error:
            raise WorkloadError(f"the model {workload.model!r} cannot be built: {error}") from error
    trainable.model.train()
    if workload.mode == "head":
        _freeze_all_but(_classifier(trainable.model, workload.model), trainable.model)
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
    classes = workload.num_classes or _DEFAULT_CLASSES
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
    classes = workload.num_classes or _DEFAULT_CLASSES
    size = workload.image_size or DEFAULT_IMAGE_SIZE
    builder: Any = models.get_model_builder(name)
    extra: dict[str, Any] = {"init_weights": True} if "init_weights" in inspect.signature(builder).parameters else {}
    return _image_trainable(builder(weights=None, num_classes=classes, **extra), size, classes)


def _build_fastervit(name: str, workload: Workload) -> Trainable:
    try:
        fastervit = importlib.import_module("fastervit")
    except ImportError as error:
        raise WorkloadError(f"the model {workload.model!r} needs the package: pip install fastervit") from error
    classes = workload.num_classes or _DEFAULT_CLASSES
    size = workload.image_size or DEFAULT_IMAGE_SIZE
    return _image_trainable(
        fastervit.create_model(name, resolution=size, num_classes=classes, pretrained=False), size, classes
    )


def _build_factory(name: str, workload: Workload) -> Trainable:
    """The user's own: a callable that returns a module; ``module.input_shape`` says what one sample looks like."""
    require_known(name)
    module_name, _, attribute = name.partition(":")
    model = getattr(importlib.import_module(module_name), attribute)()
    from torch import nn

    if not isinstance(model, nn.Module):
        raise WorkloadError(f"the factory {name!r} returned {type(model).__name__}, not a torch.nn.Module")
    size = workload.image_size or DEFAULT_IMAGE_SIZE
    shape = tuple(int(entry) for entry in getattr(model, "input_shape", (3, size, size)))
    classes = workload.num_classes or int(getattr(model, "num_classes", _DEFAULT_CLASSES))
    return Trainable(model, shape, classes, shape[-1] if len(shape) == 3 else None)


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
