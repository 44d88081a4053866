"""Let torchvision be imported where its compiled operators cannot be loaded.

torchvision wheels that were built against another torch (a CPU build from another index, a Jetson wheel) fail to load
``_C.so`` and go on without it, but then register a shape function for ``torchvision::nms``, which no longer exists, and the
import dies. timm imports torchvision, so no model can be built. Declaring the two operators is enough: classification
models never call them, and a detection model that does gets torch's own "not implemented" error.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

__all__ = ["ensure_torchvision_operators"]

_log = logging.getLogger(__name__)

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# The library object owns the declarations: they vanish with it.
_declared: list[Any] = []


def ensure_torchvision_operators() -> bool:
    """Declare torchvision's operators if they are missing; call it before importing torchvision or timm.

    Returns:
        Whether the operators had to be declared (also said in the log), which means that torchvision runs without its
        compiled part.
    """
    if _declared:
        return True
    if "torchvision" in sys.modules or _compiled_operators_load():
        return False
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)
    _log.info(
        "torchvision's compiled operators cannot be loaded with this torch; declared nms and qnms so that it imports"
    )
    return True


def _compiled_operators_load() -> bool:
    """Whether torchvision's extension loads; also true where there is no torchvision to be mended."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    extensions = sorted(Path(spec.origin).parent.glob("_C*.so"))
    if not extensions:
        return False
    try:
        torch.ops.load_library(str(extensions[0]))
    except OSError as error:
        _log.debug("loading %s failed: %s", extensions[0], error)
        return False
    return True
