"""A row is believed only if it was asked for, is about the node that sent it, and can be true."""

import dataclasses
import math

import pytest
from fleet_parts import KEYS, WORKLOADS, make_node_run, make_status
from hypothesis import given
from hypothesis import strategies as st
from makers import make_operator_time

from devprof.store.schema import column_types
from strategies.fleet.rowcheck import checked_operator, checked_run
from strategies.fleet.wire import FleetError

OWED = dict(zip(KEYS, WORKLOADS, strict=True))


def check(repeats=1, **changes):
    return checked_run(dataclasses.asdict(make_node_run(0)) | changes, OWED, repeats, make_status())


def test_an_honest_row_is_a_record():
    assert check() == make_node_run(0)
    failed = {"status": "oom", "step_s": None, "error": "killed"}
    assert check(**failed) == make_node_run(0, **failed)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run_id": "../../etc/passwd"}, "run_id"),
        ({"run_id": None}, "run_id"),
        ({"configuration": "another"}, "not asked for"),
        ({"configuration": None}, "not asked for"),
        ({"repeat": 1}, "not asked for"),
        ({"repeat": None}, "not asked for"),
        ({"batch_size": 8}, "not of the workload"),
        ({"model": "seed:cnn"}, "not of the workload"),
        ({"device": "a faster board"}, "another device"),
        ({"device_key": "key-other"}, "another device"),
        ({"status": "splendid"}, "none of ok, oom"),
        ({"step_s": None}, "positive step_s"),
        ({"step_s": 0.0}, "positive step_s"),
        ({"step_s": math.nan}, "positive step_s"),
        ({"step_s": math.inf}, "step_s cannot be inf"),
        ({"step_s_p95": -1.0}, "step_s_p95 cannot be -1"),
        ({"rss_peak_bytes": -5}, "rss_peak_bytes cannot be -5"),
        ({"started_utc": None}, "started_utc is missing"),
        ({"processor": None}, "processor is missing"),
        ({"source": "a paper"}, "not measured by devprof"),
        ({"error": "x" * 70_000}, "more than 65536 characters"),
        ({"warnings": "hot"}, "warnings is not JSON"),
        ({"warnings": "{}"}, "warnings must be a JSON list"),
        ({"warnings": "[1]"}, "warnings must be a JSON list of texts"),
        ({"facts": "[]"}, "facts must be a JSON object"),
        ({"versions": "[" * 60_000}, "versions is not JSON"),
    ],
)
def test_a_row_that_cannot_be_true_is_refused_with_the_reason(changes, said):
    with pytest.raises(FleetError, match=said):
        check(**changes)


def test_temperatures_may_be_below_zero():
    assert check(temp_start_c=-12.5, autocorrelation=-0.2).temp_start_c == -12.5


def test_texts_for_people_have_no_control_characters():
    assert check(governor="fast\x1b[2J\nway").governor == "fast [2J way"


VALUES = {
    str: st.text(max_size=30),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(),
    bool: st.booleans(),
}
ROWS = st.fixed_dictionaries({name: st.none() | VALUES[kind] for name, kind in column_types("runs").items()})


@given(ROWS, st.sets(st.sampled_from(list(column_types("runs")))))
def test_any_row_of_the_schema_is_a_record_or_refused(row, replaced):
    changes = {name: row[name] for name in replaced}
    try:
        run = check(**changes)
    except FleetError:
        return
    assert run.configuration in OWED
    assert all(math.isfinite(value) for value in dataclasses.asdict(run).values() if isinstance(value, float))


def test_operators_are_believed_of_the_same_device_only():
    row = dataclasses.asdict(make_operator_time(device_key="key-board", seconds=0.1))
    assert checked_operator(row, make_status()).seconds == 0.1
    lies = [{"device": "other"}, {"status": "fine"}, {"seconds": math.nan}, {"macs": None}, {"calibration_id": "a/b"}]
    for lie in lies:
        with pytest.raises(FleetError):
            checked_operator(row | lie, make_status())
