"""Named extension points, resolved when first used. Layer 0: standard library only.

The islands of devprof do not import each other, yet the cost model must trace models that the catalogue builds. Such a
meeting goes through a name: the table below gives devprof's own implementation, and an installed package can replace it by
an entry point in the group ``devprof.extensions``. Nothing is imported until :func:`resolve` is called.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from devprof.errors import DevprofError, UnknownNameError

__all__ = ["EXTENSION_GROUP", "resolve"]

EXTENSION_GROUP = "devprof.extensions"

_OWN = {
    # A callable (model, mode, batch_size..., see devprof.costmodel.features.Tracer) -> features.
    "tracer": "devprof.tracing:trace_model",
    # A callable (model, mode, ..., batch_size, see devprof.costmodel.step.StepTracer) -> a traced step.
    "step_tracer": "devprof.tracing:trace_operators",
}


def resolve(name: str) -> Any:
    """The object behind an extension point.

    Args:
        name: The extension point, such as ``"tracer"``.

    Raises:
        UnknownNameError: If there is no such extension point.
        DevprofError: If an installed replacement cannot be loaded.
    """
    for entry in importlib.metadata.entry_points(group=EXTENSION_GROUP, name=name):
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise DevprofError(f"the extension {name!r} ({entry.value}) cannot be loaded: {error}") from error
    if name not in _OWN:
        raise UnknownNameError("extension point", name, _OWN)
    module, _, attribute = _OWN[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
