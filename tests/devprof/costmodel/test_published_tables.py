"""Accuracy on measurements that others published; skipped without the tables, which are no part of the project."""

import os
from pathlib import Path

import pandas as pd
import pytest

from devprof.costmodel.model import CostModel

DATA = Path(os.environ.get("DEVPROF_DATA") or Path(__file__).parents[4] / "shared" / "data") / "measured"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "rpi4.csv").is_file(), reason="the published tables are not here"),
]


@pytest.fixture(scope="module")
def raspberry():
    pytest.importorskip("torch")
    pytest.importorskip("devprof.tracing")
    return pd.concat([pd.read_csv(DATA / name) for name in ("rpi4.csv", "rpi5.csv")], ignore_index=True)


@pytest.fixture(scope="module")
def report(raspberry):
    return CostModel.fit(raspberry).report


# Guards against a change for the worse, a few percent above what was reached.
@pytest.mark.parametrize(
    ("device", "mode", "limit"),
    [("rpi4", "full", 0.10), ("rpi4", "head", 0.12), ("rpi5", "full", 0.13), ("rpi5", "head", 0.17)],
)
def test_families_never_seen_are_predicted(report, device, mode, limit):
    (errors,) = (
        one for one in report.errors if (one.device, one.mode, one.scheme) == (device, mode, "leave-one-family-out")
    )
    assert errors.mape <= limit
    assert errors.coverage_90 >= 0.75


def test_every_row_is_used(raspberry, report):
    assert report.used_rows == len(raspberry)
    assert report.dropped_models == {}


def test_depthwise_convolutions_dominate_the_small_boards(report):
    first = next(one for one in report.coefficients if (one.device, one.mode) == ("rpi4", "full"))
    assert "conv_depthwise" in first.name
