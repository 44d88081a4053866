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
        assert [estimator.estimate("jetson", size) for size in (8, 16, 8)] == [None] * 3
    assert len(caplog.records) == 1
    assert "unknown device 'jetson'" in caplog.text
    assert len(model.asked) == 1


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
