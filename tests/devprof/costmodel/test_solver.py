import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.solver import Whitener, _solve, maximise_posterior, whitening


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_both_ways_to_solve_agree(count, width, seed):
    random = np.random.default_rng(seed)
    rows, diagonal, target = (
        random.normal(size=(count, width)),
        random.uniform(0.1, 9, width),
        random.normal(size=width),
    )
    expected = np.linalg.solve(rows.T @ rows + np.diag(diagonal), target)
    assert _solve(rows, diagonal, target) == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_errors_of_a_block_are_made_independent():
    random = np.random.default_rng(0)
    covariance = np.array([[2.0, 1.0], [1.0, 3.0]])
    whiten = Whitener([(np.array([2, 0]), whitening(covariance)), (np.array([1]), np.array([[0.5]]))])
    drawn = np.empty((3, 20_000))
    drawn[[2, 0]] = np.linalg.cholesky(covariance) @ random.normal(size=(2, 20_000))
    drawn[1] = 2 * random.normal(size=20_000)
    assert np.cov(whiten(drawn)) == pytest.approx(np.eye(3), abs=0.05)
    whole = np.zeros((3, 3))
    whole[np.ix_([2, 0], [2, 0])], whole[1, 1] = covariance, 4.0
    assert whiten.undo(whiten(np.eye(3))) == pytest.approx(np.linalg.inv(whole))


@pytest.mark.parametrize(("count", "width"), [(30, 4), (4, 30)])
def test_a_linear_model_gives_the_mean_of_its_posterior(count, width):
    random = np.random.default_rng(1)
    slopes, sds = random.normal(size=(count, width)), random.uniform(0.5, 2, width)
    target = slopes @ (sds * random.normal(size=width)) * 0.1
    whiten = Whitener([(np.arange(count), np.eye(count))])
    found = maximise_posterior(lambda x: (slopes @ x, lambda: slopes), target, whiten, sds, np.zeros(width))
    exact = np.linalg.solve(slopes.T @ slopes + np.diag(sds**-2), slopes.T @ target)
    assert slopes @ found == pytest.approx(slopes @ exact, abs=0.02)
