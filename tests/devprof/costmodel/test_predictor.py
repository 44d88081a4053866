from dataclasses import replace

import pandas as pd
import pytest

from devprof.costmodel.features import WORK
from devprof.costmodel.fitting import fit_time_predictors
from devprof.costmodel.interval import calibrate
from devprof.costmodel.pool import kin_groups
from devprof.costmodel.samples import Configuration, collect_samples, time_observations


@pytest.fixture
def fitted(make_rows, tracer):
    """Image models that follow the law, and a small model of the user's, all overhead, that does not."""

    def with_factory(model, *rest):
        if model != "my.module:make":
            return tracer(model, *rest)
        return replace(tracer("plain1", *rest), per_sample=(1e3,) * len(WORK), forward_operators=500.0)

    rows = make_rows(modes=("full",))
    strange = make_rows(models=("plain1",), modes=("full",)).assign(model="my.module:make")
    strange["step_s"] *= 8
    samples = collect_samples(pd.concat([rows, strange]), with_factory).samples
    (pool,) = kin_groups(time_observations(samples))
    return fit_time_predictors(pool)["board"]


def test_a_strange_model_does_not_widen_the_intervals_of_image_models(fitted):
    predictor, _ = fitted
    assert predictor.widths["full"].new_family < predictor.other_widths["full"].new_family


def test_models_of_other_kinds_get_the_widths_of_all(fitted):
    predictor, residuals = fitted
    assert set(residuals["full"].families) == {"plain", "thin", "token", "cross", "my.module:make"}
    assert predictor.other_widths["full"].new_family == calibrate(residuals["full"]).new_family


def test_every_configuration_has_its_correction_and_effect(fitted):
    predictor, _ = fitted
    assert len(predictor.corrections) == 10
    assert predictor.effects.of("my.module:make", "full") > 0.5


def test_several_batch_sizes_are_asked_at_once(fitted, tracer):
    predictor, _ = fitted
    configuration = Configuration("thin9", "full", 224, 1000)
    features = tracer("thin9", "full", 224)
    together = predictor.predict_sizes(configuration, features, [1, 4, 64])
    assert together == [predictor.predict(configuration, features, size) for size in (1, 4, 64)]


def test_a_few_probes_say_that_the_device_is_new(observe, tracer):
    models = [f"{kind}{size}" for kind in ("plain", "thin", "token", "cross") for size in (1, 2, 4)]
    rows = observe(models, (8,), device="old") + observe(["plain2"], (8,), device="new", factor=lambda _: 0.5)
    (pool,) = kin_groups(rows)
    predictor, _ = fit_time_predictors(pool)["new"]
    known = predictor.predict(Configuration("thin2", "full", 224, 1000), tracer("thin2", "full", 224), 8)
    unknown = predictor.predict(Configuration("thin9", "full", 224, 1000), tracer("thin9", "full", 224), 8)
    assert (known.basis, unknown.basis) == ("new-device", "new-device")
    assert unknown.high / unknown.low >= known.high / known.low > 1
