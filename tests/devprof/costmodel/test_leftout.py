import math

import pytest

from devprof.costmodel.heldout import time_residuals
from devprof.costmodel.interval import Residuals
from devprof.costmodel.leaveout import LeaveOut
from devprof.costmodel.leftout import left_out_rows
from devprof.costmodel.pool import Pool

MODELS = [f"{kind}{size}" for kind in ("plain", "thin", "token", "cross") for size in (1, 2, 4)]


@pytest.fixture
def pool(observe):
    return Pool(tuple(observe(MODELS, (4, 8, 16), factor=lambda name: 1.2 if name == "thin2" else 1.0)))


@pytest.fixture
def rows(pool):
    residuals = time_residuals(pool, pool.fit())
    return left_out_rows(pool.observations, {mode: one for (_, mode), one in residuals.items()})


def test_every_measurement_is_there_once_per_basis(pool, rows):
    measured = sorted((one.configuration.model, one.batch_size, one.value) for one in pool.observations)
    for basis in ("new-family", "known-family", "known-pair"):
        assert sorted((row.model, row.batch_size, row.measured_s) for row in rows if row.basis == basis) == measured


def test_a_row_is_what_a_fit_without_it_predicts(pool, rows):
    fitted = pool.fit()
    out = pool.rows_of(lambda one: one.family)["token"]
    errors = LeaveOut(fitted).without(out).log_errors(out)
    for place, error in zip(out, errors, strict=True):
        one = pool.observations[place]
        (row,) = [
            row
            for row in rows
            if (row.basis, row.model, row.batch_size) == ("new-family", one.configuration.model, one.batch_size)
        ]
        assert row.predicted_s == pytest.approx(one.value / math.exp(error), rel=1e-6)


def test_intervals_come_from_the_other_groups(observe):
    observations = observe(["plain1", "thin1", "token1"])
    values = [one.value for one in observations]
    residuals = Residuals(families={"plain": [0.1], "thin": [0.2], "token": [0.9]}, costs={"families": values})
    plain, _, token = left_out_rows(observations, {"full": residuals})
    assert plain.predicted_s == pytest.approx(plain.measured_s / math.exp(0.1))
    # The largest residual of all is not in its own interval.
    assert token.measured_s > token.high_s
    assert plain.low_s < plain.measured_s < plain.high_s
    assert math.log(plain.high_s / plain.predicted_s) > math.log(token.high_s / token.predicted_s)


def test_two_groups_give_no_interval(observe):
    observations = observe(["plain1", "thin1"])
    residuals = Residuals(
        families={"plain": [0.1], "thin": [0.2]}, costs={"families": [one.value for one in observations]}
    )
    assert [row.low_s for row in left_out_rows(observations, {"full": residuals})] == [None, None]


def test_a_model_without_sibling_counts_as_a_new_family_only(observe):
    pool = Pool(tuple(observe(["plain1", "plain2", "thin1", "token1"])))
    residuals = time_residuals(pool, pool.fit())
    rows = left_out_rows(pool.observations, {mode: one for (_, mode), one in residuals.items()})
    assert {row.model for row in rows if row.basis == "known-family"} == {"plain1", "plain2"}
    assert {row.model for row in rows if row.basis == "new-family"} == {"plain1", "plain2", "thin1", "token1"}


def test_equal_times_are_each_used_once(observe):
    observations = observe(["plain1", "plain2"], factor=lambda name: 1.0)
    twins = [observations[0], observations[0]]
    residuals = Residuals(models={"plain1": [0.1, 0.2]}, costs={"models": [one.value for one in twins]})
    rows = left_out_rows([*twins, observations[1]], {"full": residuals})
    assert len(rows) == 2
