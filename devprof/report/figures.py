"""All figures of a report, in the order of the page."""

from __future__ import annotations

from devprof.report.configurations import configurations
from devprof.report.content import ReportContent
from devprof.report.figure import Figure
from devprof.report.figures_accuracy import accuracy_vs_step_figure
from devprof.report.figures_batch import memory_vs_batch_figure
from devprof.report.figures_devices import measured_vs_published_figure
from devprof.report.figures_federate import accuracy_figure, device_time_figure
from devprof.report.figures_head import full_vs_head_figure
from devprof.report.figures_measure import memory_figure, step_time_figure
from devprof.report.figures_phases import phases_vs_batch_figure
from devprof.report.figures_predict import predicted_vs_measured_figure
from devprof.report.figures_timeline import round_timeline_figure

__all__ = ["FIGURE_NAMES", "figures_of"]

FIGURE_NAMES = (
    *("accuracy_vs_step", "full_vs_head", "measured_vs_published", "step_time", "memory"),
    *("phases_vs_batch", "memory_vs_batch"),
    *("predicted_vs_measured", "accuracy_over_time", "round_timeline", "device_time"),
)


def figures_of(content: ReportContent) -> tuple[Figure, ...]:
    """The figures for which the content has records.

    Raises:
        MissingExtraError: If altair is not installed and there is something to draw.
    """
    found = configurations(content.runs)
    figures = (
        accuracy_vs_step_figure(found, content.models),
        full_vs_head_figure(found),
        measured_vs_published_figure(found),
        step_time_figure(found),
        memory_figure(found),
        phases_vs_batch_figure(found, content.steps),
        memory_vs_batch_figure(found),
        predicted_vs_measured_figure(content.predictions),
        accuracy_figure(content.evaluations, strategies=content.strategies, target=content.target_accuracy),
        round_timeline_figure(content.round_logs, server_round=content.timeline_round),
        device_time_figure(content.round_logs),
    )
    return tuple(figure for figure in figures if figure is not None)
