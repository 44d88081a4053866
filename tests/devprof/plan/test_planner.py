from __future__ import annotations

import math
import re
from dataclasses import replace
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import LINES, LINK, PAYLOAD, SPEEDS, SURE, TABLE, Table, client, fleet, fleets, options

import devprof
from devprof.plan.estimator import Z90
from devprof.plan.planner import PlannerSettings, plan_round
from devprof.plan.roundtime import round_time

# The deadline ---------------------------------------------------------------------------------------------------------


def test_equal_clients_do_the_whole_normal_round():
    plan = plan_round(fleet(5, 0), SPEEDS, PlannerSettings(local_epochs=2, **SURE), payload_bytes=0)
    assert plan.deadline_s == pytest.approx(2.0)
    assert {(c.local_steps, c.local_epochs, c.reason) for c in plan.clients} == {(20, 2, "")}


def test_slow_minority_is_cut_to_the_time_of_the_fast():
    plan = plan_round(fleet(7, 3), SPEEDS, PlannerSettings(local_epochs=2, **SURE), payload_bytes=0)
    assert plan.deadline_s == pytest.approx(2.0)
    assert [c.local_steps for c in plan.clients] == [20] * 7 + [4] * 3
    assert plan.clients[-1].reason == "4 of 20 steps to meet the deadline of 2 s"
    assert plan.clients[-1].local_epochs == 1


def test_transfers_startup_and_server_time_make_rounds_longer():
    plan = plan_round(fleet(7, 3), SPEEDS, PlannerSettings(local_epochs=2, server_s=1000.0, **SURE), payload_bytes=0)
    assert plan.deadline_s == pytest.approx(10.0)


def test_coverage_forces_the_deadline_up_to_the_least_steps():
    slow = Table({"fast": (0.1, 0.0), "slow": (20.0, 0.0)})
    loose = plan_round(fleet(7, 3), slow, PlannerSettings(coverage=0.7, **SURE), payload_bytes=0)
    strict = plan_round(fleet(7, 3), slow, PlannerSettings(coverage=0.8, **SURE), payload_bytes=0)
    assert loose.deadline_s == pytest.approx(1.0)
    assert [c.participates for c in loose.clients] == [True] * 7 + [False] * 3
    assert "needs 20 s" in loose.clients[-1].reason
    assert strict.deadline_s == pytest.approx(20.0)
    assert all(c.participates for c in strict.clients)


def test_fast_clients_use_spare_time_up_to_the_most_epochs():
    plan = plan_round(fleet(1, 1), SPEEDS, PlannerSettings(max_epochs=3, deadline_s=100.0, **SURE), payload_bytes=0)
    assert [c.local_steps for c in plan.clients] == [30, 30]
    plan = plan_round(fleet(1, 1), SPEEDS, PlannerSettings(deadline_s=100.0, **SURE), payload_bytes=0)
    assert [c.local_steps for c in plan.clients] == [10, 10]


def test_cut_off_is_the_deadline_less_the_transfers():
    state = client("a", startup_s=0.25)
    plan = plan_round([state], SPEEDS, PlannerSettings(deadline_s=1.0, **SURE), payload_bytes=1_000_000)
    (own,) = plan.clients
    assert own.cutoff_s == pytest.approx(0.8)
    assert own.local_steps == 5
    assert own.predicted_s == pytest.approx(0.95)


def test_prediction_is_that_of_round_time():
    table = Table({"fast": (0.1, 0.01)}, spread=1.2)
    state = client("a", startup_s=0.25)
    (own,) = plan_round([state], table, PlannerSettings(local_epochs=2, step_noise=0.0), payload_bytes=1e6).clients
    time_of = round_time(
        table.estimate("fast", 16), epochs=2, samples=160, batch_size=16, payload_bytes=1e6, link=LINK, startup_s=0.25
    )
    assert own.local_steps == time_of.steps
    assert own.predicted_s == pytest.approx(time_of.total_s)
    assert own.predicted_hi_s == pytest.approx(time_of.total_hi_s)


def test_risk_is_taken_from_the_interval_and_the_noise():
    table = Table({"fast": (0.1, 0.0)}, spread=1.1)
    options = PlannerSettings(local_epochs=100, deadline_s=5.0, miss_risk=0.01, step_noise=0.2)
    (own,) = plan_round([client("a")], table, options, payload_bytes=0).clients
    quantile = NormalDist().inv_cdf(0.99)

    def late_s(steps):
        return steps * 0.1 + quantile * math.sqrt(steps * 0.02**2 + (steps * 0.01 / Z90) ** 2)

    assert late_s(own.local_steps) <= 5.0 < late_s(own.local_steps + 1)
    assert own.predicted_hi_s == pytest.approx(late_s(own.local_steps))


# Batch size -----------------------------------------------------------------------------------------------------------


def test_large_constant_part_asks_for_a_large_batch():
    table = Table({"gpu": (0.1, 0.0001), "cpu": (0.001, 0.1)})
    options = PlannerSettings(batch_sizes=(8, 16, 64), **SURE)
    plan = plan_round([client("a", "gpu", 1000), client("b", "cpu", 1000)], table, options, payload_bytes=0)
    assert [c.batch_size for c in plan.clients] == [64, 8]
    assert plan.clients[0].learning_rate_scale == pytest.approx((1 + 32 / 16) / (1 + 32 / 64))
    assert plan.clients[1].learning_rate_scale == pytest.approx((1 + 32 / 16) / (1 + 32 / 8))


def test_small_data_keeps_enough_steps():
    table = Table({"gpu": (0.1, 0.0)})
    options = PlannerSettings(batch_sizes=(8, 16, 64), min_steps=5, deadline_s=10.0, **SURE)
    plan = plan_round([client("a", "gpu", 100), client("b", "gpu", 10)], table, options, payload_bytes=0)
    assert [(c.batch_size, c.local_steps) for c in plan.clients] == [(16, 7), (8, 2)]


def test_memory_limits_the_batch_size():
    table = Table({"gpu": (0.1, 0.0)}, memory_per_sample=2**20)
    options = PlannerSettings(batch_sizes=(8, 16, 64), **SURE)
    states = [
        client("a", "gpu", 1000, memory_limit_bytes=20 * 2**20),
        client("b", "gpu", 1000),
        client("c", "gpu", 1000, memory_limit_bytes=2**20),
    ]
    plan = plan_round(states, table, options, payload_bytes=0)
    assert [c.batch_size for c in plan.clients[:2]] == [16, 64]
    assert not plan.clients[2].participates
    assert plan.clients[2].reason == "needs up to 8 MiB at the smallest batch size, has 1"


def test_smaller_batch_rescues_a_client_that_would_be_late():
    table = Table({"gpu": (0.01, 0.01)})
    options = PlannerSettings(batch_sizes=(8, 64), critical_batch_size=1000.0, deadline_s=0.5, min_steps=5, **SURE)
    (own,) = plan_round([client("a", "gpu", 1000)], table, options, payload_bytes=0).clients
    assert (own.batch_size, own.local_steps, own.participates) == (8, 5, True)
    assert own.reason == "batch size 8 in place of 64, 5 of 16 steps to meet the deadline of 0.5 s"


# Clients without a prediction ----------------------------------------------------------------------------------------


def test_unknown_client_is_probed_beside_known_ones():
    plan = plan_round(
        [client("a"), client("b", "strange")], SPEEDS, PlannerSettings(min_steps=3, **SURE), payload_bytes=1_000_000
    )
    probe = plan.clients[1]
    assert plan.deadline_s == pytest.approx(1.2)
    assert (probe.participates, probe.local_steps, probe.reason) == (True, 3, "no prediction: probing")
    assert probe.cutoff_s == pytest.approx(1.0)
    assert (probe.predicted_s, probe.predicted_hi_s) == (None, None)


@pytest.mark.parametrize("estimator", [None, SPEEDS])
def test_normal_round_where_nothing_is_known(estimator):
    plan = plan_round([client("a", "strange")], estimator, PlannerSettings(local_epochs=2), payload_bytes=0)
    (own,) = plan.clients
    assert math.isinf(plan.deadline_s)
    assert math.isinf(own.cutoff_s)
    assert (own.local_steps, own.local_epochs) == (20, 2)
    assert own.reason == "no prediction for any client: normal round, without cut-off"


def test_users_deadline_holds_where_nothing_is_known():
    options = PlannerSettings(local_epochs=2, deadline_s=3.0)
    plan = plan_round([client("a", "strange")], None, options, payload_bytes=1_000_000)
    assert plan.deadline_s == 3.0
    assert (plan.clients[0].local_steps, plan.clients[0].cutoff_s) == (20, pytest.approx(2.8))
    late = plan_round([client("a", "strange")], None, replace(options, deadline_s=0.1), payload_bytes=1_000_000)
    assert not late.clients[0].participates


def test_client_without_data_is_left_out():
    plan = plan_round([client("a"), client("b", samples=0)], SPEEDS, PlannerSettings(), payload_bytes=0)
    assert (plan.clients[1].participates, plan.clients[1].reason) == (False, "no training data")


def test_no_clients_is_an_empty_plan():
    assert plan_round([], SPEEDS, PlannerSettings(), payload_bytes=0).clients == ()


# What is neither link nor start-up ------------------------------------------------------------------------------------


def test_overhead_comes_off_the_cut_off_and_the_steps():
    state = client("a", startup_s=0.25, overhead_s=0.1)
    (own,) = plan_round([state], SPEEDS, PlannerSettings(deadline_s=1.0, **SURE), payload_bytes=1_000_000).clients
    assert own.cutoff_s == pytest.approx(0.7)
    assert own.local_steps == 4
    assert own.predicted_s == pytest.approx(0.2 + 0.1 + 0.25 + 0.4)


def test_a_doubtful_start_gets_its_margin_before_the_first_step():
    quantile = NormalDist().inv_cdf(0.95)
    state = client("a", fixed_sd_s=0.2)
    wanted = PlannerSettings(local_epochs=10, **SURE)
    (own,) = plan_round([state], SPEEDS, replace(wanted, deadline_s=5.0), payload_bytes=0).clients
    assert own.local_steps == math.floor((5.0 - quantile * 0.2) / 0.1)
    assert own.cutoff_s == pytest.approx(5.0 - quantile * 0.2)
    (own,) = plan_round([state], SPEEDS, replace(wanted, deadline_s=0.3), payload_bytes=0).clients
    assert not own.participates


# Energy ---------------------------------------------------------------------------------------------------------------

WATTS = Table({"fast": (0.1, 0.0), "slow": (0.5, 0.0)}, power_w={"fast": 10.0, "slow": 2.0})


def test_steps_are_cut_to_the_clients_own_budget():
    wanted = PlannerSettings(deadline_s=10.0, **SURE)
    plan = plan_round([client("a", energy_budget_j=7.5), client("b")], WATTS, wanted, payload_bytes=0)
    assert [own.local_steps for own in plan.clients] == [7, 10]
    assert plan.clients[0].reason == "7 of 10 steps to stay within its energy budget of 7.5 J"
    assert [own.predicted_energy_j for own in plan.clients] == pytest.approx([7.0, 10.0])


def test_the_budget_is_held_at_the_upper_end_of_energy():
    table = Table({"fast": (0.1, 0.0)}, spread=1.5, power_w={"fast": 10.0})
    wanted = PlannerSettings(deadline_s=100.0, **SURE)
    (own,) = plan_round([client("a", energy_budget_j=7.5)], table, wanted, payload_bytes=0).clients
    assert (own.local_steps, own.predicted_energy_hi_j) == (5, pytest.approx(7.5))


def test_a_smaller_batch_keeps_a_budget_that_the_preferred_one_breaks():
    table = Table({"gpu": (0.01, 0.01)}, power_w={"gpu": 10.0})
    wanted = PlannerSettings(batch_sizes=(8, 64), critical_batch_size=1000.0, min_steps=5, deadline_s=50.0, **SURE)
    (own,) = plan_round([client("a", "gpu", 1000, energy_budget_j=10.0)], table, wanted, payload_bytes=0).clients
    assert (own.batch_size, own.local_steps) == (8, 5)
    assert own.reason == "batch size 8 in place of 64, 5 of 16 steps to stay within its energy budget of 10 J"


def test_a_budget_below_the_fewest_useful_steps_leaves_out():
    wanted = PlannerSettings(min_steps=5, **SURE)
    plan = plan_round([client("a", energy_budget_j=4.0), client("b")], WATTS, wanted, payload_bytes=0)
    assert [own.participates for own in plan.clients] == [False, True]
    assert plan.clients[0].reason == "needs up to 5 J for the fewest useful steps, energy budget 4 J"


@pytest.mark.parametrize("known", [True, False])
def test_no_budget_is_promised_for_energy_that_nobody_knows(known):
    states = [client("a", energy_budget_j=5.0), client("b"), client("c", "strange", energy_budget_j=5.0)]
    table = SPEEDS if known else None
    left = plan_round(states, table, PlannerSettings(**SURE), payload_bytes=0)
    assert [own.participates for own in left.clients] == [False, True, False]
    assert left.clients[0].reason == "its energy per step is not known, so no energy budget can be kept"
    taken = plan_round(states, table, PlannerSettings(allow_unknown_energy=True, **SURE), payload_bytes=0)
    assert all(own.participates for own in taken.clients)
    fleet_wide = plan_round(states, table, PlannerSettings(energy_budget_j=1e9, **SURE), payload_bytes=0)
    assert not any(own.participates for own in fleet_wide.clients)


def test_equal_clients_share_the_fleets_budget_equally():
    wanted = PlannerSettings(local_epochs=2, energy_budget_j=60.0, deadline_s=10.0, **SURE)
    plan = plan_round(fleet(6, 0), WATTS, wanted, payload_bytes=0)
    assert [own.local_steps for own in plan.clients] == [10] * 6
    assert plan.clients[0].reason == "10 of 20 steps to keep the fleet within 60 J"


def test_joules_go_where_they_do_most():
    # A joule buys the same share of data from both; at a quarter of the price the optimum takes sixteen times the steps,
    # which is more than there are: what remains is for the others.
    table = Table({"fast": (0.1, 0.0), "slow": (0.1, 0.0)}, power_w={"fast": 40.0, "slow": 10.0})
    wanted = PlannerSettings(local_epochs=10, energy_budget_j=340.0, deadline_s=1000.0, **SURE)
    plan = plan_round([client("a"), client("b", "slow")], table, wanted, payload_bytes=0)
    assert [own.local_steps for own in plan.clients] == [60, 100]


def test_of_equal_clients_those_that_waited_longest_go_first():
    wanted = PlannerSettings(local_epochs=1, min_steps=10, energy_budget_j=25.0, deadline_s=10.0, **SURE)
    states = [client(f"f{i}", rounds_left_out=waited) for i, waited in enumerate([0, 3, 0, 1, 2])]
    plan = plan_round(states, WATTS, wanted, payload_bytes=0)
    assert [own.participates for own in plan.clients] == [False, True, False, False, True]
    assert plan.clients[0].reason == "the fleet's energy budget of 25 J is spent better on others"


def test_the_deadline_is_chosen_with_the_budget_in_force():
    wanted = PlannerSettings(local_epochs=2, **SURE)
    free = plan_round(fleet(5, 0), WATTS, wanted, payload_bytes=0)
    tight = plan_round(fleet(5, 0), WATTS, replace(wanted, energy_budget_j=50.0), payload_bytes=0)
    assert free.deadline_s == pytest.approx(2.0)
    # Half of the steps are affordable: after half of the time nothing more is done.
    assert tight.deadline_s == pytest.approx(1.0)
    assert [own.local_steps for own in tight.clients] == [10] * 5


# Turns ----------------------------------------------------------------------------------------------------------------

LAGGARD = Table({"fast": (0.1, 0.0), "slow": (3.0, 0.0), "slower": (100.0, 0.0)})


def waiting(rounds, device="slow", **more):
    return [*fleet(8, 0), client("s", device, rounds_left_out=rounds), client("t", device, rounds_left_out=0, **more)]


def test_a_client_that_was_left_out_for_long_has_its_turn():
    wanted = PlannerSettings(turn_after_rounds=3, **SURE)
    before = plan_round(waiting(2), LAGGARD, wanted, payload_bytes=0)
    turn = plan_round(waiting(3), LAGGARD, wanted, payload_bytes=0)
    assert before.deadline_s == pytest.approx(1.0)
    assert [own.participates for own in before.clients[8:]] == [False, False]
    # One long round serves all who need no more.
    assert turn.deadline_s == pytest.approx(3.0)
    assert [own.local_steps for own in turn.clients[8:]] == [1, 1]
    assert turn.clients[8].reason == "1 of 10 steps in its turn after 3 rounds left out, deadline 3 s"
    assert turn.clients[9].reason == "1 of 10 steps to meet the deadline of 3 s"


@pytest.mark.parametrize(
    ("rounds", "device", "changes"),
    [
        (99, "slower", {}),
        (99, "slow", {"deadline_s": 1.0}),
        (99, "slow", {"turn_after_rounds": None}),
        (99, "slow", {"turn_factor": 2}),
    ],
)
def test_there_is_no_turn_beyond_the_factor_the_users_deadline_or_the_wish(rounds, device, changes):
    wanted = PlannerSettings(**({"turn_after_rounds": 3} | SURE | changes))
    plan = plan_round(waiting(rounds, device), LAGGARD, wanted, payload_bytes=0)
    assert plan.deadline_s == pytest.approx(1.0)
    assert not plan.clients[8].participates
    assert "fewest useful steps, deadline 1 s" in plan.clients[8].reason


def test_there_is_no_turn_for_want_of_memory():
    table = Table({"fast": (0.1, 0.0), "slow": (3.0, 0.0)}, memory_per_sample=2**20)
    plan = plan_round(
        [*fleet(8, 0), client("s", "slow", rounds_left_out=99, memory_limit_bytes=2**20)],
        table,
        PlannerSettings(**SURE),
        payload_bytes=0,
    )
    assert plan.deadline_s == pytest.approx(1.0)
    assert "MiB" in plan.clients[8].reason


# The border -----------------------------------------------------------------------------------------------------------


def test_repeated_names_are_refused():
    with pytest.raises(ValueError, match="unique"):
        plan_round([client("a"), client("a")], SPEEDS, PlannerSettings(), payload_bytes=0)


def test_negative_payload_is_refused():
    with pytest.raises(ValueError, match="payload_bytes"):
        plan_round([client("a")], SPEEDS, PlannerSettings(), payload_bytes=-1)


def test_estimate_that_is_no_time_is_refused():
    with pytest.raises(ValueError, match="'fast' at batch size 16"):
        plan_round([client("a")], Table({"fast": (math.nan, 0.0)}), PlannerSettings(), payload_bytes=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"local_epochs": 0},
        {"batch_size": 0},
        {"batch_sizes": (0,)},
        {"min_steps": 0},
        {"local_epochs": 3, "max_epochs": 2},
        {"miss_risk": 0.0},
        {"miss_risk": 0.6},
        {"coverage": 0.0},
        {"server_s": -1.0},
        {"deadline_s": 0.0},
        {"deadline_s": math.inf},
        {"critical_batch_size": math.nan},
        {"step_noise": -0.1},
        {"energy_budget_j": 0.0},
        {"turn_after_rounds": 0},
        {"turn_factor": 0.5},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError):
        PlannerSettings(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": -1},
        {"startup_s": math.nan},
        {"overhead_s": -1.0},
        {"fixed_sd_s": math.inf},
        {"energy_budget_j": -1.0},
        {"rounds_left_out": -1},
    ],
)
def test_impossible_clients_are_refused(wrong):
    with pytest.raises(ValueError, match="client 'a'"):
        client("a", **wrong)


def test_plan_round_is_public():
    assert devprof.plan_round is plan_round


# Laws -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(fleets(), TABLE, options(), PAYLOAD)
def test_no_plan_exceeds_deadline_memory_or_data(clients, table, wanted, payload):
    plan = plan_round(clients, table, wanted, payload_bytes=payload, server_round=7)
    assert plan.server_round == 7
    assert [own.client for own in plan.clients] == [state.client for state in clients]
    quantile = NormalDist().inv_cdf(1 - wanted.miss_risk)
    for state, own in zip(clients, plan.clients, strict=True):
        if not own.participates:
            assert own.reason
            assert own.local_steps == 0
            continue
        per_epoch = -(-state.samples // own.batch_size)
        assert own.local_epochs == -(-own.local_steps // per_epoch)
        assert 1 <= own.local_steps <= (wanted.max_epochs or wanted.local_epochs) * per_epoch
        assert own.cutoff_s > 0
        found = table.estimate(state.device, own.batch_size)
        if found is None:
            continue
        assert own.local_steps >= min(wanted.min_steps, (wanted.max_epochs or wanted.local_epochs) * per_epoch)
        if state.memory_limit_bytes is not None:
            assert found.memory_hi_bytes <= state.memory_limit_bytes
        sd_s = math.hypot(
            math.sqrt(own.local_steps) * wanted.step_noise * found.step_s,
            own.local_steps * (found.step_s_hi - found.step_s) / Z90,
            state.fixed_sd_s,
        )
        outside_s = state.link.download_s(payload) + state.overhead_s + state.link.upload_s(payload)
        train_s = own.local_steps * found.step_s
        at_risk_s = outside_s + state.startup_s + train_s + quantile * sd_s
        assert at_risk_s <= plan.deadline_s * (1 + 1e-9) + 1e-6
        assert own.predicted_hi_s == pytest.approx(at_risk_s)
        # What goes as predicted is not cut off, and what ends at the cut-off is in time at the planned risk.
        assert state.startup_s + train_s <= own.cutoff_s * (1 + 1e-9) + 1e-6
        assert own.cutoff_s + outside_s + quantile * state.fixed_sd_s == pytest.approx(plan.deadline_s)


@settings(max_examples=200, deadline=None)
@given(fleets(), TABLE, options(), PAYLOAD)
def test_no_plan_exceeds_a_budget_of_energy(clients, table, wanted, payload):
    plan = plan_round(clients, table, wanted, payload_bytes=payload)
    total_j = 0.0
    for state, own in zip(clients, plan.clients, strict=True):
        found = table.estimate(state.device, own.batch_size)
        known = found is not None and found.energy_per_step_j_hi is not None
        budgeted = state.energy_budget_j is not None or wanted.energy_budget_j is not None
        if not own.participates:
            continue
        assert known or wanted.allow_unknown_energy or not budgeted
        if not known:
            assert own.predicted_energy_j is None
            assert own.predicted_energy_hi_j is None
            continue
        energy_j = own.local_steps * found.energy_per_step_j_hi
        assert own.predicted_energy_hi_j == pytest.approx(energy_j)
        assert own.predicted_energy_j == pytest.approx(own.local_steps * found.energy_per_step_j)
        assert state.energy_budget_j is None or energy_j <= state.energy_budget_j * (1 + 1e-6)
        total_j += energy_j
    assert wanted.energy_budget_j is None or total_j <= wanted.energy_budget_j * (1 + 1e-6)


@settings(max_examples=150, deadline=None)
@given(fleets(), TABLE, options(), PAYLOAD, st.tuples(st.floats(0.01, 500), st.floats(0.01, 5000), st.floats(1, 10)))
def test_more_energy_for_the_fleet_never_means_fewer_steps(clients, table, wanted, payload, limits):
    deadline_s, budget_j, factor = limits
    # At one deadline: with more energy another one may be best, and cut a client that more energy does not help.
    less, more = (
        plan_round(clients, table, replace(wanted, deadline_s=deadline_s, energy_budget_j=limit), payload_bytes=payload)
        for limit in (budget_j, budget_j * factor)
    )
    for before, after in zip(less.clients, more.clients, strict=True):
        assert after.local_steps >= before.local_steps


@settings(max_examples=150, deadline=None)
@given(fleets(), TABLE, options(), PAYLOAD, st.tuples(st.floats(0.01, 500), st.floats(1, 10)))
def test_a_larger_budget_of_its_own_never_means_fewer_steps(clients, table, wanted, payload, limits):
    deadline_s, factor = limits
    wanted = replace(wanted, deadline_s=deadline_s, energy_budget_j=None)
    richer = [
        state if state.energy_budget_j is None else replace(state, energy_budget_j=state.energy_budget_j * factor)
        for state in clients
    ]
    less, more = (plan_round(states, table, wanted, payload_bytes=payload) for states in (clients, richer))
    for before, after in zip(less.clients, more.clients, strict=True):
        assert after.local_steps >= before.local_steps


@settings(max_examples=100, deadline=None)
@given(fleets(), TABLE, options(), PAYLOAD, st.tuples(st.floats(0.01, 500), st.floats(1, 10)))
def test_more_time_never_means_fewer_steps(clients, table, wanted, payload, deadlines):
    # Where all share a budget of energy, more time for one may leave fewer joules for another.
    wanted = replace(wanted, energy_budget_j=None)
    short, long = (
        plan_round(clients, table, replace(wanted, deadline_s=limit), payload_bytes=payload)
        for limit in (deadlines[0], deadlines[0] * deadlines[1])
    )
    for before, after in zip(short.clients, long.clients, strict=True):
        assert after.local_steps >= before.local_steps
        assert after.participates >= before.participates


@settings(max_examples=100, deadline=None)
@given(fleets(), TABLE, options(), PAYLOAD, st.randoms(use_true_random=False))
def test_order_of_clients_changes_nothing(clients, table, wanted, payload, random):
    shuffled = list(clients)
    random.shuffle(shuffled)
    one, other = (plan_round(states, table, wanted, payload_bytes=payload) for states in (clients, shuffled))
    assert one.deadline_s == other.deadline_s
    assert sorted(one.clients, key=lambda own: own.client) == sorted(other.clients, key=lambda own: own.client)


@settings(max_examples=100, deadline=None)
@given(fleets(), TABLE, options(), PAYLOAD)
def test_chosen_deadline_covers_enough_data(clients, table, wanted, payload):
    wanted = replace(wanted, deadline_s=None, energy_budget_j=None)
    plan = plan_round(clients, table, wanted, payload_bytes=payload)
    able = [
        (state, own)
        for state, own in zip(clients, plan.clients, strict=True)
        if state.samples and state.device in LINES and (own.participates or not re.search("MiB|energy", own.reason))
    ]
    total = sum(state.samples for state, _ in able)
    taken = sum(state.samples for state, own in able if own.participates)
    assert taken >= wanted.coverage * total * (1 - 1e-6) - 1e-6


def test_each_device_is_asked_about_once_per_batch_size():
    table = Table(LINES)
    plan_round([client(str(i), "abc"[i % 3]) for i in range(30)], table, PlannerSettings(), payload_bytes=0)
    assert sorted(table.asked) == [("a", 16), ("b", 16), ("c", 16)]


def test_ten_thousand_clients_need_no_more_estimates_than_three():
    table = Table(LINES, 1.2)
    states = [client(str(i), "abc"[i % 3], 100 + i % 400) for i in range(10_000)]
    plan = plan_round(states, table, PlannerSettings(local_epochs=2), payload_bytes=1e6)
    assert len(plan.clients) == 10_000
    assert len(table.asked) == 3
