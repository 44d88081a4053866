"""One self-contained page: text, tables, live figures and the code that draws them in a single HTML file.

Nothing is fetched when the page is opened: the drawing code (Vega, Vega-Lite and Vega-Embed) is inside, once, and a content
security policy forbids the browser to load anything else. All text that comes from records is escaped.
"""

from __future__ import annotations

import html
import importlib.resources
import json
from collections.abc import Sequence
from string import Template
from typing import Any

from devprof.report.content import HeadlineTable, ReportContent
from devprof.report.figure import Figure, import_report_module
from devprof.report.figures import figures_of
from devprof.report.scripts import DRAW_FIGURES, WORK_TABLES
from devprof.report.theme import dark_css, to_spec

__all__ = ["render_page", "render_page_with"]

_MOST_NUMBERS = 500


def render_page(content: ReportContent) -> str:
    """The whole report as one HTML document that needs no other file and no network.

    Raises:
        MissingExtraError: If there is something to draw and altair or vl-convert is not installed.
    """
    return render_page_with(content, figures_of(content))


def render_page_with(content: ReportContent, figures: Sequence[Figure]) -> str:
    """As :func:`render_page`, with figures that were already made from the content."""
    return Template(_resource("page.html")).substitute(
        title=html.escape(content.title),
        style=Template(_resource("style.css")).substitute(dark=dark_css(".chart svg.marks")),
        lead=f'<p class="lead">{html.escape(content.lead)}</p>' if content.lead else "",
        headline=_headline(content.headline),
        facts=_facts(content.facts),
        sections=_sections(figures) if figures else _nothing_to_draw(),
        notes=_notes(content.notes),
        scripts=_scripts(figures),
    )


def _resource(name: str) -> str:
    return importlib.resources.files("devprof.report").joinpath(name).read_text(encoding="utf-8")


def _table(table: HeadlineTable, most: int | None = None) -> str:
    kinds = [' class="number"' if column.numeric else "" for column in table.columns]
    head = "".join(
        f'<th scope="col"{kind}>{html.escape(column.name)}</th>'
        for column, kind in zip(table.columns, kinds, strict=True)
    )
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{html.escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in table.rows[:most]
    )
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _headline(table: HeadlineTable | None) -> str:
    return "" if table is None or not table.rows else f'<div class="headline">{_table(table)}</div>'


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    if not facts:
        return ""
    cells = "\n".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">\n{cells}\n</dl>'


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "\n".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f'<h2>Notes</h2>\n<ul class="notes">\n{items}\n</ul>'


def _nothing_to_draw() -> str:
    return (
        '<p class="empty">There is nothing to draw yet. Measure a model on this device with '
        "<code>devprof measure MODEL -o DIR</code>, then make this report again.</p>"
    )


def _sections(figures: Sequence[Figure]) -> str:
    parts: list[str] = []
    section = None
    for figure in figures:
        if figure.section != section:
            section = figure.section
            parts.append(f"<h2>{html.escape(section)}</h2>")
        parts.append(_figure(figure))
    return "\n".join(parts)


def _figure(figure: Figure) -> str:
    name = html.escape(figure.name)
    left_out = len(figure.numbers.rows) - _MOST_NUMBERS
    more = f"<p>{left_out} more rows are left out here.</p>" if left_out > 0 else ""
    return (
        f'<figure id="{name}">\n<h3>{html.escape(figure.title)}</h3>\n'
        f'<div class="chart" role="img" aria-label="{html.escape(figure.alt)}" '
        f'data-name="{name}" data-spec="spec-{name}"></div>\n'
        f"<noscript><p>Drawing this figure needs JavaScript; figures/{name}.png shows the same.</p></noscript>\n"
        f"<figcaption>{html.escape(figure.caption)}</figcaption>\n"
        f"<details><summary>The numbers</summary>{_table(figure.numbers, _MOST_NUMBERS)}{more}</details>\n</figure>"
    )


def _json_for_script(value: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in: no name in the data can become markup."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _scripts(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    specs = "\n".join(
        f'<script type="application/json" id="spec-{html.escape(figure.name)}">'
        f"{_json_for_script(to_spec(figure.chart) | {'description': figure.alt})}</script>"
        for figure in figures
    )
    return (
        f"{specs}\n<script>{_drawing_code()}</script>\n<script>{DRAW_FIGURES}</script>\n<script>{WORK_TABLES}</script>"
    )


def _drawing_code() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, of the version for which altair writes specifications."""
    vl_convert = import_report_module("vl_convert", "drawing a report")
    bundle: str = vl_convert.javascript_bundle(vl_version=vegalite_version())
    return bundle.replace("</script", "<\\/script")


def vegalite_version() -> str:
    """The Vega-Lite version (``major.minor``) that both altair and vl-convert speak.

    Raises:
        MissingExtraError: If either is not installed.
    """
    altair = import_report_module("altair", "drawing a report")
    vl_convert = import_report_module("vl_convert", "drawing a report")
    wanted = ".".join(str(altair.SCHEMA_VERSION).removeprefix("v").split(".")[:2])
    offered: list[str] = vl_convert.get_vegalite_versions()
    # An older converter draws a newer specification in its newest version: the features used here are in all of them.
    return wanted if wanted in offered else offered[-1]
