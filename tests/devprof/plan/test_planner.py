from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import devprof
from devprof.plan.estimator import Z90
from devprof.plan.planner import ClientState, PlannerSettings, plan_round
from devprof.plan.roundtime import round_time
from devprof.records import Estimate, Link

LINK = Link(up_mbps=80.0, down_mbps=80.0)
SURE = {"step_noise": 0.0}


class Table:
    """Affine step times by device: (constant, per sample); the upper bound ``spread`` times the centre."""

    def __init__(self, lines, spread=1.0, memory_per_sample=None):
        self.lines = lines
        self.spread = spread
        self.memory_per_sample = memory_per_sample
        self.asked = []

    def estimate(self, device, batch_size):
        self.asked.append((device, batch_size))
        if device not in self.lines:
            return None
        constant_s, per_sample_s = self.lines[device]
        step_s = constant_s + per_sample_s * batch_size
        memory = None if self.memory_per_sample is None else float(self.memory_per_sample * batch_size)
        return Estimate(step_s, step_s / self.spread, step_s * self.spread, "known-pair", memory_hi_bytes=memory)


def client(name, device="fast", samples=160, **more):
    return ClientState(
        **({"client": name, "device": device, "processor": "cpu", "samples": samples, "link": LINK} | more)
    )


def fleet(fast, slow):
    return [client(f"f{i}") for i in range(fast)] + [client(f"s{i}", "slow") for i in range(slow)]


SPEEDS = Table({"fast": (0.1, 0.0), "slow": (0.5, 0.0)})


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
    assert math.isinf(probe.predicted_s)


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
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError):
        PlannerSettings(**wrong)


@pytest.mark.parametrize("wrong", [{"samples": -1}, {"startup_s": math.nan}])
def test_impossible_clients_are_refused(wrong):
    with pytest.raises(ValueError, match="client 'a'"):
        client("a", **wrong)


def test_plan_round_is_public():
    assert devprof.plan_round is plan_round


# Laws -----------------------------------------------------------------------------------------------------------------

LINES = {"a": (0.2, 0.01), "b": (0.01, 0.05), "c": (1.0, 0.2)}


@st.composite
def fleets(draw):
    count = draw(st.integers(1, 8))
    return [
        ClientState(
            client=f"c{index}",
            device=draw(st.sampled_from(["a", "b", "c", "unknown"])),
            processor="cpu",
            samples=draw(st.integers(0, 500)),
            link=Link(draw(st.floats(0.1, 1000)), draw(st.floats(0.1, 1000)), draw(st.floats(0, 2))),
            startup_s=draw(st.floats(0, 20)),
            memory_limit_bytes=draw(st.none() | st.integers(1, 200)),
        )
        for index in range(count)
    ]


@st.composite
def options(draw):
    epochs = draw(st.integers(1, 5))
    return PlannerSettings(
        local_epochs=epochs,
        batch_size=draw(st.sampled_from([8, 16])),
        batch_sizes=draw(st.sampled_from([(), (8,), (4, 16, 64), (32, 128)])),
        min_steps=draw(st.integers(1, 8)),
        max_epochs=draw(st.none() | st.integers(epochs, 10)),
        miss_risk=draw(st.floats(0.001, 0.5)),
        coverage=draw(st.floats(0.1, 1.0)),
        server_s=draw(st.floats(0, 100)),
        deadline_s=draw(st.none() | st.floats(0.01, 1000)),
        critical_batch_size=draw(st.floats(0, 1000)),
        step_noise=draw(st.floats(0, 1)),
    )


TABLE = st.builds(lambda spread: Table(LINES, spread=spread, memory_per_sample=1), st.floats(1, 3))
PAYLOAD = st.floats(0, 1e7)


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
        )
        fixed_s = state.link.download_s(payload) + state.startup_s + state.link.upload_s(payload)
        at_risk_s = fixed_s + own.local_steps * found.step_s + quantile * sd_s
        assert at_risk_s <= plan.deadline_s * (1 + 1e-9) + 1e-7
        assert own.predicted_hi_s == pytest.approx(at_risk_s)


@settings(max_examples=100, deadline=None)
@given(fleets(), TABLE, options(), PAYLOAD, st.tuples(st.floats(0.01, 500), st.floats(1, 10)))
def test_more_time_never_means_fewer_steps(clients, table, wanted, payload, deadlines):
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
    wanted = replace(wanted, deadline_s=None)
    plan = plan_round(clients, table, wanted, payload_bytes=payload)
    able = [
        (state, own)
        for state, own in zip(clients, plan.clients, strict=True)
        if state.samples and state.device in LINES and "MiB" not in own.reason
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
