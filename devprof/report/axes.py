"""Axes that speak units: seconds and bytes on linear and logarithmic scales, and rows with labels of their own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

__all__ = [
    "BYTES_LABEL",
    "SECONDS_LABEL",
    "bytes_ticks",
    "label_limit",
    "log_seconds",
    "log_ticks",
    "log_time_ticks",
    "row_axis",
    "time_axis",
]

SECONDS_LABEL = (
    "datum.value >= 7200 ? format(datum.value / 3600, '~g') + ' h'"
    " : datum.value >= 120 ? format(datum.value / 60, '~g') + ' min'"
    " : datum.value >= 1 || datum.value == 0 ? format(datum.value, '~g') + ' s'"
    " : datum.value >= 0.001 ? format(datum.value * 1e3, '~g') + ' ms'"
    " : format(datum.value * 1e6, '~g') + ' µs'"
)
BYTES_LABEL = (
    "datum.value >= 1073741824 ? format(datum.value / 1073741824, '~g') + ' GiB'"
    " : datum.value == 0 ? '0' : format(datum.value / 1048576, '~g') + ' MiB'"
)

# In a file there is no container, and its size is not a number.
_NARROW = "(isFinite(containerSize()[0]) && containerSize()[0] < 600)"

_NICE = {
    1.0: (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30),
    60.0: (0.5, 1, 2, 5, 10, 15, 20, 30),
    3600.0: (0.5, 1, 2, 3, 6, 12, 24, 48, 96, 168),
}
_UNITS = {1.0: "s", 60.0: "min", 3600.0: "h"}


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks at 1, 2 and 5 times the powers of ten inside a range; only the powers where it spans over three decades."""
    wide = math.log10(high / low) > 3
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**decade for decade in decades for factor in ((1,) if wide else (1, 2, 5))]
    return [tick for tick in ticks if low <= tick <= high]


def log_time_ticks(low_s: float, high_s: float) -> list[float]:
    """As :func:`log_ticks`, for seconds: from two minutes on at whole minutes and hours."""
    wide = math.log10(high_s / low_s) > 3
    long = (1200, 14400, 172800) if wide else (120, 300, 600, 1200, 3600, 7200, 18000, 36000, 72000, 180000, 360000)
    # 100 s and 2 min would lie on each other.
    short = 100 if not wide and high_s >= 120 else 120
    ticks = [tick for tick in log_ticks(low_s, high_s) if tick < short]
    return ticks + [float(tick) for tick in long if low_s <= tick <= high_s]


def bytes_ticks(high: float, count: int = 7) -> list[int]:
    """Ticks from 0 to at least ``high`` bytes in steps of a power of two MiB, at most ``count`` steps of them."""
    step = 1 << 20
    while high / step > count:
        step *= 2
    return list(range(0, math.ceil(high / step) * step + 1, step))


def log_seconds(alt: ModuleType, low_s: float, high_s: float, title: str) -> dict[str, Any]:
    """Scale, axis and title of a logarithmic axis of durations, for a channel of an encoding."""
    return {
        "scale": alt.Scale(type="log", domain=[low_s, high_s], nice=False),
        "axis": alt.Axis(values=log_time_ticks(low_s, high_s), labelExpr=SECONDS_LABEL),
        "title": f"{title} (logarithmic)",
    }


def time_axis(alt: ModuleType, high_s: float, title: str) -> tuple[Any, list[float]]:
    """A linear axis of durations in the unit a person would choose.

    Args:
        alt: The altair module.
        high_s: The longest duration in seconds.
        title: Title without unit; the unit is appended.

    Returns:
        The axis and its ticks in seconds.
    """
    unit = 3600.0 if high_s >= 7200 else 60.0 if high_s >= 120 else 1.0
    steps = _NICE[unit]
    step = next((nice for nice in steps if high_s / unit / nice <= 8), None)
    if step is None:
        step = steps[-1] * math.ceil(high_s / unit / steps[-1] / 8)
    elif unit == 1.0 and high_s < 0.8:
        step = 10.0 ** math.floor(math.log10(max(high_s, 1e-6) / 2))
    ticks = [index * step * unit for index in range(math.floor(high_s / unit / step) + 1)]
    axis = alt.Axis(
        values=ticks, labelExpr=f"format(datum.value / {unit:g}, '~g')", title=f"{title} ({_UNITS[unit]})", domain=False
    )
    return axis, ticks


def label_limit(alt: ModuleType, pixels: int = 230) -> Any:
    """The longest label of a row in pixels: less where the page's column is narrow, so that the plot keeps most of it."""
    return alt.expr(f"{_NARROW} ? 140 : {pixels}")


def row_axis(alt: ModuleType, labels: Mapping[str, str], *, bold: Sequence[str] = ()) -> Any:
    """A vertical axis of rows: the key of a row places it, its label is what a person reads.

    Args:
        alt: The altair module.
        labels: Label by key, from top to bottom; labels may repeat, keys cannot.
        bold: Keys of rows that are headings.
    """
    # JSON is a literal of Vega's expression language, and json.dumps escapes whatever a name may contain.
    weight: Any = "normal"
    if bold:
        weight = {
            "condition": {"test": f"indexof({json.dumps(list(bold))}, datum.value) >= 0", "value": "bold"},
            "value": "normal",
        }
    return alt.Y(
        "row:N",
        sort=None,
        title=None,
        scale=alt.Scale(domain=list(labels), padding=0),
        axis=alt.Axis(
            # Models and clients differ at both ends of their names: in a narrow column the middle is what can go.
            labelExpr=f"truncate(({json.dumps(dict(labels))})[datum.value], {_NARROW} ? 20 : 60, 'center')",
            labelLimit=label_limit(alt),
            labelFontWeight=weight,
            labelOverlap=False,
            grid=False,
        ),
    )
