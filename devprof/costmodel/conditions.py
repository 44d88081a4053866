"""What measured rows tell of a device beside its steps: how long a batch takes to load, and how much slower heat makes it.

A device's steps are fitted to cool rows of one setting. Rows of a device that throttled are left out of that fit, and so are
rows with real data unless most rows have it; but a round needs what they say. Only rows of the fitted setting count here; what
data was read is the one thing in which they may differ from it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from devprof.costmodel.samples import Configuration, Row, Setting

__all__ = ["Conditions", "find_conditions"]

# Made once and kept in memory: waiting for the next batch takes no time worth a name.
_SYNTHETIC = (None, "memory", "synthetic")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is known of a device beside its steps; ``None`` for what is not.

    Attributes:
        data_s_per_sample: Seconds of loading per sample: the median over rows with real data.
        data: Which data that was: ``jpeg`` or ``own``.
        data_rows: How many rows it comes from.
        steps_include_data: Whether the rows that steps are predicted from loaded real data themselves.
        thermal_factor: How many times longer a step takes when the device throttles: the median over the configurations
            that were measured both ways, at least 1.
        thermal_pairs: How many configurations those are.
    """

    data_s_per_sample: float | None = None
    data: str | None = None
    data_rows: int = 0
    steps_include_data: bool = False
    thermal_factor: float | None = None
    thermal_pairs: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The conditions as plain JSON types."""
        return asdict(self)


def find_conditions(rows: Sequence[Row], settings: Mapping[str, Setting]) -> dict[str, Conditions]:
    """The conditions of each device.

    Args:
        rows: All rows with a step time, hot ones too.
        settings: The setting of the rows that each device's steps are fitted to.
    """
    own: dict[str, list[Row]] = {device: [] for device in settings}
    for row in rows:
        if row.device in settings and row.setting.same_but_data(settings[row.device]):
            own[row.device].append(row)
    return {device: _conditions(own[device], setting.data) for device, setting in settings.items()}


def _conditions(rows: Sequence[Row], fitted_data: str | None) -> Conditions:
    loading: dict[str, list[float]] = defaultdict(list)
    cool: dict[tuple[Configuration, int, str | None], list[float]] = defaultdict(list)
    hot: dict[tuple[Configuration, int, str | None], list[float]] = defaultdict(list)
    for row in rows:
        data = row.setting.data
        (hot if row.throttled else cool)[row.configuration, row.batch_size, data].append(row.step_s)
        if data is not None and data not in _SYNTHETIC and row.data_s is not None and not row.throttled:
            loading[data].append(row.data_s / row.batch_size)
    ratios = [statistics.median(times) / statistics.median(cool[key]) for key, times in hot.items() if key in cool]
    # Photographs and the user's own data load differently: what most rows read is what is known best.
    chosen = max(loading, key=lambda name: len(loading[name]), default=None)
    return Conditions(
        data_s_per_sample=None if chosen is None else statistics.median(loading[chosen]),
        data=chosen,
        data_rows=0 if chosen is None else len(loading[chosen]),
        steps_include_data=fitted_data not in _SYNTHETIC,
        thermal_factor=max(1.0, statistics.median(ratios)) if ratios else None,
        thermal_pairs=len(ratios),
    )
