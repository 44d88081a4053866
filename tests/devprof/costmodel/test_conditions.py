import pandas as pd
import pytest

from devprof.costmodel.conditions import Conditions, find_conditions
from devprof.costmodel.samples import collect_samples


@pytest.fixture
def conditions(tracer):
    def find(*rows):
        base = {"device": "board", "model": "plain1", "batch_size": 10, "step_s": 1.0, "data": "memory"}
        collected = collect_samples(pd.DataFrame([base | row for row in rows]), tracer)
        return find_conditions(collected.rows, collected.settings)["board"]

    return find


COOL = [{}, {"model": "thin1"}, {"model": "token1"}, {"model": "cross1"}]


def test_nothing_is_known_of_cool_rows_in_memory(conditions):
    assert conditions({"data_s": 2e-6}, *COOL) == Conditions()


def test_loading_is_the_median_per_sample_over_rows_with_real_data(conditions):
    rows = [{"data": "jpeg", "batch_size": size, "data_s": data_s} for size, data_s in ((10, 0.1), (20, 0.4))]
    known = conditions(*COOL, *rows, {"data": "jpeg", "data_s": 9.0, "throttled": "confirmed"}, {"data": "jpeg"})
    assert known.data_s_per_sample == pytest.approx(0.015)
    assert (known.data, known.data_rows, known.steps_include_data) == ("jpeg", 2, False)


def test_loading_of_the_data_that_most_rows_read_is_told(conditions):
    own = [{"data": "own", "data_s": 0.3, "model": model} for model in ("thin1", "cross1")]
    known = conditions(*COOL, {"data": "jpeg", "data_s": 0.1}, *own)
    assert (known.data, known.data_s_per_sample) == ("own", pytest.approx(0.03))


def test_steps_fitted_to_rows_with_real_data_include_loading(conditions):
    known = conditions({"data": "jpeg", "data_s": 0.1})
    assert known.steps_include_data
    assert known.data_s_per_sample == pytest.approx(0.01)


def test_the_thermal_factor_compares_the_same_configuration_only(conditions):
    hot = {"throttled": "confirmed"}
    known = conditions(
        *COOL,
        {"step_s": 3.0},
        hot | {"step_s": 2.6},
        hot | {"step_s": 99.0, "batch_size": 11},
        hot | {"step_s": 99.0, "mode": "head"},
        hot | {"step_s": 99.0, "data": "jpeg"},
        hot | {"step_s": 99.0, "device_key": "another power mode"},
    )
    assert (known.thermal_factor, known.thermal_pairs) == (pytest.approx(1.3), 1)


def test_the_thermal_factor_is_the_median_of_the_configurations(conditions):
    hot = [
        {"model": model, "step_s": step_s, "throttled": "confirmed"}
        for model, step_s in (("plain1", 1.2), ("thin1", 1.5), ("token1", 9.0))
    ]
    known = conditions(*COOL, *hot)
    assert (known.thermal_factor, known.thermal_pairs) == (pytest.approx(1.5), 3)


def test_a_device_that_was_faster_hot_is_not_slowed_down(conditions):
    assert conditions({}, {"step_s": 0.8, "throttled": "confirmed"}).thermal_factor == 1.0


def test_without_a_cool_or_a_hot_row_nothing_is_known(conditions):
    assert conditions(*COOL, {"model": "cross2", "throttled": "confirmed"}).thermal_factor is None
    assert conditions(*COOL, {"throttled": "suspected"}).thermal_factor is None
