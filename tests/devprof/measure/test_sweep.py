import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.measure.harness import configuration_key
from devprof.measure.protocol import (
    Failed,
    Finished,
    MemoryPeaks,
    Ready,
    Request,
    WindowCounts,
    decode_event,
    encode,
)
from devprof.measure.sweep import combine, key_of, with_repeats
from devprof.records import Device, Workload

DEVICE = Device("board", "key", "cpu", None, 2)


def make_sweep(repeats=1, tasks=("train",)):
    workloads = combine(Workload("a"), models=["a", "b"], modes=["full", "head"], tasks=tasks, batch_sizes=[4, 16])
    return with_repeats(workloads, repeats, seed=3)


def test_all_combinations_once():
    sweep = make_sweep()
    assert len(sweep) == len(set(sweep)) == 8
    assert sweep[0].workload == Workload("a", mode="full", batch_size=4)


def test_repeats_come_after_all_firsts_in_random_order():
    sweep = make_sweep(repeats=3)
    assert [configuration.repeat for configuration in sweep] == [0] * 8 + [1] * 8 + [2] * 8
    first, second, third = ([c.workload for c in sweep[start : start + 8]] for start in (0, 8, 16))
    assert first != second != third
    assert set(first) == set(second) == set(third)


def test_an_inference_has_no_head_mode():
    assert len(make_sweep(tasks=("train", "infer"))) == 12
    assert {c.workload.mode for c in make_sweep(tasks=("infer",))} == {"full"}


def test_workload_device_and_repeat_tell_runs_apart():
    first, second, *_ = sweep = make_sweep(repeats=2)
    assert len({key_of(configuration, DEVICE) for configuration in sweep}) == 16
    assert key_of(first, DEVICE) == (DEVICE.key, configuration_key(first.workload), 0)
    assert key_of(first, DEVICE) != key_of(first, dataclasses.replace(DEVICE, key="other power mode"))
    assert key_of(first, DEVICE) == key_of(first, dataclasses.replace(DEVICE, name="renamed"))
    assert key_of(first, DEVICE) != key_of(second, DEVICE)


@pytest.mark.parametrize("change", [{"image_size": 64}, {"optimizer": "adam"}, {"batch_size": 5}, {"num_classes": 3}])
def test_every_part_of_a_workload_counts(change):
    workload = Workload("a")
    assert configuration_key(workload) != configuration_key(dataclasses.replace(workload, **change))


def test_messages_survive_the_pipe():
    request = Request(Workload("seed:cnn", batch_size=3), "cpu", 2, 1.0, 5, None, 60.0, None)
    assert Request.from_json(encode(request)) == request
    for event in (
        Ready(1.0, None, 1, 2, 3, 4, 5, 3, 28, 10, 2, [0, 1], {"torch": "2"}),
        Finished([1], [2, 3], [[1, 2, 3, 4]], True, False, MemoryPeaks(True, 5, 6), WindowCounts(0, None, 3, 0.5)),
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
