"""Marks that several figures share, so that a look means the same everywhere.

A filled point was measured here, a hollow one was published by somebody else, a grey one swapped while it was timed; a ring
is around what was measured while the device was throttled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from devprof.report.configurations import Configuration, devices_of
from devprof.report.figure import Row
from devprof.report.labels import NARROW, Label
from devprof.report.runs import FIELDS, fields_of
from devprof.report.theme import FAILED, MUTED, PAPER, strategy_colours

__all__ = ["device_colour", "label_layers", "legend_choice", "look_sentences", "mode_choice", "point_layers", "tooltip"]

_LOOKS: Mapping[str, dict[str, Any]] = {
    "measured": {"filled": True},
    "published": {"filled": False, "fill": PAPER, "strokeWidth": 2},
    "swapped": {"filled": False, "fill": PAPER, "strokeWidth": 2, "strokeDash": [2, 2]},
}
_RING = 3.2
_RING_CHANNELS = ("x", "y", "size", "opacity", "tooltip")
_MOST_NAMED = 4


def tooltip(alt: ModuleType, rows: Sequence[Row], fields: Sequence[tuple[str, str, bool]] = FIELDS) -> list[Any]:
    """A tooltip with every field of which some row knows something."""
    return [alt.Tooltip(f"{key}:N", title=heading) for key, heading, _ in fields_of(rows, fields)]


def device_colour(alt: ModuleType, rows: Sequence[Row], devices: Sequence[str]) -> Any:
    """A colour per device, the same in all figures; without legend where there is one device only.

    Args:
        alt: The altair module.
        rows: Rows with ``device``; only these devices are in the legend.
        devices: All devices of the report in order.
    """
    colours = dict(zip(devices, strategy_colours(devices), strict=True))
    shown = [device for device in devices if any(row["device"] == device for row in rows)]
    scale = alt.Scale(domain=shown, range=[colours[device] for device in shown])
    # Without this, a legend takes over the faintest of the layers.
    legend = alt.Legend(symbolOpacity=1) if len(shown) > 1 else None
    return alt.Color("device:N", title=None, scale=scale, legend=legend)


def legend_choice(alt: ModuleType, field: str) -> tuple[Any, Any]:
    """A choice that a click in the legend makes, and the opacity that keeps the others in the background."""
    chosen = alt.selection_point(fields=[field], bind="legend", name=f"{field}_choice")
    return chosen, alt.condition(chosen, alt.value(1), alt.value(0.12))


def mode_choice(alt: ModuleType, modes: Sequence[str]) -> Any:
    """Buttons that choose the mode which a page shows; files show the first."""
    labels = {"full": "the whole model", "head": "the head only"}
    bind = alt.binding_radio(options=list(modes), labels=[labels.get(mode, mode) for mode in modes], name="Trained: ")
    return alt.param(name="shown_mode", value=modes[0], bind=bind)


def point_layers(alt: ModuleType, rows: Sequence[Row], *, area: int = 95, **encoding: Any) -> list[Any]:
    """One layer of points per look that occurs in the rows, and the rings of throttled ones.

    Args:
        alt: The altair module.
        rows: Rows with ``kind`` and ``throttled``.
        area: Area of a point in square pixels; an encoding ``size`` overrides it.
        encoding: The channels of all points.
    """
    layers = []
    for kind, look in _LOOKS.items():
        of = [row for row in rows if row["kind"] == kind]
        if of:
            grey = {"color": alt.value(MUTED)} if kind == "swapped" else {}
            layers.append(alt.Chart(alt.Data(values=of)).mark_point(size=area, **look).encode(**(encoding | grey)))
    throttled = [row for row in rows if row["throttled"]]
    if throttled:
        ring = alt.Chart(alt.Data(values=throttled)).mark_point(
            filled=False, shape="circle", size=area * _RING, stroke=FAILED, strokeWidth=2.5
        )
        layers.append(ring.encode(**{name: encoding[name] for name in _RING_CHANNELS if name in encoding}))
    return layers


def look_sentences(found: Sequence[Configuration]) -> list[str]:
    """What the looks that occur mean, and which models have them, for a caption."""
    sentences = []
    sources = list(dict.fromkeys(one.published for one in found if one.published))
    if sources:
        sentences.append(f"Hollow: published by {', '.join(sources)}.")
    for attribute, words in (
        ("swapped", "Grey: memory came back from swap during the timing, the time is not the model's own ({})."),
        ("throttled", "Red ring: the device was throttled ({})."),
    ):
        of = [one for one in found if getattr(one, attribute)]
        if of:
            sentences.append(words.format(_named(of, several=len(devices_of(found)) > 1)))
    return sentences


def _named(found: Sequence[Configuration], *, several: bool) -> str:
    names = list(dict.fromkeys(one.first.model + (f" on {one.device}" if several else "") for one in found))
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def label_layers(alt: ModuleType, labels: Sequence[Label], **encoding: Any) -> list[Any]:
    """The names beside points, those that were placed for the width that the plot has."""
    layers = []
    for side in dict.fromkeys(label.side for label in labels):
        rows: list[Row] = [label.row for label in labels if label.side == side]
        base = (
            alt.Chart(alt.Data(values=rows))
            .transform_filter(f"(width < {NARROW}) == (datum.plot == 'narrow')")
            .encode(text="text:N", **encoding)
        )
        layers += [base.mark_text(style=style, **side.place) for style in ("label-halo", "label")]
    return layers
