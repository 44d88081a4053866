"""The user's own model and data: ``module.path:factory``.

The factory takes no arguments and returns a module, or a tuple (module, data set) or (module, data set, loss). The module may
say ``input_shape`` (of one sample) and ``num_classes``; with a data set its first sample says the shape.
"""

from __future__ import annotations

import importlib
from typing import Any

from devprof.errors import WorkloadError
from devprof.records import Workload
from devprof.workloads.names import DEFAULT_CLASSES, DEFAULT_IMAGE_SIZE, require_known
from devprof.workloads.trainable import Samples, Trainable, collate

__all__ = ["build_own"]


def build_own(name: str, workload: Workload) -> Trainable:
    """Call a factory and find out what one sample of its data looks like.

    Args:
        name: ``module.path:factory``.
        workload: What it asks of image size and classes must be what the factory brings.

    Raises:
        UnknownNameError: If the module has no such factory; carries the closest names.
        WorkloadError: If the module cannot be imported, the factory returns something else, or the workload asks for an
            image size or a number of classes that the factory's model or data do not have.
    """
    require_known(name)
    module_name, _, attribute = name.partition(":")
    made = getattr(importlib.import_module(module_name), attribute)()
    model, dataset, loss_fn = _unpack(made, name)
    own_classes = getattr(model, "num_classes", None)
    classes = None if own_classes is None else int(own_classes)
    _require_same(name, "number of classes", workload.num_classes, classes)
    if dataset is None:
        size = workload.image_size or DEFAULT_IMAGE_SIZE
        shape = tuple(int(entry) for entry in getattr(model, "input_shape", (3, size, size)))
        classes = classes or workload.num_classes or DEFAULT_CLASSES
    else:
        shape = tuple(collate(dataset, 1)[0].shape[1:])
    image_size = shape[-1] if len(shape) == 3 else None
    if workload.image_size is not None and image_size is None:
        raise WorkloadError(f"{name} takes no images: its input is {shape}; leave the image size out")
    _require_same(name, "image size", workload.image_size, image_size)
    extra = {} if loss_fn is None else {"loss_fn": loss_fn}
    return Trainable(model, shape, classes, image_size, dataset, **extra)


def _require_same(name: str, what: str, asked: int | None, own: int | None) -> None:
    if asked is not None and own is not None and asked != own:
        raise WorkloadError(f"{name} has the {what} {own}, not {asked}; leave it out, or change the factory")


def _unpack(made: Any, name: str) -> tuple[Any, Samples | None, Any]:
    """The parts of what a factory returned: module, data set or ``None``, loss or ``None``."""
    from torch import nn

    parts = made if isinstance(made, tuple) else (made,)
    if not 1 <= len(parts) <= 3 or not isinstance(parts[0], nn.Module):
        got = f"({', '.join(type(part).__name__ for part in made)})" if isinstance(made, tuple) else type(made).__name__
        raise WorkloadError(
            f"the factory {name!r} returned {got}, not a torch.nn.Module, (module, data set) or (module, data set, loss)"
        )
    model, dataset, loss_fn = (*parts, None, None)[:3]
    if next(model.parameters(), None) is None:
        raise WorkloadError(f"the model of the factory {name!r} has no parameter to train")
    if len(parts) > 1 and not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise WorkloadError(
            f"the data set of the factory {name!r} is a {type(dataset).__name__}; it needs a length and samples by index, "
            "as torch's map-style data sets have"
        )
    if loss_fn is not None and not callable(loss_fn):
        raise WorkloadError(f"the loss of the factory {name!r} is a {type(loss_fn).__name__}, which cannot be called")
    return model, dataset, loss_fn
