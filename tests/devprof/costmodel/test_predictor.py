import pandas as pd
import pytest

from devprof.costmodel.base import fit_base
from devprof.costmodel.evaluate import time_observations
from devprof.costmodel.interval import calibrate
from devprof.costmodel.predictor import fit_predictor
from devprof.costmodel.samples import collect_samples


@pytest.fixture
def fitted(make_rows, tracer):
    """Image models that follow the law, and a small model of the user's that does not."""

    def with_factory(model, *rest):
        return tracer(model.replace("my.module:make", "plain1"), *rest)

    rows = make_rows(modes=("full",))
    strange = make_rows(models=("plain1",), modes=("full",)).assign(model="my.module:make")
    strange["step_s"] *= 8
    samples = collect_samples(pd.concat([rows, strange]), with_factory).samples
    return fit_predictor(time_observations(samples), fit_base)


def test_a_strange_model_does_not_widen_the_intervals_of_image_models(fitted):
    predictor, _ = fitted
    assert predictor.widths.new_family < predictor.other_widths.new_family


def test_models_of_other_kinds_get_the_widths_of_all(fitted):
    predictor, residuals = fitted
    assert set(residuals.families) == {"plain", "thin", "token", "cross", "my.module:make"}
    assert predictor.other_widths.new_family == calibrate({}, {}, residuals.families, {}).new_family


def test_every_configuration_has_its_line_and_ratio(fitted):
    predictor, _ = fitted
    assert len(predictor.lines) == len(predictor.ratios) == 10
    assert predictor.ratios["my.module:make", "full"] > 2
