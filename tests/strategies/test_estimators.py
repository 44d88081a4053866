from __future__ import annotations

import logging
import math

import pytest

from devprof.errors import UnknownNameError
from devprof.records import Estimate
from strategies.estimators import CostModelEstimator, MeasuredEstimator


class FakeCostModel:
    def __init__(self):
        self.asked = []
        self.devices = ("rpi4",)

    def predict(self, device, model, mode, batch_size, *, image_size=None, num_classes=None):
        self.asked.append((device, model, mode, batch_size, image_size, num_classes))
        if device != "rpi4":
            raise UnknownNameError("device", device, ["rpi4"], "Measure it first.")
        if model == "nonsense":
            raise UnknownNameError("model", model, [])
        return Estimate(0.1 * batch_size, 0.09 * batch_size, 0.11 * batch_size, "known-pair")


def test_cost_model_is_asked_about_the_workload_once():
    model = FakeCostModel()
    estimator = CostModelEstimator(model, "resnet18", "head", image_size=224, num_classes=10)
    assert estimator.estimate("rpi4", 8) == estimator.estimate("rpi4", 8)
    assert estimator.estimate("rpi4", 8).step_s == pytest.approx(0.8)
    assert model.asked == [("rpi4", "resnet18", "head", 8, 224, 10)]


def test_unknown_device_is_said_once(caplog):
    model = FakeCostModel()
    estimator = CostModelEstimator(model, "resnet18")
    with caplog.at_level(logging.WARNING):
        found = [estimator.estimate("jetson", size) for size in (8, 16, 8)]
    assert len(caplog.records) == 1
    assert "does not know the device 'jetson' (it knows rpi4)" in caplog.text
    assert len(model.asked) == 2
    assert found[0] == found[2]
    assert found[0].basis == "new-device"
    assert found[0].step_s == pytest.approx(0.8)
    # One known device says nothing of how devices differ: at least a factor of five each way.
    assert found[0].step_s_hi / found[0].step_s >= 5.0


def test_never_seen_device_is_the_middle_of_those_known():
    class Three(FakeCostModel):
        def __init__(self):
            super().__init__()
            self.devices = ("a", "b", "c")

        def predict(self, device, model, mode, batch_size, **_):
            step_s = {"a": 0.01, "b": 0.1, "c": 10.0}[device]
            memory = {"a": 1e9, "b": 2e9, "c": 4e9}[device]
            return Estimate(
                step_s, step_s / 1.1, step_s * 1.1, "known-pair", memory_bytes=memory, memory_hi_bytes=memory
            )

    found = CostModelEstimator(Three(), "resnet18").estimate("never seen", 16)
    assert found.step_s == pytest.approx(0.1)
    assert found.step_s_lo < 0.01
    assert found.step_s_hi > 10.0
    assert (found.memory_bytes, found.memory_hi_bytes) == (2e9, 4e9)
    assert found.energy_per_step_j is None


def test_unknown_model_is_an_error():
    with pytest.raises(UnknownNameError, match="unknown model"):
        CostModelEstimator(FakeCostModel(), "nonsense").estimate("rpi4", 8)


def test_known_numbers_are_returned_and_interpolated():
    estimator = MeasuredEstimator({"rpi4": {8: 0.2, 16: 0.3}}, log_sd=0.0)
    assert estimator.estimate("rpi4", 16).step_s == 0.3
    assert estimator.estimate("rpi4", 12).step_s == pytest.approx(0.25)
    assert estimator.estimate("rpi5", 16) is None


@pytest.mark.parametrize("points", [{}, {8: -1.0}, {8: math.nan}])
def test_impossible_numbers_are_refused_with_the_device(points):
    with pytest.raises(ValueError, match="'rpi4'"):
        MeasuredEstimator({"rpi4": points})


def test_impossible_error_is_refused():
    with pytest.raises(ValueError, match="log_sd"):
        MeasuredEstimator({}, log_sd=-1.0)
