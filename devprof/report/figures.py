"""All figures of a report, in the order of the page."""

from __future__ import annotations

from devprof.report.content import ReportContent
from devprof.report.figure import Figure
from devprof.report.figures_federate import accuracy_figure, device_time_figure
from devprof.report.figures_measure import memory_figure, step_time_figure
from devprof.report.figures_predict import predicted_vs_measured_figure
from devprof.report.figures_timeline import round_timeline_figure

__all__ = ["FIGURE_NAMES", "figures_of"]

FIGURE_NAMES = ("step_time", "memory", "predicted_vs_measured", "accuracy_over_time", "round_timeline", "device_time")


def figures_of(content: ReportContent) -> tuple[Figure, ...]:
    """The figures for which the content has records.

    Raises:
        MissingExtraError: If altair is not installed and there is something to draw.
    """
    found = (
        step_time_figure(content.runs),
        memory_figure(content.runs),
        predicted_vs_measured_figure(content.predictions),
        accuracy_figure(content.evaluations, strategies=content.strategies, target=content.target_accuracy),
        round_timeline_figure(content.round_logs, server_round=content.timeline_round),
        device_time_figure(content.round_logs),
    )
    return tuple(figure for figure in found if figure is not None)
