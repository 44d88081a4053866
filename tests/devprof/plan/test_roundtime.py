from __future__ import annotations

import math

import pytest

from devprof.plan.roundtime import round_time, steps_per_epoch
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
