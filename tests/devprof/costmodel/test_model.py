import json

import numpy as np
import pandas as pd
import pytest

import devprof
from devprof.costmodel.model import PREDICTED_COLUMNS, CostModel
from devprof.errors import CostModelError, UnknownNameError


@pytest.fixture
def model(make_rows, tracer):
    return CostModel.fit(make_rows(batch_sizes=(2, 8, 32)), tracer=tracer)


def test_it_is_the_public_name():
    assert devprof.CostModel is CostModel


def test_a_measured_pair_is_met(model, tracer, true_step, true_peak):
    features = tracer("thin3", "full", 224)
    estimate = model.predict("board", "thin3", "full", 16)
    assert estimate.basis == "known-pair"
    assert estimate.step_s == pytest.approx(true_step(features, 16), rel=0.03)
    assert estimate.memory_bytes == pytest.approx(true_peak(features, 16), rel=0.03)


def test_a_measured_configuration_is_surest(model, tracer, true_step):
    estimate = model.predict("board", "thin3", "full", 8)
    assert estimate.basis == "measured"
    assert estimate.step_s_lo < true_step(tracer("thin3", "full", 224), 8) < estimate.step_s_hi
    other = model.predict("board", "thin3", "full", 12)
    assert estimate.step_s_hi / estimate.step_s_lo <= 1.01 * other.step_s_hi / other.step_s_lo


def test_the_interval_of_a_measured_configuration_reaches_around_line_and_measurement(make_rows, tracer):
    rows = make_rows(batch_sizes=(4, 8, 16))
    odd = (rows.model == "thin3") & (rows.batch_size == 8) & (rows["mode"] == "full")
    rows.loc[odd, "step_s"] *= 1.5
    estimate = CostModel.fit(rows, tracer=tracer).predict("board", "thin3", "full", 8)
    measured = float(rows[odd].step_s.iloc[0])
    assert estimate.step_s < measured < estimate.step_s_hi


def test_a_sibling_is_of_a_known_family(model, tracer, true_step):
    estimate = model.predict("board", "thin5", "full", 16)
    assert estimate.basis == "known-family"
    assert estimate.step_s == pytest.approx(true_step(tracer("thin5", "full", 224), 16), rel=0.1)


def test_another_architecture_is_a_new_family(make_rows, tracer, true_step):
    model = CostModel.fit(make_rows(models=("plain1", "plain3", "thin1", "thin3", "cross1", "cross2")), tracer=tracer)
    estimate = model.predict("board", "token2", "full", 16)
    assert estimate.basis == "new-family"
    assert estimate.step_s_lo < true_step(tracer("token2", "full", 224), 16) < estimate.step_s_hi


def test_intervals_contain_their_centre_and_widen_with_ignorance(model):
    widths = []
    for name in ("thin3", "thin5"):
        one = model.predict("board", name, "full", 8)
        assert one.step_s_lo <= one.step_s <= one.step_s_hi
        assert one.memory_bytes <= one.memory_hi_bytes
        widths.append(one.step_s_hi / one.step_s_lo)
    assert widths == sorted(widths)


@pytest.mark.parametrize("name", ["thin3", "thin5", "token7"])
def test_predictions_grow_with_the_batch(model, name):
    estimates = [model.predict("board", name, "full", size) for size in (1, 2, 4, 64, 1024)]
    assert [one.step_s for one in estimates] == sorted(one.step_s for one in estimates)
    assert [one.memory_bytes for one in estimates] == sorted(one.memory_bytes for one in estimates)


def test_a_slow_model_stays_slow_at_another_image_size(make_rows, tracer):
    rows = make_rows()
    rows.loc[rows.model == "plain2", "step_s"] *= 3
    model = CostModel.fit(rows, tracer=tracer)
    measured, larger = (model.predict("board", "plain2", "full", 16, image_size=size) for size in (224, 320))
    assert larger.basis == "known-model"
    assert larger.step_s > 1.5 * measured.step_s


def test_memory_decides_by_its_upper_bound(model):
    estimate = model.predict("board", "plain4", "full", 16)
    assert estimate.fits is None
    bound = int(estimate.memory_hi_bytes)
    assert model.predict("board", "plain4", "full", 16, memory_limit_bytes=bound + 1).fits is True
    assert model.predict("board", "plain4", "full", 16, memory_limit_bytes=bound - 1).fits is False


def test_without_peaks_memory_is_unknown(make_rows, tracer):
    model = CostModel.fit(make_rows().drop(columns="rss_peak_bytes"), tracer=tracer)
    estimate = model.predict("board", "plain1", "full", 4, memory_limit_bytes=10**9)
    assert (estimate.memory_bytes, estimate.memory_hi_bytes, estimate.fits) == (None, None, None)


def test_a_mode_never_measured_borrows_the_other_one_with_a_wider_interval(make_rows, tracer, true_step):
    model = CostModel.fit(make_rows(modes=("full",)), tracer=tracer)
    head = model.predict("board", "plain2", "head", 8)
    assert head.basis == "new-family"
    assert head.step_s == pytest.approx(true_step(tracer("plain2", "head", 224), 8), rel=0.3)
    full = model.predict("board", "plain2", "full", 8)
    assert head.step_s_hi / head.step_s_lo > full.step_s_hi / full.step_s_lo


def test_the_measured_image_size_is_the_default(make_rows, tracer):
    rows = make_rows()
    rows.loc[rows.model == "thin1", "image_size"] = 96
    asked = []

    def spy(*configuration):
        asked.append(configuration)
        return tracer(*configuration)

    model = CostModel.fit(rows, tracer=spy)
    asked.clear()
    assert model.predict("board", "thin1", "full", 4).basis == "measured"
    assert asked == []
    model.predict("board", "thin9", "full", 4)
    assert asked == [("thin9", "full", 224, 1000)]
    model.predict("board", "thin9", "full", 4, image_size=64, num_classes=10)
    assert asked[-1] == ("thin9", "full", 64, 10)


def test_a_model_with_its_own_input_gets_no_image_size(make_rows, tracer):
    asked = []

    def spy(model, mode, image_size, num_classes):
        asked.append((model, image_size, num_classes))
        return tracer(model.removeprefix("seed:"), mode, image_size, num_classes)

    model = CostModel.fit(make_rows(), tracer=spy)
    model.predict("board", "seed:token1", "full", 4)
    assert asked[-1] == ("seed:token1", None, None)


def test_the_features_behind_an_answer_can_be_asked_for(model, tracer):
    assert model.features("board", "thin9", "head") == tracer("thin9", "head", 224, 1000)
    with pytest.raises(UnknownNameError, match="unknown device"):
        model.features("bord", "thin9", "head")


def test_an_unknown_device_names_the_closest_and_what_to_run(model):
    with pytest.raises(UnknownNameError, match=r"unknown device 'bord'; closest: board\..*devprof measure"):
        model.predict("bord", "plain1", "full", 4)


@pytest.mark.parametrize(("mode", "size"), [("half", 4), ("full", 0)])
def test_impossible_questions_are_a_callers_error(model, mode, size):
    with pytest.raises(ValueError, match="must be"):
        model.predict("board", "plain1", mode, size)


def test_a_table_of_questions_is_answered_row_by_row(model):
    questions = pd.DataFrame(
        {
            "device": ["board", "board", "nowhere", "board", None],
            "model": ["plain1", "thin5", "plain1", "nonsense1", "plain1"],
            "mode": ["full", "head", "full", "full", "full"],
            "batch_size": [4, 8, 4, 4, 4],
            "step_s": [9.0] * 5,
            "note": list("abcde"),
        },
        index=[10, 20, 30, 40, 50],
    )
    answers = model.predict_frame(questions)
    assert list(answers.index) == [10, 20, 30, 40, 50]
    assert list(answers.note) == list("abcde")
    assert set(PREDICTED_COLUMNS) <= set(answers.columns)
    assert answers.step_s[10] == model.predict("board", "plain1", "full", 4).step_s
    assert answers.basis[20] == "known-family"
    assert answers.error[[10, 20]].isna().all()
    assert "unknown device" in answers.error[30]
    assert "not an architecture" in answers.error[40]
    assert answers.error[50] == "device is empty"
    assert answers.fits.isna().all()
    assert np.isnan(answers.step_s[30])


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("batch_size", float("nan"), "batch_size is empty"),
        ("batch_size", 0, "batch_size must be a positive whole number, got 0"),
        ("batch_size", 2.5, "batch_size must be a positive whole number"),
        ("batch_size", float("inf"), "batch_size must be"),
        ("image_size", "large", "image_size must be a positive whole number, got 'large'"),
        ("mode", "half", "mode must be one of full, head"),
    ],
)
def test_a_bad_question_of_a_table_says_what_is_wrong_with_it(model, column, value, reason):
    good = {"device": "board", "model": "plain1", "mode": "full", "batch_size": 4, "image_size": None}
    answers = model.predict_frame(pd.DataFrame([good, good | {column: value}, good]))
    assert answers.error.notna().tolist() == [False, True, False]
    assert reason in answers.error[1]
    assert answers.step_s.isna().tolist() == [False, True, False]


def test_a_table_knows_the_memory_of_each_device(model):
    bound = model.predict("board", "plain4", "full", 16).memory_hi_bytes
    rows = [
        {"device": "board", "model": "plain4", "batch_size": 16, "memory_limit_bytes": bound * share}
        for share in (2, 0.5)
    ]
    assert model.predict_frame(pd.DataFrame(rows)).fits.tolist() == [True, False]


def test_a_table_without_devices_is_an_error(model):
    with pytest.raises(CostModelError, match="no column device"):
        model.predict_frame(pd.DataFrame({"model": ["plain1"], "batch_size": [1]}))


def test_devices_do_not_mix(make_rows, tracer, true_step):
    slow = make_rows(device="slow")
    slow["step_s"] *= 10
    model = CostModel.fit(pd.concat([make_rows(device="fast"), slow]), tracer=tracer)
    assert model.devices == ("fast", "slow")
    fast, slow = (model.predict(name, "cross5", "full", 8).step_s for name in model.devices)
    # They are kin, so each is drawn a little towards what both have in common.
    assert slow == pytest.approx(10 * fast, rel=0.01)


def test_three_rows_of_three_models_already_predict(make_rows, tracer, true_step):
    rows = make_rows(models=("plain2", "thin1", "token1"), batch_sizes=(8,), modes=("full",), noise=0.02)
    model = CostModel.fit(rows, tracer=tracer)
    for name in ("plain4", "thin3", "token3"):
        estimate = model.predict("board", name, "full", 16)
        truth = true_step(tracer(name, "full", 224), 16)
        assert estimate.step_s == pytest.approx(truth, rel=0.35)
        assert estimate.step_s_lo < truth < estimate.step_s_hi


def test_the_report_is_honest_about_rows_and_errors(make_rows, tracer):
    failed = make_rows(models=("plain8",), modes=("full",), batch_sizes=(64,)).assign(status="oom", step_s=None)
    strange = make_rows(models=("plain1",), modes=("full",), batch_sizes=(4,)).assign(model="nonsense1")
    report = CostModel.fit(pd.concat([make_rows(), failed, strange]), tracer=tracer).report
    assert (report.total_rows, report.used_rows) == (38, 36)
    assert report.rejected == {"status is oom": 1, "model nonsense1 cannot be traced": 1}
    assert "nonsense1" in report.dropped_models
    assert {(one.mode, one.scheme) for one in report.errors} == {
        (mode, scheme) for mode in ("full", "head") for scheme in ("leave-one-family-out", "leave-one-model-out")
    }
    assert [one.mode for one in report.memory_errors] == ["full", "full", "head", "head"]
    shares = [one.share for one in report.coefficients if one.mode == "full"]
    assert sum(shares) == pytest.approx(1.0)
    assert any("per multiply-accumulate" in str(one) for one in report.coefficients)
    assert "root mean square times" in report.interval_notes["board, full"]
    assert json.loads(json.dumps(report.to_dict()))["used_rows"] == 36


def test_rows_in_another_unit_are_suspicious(make_rows, tracer):
    rows = make_rows(modes=("full",))
    rows.loc[rows.model == "thin3", "step_s"] *= 1000
    report = CostModel.fit(rows, tracer=tracer).report
    assert len(report.suspects) == 2
    assert "thin3 full batch 4 on board: measured" in report.suspects[0]
    assert "is the unit the same?" in report.suspects[0]
    assert CostModel.fit(make_rows(), tracer=tracer).report.suspects == ()


def test_nothing_left_says_what_is_missing(make_rows, tracer):
    with pytest.raises(CostModelError, match=r"none of 18 rows.*18 x status is oom"):
        CostModel.fit(make_rows(modes=("full",)).assign(status="oom"), tracer=tracer)
    with pytest.raises(CostModelError, match="the table is empty"):
        CostModel.fit(make_rows().iloc[:0], tracer=tracer)


def test_the_order_of_rows_does_not_matter(make_rows, tracer):
    rows = make_rows(noise=0.05)
    one, other = (CostModel.fit(table, tracer=tracer) for table in (rows, rows.iloc[::-1]))
    for name in ("plain2", "token9"):
        expected = one.predict("board", name, "full", 8).step_s
        assert other.predict("board", name, "full", 8).step_s == pytest.approx(expected)


def test_intervals_cover_nine_of_ten_unseen_models(make_rows, tracer, true_step):
    rows = make_rows(batch_sizes=(4, 16), modes=("full",), noise=0.03)
    model = CostModel.fit(rows, tracer=tracer)
    names = [f"{kind}{size}" for kind in ("plain", "thin", "token", "cross") for size in (3, 5, 7)]
    inside = []
    for name in names:
        one = model.predict("board", name, "full", 8)
        inside.append(one.step_s_lo <= true_step(tracer(name, "full", 224), 8) <= one.step_s_hi)
    assert np.mean(inside) >= 0.9
