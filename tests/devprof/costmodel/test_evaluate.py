import math

import pytest

from devprof.costmodel.base import fit_base
from devprof.costmodel.evaluate import (
    by_model,
    leave_one_batch_size_out,
    leave_one_family_out,
    leave_one_group_out,
    leave_one_model_out,
    time_observations,
)
from devprof.costmodel.lines import Line
from devprof.costmodel.samples import collect_samples


@pytest.fixture
def samples(make_rows, tracer):
    return collect_samples(make_rows(), tracer).samples


class Remembering:
    """A fit that predicts the largest value it was shown."""

    def __init__(self):
        self.shown = []

    def __call__(self, features, sizes, values):
        self.shown.append(len(values))
        largest = max(values)

        class Constant:
            def line(self, features):
                return Line(largest, 0.0)

        return Constant()


def test_the_left_out_group_is_not_shown(samples):
    observations = [one for one in time_observations(samples) if one.configuration.mode == "full"]
    fit = Remembering()
    residuals = leave_one_group_out(observations, fit, by_model)
    assert fit.shown == [len(observations) - 2] * 9
    largest = max(observations, key=lambda one: one.value)
    rest = max(one.value for one in observations if one.configuration.model != largest.configuration.model)
    assert residuals[largest.configuration.model][-1] == pytest.approx(math.log(largest.value / rest))


def test_reports_are_by_device_and_mode(samples):
    reports = leave_one_family_out(samples, fit_base)
    assert [(one.device, one.mode, one.rows, one.groups) for one in reports] == [
        ("board", "full", 18, 4),
        ("board", "head", 18, 4),
    ]
    for one in reports:
        assert 0 < one.median <= 1
        assert one.within_10 <= one.within_20
        assert 0 <= one.coverage_90 <= 1


def test_siblings_make_a_model_easier(samples):
    family, model = leave_one_family_out(samples, fit_base)[0], leave_one_model_out(samples, fit_base)[0]
    assert model.mape < family.mape
    assert model.groups == 9


def test_one_family_only_has_no_number_but_a_reason(make_rows, tracer):
    samples = collect_samples(make_rows(models=("plain1", "plain2")), tracer).samples
    report = leave_one_family_out(samples, fit_base)[0]
    assert report.mape is None
    assert "one family only" in report.note
    assert leave_one_model_out(samples, fit_base)[0].mape is not None


def test_two_groups_have_errors_but_no_coverage(make_rows, tracer):
    samples = collect_samples(make_rows(models=("plain1", "thin2")), tracer).samples
    report = leave_one_family_out(samples, fit_base)[0]
    assert report.mape is not None
    assert report.coverage_90 is None


def test_left_out_batch_sizes_come_from_the_others(samples):
    observations = [one for one in time_observations(samples) if one.configuration.mode == "full"]
    residuals = leave_one_batch_size_out(observations, fit_base, between=False)
    assert len(residuals) == 9
    assert max(abs(value) for values in residuals.values() for value in values) < 0.4


def test_single_batch_sizes_cannot_be_left_out(make_rows, tracer):
    samples = collect_samples(make_rows(batch_sizes=(8,)), tracer).samples
    assert leave_one_batch_size_out(time_observations(samples), fit_base, between=False) == {}


def test_only_sizes_with_a_neighbour_on_each_side_lie_between(make_rows, tracer):
    samples = collect_samples(make_rows(batch_sizes=(4, 8, 16), modes=("full",)), tracer).samples
    observations = time_observations(samples)
    assert {len(values) for values in leave_one_batch_size_out(observations, fit_base, between=True).values()} == {1}
    assert {len(values) for values in leave_one_batch_size_out(observations, fit_base, between=False).values()} == {2}
