import pytest
from fleet_parts import make_order

from devprof.errors import DevprofError
from devprof.records import Workload
from strategies.fleet.order import Order


def test_an_order_arrives_as_it_was_given(tmp_path):
    order = make_order(
        tmp_path / "Messwerte ü",
        nodes=("pi-1", "a b"),
        suite="own",
        suite_toml='models = ["a"]\n',
        workloads=(Workload("a", mode="head", image_size=None), Workload("a", task="infer", batch_size=1)),
        repeats=3,
        calibration_s=60.0,
        measure_options=("--min-time", "0.2"),
    )
    assert Order.from_text(order.to_text()) == order


def test_what_is_as_usual_is_not_written(tmp_path):
    assert "precision" not in make_order(tmp_path).to_text()
    status = Order("status", "t", deadline_s=9.0, wait_s=1.0)
    assert status.to_text() == '{"action": "status", "token": "t", "deadline_s": 9.0, "wait_s": 1.0}'


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "3", '{"action": "status", "newer": 1}', '{"workloads": [{"model": 1, "x": 2}]}']
)
def test_a_text_that_is_no_order_says_what_to_do(text):
    with pytest.raises(DevprofError, match="devprof fleet"):
        Order.from_text(text)
