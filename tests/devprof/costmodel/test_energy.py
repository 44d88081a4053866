import json
import math

import numpy as np
import pandas as pd
import pytest

from devprof.costmodel.model import CostModel

ENERGY = ("energy_per_step_j", "energy_per_step_j_lo", "energy_per_step_j_hi", "power_w")


@pytest.fixture
def fit(tracer):
    return lambda frame: CostModel.fit(frame, tracer=tracer)


@pytest.fixture
def model(make_rows, with_meter, fit):
    return fit(with_meter(make_rows(batch_sizes=(2, 8, 32))))


@pytest.fixture
def truth(tracer, true_energy, true_step):
    """Joules and seconds of a step."""

    def of(name, mode, size):
        features = tracer(name, mode, 224)
        return true_energy(features, size), true_step(features, size)

    return of


def keep(frame, wanted):
    """The table with power in some rows only."""
    return frame.assign(**{name: frame[name].where(wanted) for name in ("power_w", "energy_per_step_j")})


def test_without_a_meter_energy_is_unknown(make_rows, with_meter, fit):
    tables = [make_rows(), with_meter(make_rows()).assign(energy_source="none")]
    for table in tables:
        model = fit(table)
        estimate = model.predict("board", "plain1", "full", 4)
        assert [getattr(estimate, name) for name in ENERGY] == [None] * 4
        assert model.report.energy_errors == model.report.power_errors == ()
        assert model.report.power_rejected == {}


def test_unusable_power_is_left_out_and_said(make_rows, with_meter, fit):
    rows = with_meter(make_rows())
    rows.loc[rows.index[:3], "power_coverage"] = 0.5
    report = fit(rows).report
    assert report.used_rows == len(rows)
    assert report.power_rejected == {"power_coverage is below 0.95": 3}


@pytest.mark.parametrize(
    ("name", "size", "basis"), [("thin3", 8, "measured"), ("thin3", 16, "known-pair"), ("thin5", 16, "known-family")]
)
def test_energy_is_recovered(model, truth, name, size, basis):
    estimate = model.predict("board", name, "full", size)
    assert estimate.basis == basis
    energy_j, step_s = truth(name, "full", size)
    assert estimate.energy_per_step_j == pytest.approx(energy_j, rel=0.03)
    assert estimate.power_w == pytest.approx(energy_j / step_s, rel=0.03)


def test_energy_is_time_times_power(model):
    for name in ("thin3", "token9"):
        one = model.predict("board", name, "head", 5)
        assert one.energy_per_step_j == pytest.approx(one.step_s * one.power_w)
        assert one.energy_per_step_j_lo <= one.energy_per_step_j <= one.energy_per_step_j_hi


def test_one_row_is_the_power_of_all(make_rows, with_meter, fit):
    rows = with_meter(make_rows())
    measured_w = float(rows.power_w.iloc[0])
    model = fit(keep(rows, rows.index == rows.index[0]))
    for name in ("plain1", "thin3", "token9"):
        assert model.predict("board", name, "full", 64).power_w == pytest.approx(measured_w, rel=1e-3)
    assert all(one.mape is None for one in model.report.energy_errors)
    assert "half widths of 0.4 are assumed" in model.report.interval_notes["board, power"]


def test_power_follows_from_energy_alone(make_rows, with_meter, fit):
    rows = with_meter(make_rows())
    both, energy = (
        fit(table).predict("board", "thin9", "full", 8)
        for table in (rows, rows.drop(columns=["power_w", "idle_power_w"]))
    )
    assert energy.power_w == pytest.approx(both.power_w, rel=0.01)


def test_a_thirsty_model_stays_thirsty(make_rows, with_meter, fit):
    rows = with_meter(make_rows())
    odd = rows.model == "plain2"
    rows.loc[odd, ["power_w", "energy_per_step_j"]] *= 1.5
    model = fit(rows)
    thirsty, sibling = (model.predict("board", name, "full", 64).power_w for name in ("plain2", "plain3"))
    assert thirsty == pytest.approx(1.5 * float(rows[odd].power_w.mean()) / 1.5, rel=0.03)
    assert thirsty > 1.2 * sibling


def test_energy_grows_with_the_batch_and_is_positive(make_rows, with_meter, fit):
    rows = with_meter(make_rows(noise=0.1))
    rng = np.random.default_rng(1)
    rows["power_w"] *= np.exp(0.2 * rng.standard_normal(len(rows)))
    rows["energy_per_step_j"] = rows.power_w * rows.step_s
    model = fit(keep(rows, rng.random(len(rows)) < 0.6))
    for name in ("plain1", "thin3", "token1", "cross2", "thin9", "token7"):
        for mode in ("full", "head"):
            joules = [model.predict("board", name, mode, size).energy_per_step_j for size in (1, 2, 4, 64, 1024)]
            assert joules == sorted(joules)
            assert joules[0] > 0


@pytest.mark.parametrize("seed", range(3))
def test_intervals_cover_nine_of_ten_unseen_models(make_rows, with_meter, fit, truth, seed):
    rows = with_meter(make_rows(modes=("full",), noise=0.04, seed=seed))
    noise = np.exp(0.04 * np.random.default_rng(seed).standard_normal(len(rows)))
    model = fit(rows.assign(power_w=rows.power_w * noise, energy_per_step_j=rows.energy_per_step_j * noise))
    inside = []
    for name in [f"{kind}{size}" for kind in ("plain", "thin", "token", "cross") for size in (3, 5, 7)]:
        one = model.predict("board", name, "full", 8)
        energy_j, _ = truth(name, "full", 8)
        inside.append(one.energy_per_step_j_lo <= energy_j <= one.energy_per_step_j_hi)
    assert np.mean(inside) >= 0.9


def test_a_model_whose_time_alone_was_measured_has_the_doubts_of_time_and_power(make_rows, with_meter, fit):
    rows = with_meter(make_rows(batch_sizes=(2, 8, 32), modes=("full",), noise=0.05))
    model = fit(keep(rows, rows.model != "thin3"))
    one = model.predict("board", "thin3", "full", 8)
    assert one.basis == "measured"
    assert one.energy_per_step_j_hi / one.energy_per_step_j >= one.step_s_hi / one.step_s
    assert one.energy_per_step_j / one.energy_per_step_j_lo >= one.step_s / one.step_s_lo


@pytest.mark.parametrize("name", ["thin3", "thin5", "token9"])
def test_energy_is_never_surer_than_time(make_rows, with_meter, fit, name):
    rows = with_meter(make_rows(models=("plain1", "plain3", "thin1", "thin3", "cross1"), noise=0.1))
    # Meters whose errors make up for those of time.
    exact = make_rows(models=("plain1", "plain3", "thin1", "thin3", "cross1"))
    rows["power_w"] *= exact.step_s / rows.step_s
    rows["energy_per_step_j"] = rows.power_w * rows.step_s
    one = fit(rows).predict("board", name, "full", 8)
    assert one.energy_per_step_j_hi / one.energy_per_step_j >= 0.999 * one.step_s_hi / one.step_s


def test_the_meters_error_widens_the_interval(make_rows, with_meter, fit):
    rows = with_meter(make_rows())
    exact, poor = (
        fit(table).predict("board", "thin3", "full", 16) for table in (rows, rows.assign(energy_error_rel=0.2))
    )
    assert (
        poor.energy_per_step_j_hi / poor.energy_per_step_j
        >= 1.19 * exact.energy_per_step_j_hi / exact.energy_per_step_j
    )


def test_a_mode_without_power_borrows_the_watts_of_the_other(make_rows, with_meter, fit, truth):
    rows = with_meter(make_rows())
    model = fit(keep(rows, rows["mode"] == "full"))
    head = model.predict("board", "thin5", "head", 8)
    assert head.energy_per_step_j == pytest.approx(truth("thin5", "head", 8)[0], rel=0.15)


def test_devices_without_a_meter_stay_without_energy(make_rows, with_meter, fit):
    rows = pd.concat([with_meter(make_rows(device="board")), make_rows(device="bare")])
    model = fit(rows)
    assert model.predict("board", "thin5", "full", 8).power_w is not None
    assert model.predict("bare", "thin5", "full", 8).power_w is None


def test_kin_devices_are_judged_with_what_they_know_of_each_other(make_rows, with_meter, fit):
    rows = with_meter(pd.concat([make_rows(device="a"), make_rows(device="b")], ignore_index=True))
    report = fit(rows).report
    schemes = {one.scheme for one in report.energy_errors if one.device == "b"}
    assert "known on kin devices only" in schemes


def test_errors_of_energy_join_those_of_time_and_power(make_rows, with_meter, fit):
    rows = with_meter(make_rows(modes=("full",)))
    model = fit(rows)
    report = model.report
    assert [one.scheme for one in report.energy_errors] == ["leave-one-family-out", "leave-one-model-out"]
    assert [one.rows for one in report.energy_errors] == [len(rows)] * 2
    exact = {one.scheme: one.mape for one in report.errors}
    for energy, power in zip(report.energy_errors, report.power_errors, strict=True):
        assert abs(energy.mape - exact[energy.scheme]) <= 1.3 * power.mape
        assert power.mape < 0.05
    assert json.loads(json.dumps(report.to_dict()))["energy_errors"]


def test_energy_that_exceeds_power_times_median_step_shows_in_its_errors(make_rows, with_meter, fit):
    rows = with_meter(make_rows(modes=("full",)))
    rows["energy_per_step_j"] *= 1.25
    (_, errors) = fit(rows).report.energy_errors
    assert errors.mape == pytest.approx(1 - 1 / 1.25, abs=0.03)


def test_a_table_of_questions_gets_energy(model):
    questions = pd.DataFrame({"device": ["board", "nowhere"], "model": ["thin5", "thin5"], "batch_size": [8, 8]})
    answers = model.predict_frame(questions)
    one = model.predict("board", "thin5", "full", 8)
    assert [answers[name][0] for name in ENERGY] == [getattr(one, name) for name in ENERGY]
    assert answers.power_w.isna().tolist() == [False, True]


def test_a_probed_device_combines_the_doubt_of_its_kin_with_that_of_power(make_rows, with_meter, fit):
    known = make_rows(device="old", modes=("full",), noise=0.05)
    new = with_meter(make_rows(device="new", models=("plain2",), modes=("full",), batch_sizes=(8,)))
    one = fit(pd.concat([known, new])).predict("new", "thin3", "full", 8)
    assert one.basis == "new-device"
    assert math.log(one.energy_per_step_j_hi / one.energy_per_step_j) > math.log(one.step_s_hi / one.step_s)
    assert one.power_w == pytest.approx(float(new.power_w.iloc[0]), rel=0.01)


def test_observed_rounds_move_energy_with_time_and_leave_power(make_rows, with_meter, tracer):
    model = CostModel.fit(with_meter(make_rows()), tracer=tracer)
    for name in ("plain2", "token9"):
        before = model.predict("board", name, "full", 8)
        rows = [{"model": name, "batch_size": 8, "step_s": 1.5 * before.step_s}] * 4
        after = model.adapt("board", rows).predict("board", name, "full", 8)
        slower = after.step_s / before.step_s
        assert after.power_w == pytest.approx(before.power_w)
        for field in ("energy_per_step_j", "energy_per_step_j_lo", "energy_per_step_j_hi"):
            assert getattr(after, field) == pytest.approx(slower * getattr(before, field))
