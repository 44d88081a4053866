"""A report on disk: the page, every figure as PNG and SVG, and a manifest. Every file appears whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from devprof.atomic import write_atomically
from devprof.errors import StoreError
from devprof.report.content import ReportContent
from devprof.report.figure import Figure, import_report_module
from devprof.report.figures import FIGURE_NAMES, figures_of
from devprof.report.page import render_page_with, vegalite_version
from devprof.report.theme import FILE_WIDTH, to_spec

__all__ = ["MANIFEST_VERSION", "ReportFiles", "write_report"]

# 1: title, devprof_version, generated_utc, facts, figures (name, title, caption, rows, png, svg).
MANIFEST_VERSION = 1
_PNG_SCALE = 2.0


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where the parts of a written report are.

    Attributes:
        folder: The folder that holds everything.
        page: The self-contained page.
        manifest: What was written, for programs.
        png: PNG file by figure name.
        svg: SVG file by figure name.
    """

    folder: Path
    page: Path
    manifest: Path
    png: dict[str, Path]
    svg: dict[str, Path]


def write_report(content: ReportContent, folder: Path, *, now: datetime | None = None) -> ReportFiles:
    """Write page, figures and manifest into a folder, which is made if it does not exist.

    A figure of an earlier report in the same folder that this content has no records for is removed, so that files and page
    agree.

    Args:
        content: What the report says.
        folder: Where to write.
        now: The time to put into the manifest; by default the present.

    Raises:
        MissingExtraError: If there is something to draw and altair or vl-convert is not installed.
        StoreError: If the folder or a file in it cannot be written.
    """
    figures = figures_of(content)
    page = render_page_with(content, figures)
    drawings = _draw(figures)
    files = ReportFiles(
        folder,
        folder / "index.html",
        folder / "manifest.json",
        {figure.name: folder / "figures" / f"{figure.name}.png" for figure in figures},
        {figure.name: folder / "figures" / f"{figure.name}.svg" for figure in figures},
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (png, svg) in drawings.items():
            _write(files.png[name], png)
            _write(files.svg[name], svg.encode())
        _remove_stale(folder / "figures", set(drawings))
        _write(files.page, page.encode())
        _write(files.manifest, _manifest(content, figures, now or datetime.now(timezone.utc)).encode())
    except OSError as error:
        raise StoreError(
            f"the report cannot be written to {folder}: {error.strerror or error}. Choose a folder that you may write to."
        ) from error
    return files


def _draw(figures: Sequence[Figure]) -> dict[str, tuple[bytes, str]]:
    """Every figure as PNG and as SVG, with its title inside, as it travels without the page."""
    if not figures:
        return {}
    vl_convert = import_report_module("vl_convert", "drawing a report")
    version = vegalite_version()
    drawings: dict[str, tuple[bytes, str]] = {}
    for figure in figures:
        spec = to_spec(figure.chart, width=FILE_WIDTH, title=figure.title, subtitle=figure.subtitle)
        png = vl_convert.vegalite_to_png(spec, vl_version=version, scale=_PNG_SCALE)
        drawings[figure.name] = (png, vl_convert.vegalite_to_svg(spec, vl_version=version))
    return drawings


def _manifest(content: ReportContent, figures: Sequence[Figure], now: datetime) -> str:
    known = dict(content.facts)
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "title": content.title,
        "devprof_version": known.get("devprof"),
        "generated_utc": now.astimezone(timezone.utc).isoformat(timespec="seconds"),
        "facts": [list(fact) for fact in content.facts],
        "figures": [
            {
                "name": figure.name,
                "title": figure.title,
                "caption": figure.caption,
                "rows": figure.rows,
                "png": f"figures/{figure.name}.png",
                "svg": f"figures/{figure.name}.svg",
            }
            for figure in figures
        ],
    }
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _remove_stale(folder: Path, current: set[str]) -> None:
    for name in FIGURE_NAMES:
        if name not in current:
            for suffix in (".png", ".svg"):
                (folder / f"{name}{suffix}").unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
