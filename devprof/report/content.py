"""What a report says, before anything is drawn. Plain records and preformatted text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from devprof.records import Evaluation, Measurement, Prediction, RoundLog, StepTime

__all__ = ["Column", "HeadlineTable", "ModelEntry", "ReportContent"]


class ModelEntry(Protocol):
    """What a table of models says of one; whoever makes the report brings the table."""

    @property
    def parameters(self) -> int | None:
        """Number of parameters."""

    @property
    def top1(self) -> float | None:
        """Top-1 accuracy on ImageNet-1k in percent; ``None`` if it is not known."""

    @property
    def top1_source(self) -> str | None:
        """Where that figure was published."""

    @property
    def top1_image_size(self) -> int | None:
        """Height and width of the images with which it was reached."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, and whether its cells are numbers (aligned to the right)."""

    name: str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class HeadlineTable:
    """A table of preformatted text.

    Attributes:
        columns: The columns, left to right.
        rows: The cells, one string per column; format quantities with :mod:`devprof.units`.

    Raises:
        ValueError: If a row has more or fewer cells than there are columns.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} of the table has {len(row)} cells for {len(self.columns)} columns")


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything that one report shows. What is empty is left out of the page.

    Attributes:
        title: Title of the page.
        lead: One or two sentences under the title.
        facts: What was measured with what, as (name, value) pairs.
        runs: Measurements, failed ones included.
        steps: Raw steps of those runs; only those of kind ``phases`` are used.
        models: What is known of models without measuring them, by the name that the runs give them.
        predictions: Predictions beside what was measured.
        evaluations: Quality of the global model over time, per strategy.
        round_logs: What each client did in each round, per strategy.
        headline: The table to read first.
        notes: Remarks on how to read the report and on its limits, one paragraph each.
        target_accuracy: Accuracy between 0 and 1 that the strategies are to reach; drawn as a line where given.
        timeline_round: The round that the timeline shows; by default the last complete one.
    """

    title: str
    lead: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    runs: tuple[Measurement, ...] = ()
    steps: tuple[StepTime, ...] = ()
    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    predictions: tuple[Prediction, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    round_logs: tuple[RoundLog, ...] = ()
    headline: HeadlineTable | None = None
    notes: tuple[str, ...] = ()
    target_accuracy: float | None = None
    timeline_round: int | None = None

    def __post_init__(self) -> None:
        if self.target_accuracy is not None and not 0 < self.target_accuracy <= 1:
            raise ValueError(f"target_accuracy must lie between 0 and 1, got {self.target_accuracy}")

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies in order of first appearance; the order fixes their colours."""
        names = [row.strategy for row in self.evaluations] + [row.strategy for row in self.round_logs]
        return tuple(dict.fromkeys(names))
