"""Names beside points, placed so that none lies on another name or on a point. Pure functions.

Greedy: the first names are the most important ones, each takes the first free side of its point, and a name that finds none
is left out. Finding the most labels is hard in general (Marks and Shieber, 1991, "The computational complexity of cartographic
label placement"); what matters here is that those which are shown can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from devprof.report.figure import Row

__all__ = ["NARROW", "SIDES", "Label", "Point", "Side", "place_labels", "spread_apart"]

NARROW = 600
"""Width in pixels below which a plot counts as narrow."""

# The least widths in which names must not touch: a telephone's, and the first that is not narrow.
_WIDTHS = {"narrow": 290.0, "wide": float(NARROW)}
_CHARACTER = 6.4
_LINE = 13.0


@dataclass(frozen=True, slots=True)
class Side:
    """Where a name stands as seen from its point.

    Attributes:
        align: Horizontal alignment of the text.
        dx: Shift to the right in pixels.
        dy: Shift downwards in pixels.
    """

    align: str
    dx: int
    dy: int

    @property
    def place(self) -> dict[str, str | int]:
        """The properties of the text mark."""
        return {"align": self.align, "baseline": "middle", "dx": self.dx, "dy": self.dy}


SIDES = (
    Side("right", -11, -8),
    Side("left", 11, 8),
    Side("left", 11, -8),
    Side("right", -11, 8),
    Side("left", 13, 0),
    Side("right", -13, 0),
    Side("center", 0, -16),
    Side("center", 0, 16),
)
"""Where a name may stand, the preferred sides first; far enough from the largest points."""


@dataclass(frozen=True, slots=True)
class Point:
    """A point in a plot, in shares of its width and height from the upper left corner, and its name if it is to have one."""

    x: float
    y: float
    text: str | None
    row: Row


@dataclass(frozen=True, slots=True)
class Label:
    """A placed name: the side of its point, and the row of data that draws it."""

    side: Side
    row: Row


def place_labels(points: Sequence[Point], *, height: float, radius: float = 6.0) -> list[Label]:
    """Names for as many points as find room, the first ones first, in a narrow and in a wide plot.

    Args:
        points: All points that are drawn; those without text are only in the way.
        height: Height of the plot in pixels.
        radius: Radius of a point in pixels.

    Returns:
        The names of both; the field ``plot`` of their rows says for which a name is meant.
    """
    return [label for plot, width in _WIDTHS.items() for label in _place(points, plot, width, height, radius)]


def _place(points: Sequence[Point], plot: str, width: float, height: float, radius: float) -> list[Label]:
    taken = [_box(point.x * width, point.y * height, radius, radius) for point in points]
    labels: list[Label] = []
    for own, point in enumerate(points):
        if point.text is None:
            continue
        for side in SIDES:
            box = _text_box(point, side, width, height)
            inside = box[0] >= 0 and box[1] <= width and box[2] >= 0 and box[3] <= height
            if inside and not any(_overlap(box, other) for index, other in enumerate(taken) if index != own):
                taken.append(box)
                labels.append(Label(side, {**point.row, "text": point.text, "plot": plot}))
                break
    return labels


def spread_apart(values: Sequence[float], *, gap: float, ceiling: float) -> list[float]:
    """Places for labels beside values: as near as possible, at least ``gap`` apart, none above ``ceiling``.

    Returns:
        A place per value, in the order of the values.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    places = list(values)
    for before, index in pairwise(order):
        places[index] = max(places[index], places[before] + gap)
    for index in reversed(order):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - gap
    return places


_Box = tuple[float, float, float, float]


def _box(x: float, y: float, half_width: float, half_height: float) -> _Box:
    return x - half_width, x + half_width, y - half_height, y + half_height


def _text_box(point: Point, side: Side, width: float, height: float) -> _Box:
    half = len(point.text or "") * _CHARACTER / 2
    shift = {"left": half, "right": -half, "center": 0.0}[side.align]
    return _box(point.x * width + side.dx + shift, point.y * height + side.dy, half, _LINE / 2)


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
