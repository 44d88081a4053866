from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devprof.plan.energy import Market


def market(weight, normal, energy_j, budget_j, *, least=1, left_out=0):
    count = len(weight)
    weight = np.array(weight, dtype=float)
    return Market(
        weight / weight.sum(),
        np.array(normal),
        np.full(count, least),
        np.array(energy_j, dtype=float),
        np.broadcast_to(left_out, (count,)),
        float(budget_j),
    )


def utility(shared, steps):
    return float(np.sqrt(np.minimum(1.0, steps / shared.normal)) @ shared.weight)


def greedy(shared, most):
    """The optimum where all steps cost the same: of a concave utility the next best step is always the right one."""
    steps = np.zeros(len(most), dtype=int)
    while (steps + np.eye(len(most), dtype=int)[0]).sum() * shared.energy_j[0] <= shared.budget_j and (
        steps < most
    ).any():
        gain = np.sqrt((steps + 1) / shared.normal) - np.sqrt(steps / shared.normal)
        steps[np.where(steps < most, gain * shared.weight, -1.0).argmax()] += 1
    return steps


CLIENTS = st.lists(st.tuples(st.integers(1, 100), st.integers(20, 200), st.integers(1, 200)), min_size=2, max_size=8)


@settings(max_examples=100, deadline=None)
@given(CLIENTS, st.floats(0.1, 1.0))
def test_steps_are_shared_out_as_well_as_one_by_one(clients, share):
    weight, normal, most = zip(*clients, strict=True)
    most = np.minimum(most, normal)
    shared = market(weight, normal, [1.0] * len(weight), share * most.sum())
    steps = shared.allot(most)
    assert (steps <= most).all()
    assert steps.sum() <= shared.budget_j
    best = greedy(shared, most)
    # A price hands out whole steps to all who are alike at once; what it leaves over is less than a step of each.
    assert steps.sum() >= best.sum() - len(weight)
    assert utility(shared, steps) >= utility(shared, best) * 0.97


def test_large_fleets_leave_nothing_over():
    random = np.random.default_rng(0)
    count = 5000
    normal = random.integers(50, 500, count)
    shared = market(random.uniform(1, 10, count), normal, random.uniform(0.1, 10, count), 1e5, least=5)
    steps = shared.allot(normal)
    assert 0.999 * 1e5 <= steps @ shared.energy_j <= 1e5
    assert ((steps == 0) | (steps >= 5)).all()
    # The value that the choice of the deadline goes by is what is then done.
    assert shared.effective_work(normal[None, :])[0] == pytest.approx(utility(shared, steps) ** 2, rel=1e-3)


def test_where_joules_suffice_all_do_what_time_allows():
    shared = market([1, 1], [10, 10], [1.0, 1.0], 50.0)
    assert shared.allot(np.array([30, 15])).tolist() == [30, 15]


def test_a_binding_budget_buys_nothing_beyond_the_normal_round():
    shared = market([1, 1], [10, 10], [1.0, 1.0], 30.0)
    assert shared.allot(np.array([30, 15])).tolist() == [10, 10]


def test_free_steps_are_done_whatever_the_budget():
    shared = market([1, 1], [10, 10], [0.0, 1.0], 3.0)
    assert shared.allot(np.array([10, 10])).tolist() == [10, 3]


def test_nobody_is_asked_for_less_than_is_useful():
    shared = market([1, 1, 1], [10, 10, 10], [1.0] * 3, 12.0, least=8)
    assert sorted(shared.allot(np.array([10, 10, 10])).tolist()) == [0, 0, 8]


@pytest.mark.parametrize("waited", [(0, 0, 2), (0, 2, 0), (2, 0, 0)])
def test_who_waited_longest_goes_first(waited):
    shared = market([1, 1, 1], [10, 10, 10], [1.0] * 3, 12.0, least=8, left_out=waited)
    assert (shared.allot(np.array([10, 10, 10])) > 0).tolist() == [rounds > 0 for rounds in waited]
