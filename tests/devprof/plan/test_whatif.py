from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from planning import Table

from devprof.plan.columns import FleetArrays, StepCosts
from devprof.plan.planner import PlannerSettings
from devprof.plan.whatif import DROP, PLANNED, TAU, WAIT, Question, compare, sweep_deadlines, sweep_epochs

TABLE = Table({"fast": (0.1, 0.0), "slow": (0.5, 0.0)}, power_w={"fast": 10.0, "slow": 2.0}, memory_per_sample=2**20)
# Five clients with ten batches of 16: a pass takes 1 s on the three fast ones and 5 s on the two slow ones.
CLIENTS = FleetArrays(samples=[160] * 5, device=[0, 0, 0, 1, 1])
SETTINGS = PlannerSettings(local_epochs=2, step_noise=0.0)


def question(clients=CLIENTS, settings=SETTINGS, table=TABLE, processors=("gpu", "gpu", "gpu", "cpu", "cpu")):
    def costs(sizes):
        return StepCosts.of(
            [[table.estimate(name, size) for size in sizes] for name in ("fast", "slow", "strange")], sizes
        )

    return Question(clients, costs(settings.candidates), costs([settings.batch_size]), processors, settings, 0.0)


def test_the_four_ways_cost_what_arithmetic_says():
    wait, drop, tau, planned = compare(question())
    assert [one.name for one in (wait, drop, tau, planned)] == [WAIT, DROP, TAU, PLANNED]
    assert (wait.round_s, wait.deadline_s, wait.clients) == (pytest.approx(10.0), None, 5)
    assert (wait.work_share, wait.effective_work, wait.lost_share) == pytest.approx((1.0, 1.0, 0.0))
    assert wait.energy_j == pytest.approx(3 * 20 * 1.0 + 2 * 20 * 1.0)
    assert wait.epochs_per_hour == pytest.approx(2 / 10 * 3600)
    # The median client is a fast one: the slow two train for nothing, and their joules are spent all the same.
    assert (drop.deadline_s, drop.round_s, drop.clients) == (pytest.approx(2.0), pytest.approx(2.0), 3)
    assert (drop.work_share, drop.effective_work, drop.lost_share) == pytest.approx((0.6, 0.36, 0.4))
    assert drop.energy_j == wait.energy_j
    # Tau is the round of the fast: the slow do four of twenty steps.
    assert (tau.round_s, tau.clients) == (pytest.approx(2.0), 5)
    assert (tau.work_share, tau.lost_share) == pytest.approx((0.6 + 0.4 * 0.2, 0.0))
    assert tau.effective_work == pytest.approx((0.6 + 0.4 * math.sqrt(0.2)) ** 2)
    assert tau.lost_if_dropped_share == pytest.approx(0.4)
    assert tau.energy_j == pytest.approx(60.0 + 2 * 4 * 1.0)
    assert (planned.deadline_s, planned.work_share) == (pytest.approx(2.0), pytest.approx(tau.work_share))


def test_tau_lets_every_client_do_one_step():
    clients = replace(CLIENTS, startup_s=[0.0, 0.0, 0.0, 30.0, 30.0])
    tau = compare(question(clients))[2]
    assert (tau.clients, tau.round_s) == (5, pytest.approx(30.5))


def test_clients_that_nothing_is_predicted_of_are_not_compared():
    clients = FleetArrays(samples=[160, 160, 160, 0], device=[0, 2, 1, 0])
    wait, *_, planned = compare(question(clients, processors=("a", "b", "c", "d")))
    assert (wait.clients, planned.clients) == (2, 2)
    assert wait.work_share == pytest.approx(1.0)
    assert compare(question(FleetArrays([160], 2), processors=("a",))) == []
    assert sweep_deadlines(question(FleetArrays([160], 2), processors=("a",))) == []


def test_a_batch_that_does_not_fit_keeps_a_client_out_of_the_plain_ways_only():
    clients = replace(CLIENTS, memory_limit_bytes=[np.nan, np.nan, np.nan, 8 * 2**20, 8 * 2**20])
    wait, *_, planned = compare(question(clients, replace(SETTINGS, batch_sizes=(8, 16))))
    assert (wait.clients, wait.work_share) == (3, pytest.approx(0.6))
    assert planned.clients == 5


def test_unknown_joules_are_no_joules():
    table = Table({"fast": (0.1, 0.0), "slow": (0.5, 0.0)}, power_w={"fast": 10.0})
    assert [one.energy_j for one in compare(question(table=table))] == [None] * 4


def test_later_deadlines_leave_more_work_done():
    choices = sweep_deadlines(question(), 6)
    assert choices[0].deadline_s == pytest.approx(0.5)
    assert choices[-1].deadline_s == pytest.approx(10.0)
    work = [one.work_share for one in choices]
    assert work == sorted(work)
    assert work[-1] == pytest.approx(1.0)
    lost = [one.lost_if_dropped_share for one in choices]
    assert (lost[0], lost[-1]) == pytest.approx((1.0, 0.0))


def test_more_epochs_are_longer_rounds():
    choices = sweep_epochs(question(settings=replace(SETTINGS, max_epochs=2)), [1, 2, 4])
    assert [one.local_epochs for one in choices] == [1, 2, 4]
    assert [one.round_s for one in choices] == pytest.approx([1.0, 2.0, 4.0])
    assert choices[0].name == "1 local epoch"


def test_a_budget_of_energy_holds_for_the_planned_round_only():
    wait, *_, planned = compare(question(settings=replace(SETTINGS, energy_budget_j=40.0)))
    assert wait.energy_j == pytest.approx(100.0)
    assert planned.energy_j <= 40.0
