from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from devprof.errors import DevprofError
from strategies.telemetry import RECORD_NAME, Telemetry, TelemetryError, read_telemetry

HONEST = Telemetry(
    device="pi-4",
    processor="cpu",
    steps_done=10,
    examples_done=155,
    batch_size=16,
    train_s=5.0,
    startup_s=1.0,
    total_s=6.5,
    cut=False,
    rss_peak_bytes=1 << 28,
    energy_j=12.5,
)
KEYS = list(HONEST.to_record())


def content(**changes) -> RecordDict:
    values = dict(HONEST.to_record())
    for key, value in changes.items():
        values[key.replace("_", "-")] = value
    return RecordDict({RECORD_NAME: ConfigRecord(values)})


def without(key: str) -> RecordDict:
    values = dict(HONEST.to_record())
    del values[key]
    return RecordDict({RECORD_NAME: ConfigRecord(values)})


def test_honest_telemetry_survives_the_wire():
    record = ConfigRecord.inflate(HONEST.to_record().deflate())
    assert read_telemetry(RecordDict({RECORD_NAME: record}), elapsed_s=7.0) == HONEST


def test_what_was_not_measured_is_absent_on_the_wire_and_none_when_read():
    bare = dataclasses.replace(HONEST, rss_peak_bytes=None, energy_j=None)
    record = bare.to_record()
    assert "rss-peak-bytes" not in record
    assert "energy-j" not in record
    assert read_telemetry(RecordDict({RECORD_NAME: record})) == bare


def test_the_wire_keys_are_kebab_case():
    assert KEYS == [
        "device",
        "processor",
        "steps-done",
        "examples-done",
        "batch-size",
        "train-s",
        "startup-s",
        "total-s",
        "cut",
        "rss-peak-bytes",
        "energy-j",
    ]


def test_seconds_per_step_is_the_mean():
    assert HONEST.step_s == 0.5


def test_the_error_is_one_that_devprof_raises_on_purpose():
    assert issubclass(TelemetryError, DevprofError)


def test_a_reply_without_the_record_is_named():
    with pytest.raises(TelemetryError, match="no ConfigRecord 'devprof'"):
        read_telemetry(RecordDict({"config": HONEST.to_record()}))


@pytest.mark.parametrize("record", [MetricRecord({"train-s": 1.0}), ArrayRecord([np.zeros(1)])])
def test_a_record_of_another_kind_under_the_name_is_no_telemetry(record):
    with pytest.raises(TelemetryError):
        read_telemetry(RecordDict({RECORD_NAME: record}))


@pytest.mark.parametrize("key", [key for key in KEYS if key not in ("rss-peak-bytes", "energy-j")])
def test_each_required_key_is_missed_by_name(key):
    with pytest.raises(TelemetryError, match=key):
        read_telemetry(without(key))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps-done", -1),
        ("steps-done", 10.0),
        ("steps-done", True),
        ("steps-done", 10**400),
        ("examples-done", -5),
        ("batch-size", 0),
        ("train-s", math.nan),
        ("train-s", math.inf),
        ("train-s", -math.inf),
        ("train-s", -0.1),
        ("train-s", 0.0),
        ("train-s", 0),
        ("train-s", 5e-324),
        ("train-s", "5"),
        ("train-s", True),
        ("train-s", 10**400),
        pytest.param("total-s", 10**5000, id="total-s-huge"),
        ("startup-s", 1e9),
        ("total-s", [1.0]),
        pytest.param("total-s", [10**5000], id="total-s-huge-list"),
        ("cut", 1),
        ("cut", "no"),
        ("device", ""),
        ("device", "x" * 201),
        ("device", "pi\n4"),
        ("device", b"pi"),
        ("processor", 3),
        ("rss-peak-bytes", -1),
        ("rss-peak-bytes", 1e6),
        ("energy-j", math.nan),
        ("energy-j", -1.0),
    ],
)
def test_a_value_that_cannot_be_true_is_refused(key, value):
    record = HONEST.to_record()
    record[key] = value
    with pytest.raises(TelemetryError) as caught:
        read_telemetry(RecordDict({RECORD_NAME: record}))
    assert key.split("-")[0] in str(caught.value) or "training" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_more_examples_than_the_steps_hold_are_refused():
    with pytest.raises(TelemetryError, match="examples-done"):
        read_telemetry(content(examples_done=161))


def test_a_full_last_batch_is_no_contradiction():
    assert read_telemetry(content(examples_done=160)).examples_done == 160


def test_parts_longer_than_the_total_are_refused():
    with pytest.raises(TelemetryError, match="exceeds total-s"):
        read_telemetry(content(total_s=5.0))


def test_a_total_longer_than_the_server_waited_is_refused():
    with pytest.raises(TelemetryError, match="longer than the server waited"):
        read_telemetry(content(), elapsed_s=6.0)


def test_clocks_that_were_read_a_moment_apart_are_believed():
    assert read_telemetry(content(total_s=5.95), elapsed_s=5.85).total_s == 5.95


def test_zero_steps_are_told_honestly():
    told = read_telemetry(content(steps_done=0, examples_done=0, train_s=0.0))
    assert told.steps_done == 0


numbers = st.one_of(
    st.integers(),
    st.integers(min_value=-(10**12), max_value=10**12),
    st.floats(allow_nan=True, allow_infinity=True),
    st.booleans(),
    st.integers(min_value=10**300, max_value=10**310),
)
values = st.one_of(numbers, st.text(max_size=300), st.binary(max_size=20), st.lists(st.floats(), max_size=3))
telling = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(KEYS, values),
        "steps-done": st.one_of(values, st.integers(0, 100)),
        "examples-done": st.one_of(values, st.integers(0, 100)),
        "batch-size": st.one_of(values, st.integers(1, 100)),
        "train-s": st.one_of(values, st.floats(0, 10)),
        "startup-s": st.one_of(values, st.floats(0, 1)),
        "total-s": st.one_of(values, st.floats(0, 100)),
        "device": st.one_of(values, st.just("pi")),
        "processor": st.one_of(values, st.just("cpu")),
        "cut": st.booleans(),
    },
)


@settings(max_examples=400, deadline=None)
@given(told=telling, elapsed_s=st.one_of(st.none(), st.floats(0, 1e6)))
def test_anything_is_either_possible_telemetry_or_a_telemetry_error(told, elapsed_s):
    reply = RecordDict({RECORD_NAME: ConfigRecord(told)})
    try:
        telemetry = read_telemetry(reply, elapsed_s=elapsed_s)
    except TelemetryError:
        return
    assert telemetry.steps_done >= 0
    assert telemetry.batch_size >= 1
    assert 0 <= telemetry.examples_done <= telemetry.steps_done * telemetry.batch_size
    for seconds in (telemetry.train_s, telemetry.startup_s, telemetry.total_s):
        assert isinstance(seconds, float)
        assert math.isfinite(seconds)
        assert seconds >= 0
    if telemetry.steps_done:
        assert telemetry.step_s > 0
        assert math.isfinite(math.log(telemetry.step_s))
    assert telemetry.device.isprintable()


@settings(max_examples=200, deadline=None)
@given(
    steps=st.integers(1, 10**6),
    batch_size=st.integers(1, 4096),
    startup_s=st.floats(0, 100),
    step_s=st.floats(1e-6, 10),
    wait_s=st.floats(0, 100),
    cut=st.booleans(),
)
def test_every_honest_account_is_believed(*, steps, batch_size, startup_s, step_s, wait_s, cut):
    train_s = steps * step_s
    total_s = startup_s + train_s
    if total_s > 30 * 24 * 3600:
        return
    honest = Telemetry("pi", "cpu", steps, steps * batch_size, batch_size, train_s, startup_s, total_s, cut)
    assert read_telemetry(RecordDict({RECORD_NAME: honest.to_record()}), elapsed_s=total_s + wait_s) == honest
