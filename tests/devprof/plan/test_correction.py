from __future__ import annotations

import math

import pytest

from devprof.plan.correction import CorrectedEstimator
from devprof.plan.estimator import BoardEstimator
from devprof.records import Estimate


class Base:
    """0.1 s at any batch size on ``board``, nothing elsewhere."""

    def estimate(self, device, batch_size):
        if device != "board":
            return None
        return Estimate(0.1, 0.1 / 1.3, 0.1 * 1.3, "new-family", memory_hi_bytes=5.0, energy_per_step_j=2.0)


def width(estimate):
    return math.log(estimate.step_s_hi / estimate.step_s_lo)


def test_without_observations_the_base_speaks():
    assert CorrectedEstimator(Base()).estimate("board", 8) == Base().estimate("board", 8)
    assert CorrectedEstimator(Base()).estimate("other", 8) is None
    assert CorrectedEstimator().estimate("board", 8) is None


def test_centre_moves_and_interval_shrinks_with_observations():
    estimator = CorrectedEstimator(Base())
    widths, centres = [width(estimator.estimate("board", 8))], []
    for _ in range(6):
        estimator.observe("board", 8, 0.12)
        widths.append(width(estimator.estimate("board", 8)))
        centres.append(estimator.estimate("board", 8).step_s)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.6 * widths[0]
    assert centres == sorted(centres)
    assert centres[-1] == pytest.approx(0.12, rel=0.01)


def test_factor_applies_at_every_batch_size_and_to_energy_but_not_memory():
    estimator = CorrectedEstimator(Base())
    for _ in range(10):
        estimator.observe("board", 8, 0.12)
    estimate = estimator.estimate("board", 64)
    assert estimate.step_s == pytest.approx(0.12, rel=0.01)
    assert estimate.energy_per_step_j == pytest.approx(2.4, rel=0.01)
    assert estimate.memory_hi_bytes == 5.0
    assert estimate.basis == "observed"


def test_the_interval_of_energy_keeps_the_doubt_about_power():
    class Metered:
        def estimate(self, device, batch_size):
            low, high = 0.1 / 1.3, 0.1 * 1.3
            spread = math.exp(math.hypot(math.log(1.3), math.log(1.2)))
            energy = {"energy_per_step_j_lo": 2 / spread, "energy_per_step_j_hi": 2 * spread, "power_w": 20.0}
            return Estimate(0.1, low, high, "new-family", energy_per_step_j=2.0, **energy)

    estimator = CorrectedEstimator(Metered())
    for _ in range(20):
        estimator.observe("board", 8, 0.12)
    one = estimator.estimate("board", 64)
    assert one.power_w == 20.0
    assert one.energy_per_step_j == pytest.approx(20.0 * one.step_s)
    spread = math.exp(math.hypot(math.log(one.step_s_hi / one.step_s), math.log(1.2)))
    assert one.energy_per_step_j_hi == pytest.approx(one.energy_per_step_j * spread)
    assert one.energy_per_step_j_lo == pytest.approx(one.energy_per_step_j / spread)


def test_energy_without_an_interval_stays_without():
    estimator = CorrectedEstimator(Base())
    estimator.observe("board", 8, 0.12)
    estimate = estimator.estimate("board", 8)
    assert estimate.energy_per_step_j_lo is estimate.energy_per_step_j_hi is None


def test_single_absurd_value_does_little_harm():
    estimator = CorrectedEstimator(Base())
    for _ in range(8):
        estimator.observe("board", 8, 0.1)
    estimator.observe("board", 8, 1000.0)
    assert estimator.correction("board") < 1.2
    estimator.observe("board", 8, 0.1)
    assert estimator.correction("board") == pytest.approx(1.0, abs=0.1)


def test_throttling_is_learned_in_two_rounds():
    estimator = CorrectedEstimator(Base())
    for _ in range(8):
        estimator.observe("board", 8, 0.1)
    estimator.observe("board", 8, 0.25)
    assert estimator.correction("board") < 1.3
    estimator.observe("board", 8, 0.26)
    assert estimator.correction("board") == pytest.approx(2.55, rel=0.01)


def test_two_absurd_values_that_disagree_are_not_believed():
    estimator = CorrectedEstimator(Base())
    for _ in range(8):
        estimator.observe("board", 8, 0.1)
    estimator.observe("board", 8, 100.0)
    estimator.observe("board", 8, 1.0)
    assert estimator.correction("board") < 1.5


def test_throttling_board_does_not_slow_its_kin():
    estimator = CorrectedEstimator(Base())
    assert isinstance(estimator, BoardEstimator)
    for _ in range(5):
        for board in ("a", "b", "c", "d"):
            estimator.observe("board", 8, 0.3 if board == "d" else 0.1, board=board)
    assert estimator.estimate_board("a", "board", 8).step_s == pytest.approx(0.1, rel=0.02)
    assert estimator.estimate_board("d", "board", 8).step_s == pytest.approx(0.3, rel=0.02)
    assert estimator.estimate_board("new", "board", 8).step_s < 0.15


def test_new_board_starts_from_its_kin():
    estimator = CorrectedEstimator(Base())
    for _ in range(5):
        estimator.observe("board", 8, 0.14, board="a")
    assert estimator.estimate_board("b", "board", 8).step_s == pytest.approx(0.14, rel=0.05)


def test_forgotten_board_returns_to_the_base():
    estimator = CorrectedEstimator(Base())
    for _ in range(3):
        estimator.observe("board", 8, 0.2, board="a")
        estimator.observe("other", 8, 0.2, board="a")
    estimator.forget("a", "board")
    assert estimator.estimate_board("a", "board", 8) == Base().estimate("board", 8)
    estimator.forget("a", "other")
    assert estimator.estimate("other", 8) is None


def test_forgetting_one_board_keeps_what_its_kin_taught():
    estimator = CorrectedEstimator(Base())
    for board in "aabb":
        estimator.observe("board", 8, 0.12, board=board)
    estimator.forget("a", "board")
    assert estimator.correction("board", "a") > 1.05


def test_device_unknown_to_the_base_is_known_where_it_was_observed():
    estimator = CorrectedEstimator(Base())
    estimator.observe("other", 8, 0.4)
    estimate = estimator.estimate("other", 8)
    assert estimate.step_s == pytest.approx(0.4)
    assert estimate.basis == "observed"
    first = width(estimate)
    estimator.observe("other", 8, 0.4)
    assert width(estimator.estimate("other", 8)) < first


def test_two_observed_batch_sizes_give_a_line():
    estimator = CorrectedEstimator()
    estimator.observe("other", 8, 0.2 + 8 * 0.01)
    estimator.observe("other", 32, 0.2 + 32 * 0.01)
    assert estimator.estimate("other", 16).step_s == pytest.approx(0.36)


@pytest.mark.parametrize("step_s", [0.0, -1.0, math.nan, math.inf])
def test_impossible_observation_is_refused(step_s):
    with pytest.raises(ValueError, match="positive"):
        CorrectedEstimator().observe("board", 8, step_s)


# Energy of a board with a meter ----------------------------------------------------------------------------------------


def test_a_board_with_a_meter_tells_the_energy_of_its_steps():
    estimator = CorrectedEstimator()
    for _ in range(8):
        estimator.observe("rpi4", 16, 0.5, board="garage", power_w=6.0)
    found = estimator.estimate_board("garage", "rpi4", 16)
    assert found.energy_per_step_j == pytest.approx(3.0)
    assert found.power_w == pytest.approx(6.0)
    assert found.energy_per_step_j_lo < 3.0 < found.energy_per_step_j_hi
    # What one board draws says nothing of another's supply and peripherals.
    assert estimator.estimate_board("attic", "rpi4", 16).energy_per_step_j is None
    estimator.forget("garage", "rpi4")
    assert estimator.estimate_board("garage", "rpi4", 16) is None


@pytest.mark.parametrize("power_w", [0.0, -1.0, math.inf, math.nan])
def test_impossible_power_is_refused(power_w):
    with pytest.raises(ValueError, match="power_w"):
        CorrectedEstimator().observe("rpi4", 16, 0.5, board="garage", power_w=power_w)


def test_claims_of_speed_are_believed_to_a_point():
    class Base:
        def estimate(self, device, batch_size):
            return Estimate(0.1, 0.1 / 1.1, 0.1 * 1.1, "known-pair")

    fast, slow = CorrectedEstimator(Base()), CorrectedEstimator(Base())
    for _ in range(20):
        fast.observe("rpi4", 16, 1e-6, board="liar")
        slow.observe("rpi4", 16, 1e6, board="liar")
    assert fast.estimate_board("liar", "rpi4", 16).step_s >= 0.1 / 4.01
    assert slow.estimate_board("liar", "rpi4", 16).step_s <= 0.1 * 32.1
