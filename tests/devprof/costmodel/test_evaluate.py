import math

import pytest

from devprof.costmodel.evaluate import FAMILY_OUT, MODEL_OUT, error_reports, kendall_tau
from devprof.costmodel.heldout import time_residuals
from devprof.costmodel.interval import Residuals
from devprof.costmodel.pool import Pool

MODELS = ("plain1", "plain2", "plain4", "thin1", "thin3", "token1", "token2", "cross1", "cross2")


@pytest.fixture
def reports(observe):
    pool = Pool(tuple(observe(MODELS, (4, 16)) + observe(MODELS, (4, 16), mode="head")))
    return {
        (mode, report.scheme): report
        for (device, mode), residuals in time_residuals(pool, pool.fit()).items()
        for report in error_reports(device, mode, residuals, 18)
    }


def test_reports_are_by_mode_and_scheme(reports):
    assert set(reports) == {(mode, scheme) for mode in ("full", "head") for scheme in (FAMILY_OUT, MODEL_OUT)}
    for (_, scheme), one in reports.items():
        assert (one.rows, one.groups) == (18, 4 if scheme == FAMILY_OUT else 9)
        assert 0 < one.median <= 1
        assert one.within_10 <= one.within_20
        assert 0 <= one.coverage_90 <= 1
        assert 0.5 < one.kendall_tau <= 1


def test_siblings_make_a_model_easier(reports):
    assert reports["full", MODEL_OUT].mape < reports["full", FAMILY_OUT].mape


def test_nothing_left_out_has_no_number_but_a_reason():
    report = error_reports("board", "full", Residuals(), 3)[0]
    assert report.mape is None
    assert "one family only" in report.note


def test_errors_are_relative_to_what_was_measured():
    residuals = Residuals(families={"a": [math.log(2.0)], "b": [math.log(0.8)]}, costs={"families": [2.0, 0.8]})
    report = error_reports("board", "full", residuals, 2)[0]
    assert report.mape == pytest.approx((0.5 + 0.25) / 2)
    assert report.coverage_90 is None
    # Both were predicted as 1.
    assert report.kendall_tau is None


def test_kendall_counts_pairs_in_order():
    assert kendall_tau([1, 2, 3], [2, 4, 9]) == 1
    assert kendall_tau([1, 2, 3], [9, 4, 2]) == -1
    assert kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)
