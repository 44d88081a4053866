import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.adapt import Adaptation, adapt, read_observed
from devprof.costmodel.model import CostModel
from devprof.costmodel.predictor import Interval
from devprof.costmodel.samples import Configuration
from devprof.errors import CostModelError, UnknownNameError

ONE, OTHER = Configuration("one", "full"), Configuration("other", "full")


def step(value=1.0, half_width=0.1):
    return Interval(value, value / math.exp(half_width), value * math.exp(half_width), "measured")


def corrected(adaptation, configuration=ONE, half_width=0.1):
    (one,) = adaptation.correct(configuration, [step(1.0, half_width)])
    return one


def width(interval):
    return math.log(interval.high / interval.low)


def after(*ratios, half_width=0.1):
    adaptation = Adaptation()
    for ratio in ratios:
        adaptation.observe(ONE, step(1.0, half_width), ratio)
    return adaptation


JUNK = st.one_of(st.none(), st.integers(), st.floats(), st.sampled_from(["", "full", "head", "x"]), st.booleans())


def row(**changes):
    return {"model": "plain1", "mode": "full", "batch_size": 8, "step_s": 0.1} | changes


class TestFilter:
    def test_before_any_row_predictions_are_what_they_were(self):
        assert Adaptation().correct(ONE, [step()]) == [step()]

    def test_agreeing_rows_are_met_and_narrow_the_interval(self):
        adaptation = after(*[1.25] * 6, half_width=0.45)
        assert corrected(adaptation, half_width=0.45).value == pytest.approx(1.25, rel=0.01)
        assert width(corrected(adaptation, half_width=0.45)) < 0.5 * width(step(1.0, 0.45))
        assert corrected(adaptation).basis == "observed"

    def test_throttling_is_believed_at_the_second_row(self):
        adaptation = after(1.0, 1.0, 1.0, 2.5)
        assert corrected(adaptation).value < 1.3
        adaptation.observe(ONE, step(), 2.6)
        assert corrected(adaptation).value == pytest.approx(2.55, rel=0.01)
        assert (adaptation.taken, adaptation.doubted) == (5, 2)

    def test_a_slow_device_slows_its_other_models(self):
        assert corrected(after(*[2.0] * 4), OTHER).value == pytest.approx(2.0, rel=0.05)

    def test_an_uncertain_model_is_itself_wrong_rather_than_the_device(self):
        adaptation = after(*[1.4] * 4, half_width=0.45)
        assert corrected(adaptation).value == pytest.approx(1.4, rel=0.01)
        assert corrected(adaptation, OTHER).value < 1.1

    def test_a_wild_guess_that_was_wrong_is_not_blamed_on_the_device_alone(self):
        adaptation = after(10.0, 10.0, half_width=1.1)
        assert corrected(adaptation, half_width=1.1).value == pytest.approx(10.0)
        assert corrected(adaptation, OTHER).value < 2.0

    def test_a_new_model_that_is_far_off_does_not_blame_a_device_that_others_told_of(self):
        adaptation = after(*[1.0] * 4)
        for _ in range(3):
            adaptation.observe(OTHER, step(), 4.0)
        assert corrected(adaptation, OTHER).value == pytest.approx(4.0, rel=0.05)
        assert corrected(adaptation).value == pytest.approx(1.0, rel=0.1)

    def test_heat_learned_from_one_model_holds_for_all_that_were_observed(self):
        adaptation = after(*[1.0] * 4)
        for ratio in (*[1.0] * 4, 2.0, 2.0):
            adaptation.observe(OTHER, step(), ratio)
        assert corrected(adaptation).value == pytest.approx(2.0, rel=0.05)

    def test_two_absurd_rows_that_disagree_are_not_believed(self):
        assert corrected(after(*[1.0] * 6, 90.0, 12.0)).value < 1.5

    @pytest.mark.parametrize("ratio", [1000.0, 0.001])
    def test_another_unit_is_never_believed_however_often_it_comes(self, ratio):
        adaptation = after(1.1, *[ratio] * 20)
        assert corrected(adaptation) == corrected(after(1.1))
        assert adaptation.skipped == {"step_s is over a hundred times off the prediction: is it in seconds?": 20}

    @given(st.lists(st.floats(0.8, 1.25), max_size=10), st.floats(-30, 30), st.floats(0.03, 1.2))
    def test_one_absurd_row_moves_a_prediction_boundedly_and_never_widens_it(self, sane, absurd, half_width):
        before = after(*sane, half_width=half_width)
        then = after(*sane, math.exp(absurd), half_width=half_width)
        for configuration in (ONE, OTHER):
            centre, moved = (corrected(one, configuration, half_width) for one in (before, then))
            # Three standard deviations of what was predicted and of the device together, or what the prediction allowed.
            bound = 3 * math.hypot(0.12, half_width / 1.6) + 1e-9
            assert abs(math.log(moved.value / centre.value)) <= bound
            assert width(moved) <= width(centre) + 1e-9
            assert moved.low < moved.value < moved.high

    @given(st.floats(-2.3, 2.3), st.floats(0.03, 1.2), st.integers(2, 8))
    def test_an_order_of_magnitude_is_recovered_after_agreeing_rows(self, log_ratio, half_width, rows):
        adaptation = after(*[math.exp(log_ratio)] * (rows + 4), half_width=half_width)
        assert corrected(adaptation, half_width=half_width).value == pytest.approx(math.exp(log_ratio), rel=0.1)

    @given(st.lists(st.tuples(st.booleans(), st.floats(-4.6, 4.6)), max_size=40))
    def test_the_state_is_sane_after_any_rows_and_comes_back_exactly(self, rows):
        adaptation = Adaptation()
        for first, log_ratio in rows:
            adaptation.observe(ONE if first else OTHER, step(), math.exp(log_ratio))
        assert Adaptation.from_dict(adaptation.to_dict()) == adaptation
        for configuration in (ONE, OTHER):
            one = corrected(adaptation, configuration)
            assert 0 < one.low < one.value < one.high < math.inf
            assert width(one) <= width(step()) + 1e-9


class TestRows:
    @pytest.mark.parametrize(
        ("wrong", "reason"),
        [
            ({"model": None}, "model is no name"),
            ({"model": 7}, "model is no name"),
            ({"mode": "half"}, "mode is unknown"),
            ({"mode": ["full"]}, "mode is unknown"),
            ({"batch_size": 0}, "batch_size is no positive whole number"),
            ({"batch_size": 2.5}, "batch_size is no positive whole number"),
            ({"batch_size": 10**400}, "batch_size is no positive whole number"),
            ({"batch_size": None}, "batch_size is no positive whole number"),
            ({"step_s": 0.0}, "step_s is not positive and finite"),
            ({"step_s": -1}, "step_s is not positive and finite"),
            ({"step_s": math.nan}, "step_s is not positive and finite"),
            ({"step_s": math.inf}, "step_s is not positive and finite"),
            ({"step_s": "fast"}, "step_s is not positive and finite"),
            ({"step_s": True}, "step_s is not positive and finite"),
            ({"image_size": -1}, "image_size or num_classes is no positive whole number"),
        ],
    )
    def test_a_row_that_makes_no_sense_is_skipped_with_its_reason(self, wrong, reason):
        assert read_observed(row(**wrong)) == (None, reason)

    def test_what_is_left_out_is_left_open(self):
        observed, reason = read_observed({"model": "one", "batch_size": 8.0, "step_s": 1, "image_size": math.nan})
        assert reason == ""
        assert (observed.configuration, observed.batch_size, observed.step_s) == (ONE, 8, 1.0)

    def test_something_else_than_a_mapping_is_skipped(self):
        assert read_observed("plain1") == (None, "the row is no mapping")

    @given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(row(), JUNK)), max_size=4))
    def test_no_row_is_ever_raised_away(self, rows):
        def predict(configuration, size):
            if configuration.model != "full":
                raise CostModelError("unknown")
            return configuration, step(0.1 * size)

        found = adapt(None, rows, predict)
        assert found.taken + found.skipped.total() == len(rows)

    def test_what_was_known_before_stays_as_it_was(self):
        known = after(1.1)
        before = known.to_dict()
        adapt(known, [row()], lambda configuration, _: (configuration, step()))
        assert known.to_dict() == before


@pytest.fixture
def model(make_rows, tracer):
    return CostModel.fit(make_rows(noise=0.02), tracer=tracer)


def observed_rows(model, name, factor, count, **changes):
    size = changes.get("batch_size", 8)
    expected = model.predict("board", name, "full", size).step_s
    return [row(model=name, step_s=factor * expected) | changes for _ in range(count)]


class TestCostModel:
    def test_no_rows_change_nothing(self, model):
        before = model.predict("board", "thin9", "full", 8)
        assert model.adaptation("board") is None
        assert model.adapt("board", []) is model
        assert model.predict("board", "thin9", "full", 8) == before

    def test_predictions_follow_observed_rounds_at_every_batch_size(self, model):
        before = model.predict_sizes("board", "plain2", "full", [1, 8, 64])
        model.adapt("board", observed_rows(model, "plain2", 2.0, 3))
        then = model.predict_sizes("board", "plain2", "full", [1, 8, 64])
        for one, other in zip(before, then, strict=True):
            assert other.step_s == pytest.approx(2 * one.step_s, rel=0.05)
            assert other.step_s_hi / other.step_s_lo <= one.step_s_hi / one.step_s_lo * (1 + 1e-9)
            assert other.basis == "observed"
            assert other.memory_bytes == one.memory_bytes

    def test_a_table_of_rows_and_one_of_questions_do_as_well(self, model):
        rows = pd.DataFrame(observed_rows(model, "plain2", 2.0, 3, image_size=224))
        rows["num_classes"] = pd.Series([None, 1000, None], dtype="Int64")
        before = model.predict("board", "plain2", "full", 8).step_s
        answers = model.adapt("board", rows).predict_frame(
            pd.DataFrame({"device": ["board"], "model": ["plain2"], "batch_size": [8]})
        )
        assert answers.step_s[0] == pytest.approx(2 * before, rel=0.05)
        assert model.adaptation("board").taken == 3

    def test_further_rows_go_on_from_what_was_learned(self, model, make_rows, tracer):
        rows = observed_rows(model, "plain2", 1.1, 4)
        together = CostModel.fit(make_rows(noise=0.02), tracer=tracer).adapt("board", rows)
        for one in rows:
            model.adapt("board", [one])
        assert model.adaptation("board") == together.adaptation("board")

    def test_bad_rows_are_counted_and_the_rest_is_learned(self, model):
        good = observed_rows(model, "plain2", 1.1, 2)
        model.adapt("board", [row(step_s=-1), good[0], row(model="nonsense1"), row(model="os:getcwd"), good[1]])
        adaptation = model.adaptation("board")
        assert adaptation.taken == 2
        assert adaptation.skipped == {
            "step_s is not positive and finite": 1,
            "model is not known or cannot be predicted": 2,
        }

    def test_a_row_never_makes_a_factory_be_imported(self, make_rows, tracer):
        def careful(model, *rest):
            assert ":" not in model
            return tracer(model, *rest)

        model = CostModel.fit(make_rows(), tracer=careful)
        model.adapt("board", [row(model=name) for name in ("os:abort", "torchvision:os:abort", "my.module:make")])
        assert model.adaptation("board").skipped.total() == 3

    def test_a_device_is_corrected_alone(self, make_rows, tracer):
        model = CostModel.fit(pd.concat([make_rows(), make_rows(device="other")]), tracer=tracer)
        before = model.predict("other", "plain2", "full", 8)
        model.adapt("board", observed_rows(model, "plain2", 3.0, 3))
        assert model.predict("other", "plain2", "full", 8) == before

    def test_an_unknown_device_is_the_callers_error(self, model):
        with pytest.raises(UnknownNameError, match="unknown device"):
            model.adapt("bord", [])
