"""One look for all figures: palette, type and quiet grid, as a Vega-Lite configuration.

The colours of the strategies were chosen so that each pair stays apart (CIE76 distance of at least 13) for readers with
protanopia, deuteranopia and tritanopia, simulated with the matrices of Machado, Oliveira and Fernandes (2009,
"A physiologically-based model for simulation of color vision deficiency"). Every colour has a counterpart for dark pages; the
page swaps them by style sheet, so that a figure is one specification on screen, on paper and in a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from devprof.report.figure import Chart

__all__ = [
    "DARK",
    "FAILED",
    "FILE_WIDTH",
    "FONT",
    "GRID",
    "IDLE",
    "INK",
    "MUTED",
    "PANEL_MARGIN",
    "PANEL_WIDTH",
    "PAPER",
    "PHASE_COLOURS",
    "STRATEGY_COLOURS",
    "batch_colours",
    "dark_css",
    "strategy_colours",
    "to_spec",
    "vega_config",
]

FILE_WIDTH = 760
# Of a figure of panels: the least width of one, and what stands beside its plot; with this, the panels fill the width.
PANEL_WIDTH = 250
PANEL_MARGIN = 69
FONT = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"

# By the container, not by the plot's width: that one changes while the layout is made, and the legend would be cut off.
_LEGEND_COLUMNS = "isFinite(containerSize()[0]) ? max(1, floor((containerSize()[0] - 70) / 150)) : 6"

PAPER = "#ffffff"
INK = "#1c2430"
MUTED = "#5c6672"
GRID = "#e7eaee"
IDLE = "#e3e7eb"
FAILED = "#b3261e"
# Not PAPER, so that text on a coloured bar stays light where the paper turns dark.
ON_COLOUR = "#fffffd"

STRATEGY_COLOURS = ("#2f7fd1", "#a63a08", "#12946b", "#4c1d80", "#c98500", "#8f1e62", "#5b6b7a", "#7c5a3a")
_BATCH_COLOURS = ("#5cb8ae", "#3aa0b4", "#2d86b3", "#346aa5", "#3f4f92", "#45357c", "#3d1f5e", "#2c0f3f")

# Phases of a client's round, in the order in which they happen; "unused" is work whose result came too late or was lost.
PHASE_COLOURS = {
    "still busy": "#b9a58c",
    "download": "#8fb8dc",
    "start-up": "#d9b84a",
    "compute": "#1d6f68",
    "not itemised": "#8b86a3",
    "upload": "#4d86b8",
    "unused work": "#c8452f",
    "idle": IDLE,
}

DARK = {
    PAPER: "#171b21",
    INK: "#e8ebef",
    MUTED: "#a3adb8",
    GRID: "#2b313a",
    IDLE: "#343b45",
    FAILED: "#ff8a80",
    **dict(
        zip(
            STRATEGY_COLOURS,
            ("#6db3f2", "#ee8043", "#3fc79a", "#b795ff", "#e8bd55", "#e58ac0", "#a5b4c2", "#c9a27e"),
            strict=True,
        )
    ),
    **dict(
        zip(
            _BATCH_COLOURS,
            ("#3c948b", "#45a9bd", "#5bb4dd", "#86b6e8", "#a3b3ee", "#bda9ef", "#d4b4f2", "#ead0f7"),
            strict=True,
        )
    ),
    "#1d6f68": "#35a297",
    "#c8452f": "#e8674f",
}


def strategy_colours(names: Sequence[str]) -> list[str]:
    """A colour per strategy, fixed by position; they repeat after eight."""
    return [STRATEGY_COLOURS[index % len(STRATEGY_COLOURS)] for index in range(len(names))]


def batch_colours(count: int) -> list[str]:
    """``count`` colours from light to dark for ordered values; neighbours share one where there are more than eight."""
    last = len(_BATCH_COLOURS) - 1
    if count == 1:
        return [_BATCH_COLOURS[2]]
    return [_BATCH_COLOURS[round(index * last / (count - 1))] for index in range(count)]


def vega_config() -> dict[str, Any]:
    """The Vega-Lite ``config`` that all figures share."""
    return {
        "background": PAPER,
        "font": FONT,
        "padding": {"left": 4, "right": 12, "top": 6, "bottom": 4},
        "view": {"stroke": None},
        "axis": {
            "labelColor": INK,
            "labelFontSize": 13,
            "labelPadding": 6,
            "labelOverlap": True,
            "labelFlush": False,
            "titleColor": MUTED,
            "titleFontSize": 13,
            "titleFontWeight": "normal",
            "titlePadding": 10,
            "gridColor": GRID,
            "domainColor": GRID,
            "tickColor": GRID,
            "ticks": False,
            "domain": False,
        },
        "legend": {
            "orient": "top",
            "direction": "horizontal",
            "columns": {"signal": _LEGEND_COLUMNS},
            "labelColor": INK,
            "labelFontSize": 13,
            "titleColor": MUTED,
            "titleFontSize": 13,
            "titleFontWeight": "normal",
            "titleOrient": "left",
            "symbolSize": 110,
            "symbolStrokeWidth": 0,
            "columnPadding": 18,
            "offset": 10,
            "labelLimit": 220,
        },
        "header": {
            "labelColor": INK,
            "labelFontSize": 13,
            "labelFontWeight": 600,
            "labelAnchor": "start",
            "labelPadding": 6,
            "labelLimit": PANEL_WIDTH - PANEL_MARGIN,
        },
        "title": {
            "anchor": "start",
            "frame": "bounds",
            "fontSize": 17,
            "fontWeight": 600,
            "color": INK,
            "subtitleColor": MUTED,
            "subtitleFontSize": 13,
            "subtitlePadding": 6,
            "offset": 14,
        },
        "style": _mark_styles(),
    }


def _mark_styles() -> dict[str, Any]:
    """Named styles of text marks, so that no figure spells out a neutral colour."""
    text = {"font": FONT, "fontSize": 12, "color": INK}
    return {
        "label": text,
        "quiet": {**text, "color": MUTED, "fontSize": 11},
        "halo": {
            "font": FONT,
            "fontSize": 13,
            "fill": PAPER,
            "stroke": PAPER,
            "strokeWidth": 5,
            "strokeJoin": "round",
        },
        "label-halo": {
            "font": FONT,
            "fontSize": 12,
            "fill": PAPER,
            "stroke": PAPER,
            "strokeWidth": 4,
            "strokeJoin": "round",
        },
        "on-colour": {**text, "color": ON_COLOUR},
        "failed": {**text, "color": FAILED},
    }


def to_spec(
    chart: Chart, *, width: int | None = None, title: str | None = None, subtitle: str | None = None
) -> dict[str, Any]:
    """A chart as a complete Vega-Lite specification in the shared look.

    Args:
        chart: A single, layered or faceted altair chart.
        width: Total width in pixels; ``None`` follows the width of the page's column.
        title: A title inside the figure, for files that travel without a page.
        subtitle: A line under that title.
    """
    spec = chart.to_dict()
    # Whatever theme the caller's process has switched on must not leak into a published figure.
    spec["config"] = vega_config()
    if "facet" in spec:
        # Panels cannot follow a container: the page's script lays them out for the width that it finds, by this rule.
        if width is not None:
            spec["columns"] = max(1, min(spec["columns"], width // PANEL_WIDTH))
            spec["spec"]["width"] = width // spec["columns"] - PANEL_MARGIN
    else:
        spec["width"] = "container" if width is None else width
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    if title is not None:
        spec["title"] = {"text": title, **({"subtitle": subtitle} if subtitle else {})}
    return spec


def dark_css(scope: str) -> str:
    """Style rules that turn figures drawn as SVG under the selector ``scope`` into their dark form."""
    rules = []
    for light, dark in DARK.items():
        rules.append(f'{scope} [fill="{light}"] {{ fill: {dark}; }}')
        rules.append(f'{scope} [stroke="{light}"] {{ stroke: {dark}; }}')
    return "\n".join(rules)
