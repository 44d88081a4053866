from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import LINES, PAYLOAD, TABLE, Table, fleets, options

from devprof.plan.columns import FleetArrays, StepCosts
from devprof.plan.deadline import best_deadline, effective_work, least_deadline, sketch
from devprof.plan.estimator import Z90
from devprof.plan.fleet import Fleet
from devprof.plan.fleetplan import plan_fleet
from devprof.plan.planner import PlannerSettings, plan_round
from devprof.plan.reasons import Reason

ARRAYS = (
    *("participates", "reason", "steps", "epochs", "batch_size", "cutoff_s", "learning_rate_scale", "predicted_s"),
    *("predicted_hi_s", "predicted_energy_j", "predicted_energy_hi_j", "normal_steps", "preferred_batch_size"),
)


def columns(clients, table, wanted):
    """The same fleet as arrays: devices in the order of their names, the last row unknown."""
    names = sorted(LINES)

    def limit(name):
        return [math.nan if (value := getattr(state, name)) is None else value for state in clients]

    arrays = FleetArrays(
        samples=[state.samples for state in clients],
        device=[names.index(state.device) if state.device in LINES else len(names) for state in clients],
        **{name: [getattr(state.link, name) for state in clients] for name in ("up_mbps", "down_mbps", "latency_s")},
        **{
            name: [getattr(state, name) for state in clients]
            for name in ("startup_s", "overhead_s", "fixed_sd_s", "rounds_left_out")
        },
        memory_limit_bytes=limit("memory_limit_bytes"),
        energy_budget_j=limit("energy_budget_j"),
    )
    sizes = wanted.candidates
    return arrays, StepCosts.of([[table.estimate(name, size) for size in sizes] for name in (*names, "unknown")], sizes)


def many(count, seed=0, devices=20):
    """A fleet of phones and boards with spreads as they are met: factors of a hundred in speed, of ten in data and link."""
    random = np.random.default_rng(seed)
    constant, per_sample = random.lognormal(-3, 1, (devices, 1)), random.lognormal(-5, 1, (devices, 1))
    sizes = np.array([8, 16, 32])
    step_s = constant + per_sample * sizes
    costs = StepCosts(
        sizes, step_s, step_s * 1.2, np.full_like(step_s, 1e8), 5 * step_s, 6 * step_s, np.full(step_s.shape, True)
    )
    arrays = FleetArrays(
        samples=random.integers(50, 1000, count),
        device=random.integers(0, devices, count),
        up_mbps=random.lognormal(2, 1, count),
        down_mbps=random.lognormal(3, 1, count),
        startup_s=random.uniform(0, 5, count),
        fixed_sd_s=random.uniform(0, 1, count),
        rounds_left_out=random.integers(0, 5, count),
    )
    return arrays, costs, PlannerSettings(local_epochs=3, batch_sizes=(8, 16, 32))


@settings(max_examples=150, deadline=None)
@given(fleets(), TABLE, options(), PAYLOAD)
def test_arrays_and_objects_are_planned_alike(clients, table, wanted, payload):
    whole = plan_fleet(*columns(clients, table, wanted), wanted, payload_bytes=payload)
    plan = plan_round(clients, table, wanted, payload_bytes=payload)
    assert whole.deadline_s == plan.deadline_s
    for at, own in enumerate(plan.clients):
        told = (whole.participates[at], whole.steps[at], whole.epochs[at], whole.batch_size[at], whole.cutoff_s[at])
        assert told == (own.participates, own.local_steps, own.local_epochs, own.batch_size, own.cutoff_s)
        assert whole.reason_text(at) == own.reason
        for name in ("predicted_s", "predicted_hi_s", "predicted_energy_j", "predicted_energy_hi_j"):
            value = getattr(own, name)
            assert getattr(whole, name)[at] == pytest.approx(math.nan if value is None else value, nan_ok=True)


@pytest.mark.parametrize("budget_j", [None, 1e5])
@pytest.mark.parametrize("count", [300, 5000, 70_000])
def test_a_permutation_of_many_clients_permutes_their_plan(count, budget_j):
    arrays, costs, wanted = many(count)
    wanted = replace(wanted, energy_budget_j=budget_j)
    order = np.random.default_rng(1).permutation(count)
    other = FleetArrays(
        **{
            name: values[order] if isinstance(values := getattr(arrays, name), np.ndarray) else values
            for name in FleetArrays.__slots__
        }
    )
    one, two = (plan_fleet(clients, costs, wanted, payload_bytes=1e7) for clients in (arrays, other))
    assert one.deadline_s == two.deadline_s
    for name in ARRAYS:
        assert np.array_equal(
            getattr(one, name)[order], getattr(two, name), equal_nan=getattr(one, name).dtype.kind == "f"
        )


@pytest.mark.parametrize("budget_j", [None, 2e5])
@pytest.mark.parametrize("seed", range(3))
def test_a_sketch_costs_less_than_half_a_percent_of_the_rate(seed, budget_j):
    arrays, costs, wanted = many(6000, seed)
    wanted = replace(wanted, energy_budget_j=budget_j)
    clients = arrays.checked(costs.step_s.shape[0])
    whole = Fleet.build(clients, np.arange(6000), costs, wanted, payload_bytes=1e7)
    floor_s = least_deadline(whole)
    moments = np.geomspace(floor_s, 50 * floor_s, 200)
    chosen_s = best_deadline(sketch(whole, 256), floor_s)
    rates = [effective_work(whole, np.array([moment]))[0] / moment for moment in (*moments, chosen_s)]
    assert rates[-1] >= 0.995 * max(rates)


def test_a_sketch_of_a_fleet_of_few_kinds_keeps_their_shares():
    arrays = FleetArrays(samples=[100] * 3000 + [300] * 1000, device=[0] * 3000 + [1] * 1000)
    costs = StepCosts.of([[Table(LINES).estimate(name, 16)] for name in "ab"], [16])
    wanted = PlannerSettings()
    whole = Fleet.build(arrays.checked(2), np.arange(4000), costs, wanted, payload_bytes=0)
    part = sketch(whole, 500)
    assert part.size == 500
    assert part.weight[part.preferred.step_s < 0.5].sum() == pytest.approx(
        whole.weight[whole.preferred.step_s < 0.5].sum(), abs=0.01
    )
    assert part.count.sum() == pytest.approx(4000, rel=0.01)


@pytest.mark.parametrize("risk", [0.05, 0.3])
def test_as_many_clients_are_late_as_the_risk_says(risk):
    """Rounds drawn from the law that plans are made for; a client without limits misses its deadline with the planned risk."""
    count = 20_000
    random = np.random.default_rng(3)
    step_s = random.uniform(0.05, 0.5, (50, 1))
    unknown = np.full_like(step_s, np.nan)
    costs = StepCosts(np.array([16]), step_s, step_s * 1.1, unknown, unknown, unknown, np.full(step_s.shape, True))
    clients = FleetArrays(
        np.full(count, 1600), random.integers(0, 50, count), startup_s=2.0, overhead_s=3.0, fixed_sd_s=2.0
    )
    wanted = PlannerSettings(local_epochs=100, miss_risk=risk, deadline_s=60.0, step_noise=0.5)
    plan = plan_fleet(clients, costs, wanted, payload_bytes=0)
    mean_s = step_s[np.asarray(clients.device), 0]
    off_s, noise, fixed_s = (random.standard_normal(count) for _ in range(3))
    train_s = plan.steps * (mean_s + mean_s * 0.1 / Z90 * off_s) + np.sqrt(plan.steps) * 0.5 * mean_s * noise
    late = 5.0 + 2.0 * fixed_s + train_s > plan.deadline_s
    # Steps are whole: what is left of the last one makes a client a little safer than asked for.
    assert 0.9 * risk < late.mean() < 1.03 * risk


def test_numbers_hold_for_all_clients():
    costs = StepCosts.of([[Table(LINES).estimate("a", 16)]], [16])
    wanted = PlannerSettings(deadline_s=100.0)
    plan = plan_fleet(FleetArrays([100, 200], 0, startup_s=1.5), costs, wanted, payload_bytes=0)
    assert plan.steps.tolist() == [7, 13]


def test_no_clients_is_an_empty_plan():
    costs = StepCosts.of([[Table(LINES).estimate("a", 16)]], [16])
    assert plan_fleet(FleetArrays([], []), costs, PlannerSettings(), payload_bytes=0).steps.size == 0


def test_reasons_are_codes():
    arrays, costs, wanted = many(200)
    plan = plan_fleet(arrays, costs, wanted, payload_bytes=1e7)
    assert set(plan.reason.tolist()) <= set(Reason)
    assert all(bool(plan.reason_text(at)) == (code != Reason.WHOLE) for at, code in enumerate(plan.reason.tolist()))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"samples": [1, -1]}, r"samples must be at least 0 and finite, got -1 \(client 1\)"),
        ({"device": [0, 3]}, r"device must be a row of the table of 1 devices, got 3 \(client 1\)"),
        ({"up_mbps": [0.0, 1.0]}, r"up_mbps must be positive, got 0.0 \(client 0\)"),
        ({"startup_s": math.nan}, "startup_s must be at least 0 and finite, got nan"),
        ({"energy_budget_j": [-1.0, math.nan]}, "energy_budget_j must be at least 0"),
        ({"latency_s": [1.0, 1.0, 1.0]}, "one length"),
    ],
)
def test_impossible_columns_are_refused(wrong, said):
    costs = StepCosts.of([[Table(LINES).estimate("a", 16)]], [16])
    with pytest.raises(ValueError, match=said):
        plan_fleet(
            FleetArrays(**({"samples": [10, 20], "device": 0} | wrong)), costs, PlannerSettings(), payload_bytes=0
        )


def test_a_table_for_other_batch_sizes_is_refused():
    costs = StepCosts.of([[Table(LINES).estimate("a", 8)]], [8])
    with pytest.raises(ValueError, match=r"batch sizes \[8\], the settings \[16\]"):
        plan_fleet(FleetArrays([10], 0), costs, PlannerSettings(), payload_bytes=0)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=4))
def test_batch_sizes_of_a_table_ascend(sizes):
    rows = [[Table(LINES).estimate("a", size) for size in sizes]]
    if sizes == sorted(set(sizes)):
        assert StepCosts.of(rows, sizes).step_s.shape == (1, len(sizes))
    else:
        with pytest.raises(ValueError, match="ascending"):
            StepCosts.of(rows, sizes)
