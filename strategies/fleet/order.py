"""What an operator orders, on its way from the command line to the ServerApp: one text in the run config."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from devprof.errors import DevprofError
from devprof.records import Workload

__all__ = ["ORDER_KEY", "Order"]

ORDER_KEY = "order"
"""The key of the run config."""


@dataclass(frozen=True, slots=True)
class Order:
    """One fleet command.

    Attributes:
        action: ``measure`` or ``status``.
        token: A secret of this run, by which the operator knows the ServerApp's lines from others.
        deadline_s: Seconds from when the nodes are there until the run ends.
        wait_s: The longest wait for nodes.
        min_nodes: Nodes that are waited for.
        nodes: Names, device ids, devices or node ids to ask; all nodes if empty.
        output: Measurement folder, an absolute path on the SuperLink's host; empty for ``status``.
        processor: ``cpu`` or ``cuda``, for rows of nodes that never answer.
        measure_options: Words of ``devprof measure``'s command line, without models, suite, device and output.
        calibrate_options: Likewise of ``devprof calibrate``.
        models: Models to measure.
        suite: Name of a suite to measure instead.
        suite_toml: The suite's text, where it is the operator's own file.
        workloads: What the models or the suite come to: the rows that every node owes.
        repeats: Rows per workload.
        calibration_s: Seconds of a calibration before; ``None`` for none.
    """

    action: str
    token: str
    deadline_s: float
    wait_s: float
    min_nodes: int = 1
    nodes: tuple[str, ...] = ()
    output: str = ""
    processor: str = "cpu"
    measure_options: tuple[str, ...] = ()
    calibrate_options: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    suite: str | None = None
    suite_toml: str | None = None
    workloads: tuple[Workload, ...] = ()
    repeats: int = 1
    calibration_s: float | None = None

    def to_text(self) -> str:
        """The order as JSON, without what is as usual."""
        return json.dumps(_unusual(self), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> Order:
        """The order of a run config.

        Raises:
            DevprofError: If it is none, as from another version of devprof.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            workloads = tuple(Workload(**workload) for workload in values.pop("workloads", ()))
            plain: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
            }
            return cls(**plain, workloads=workloads)
        except (ValueError, TypeError, AttributeError) as error:
            raise DevprofError(
                f"the run config's {ORDER_KEY!r} is no order of this devprof ({error}): start the run with "
                "'devprof fleet', and have one version of devprof on the SuperLink and at the operator's"
            ) from error


def _unusual(record: Any) -> dict[str, Any]:
    """The fields of a record that differ from their defaults."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if value == field.default:
            continue
        nested = isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0])
        found[field.name] = [_unusual(entry) for entry in value] if nested else value
    return found
