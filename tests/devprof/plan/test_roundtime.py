from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.plan.roundtime import (
    ClientRounds,
    RoundTime,
    StepTimes,
    find_faults,
    round_time,
    round_times,
    steps_per_epoch,
)
from devprof.records import Estimate, Link

ESTIMATE = Estimate(0.1, 0.08, 0.15, "known-pair")
LINK = Link(up_mbps=8.0, down_mbps=80.0, latency_s=0.5)


def test_round_is_download_startup_steps_upload():
    time = round_time(ESTIMATE, epochs=3, samples=100, batch_size=16, payload_bytes=1_000_000, link=LINK, startup_s=2.0)
    assert time.steps == 3 * 7
    assert time.download_s == pytest.approx(0.6)
    assert time.upload_s == pytest.approx(1.5)
    assert time.train_s == pytest.approx(2.1)
    assert time.total_s == pytest.approx(0.6 + 2.0 + 2.1 + 1.5)
    assert time.total_lo_s == pytest.approx(4.1 + 21 * 0.08)
    assert time.total_hi_s == pytest.approx(4.1 + 21 * 0.15)


def test_partial_batch_is_a_step():
    assert [steps_per_epoch(samples, 16) for samples in (1, 16, 17)] == [1, 1, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"samples": 0},
        {"batch_size": 0},
        {"payload_bytes": -1},
        {"payload_bytes": math.nan},
        {"startup_s": -1},
        {"startup_s": math.inf},
        {"estimate": Estimate(0.1, 0.2, 0.3, "known-pair")},
        {"estimate": Estimate(math.nan, math.nan, math.nan, "known-pair")},
    ],
)
def test_nonsense_is_refused(wrong):
    arguments = {"estimate": ESTIMATE, "epochs": 1, "samples": 10, "batch_size": 2, "payload_bytes": 0, "link": LINK}
    arguments |= wrong
    with pytest.raises(ValueError):
        round_time(arguments.pop("estimate"), **arguments)


PARTIAL = Estimate(0.04, 0.03, 0.05, "known-pair")
ROUND = {"epochs": 3, "samples": 100, "batch_size": 16, "payload_bytes": 1_000_000, "link": LINK, "startup_s": 2.0}


def test_the_partial_batch_costs_a_step_of_its_own_size():
    time = round_time(ESTIMATE, **ROUND, partial=PARTIAL)
    assert time.steps == 3 * 7
    assert time.train_s == pytest.approx(3 * (6 * 0.1 + 0.04))
    assert time.total_lo_s == pytest.approx(4.1 + 3 * (6 * 0.08 + 0.03))
    assert time.total_hi_s == pytest.approx(4.1 + 3 * (6 * 0.15 + 0.05))
    assert not time.partial_as_full


def test_without_its_estimate_the_partial_batch_is_an_upper_bound_and_the_result_says_so():
    assert round_time(ESTIMATE, **ROUND).partial_as_full
    assert not round_time(ESTIMATE, **ROUND | {"samples": 96}).partial_as_full


def test_less_data_than_a_batch_is_one_partial_batch():
    time = round_time(ESTIMATE, **ROUND | {"samples": 5}, partial=PARTIAL)
    assert (time.steps, time.train_s) == (3, pytest.approx(3 * 0.04))


def test_drop_last_does_as_torchs_loader_does():
    time = round_time(ESTIMATE, **ROUND, partial=PARTIAL, drop_last=True, data_s_per_sample=0.001)
    assert time.steps == 3 * 6
    assert time.train_s == pytest.approx(3 * 6 * 0.1)
    assert time.data_s == pytest.approx(3 * 96 * 0.001)
    assert not time.partial_as_full
    assert round_time(ESTIMATE, **ROUND | {"samples": 5}, drop_last=True).steps == 0


def test_loading_is_added_to_centre_and_both_ends():
    bare = round_time(ESTIMATE, **ROUND)
    time = round_time(ESTIMATE, **ROUND, data_s_per_sample=0.01, data_s_per_batch=0.02)
    assert time.data_s == pytest.approx(3 * (100 * 0.01 + 7 * 0.02))
    assert time.train_s == bare.train_s
    for name in ("total_s", "total_lo_s", "total_hi_s"):
        assert getattr(time, name) == pytest.approx(getattr(bare, name) + time.data_s)


def test_heat_slows_steps_and_loading_but_neither_transfers_nor_start_up():
    cool = round_time(ESTIMATE, **ROUND, data_s_per_sample=0.01)
    hot = round_time(ESTIMATE, **ROUND, data_s_per_sample=0.01, thermal_factor=1.5)
    assert hot.train_s == pytest.approx(1.5 * cool.train_s)
    assert hot.data_s == pytest.approx(1.5 * cool.data_s)
    assert (hot.download_s, hot.startup_s, hot.upload_s) == (cool.download_s, cool.startup_s, cool.upload_s)
    assert hot.total_s == pytest.approx(cool.total_s + 0.5 * (cool.train_s + cool.data_s))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 1.5},
        {"samples": 2**31},
        {"data_s_per_sample": -0.1},
        {"data_s_per_batch": math.inf},
        {"thermal_factor": 0.9},
        {"thermal_factor": math.nan},
        {"partial": Estimate(0.1, 0.2, 0.3, "known-pair")},
    ],
)
def test_nonsense_about_loading_heat_and_partial_batches_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
        round_time(ESTIMATE, **ROUND | wrong)


def fleet(**changes):
    values = {"epochs": [1, 2, 3], "samples": [100, 96, 5], "batch_sizes": [16, 16, 8]}
    steps = StepTimes([0.1, 0.2, 0.3], [0.08, 0.1, 0.2], [0.2, 0.3, 0.4])
    return ClientRounds(**{"steps": steps} | values | changes)


def test_many_clients_are_as_each_alone():
    partial = StepTimes([0.04, math.nan, math.nan], [0.03, math.nan, math.nan], [0.05, math.nan, math.nan])
    heat, down = [1.0, 1.2, 1.5], [80.0, 8.0, math.inf]
    times = round_times(fleet(partial=partial, thermal_factor=heat, down_mbps=down, payload_bytes=1e6, latency_s=0.1))
    for at, (step, lo, hi) in enumerate(((0.1, 0.08, 0.2), (0.2, 0.1, 0.3), (0.3, 0.2, 0.4))):
        alone = round_time(
            Estimate(step, lo, hi, "known-pair"),
            epochs=at + 1,
            samples=(100, 96, 5)[at],
            batch_size=(16, 16, 8)[at],
            payload_bytes=1e6,
            link=Link(math.inf, down[at], latency_s=0.1),
            partial=PARTIAL if at == 0 else None,
            thermal_factor=heat[at],
        )
        assert {name: getattr(times, name)[at] for name in RoundTime.__slots__} == dataclasses.asdict(alone)
    assert times.partial_as_full.tolist() == [False, False, True]


def test_the_first_impossible_client_is_named():
    with pytest.raises(ValueError, match=r"up_mbps must be positive, got -1\.0 \(client 1\)"):
        round_times(fleet(up_mbps=[1.0, -1.0, -2.0]))


def test_faults_name_all_clients_that_break_a_rule():
    (fault,) = find_faults({"epochs": [1, 0, 2.5], "thermal_factor": 1.0})
    assert (fault.name, fault.wrong.tolist()) == ("epochs", [False, True, True])


counts = st.integers(1, 1000)


@given(st.tuples(counts, counts, counts), st.floats(1e-6, 10), st.floats(0, 1), st.floats(1, 3), st.booleans())
def test_a_round_is_the_sum_of_its_parts_and_never_above_the_bound(whole, step_s, share, heat, drop_last):
    epochs, samples, batch_size = whole
    partial = Estimate(*(step_s * (0.01 + 0.99 * share) * factor for factor in (1, 0.9, 1.1)), "known-pair")
    arguments = {
        "epochs": epochs,
        "samples": samples,
        "batch_size": batch_size,
        "payload_bytes": 1e6,
        "link": LINK,
        "data_s_per_sample": share / 10,
        "thermal_factor": heat,
        "drop_last": drop_last,
    }
    full = Estimate(step_s, step_s * 0.9, step_s * 1.1, "known-pair")
    time, bound = round_time(full, **arguments, partial=partial), round_time(full, **arguments)
    parts = time.download_s + time.startup_s + time.train_s + time.data_s + time.upload_s
    assert time.total_s == pytest.approx(parts)
    assert time.total_lo_s <= time.total_s <= time.total_hi_s
    assert time.total_s <= bound.total_s * (1 + 1e-12)
    assert time.steps == epochs * (samples // batch_size + (samples % batch_size > 0 and not drop_last))
