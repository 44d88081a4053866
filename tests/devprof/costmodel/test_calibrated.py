import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from devprof.costmodel.calibrated import MeasuredStep, fit_calibrated
from devprof.costmodel.calibrations import (
    calibrate_device,
    calibrated_widths,
    chain_observations,
    collect_operators,
    opinion_weight,
)
from devprof.costmodel.interval import Residuals
from devprof.costmodel.model import CostModel
from devprof.errors import CostModelError

UNSEEN = ("cross2", "cross3", "plain7", "thin9", "token4")


@pytest.fixture
def operators(make_operators):
    return collect_operators(make_operators())["board"]


@pytest.fixture
def model(make_operators, make_rows, tracer, step_tracer):
    return CostModel.fit(make_rows().iloc[:0], operators=make_operators(), tracer=tracer, step_tracer=step_tracer)


def test_a_step_is_the_sum_of_its_operators_and_more(operators, step_tracer, true_calibrated):
    calibrated, _ = calibrate_device(operators, [], step_tracer)
    for name in UNSEEN:
        for mode in ("full", "head"):
            step = step_tracer(name, mode)
            assert calibrated.seconds(step) == pytest.approx(true_calibrated(step), rel=0.15)


def test_without_whole_steps_the_sum_is_all_there_is(operators, step_tracer, true_calibrated):
    calibrated = fit_calibrated(operators.timed, [])
    step = step_tracer("plain3")
    assert calibrated.seconds(step) == pytest.approx(true_calibrated(step), rel=0.5)


def test_probes_correct_the_sum(operators, step_tracer, true_calibrated):
    slow = [
        MeasuredStep(name, step_tracer(name), 1.6 * true_calibrated(step_tracer(name)))
        for name in ("plain2", "thin3", "token3")
    ]
    without, with_probes = fit_calibrated(operators.timed, []), fit_calibrated(operators.timed, slow)
    step = step_tracer("cross3")
    truth = 1.6 * true_calibrated(step)
    assert abs(np.log(with_probes.seconds(step) / truth)) < abs(np.log(without.seconds(step) / truth)) / 2


@pytest.mark.parametrize("overlap", [1.0, 1.5])
def test_accelerators_overlap_work_and_overhead(operators, step_tracer, true_calibrated, overlap):
    steps = [MeasuredStep(name, step_tracer(name), true_calibrated(step_tracer(name))) for name in ("plain2", "thin3")]
    calibrated = fit_calibrated(operators.timed, steps, overlap)
    assert calibrated.seconds(step_tracer("plain2")) == pytest.approx(steps[0].seconds, rel=0.2)


def test_rows_without_a_usable_time_are_left_out_and_counted(make_operators, caplog):
    rows = make_operators()
    bad = pd.DataFrame(
        [
            rows.iloc[0].to_dict() | change
            for change in (
                {"status": "oom", "seconds": None},
                {"seconds": -1.0},
                {"signature": "nonsense"},
                {"device": None},
            )
        ]
    )
    with caplog.at_level(logging.WARNING):
        found = collect_operators(pd.concat([rows, bad], ignore_index=True))
    assert len(found["board"].timed) == len(rows) - 10
    assert len(found["board"].steps) == 10
    assert f"4 of {len(rows) + 4} rows of operators" in caplog.text


def test_a_table_without_seconds_is_an_error(make_operators):
    with pytest.raises(CostModelError, match="no column seconds"):
        collect_operators(make_operators().drop(columns="seconds"))


def test_chains_are_observations_of_the_device(operators, tracer):
    found = chain_observations("board", operators, tracer)
    assert {(one.device, one.batch_size) for one in found} == {("board", 16)}
    assert len({one.configuration for one in found}) == 10


def test_a_probe_that_cannot_be_traced_is_named_and_left_out(operators, observe, step_tracer, caplog):
    def fails_for_cross(model, *rest):
        if model == "cross1" and rest[-1] == 8:
            raise CostModelError("it looks at values")
        return step_tracer(model, *rest)

    _, steps = calibrate_device(operators, observe(["cross1", "thin9"]), fails_for_cross)
    assert "cross1 is no probe of the calibration: it looks at values" in caplog.text
    assert [one.model for one in steps[10:]] == ["thin9"]


def test_the_better_of_base_and_sum_counts_more(operators, step_tracer):
    calibrated, steps = calibrate_device(operators, [], step_tracer)
    good, bad = ({"full": Residuals(families={"a": [error], "b": [-error]})} for error in (0.001, 0.8))
    assert opinion_weight(operators, calibrated, steps, good) < 0.3
    assert opinion_weight(operators, calibrated, steps, bad) > 0.7


def test_what_the_synthetic_networks_are_off_by_widens_all_others(operators, step_tracer):
    calibrated, steps = calibrate_device(operators, [], step_tracer)
    assert calibrated_widths(operators, calibrated, steps).new_family == 0.3
    odd = [replace(one, seconds=one.seconds * (3 if number % 4 < 2 else 1)) for number, one in enumerate(steps)]
    wider = calibrated_widths(operators, fit_calibrated(operators.timed, odd), odd)
    assert wider.known_pair == wider.new_family > 0.6
    assert "at least 0.3" in calibrated_widths(operators, calibrated, []).note


def test_a_device_that_never_ran_a_model_is_predicted(model, step_tracer, true_calibrated):
    assert model.devices == ("board",)
    for name in UNSEEN:
        estimate = model.predict("board", name, "full", 16, image_size=224)
        truth = true_calibrated(step_tracer(name))
        assert estimate.basis == "new-device"
        assert estimate.step_s == pytest.approx(truth, rel=0.15)
        assert estimate.step_s_lo < truth < estimate.step_s_hi


def test_its_memory_comes_from_the_synthetic_networks(model, tracer, true_peak):
    for name in UNSEEN:
        for mode in ("full", "head"):
            estimate = model.predict("board", name, mode, 32, image_size=224, memory_limit_bytes=1 << 60)
            truth = true_peak(tracer(name, mode, 224), 32)
            assert estimate.memory_bytes == pytest.approx(truth, rel=0.15)
            assert truth < estimate.memory_hi_bytes == pytest.approx(np.exp(0.3) * estimate.memory_bytes)
            assert estimate.fits is True
    assert model.largest_batch("board", "cross2", "full", 1 << 20) == 0


def test_measured_peaks_join_those_of_the_synthetic_networks_until_there_are_enough(
    make_operators, make_rows, tracer, step_tracer
):
    def process_bytes(models):
        rows = make_rows(models=models)
        rows["rss_peak_bytes"] += 1e9
        model = CostModel.fit(rows, operators=make_operators(), tracer=tracer, step_tracer=step_tracer)
        return model.predict("board", "cross9", "head", 1, image_size=32).memory_bytes

    few, many = process_bytes(("plain1", "thin1")), process_bytes(("plain1", "thin1", "token1", "cross1"))
    assert 0.4e9 < few < 1.15e9 < many


def test_without_peaks_in_the_calibration_memory_is_unknown(make_operators, make_rows, tracer, step_tracer):
    for operators in (make_operators().drop(columns="rss_peak_bytes"), make_operators().assign(rss_peak_bytes=None)):
        model = CostModel.fit(make_rows().iloc[:0], operators=operators, tracer=tracer, step_tracer=step_tracer)
        estimate = model.predict("board", "cross2", "full", 16, memory_limit_bytes=1 << 40)
        assert (estimate.memory_bytes, estimate.memory_hi_bytes, estimate.fits) == (None, None, None)
        assert model.largest_batch("board", "cross2", "full", 1 << 40) is None


def test_its_predictions_grow_with_the_batch(model):
    steps = [model.predict("board", "cross2", "full", size, image_size=224).step_s for size in (1, 4, 16, 64)]
    assert steps == sorted(steps)


def test_a_calibrated_device_survives_its_file_to_the_last_bit(model, tracer, step_tracer, tmp_path):
    model.save(tmp_path / "cost.skops")
    loaded = CostModel.load(tmp_path / "cost.skops", tracer=tracer, step_tracer=step_tracer)
    for name in UNSEEN:
        assert loaded.predict("board", name, "head", 9) == model.predict("board", name, "head", 9)


def test_a_measured_configuration_does_not_ask_its_operators(make_operators, make_rows, tracer, step_tracer):
    model = CostModel.fit(make_rows(), operators=make_operators(), tracer=tracer, step_tracer=step_tracer)
    assert model.predict("board", "plain1", "full", 16).basis == "measured"
    assert model.predict("board", "plain1", "full", 16) == CostModel.fit(make_rows(), tracer=tracer).predict(
        "board", "plain1", "full", 16
    )


def test_nothing_measured_and_nothing_timed_is_an_error(make_rows, tracer, step_tracer):
    with pytest.raises(CostModelError, match="the table is empty"):
        CostModel.fit(make_rows().iloc[:0], tracer=tracer, step_tracer=step_tracer)
