import numpy as np
import pytest

from devprof.costmodel import pool as pools
from devprof.costmodel.leaveout import LeaveOut
from devprof.costmodel.pool import Pool

MANY = [f"{kind}{size}" for kind in ("plain", "thin", "token", "cross") for size in range(1, 9)]


def odd(model):
    """A factor that the base does not explain, so that what is left out matters."""
    return 1 + 0.2 * (sum(model.encode()) % 5 - 2) / 2


@pytest.fixture
def fitted(observe):
    kin = [one for name in ("a", "b") for one in observe(MANY, (4, 16), device=name, factor=odd)]
    return Pool(tuple(kin)).fit()


@pytest.mark.parametrize("key", [lambda one: one.family, lambda one: one.configuration.model])
def test_it_ends_where_a_new_fit_ends(fitted, key):
    left_out, differences, moved = LeaveOut(fitted), [], []
    for rows in fitted.pool.rows_of(key).values():
        anew = fitted.pool.without(rows, fitted)
        without = left_out.without(rows)
        assert list(without.rows) == list(anew.rows)
        differences.extend(np.abs(without.log_errors(rows) - anew.log_errors(rows)))
        moved.extend(np.abs(anew.log_errors(rows) - fitted.log_errors(rows)))
    assert max(differences) < 0.03
    assert np.mean(differences) < 0.1 * np.mean(moved)


def test_a_model_that_was_left_out_does_not_help_itself(observe):
    tripled = Pool(tuple(observe(MANY, (8,), factor=lambda model: 3.0 if model == "thin4" else 1.0)))
    rows = tripled.rows_of(lambda one: one.configuration.model)["thin4"]
    assert LeaveOut(tripled.fit()).without(rows).log_errors(rows) == pytest.approx(np.log(3.0), abs=0.05)


def test_what_does_not_settle_is_fitted_anew(fitted, monkeypatch):
    rows, asked = np.arange(4), []
    monkeypatch.setattr("devprof.costmodel.leaveout._MOST_STEPS", 0)
    monkeypatch.setattr(pools.Pool, "without", lambda self, out, near: asked.append((list(out), near)) or near)
    assert LeaveOut(fitted).without(rows) is fitted
    assert asked == [([0, 1, 2, 3], fitted)]
