"""What a figure is: a chart with the words and numbers that a reader who cannot see it needs as well."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from devprof.errors import MissingExtraError
from devprof.report.content import Column, HeadlineTable

__all__ = ["Chart", "Figure", "Row", "counted", "finite", "import_report_module", "numbers_table"]

Row = dict[str, str | float | int | bool | None]
"""One row of a figure's data: raw numbers for the encodings and formatted text for tooltips."""


class Chart(Protocol):
    """The part of an altair chart that rendering needs."""

    def to_dict(self) -> dict[str, Any]:
        """The Vega-Lite specification."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart and what belongs to it.

    Attributes:
        name: File name without suffix; a contract with whoever links to the files.
        section: Heading of the page under which it stands.
        title: What is shown.
        subtitle: How to read it, in one line; goes into the files, which travel without caption.
        caption: What to see in it, derived from the data.
        chart: The chart, without size and theme.
        rows: Number of records behind it.
        numbers: The records behind it as a table.
    """

    name: str
    section: str
    title: str
    subtitle: str
    caption: str
    chart: Chart
    rows: int
    numbers: HeadlineTable

    @property
    def alt(self) -> str:
        """The text that stands in for the figure where it cannot be seen."""
        return f"{self.title}. {self.caption}"


def import_report_module(name: str, purpose: str) -> ModuleType:
    """A module of the extra ``report``.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError("report", name, purpose) from error


def finite(value: float | None) -> float | None:
    """The value, or ``None`` where it is missing, infinite or not a number."""
    return value if value is not None and math.isfinite(value) else None


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: ``1 reply``, ``2,000 replies``."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def numbers_table(rows: Sequence[Row], fields: Sequence[tuple[str, str, bool]]) -> HeadlineTable:
    """Rows of a figure as a table.

    Args:
        rows: The rows.
        fields: Per column: the key in the rows, the heading, and whether it is a number.
    """
    return HeadlineTable(
        tuple(Column(heading, numeric) for _, heading, numeric in fields),
        tuple(tuple("–" if row[key] is None else str(row[key]) for key, _, _ in fields) for row in rows),
    )
