"""What ServerApp and nodes say to each other, and what is not believed."""

import math

import pytest
from fleet_parts import make_status
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from strategies.fleet.wire import JOB, STATUS, FleetError, Job, NodeStatus, Report, clean, from_content, to_record

SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20), st.binary(max_size=20)
)
VALUES = st.one_of(SCALARS, st.lists(st.text(max_size=5), max_size=3), st.lists(st.integers(0, 9), max_size=3))


def back(record, kind, **changes):
    wire = ConfigRecord({**to_record(record), **changes})
    return from_content(RecordDict({"x": wire}), "x", kind)


@pytest.mark.parametrize(
    "job",
    [
        Job(30.0, models=("seed:net",), measure_options=("--min-time", "0.2"), configurations=("abc",), repeats=3),
        Job(1e6, suite="pi", suite_toml="models = ['a']\n", calibration_s=240.0, calibrate_options=("--threads", "1")),
        Job(1),
    ],
)
def test_a_job_arrives_as_it_was_sent(job):
    assert back(job, Job) == job


def test_a_status_arrives_as_it_was_sent():
    status = make_status(power_mode="15W", throttled="suspected", throttle_reasons=("hot",), extras=("train", "fl"))
    assert back(status, NodeStatus) == status


def test_what_is_unknown_does_not_travel():
    assert set(to_record(Report("done", 1.5))) == {"outcome", "seconds"}


def test_keys_that_a_newer_node_sends_are_passed_over():
    assert back(make_status(), NodeStatus, **{"phase-of-the-moon": "full"}) == make_status()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("device", 7, "device must be a text"),
        ("device", "a\x1b[2J", "printable name"),
        ("device", "x" * 201, "printable name"),
        ("threads", 2.5, "threads must be a whole number"),
        ("threads", True, "threads must be a whole number"),
        ("threads", 2**63 - 1, "threads must be a finite number"),
        ("temperature-c", math.nan, "temperature-c must be a finite number"),
        ("temperature-c", math.inf, "temperature-c must be a finite number"),
        ("extras", "train", "extras must be a list of texts"),
        ("extras", [1, 2], "extras must be a text"),
        ("facts", "[1]", "JSON object of texts"),
        ("facts", '{"a": 1}', "JSON object of texts"),
        ("facts", "{", "not JSON"),
        ("facts", "[" * 60_000, "not JSON"),
        ("facts", '{"a": "' + "x" * 70_000 + '"}', "at most 65536"),
        ("refusal", "x" * ((1 << 20) + 1), "at most"),
    ],
)
def test_what_cannot_be_true_is_named(key, value, said):
    with pytest.raises(FleetError, match=said):
        back(make_status(), NodeStatus, **{key: value})


def test_a_missing_record_and_a_missing_value_are_named():
    with pytest.raises(FleetError, match="'status' is missing"):
        from_content(RecordDict(), STATUS, NodeStatus)
    with pytest.raises(FleetError, match="'config' has no budget-s"):
        from_content(RecordDict({JOB: ConfigRecord({"repeats": 1})}), JOB, Job)


def test_an_unknown_outcome_is_refused():
    with pytest.raises(FleetError, match="outcome must be one of done, refused"):
        back(Report("done", 1.0), Report, outcome="fine")


def test_a_job_without_time_is_refused():
    with pytest.raises(FleetError, match="budget-s must be positive"):
        Job(0.0)


@given(st.dictionaries(st.sampled_from([*to_record(make_status(power_mode="a", extras=("b",))), "other"]), VALUES))
def test_no_status_does_anything_but_being_read_or_refused(values):
    try:
        status = from_content(RecordDict({STATUS: ConfigRecord(values)}), STATUS, NodeStatus)
    except FleetError:
        return
    assert back(status, NodeStatus) == status


def test_models_that_were_left_out_are_read_from_what_the_command_printed():
    printed = "WARNING: slow\nleft out resnet18: the package 'timm' is not installed: pip install timm\nleft out x\n"
    report = Report("error", 1.0, output=printed)
    assert report.left_out() == {"resnet18": "the package 'timm' is not installed: pip install timm"}
    assert Report("done", 1.0).left_out() == {}


@given(st.text())
def test_a_clean_text_is_one_short_printable_line(text):
    found = clean(text, 20)
    assert len(found) <= 20
    assert found.isprintable()
    assert clean(found, 20) == found
