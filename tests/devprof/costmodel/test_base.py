import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devprof.costmodel.base import COLUMNS, fit_base, work
from devprof.costmodel.features import FAMILIES, Features
from devprof.errors import CostModelError


def features(operators=10.0, parameters=1e6, **per_sample):
    return Features(
        per_sample=tuple(per_sample.get(family, 0.0) for family in FAMILIES),
        constant=(0.0,) * len(FAMILIES),
        parameters=parameters,
        trainable_parameters=parameters,
        operators=operators,
    )


def test_work_grows_with_the_batch_only_where_it_should():
    one = features(conv_macs=5.0)
    rows = dict(zip(COLUMNS, work(one, 3), strict=True))
    assert rows["conv_macs"] == 15.0
    assert (rows["operators"], rows["parameters"], rows["step"]) == (10.0, 1e6, 1.0)


def test_the_line_is_the_same_as_the_sum(tracer):
    models = [tracer(name) for name in ("plain1", "thin2", "token1")]
    base = fit_base(models, [4, 4, 4], [1.0, 2.0, 1.5])
    line = base.line(models[1])
    assert line.at(7) == pytest.approx(float(work(models[1], 7) @ np.array(base.seconds)))


def test_nothing_measured_is_an_error():
    with pytest.raises(CostModelError, match="no measured step"):
        fit_base([], [], [])


def test_one_row_gives_a_usable_scale(tracer, true_step):
    model = tracer("plain2")
    base = fit_base([model], [8], [true_step(model, 8)])
    assert base.line(model).at(8) == pytest.approx(true_step(model, 8), rel=0.15)
    other = tracer("plain4")
    assert base.line(other).at(8) == pytest.approx(true_step(other, 8), rel=0.4)


def test_many_rows_overrule_the_profile(tracer, true_step):
    names = [f"{kind}{size}" for kind in ("plain", "thin", "token", "cross") for size in range(1, 20)]
    models = [tracer(name) for name in names]
    sizes = [1 + 7 * (number % 3) for number in range(len(models))]
    base = fit_base(models, sizes, [true_step(one, size) for one, size in zip(models, sizes, strict=True)])
    errors = [base.line(one).at(12) / true_step(one, 12) - 1 for one in models]
    assert np.abs(errors).max() < 0.02


def test_a_family_never_measured_is_still_predicted(tracer, true_step):
    models = [tracer(f"{kind}{size}") for kind in ("plain", "thin", "cross") for size in (1, 2, 4)]
    base = fit_base(models, [8] * 9, [true_step(one, 8) for one in models])
    unseen = tracer("token2")
    assert base.line(unseen).at(8) == pytest.approx(true_step(unseen, 8), rel=0.5)


def test_times_in_another_unit_give_the_same_model(tracer, true_step):
    models = [tracer(name) for name in ("plain1", "thin2", "token1", "cross3")]
    times = np.array([true_step(one, 8) for one in models])
    slow, fast = fit_base(models, [8] * 4, times), fit_base(models, [8] * 4, times / 1000)
    assert np.array(fast.seconds) * 1000 == pytest.approx(np.array(slow.seconds))


amount = st.floats(1.0, 1e10)
models = st.builds(
    lambda operators, values: features(operators, values[0], **dict(zip(FAMILIES, values, strict=False))),
    st.floats(1.0, 1e4),
    st.lists(amount, min_size=4, max_size=len(FAMILIES)),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(models, st.integers(1, 512), st.floats(1e-5, 1e3)), min_size=1, max_size=12))
def test_predictions_never_fall_with_the_batch_and_are_positive(rows):
    base = fit_base([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    assert min(base.seconds) >= 0
    for one, _, _ in rows:
        steps = [base.line(one).at(size) for size in (1, 2, 8, 1024)]
        assert steps[0] > 0
        assert steps == sorted(steps)
