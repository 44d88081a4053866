"""devprof: hardware profiling and cost models for federated learning on real devices.

The public Python API. Names are imported when first used, so that ``import devprof`` costs nothing:

- ``load_runs``, ``load_steps``, ``load_power``, ``load_operators``: a measurement folder as ``pandas.DataFrame``.
- ``CostModel``: fit, predict, save and load a cost model.
- ``plan_round``: a round's deadline and each client's steps and batch size; ``plan_fleet``: the same for a million clients.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devprof.costmodel.model import CostModel
    from devprof.plan.fleetplan import plan_fleet
    from devprof.plan.planner import plan_round
    from devprof.store.folder import load_operators, load_power, load_runs, load_steps

__all__ = ["CostModel", "load_operators", "load_power", "load_runs", "load_steps", "plan_fleet", "plan_round"]

_HOMES = {
    "CostModel": "devprof.costmodel.model",
    "load_operators": "devprof.store.folder",
    "load_power": "devprof.store.folder",
    "load_runs": "devprof.store.folder",
    "load_steps": "devprof.store.folder",
    "plan_fleet": "devprof.plan.fleetplan",
    "plan_round": "devprof.plan.planner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'devprof' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
