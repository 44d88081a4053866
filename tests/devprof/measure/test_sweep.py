import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.measure.harness import configuration_key
from devprof.measure.protocol import Failed, Finished, Ready, Request, decode_event, encode
from devprof.measure.sweep import Configuration, expand, finished_keys, is_finished
from devprof.records import Device, Measurement, Workload

DEVICE = Device("board", "key", "cpu", None, 2)


def finished(configuration, device=DEVICE, status="ok"):
    return Measurement(
        run_id="r",
        started_utc="",
        devprof_version="",
        device=device.name,
        device_key=device.key,
        processor=device.processor,
        model="x",
        task="train",
        mode="full",
        status=status,
        batch_size=1,
        configuration=configuration_key(configuration.workload),
        repeat=configuration.repeat,
    )


def make_sweep(repeats=1, tasks=("train",)):
    modes = ["full", "head"]
    return expand(
        Workload("a"), models=["a", "b"], modes=modes, tasks=tasks, batch_sizes=[4, 16], repeats=repeats, seed=3
    )


def test_all_combinations_once():
    sweep = make_sweep()
    assert len(sweep) == len(set(sweep)) == 8
    assert sweep[0].workload == Workload("a", mode="full", batch_size=4)


def test_repeats_come_after_all_firsts_in_random_order():
    sweep = make_sweep(repeats=3)
    assert [configuration.repeat for configuration in sweep] == [0] * 8 + [1] * 8 + [2] * 8
    first, second = ([c.workload for c in sweep[start : start + 8]] for start in (0, 8))
    assert first != second
    assert set(first) == set(second)


def test_an_inference_has_no_head_mode():
    assert len(make_sweep(tasks=("train", "infer"))) == 12
    assert {c.workload.mode for c in make_sweep(tasks=("infer",))} == {"full"}


def test_a_finished_configuration_is_not_measured_again():
    first, second, *_ = make_sweep(repeats=2)
    assert is_finished(first, DEVICE, finished_keys([finished(first)]))
    assert is_finished(first, DEVICE, finished_keys([finished(first, status="oom")]))
    assert not is_finished(second, DEVICE, finished_keys([finished(first)]))
    assert not is_finished(Configuration(first.workload, 1), DEVICE, finished_keys([finished(first)]))


def test_another_device_or_power_mode_is_another_measurement():
    first = make_sweep()[0]
    assert not is_finished(first, dataclasses.replace(DEVICE, key="other"), finished_keys([finished(first)]))


@pytest.mark.parametrize("change", [{"image_size": 64}, {"optimizer": "adam"}, {"batch_size": 5}, {"num_classes": 3}])
def test_every_part_of_a_workload_counts(change):
    workload = Workload("a")
    assert configuration_key(workload) != configuration_key(dataclasses.replace(workload, **change))


def test_messages_survive_the_pipe():
    request = Request(Workload("seed:cnn", batch_size=3), "cpu", 2, 1.0, 5, 60.0)
    assert Request.from_json(encode(request)) == request
    for event in (
        Ready(1.0, None, 5, 3, 28, 10, {"torch": "2"}),
        Finished([1], [2, 3], [[1, 2, 3]], 4, 5, True, None),
        Failed("oom", "too big"),
    ):
        assert decode_event(encode(event)) == event


@given(st.text())
def test_a_line_that_is_no_event_is_ignored(line):
    assert decode_event(line) is None


@pytest.mark.parametrize("changes", [{"batch_size": 0}, {"mode": "half"}, {"task": "sleep"}])
def test_a_workload_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="must be"):
        Workload("a", **changes)
