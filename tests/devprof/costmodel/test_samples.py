import pandas as pd
import pytest

from devprof.costmodel.metering import Metered
from devprof.costmodel.samples import Configuration, collect_samples
from devprof.errors import CostModelError, MissingExtraError


def table(*rows):
    base = {"device": "board", "model": "plain1", "mode": "full", "status": "ok", "batch_size": 8, "step_s": 1.0}
    return pd.DataFrame([base | row for row in rows])


def collect(tracer, *rows):
    return collect_samples(table(*rows), tracer)


def test_repeats_are_joined_by_their_median(tracer):
    samples = collect(tracer, {"step_s": 1.0}, {"step_s": 9.0}, {"step_s": 2.0}).samples
    assert [(one.step_s, one.rows) for one in samples] == [(2.0, 3)]


def test_power_of_repeats_is_joined_and_what_cannot_be_used_is_counted(tracer):
    collected = collect(
        tracer,
        {"power_w": 4.0, "idle_power_w": 2.0, "energy_per_step_j": 4.1},
        {"power_w": 6.0, "power_coverage": 0.9},
        {"power_w": 5.0},
        {"model": "thin1"},
        {"model": "nonsense1", "power_w": 0.0},
    )
    assert [one.metered for one in collected.samples] == [Metered(4.5, 4.55, 2.0), None]
    assert [one.rows for one in collected.samples] == [3, 1]
    assert collected.power_rejected == {"power_coverage is below 0.95": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"status": "oom", "step_s": None}, "status is oom"),
        ({"task": "infer"}, "task is infer"),
        ({"mode": "half"}, "mode half is unknown"),
        ({"throttled": "confirmed"}, "the device throttled"),
        ({"latency_valid": False}, "memory was read back from swap"),
        ({"step_s": None}, "step_s is empty"),
        ({"step_s": 0.0}, "step_s is not positive"),
        ({"step_s": float("inf")}, "step_s is not positive"),
        ({"batch_size": 0}, "batch_size is below 1"),
        ({"device": None}, "device is empty"),
        ({"image_size": "large"}, "a number is not a number"),
    ],
)
def test_unusable_rows_are_counted_with_their_reason(tracer, row, reason):
    collected = collect(tracer, {"model": "thin1"}, row)
    assert collected.rejected == {reason: 1}
    assert [one.configuration.model for one in collected.samples] == ["thin1"]


def test_suspected_throttling_is_no_reason(tracer):
    assert len(collect(tracer, {"throttled": "suspected"}).samples) == 1


def test_a_bare_table_is_enough(tracer):
    frame = pd.DataFrame({"device": ["d"], "model": ["plain1"], "batch_size": [4.0], "step_s": [0.5]})
    (sample,) = collect_samples(frame, tracer).samples
    assert sample.configuration == Configuration("plain1", "full", None, None)
    assert sample.rss_peak_bytes is None


def test_a_table_without_times_is_an_error(tracer):
    with pytest.raises(CostModelError, match="no column step_s"):
        collect_samples(pd.DataFrame({"device": ["d"], "model": ["m"], "batch_size": [1]}), tracer)


def test_all_kinds_of_null_are_missing(tracer):
    frame = table({"image_size": pd.NA, "num_classes": None, "rss_peak_bytes": float("nan"), "task": pd.NA})
    (sample,) = collect_samples(frame, tracer).samples
    assert sample.configuration.image_size is None
    assert sample.rss_peak_bytes is None


def test_an_untraceable_model_is_dropped_with_the_tracers_words(tracer):
    collected = collect(tracer, {"model": "nonsense1"}, {"model": "plain1"})
    assert "not an architecture" in collected.dropped_models["nonsense1"]
    assert collected.rejected == {"model nonsense1 cannot be traced": 1}


def test_each_configuration_is_traced_once(tracer):
    asked = []

    def counting(*configuration):
        asked.append(configuration)
        return tracer(*configuration)

    collect(counting, {"batch_size": 1}, {"batch_size": 2}, {"mode": "head"})
    assert asked == [("plain1", "full", None, None), ("plain1", "head", None, None)]


def test_a_missing_package_is_not_the_models_fault():
    def without_torch(*_):
        raise MissingExtraError("train", "torch", "tracing a model")

    with pytest.raises(MissingExtraError, match=r"devprof\[train\]"):
        collect(without_torch, {})


def test_rows_of_another_setting_are_left_out(tracer):
    rows = [{"device_key": key, "model": model} for key, model in (("a", "plain1"), ("a", "plain2"), ("b", "thin1"))]
    collected = collect(tracer, *rows)
    assert collected.rejected == {"device_key of board is not what most of its rows have": 1}
    assert {one.configuration.model for one in collected.samples} == {"plain1", "plain2"}


def test_of_two_settings_as_common_the_later_one_is_kept(tracer):
    (sample,) = collect(tracer, {"device_key": "old"}, {"device_key": "new", "model": "thin1"}).samples
    assert sample.configuration.model == "thin1"
