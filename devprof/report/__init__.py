"""Reports: one self-contained page with live figures, and the same figures as PNG and SVG files.

The way of the data inside: :mod:`content` (what a report says) -> :mod:`configurations`, :mod:`runs`, :mod:`series`,
:mod:`rounds` and :mod:`timeline` (records to rows of data; :mod:`provenance` says where they come from) -> the modules
``figures_*`` (rows to charts, captions and the numbers behind them) -> :mod:`page` and :mod:`files` (rendering).
:mod:`theme`, :mod:`axes`, :mod:`marks` and :mod:`labels` give all figures one look.

Takes plain records and imports no other part of devprof but them, the errors and the units.
"""

from __future__ import annotations

from devprof.report.content import Column, HeadlineTable, ReportContent
from devprof.report.files import ReportFiles, write_report
from devprof.report.page import render_page

__all__ = ["Column", "HeadlineTable", "ReportContent", "ReportFiles", "render_page", "write_report"]
