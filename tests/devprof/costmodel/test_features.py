import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.features import FEATURES_VERSION, MAPPED_BYTES, WORK, Features, summarize_steps, work_of
from devprof.costmodel.operators import FAMILIES, PRODUCTS
from devprof.costmodel.step import Operator, Step
from devprof.errors import CostModelError

amounts = st.floats(min_value=0, max_value=1e18, allow_nan=False)
vectors = st.tuples(*[amounts] * len(WORK))
lines = st.tuples(amounts, amounts)


@given(
    st.builds(
        Features,
        *[vectors] * 2,
        *[amounts] * 6,
        *[lines] * 3,
        live_bytes=st.lists(lines, min_size=1, max_size=4).map(tuple),
        storages=st.lists(st.tuples(amounts, amounts, amounts), max_size=4).map(tuple),
    )
)
def test_features_survive_json_exactly(features):
    assert Features.from_dict(json.loads(json.dumps(features.to_dict()))) == features


def zeros(**changes):
    fields = {"per_sample": (0.0,) * len(WORK), "constant": (0.0,) * len(WORK)}
    numbers = dict.fromkeys(("forward_operators", "backward_operators", "parameters", "trainable_parameters"), 1.0)
    return Features(**(fields | numbers | changes))


@pytest.mark.parametrize(
    "changes",
    [{"per_sample": (1.0,)}, {"parameters": -1.0}, {"forward_operators": float("nan")}, {"live_bytes": ()}],
)
def test_impossible_features_are_refused(changes):
    with pytest.raises(ValueError, match="features"):
        zeros(**changes)


def test_features_of_another_version_are_refused():
    data = zeros().to_dict() | {"features_version": FEATURES_VERSION + 1}
    with pytest.raises(CostModelError, match="trace the model again"):
        Features.from_dict(data)


def test_damaged_features_are_refused():
    data = zeros().to_dict()
    del data["per_sample"][WORK[0]]
    with pytest.raises(CostModelError, match="damaged"):
        Features.from_dict(data)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_work_of_an_operator_has_its_place(family):
    counted = {WORK[place]: amount for place, amount in work_of(family, 7.0, 5.0, backward=True)}
    expected = {f"backward_{family}_elements": 5.0}
    assert counted == expected | ({f"backward_{family}_macs": 7.0} if family in PRODUCTS else {})


def test_the_peak_is_the_highest_line():
    features = zeros(live_bytes=((100.0, 1.0), (0.0, 10.0)))
    assert features.peak_bytes(np.array([0, 5, 100])).tolist() == [100.0, 105.0, 1000.0]


def test_only_large_storages_are_mapped():
    one = MAPPED_BYTES / 16
    features = zeros(storages=((0.0, one, 2.0), (0.0, one / 2, 1.0)))
    assert features.mapped_bytes(np.array([15, 16, 32])).tolist() == [0.0, 32 * one, 80 * one]


def test_of_what_is_held_the_heap_has_what_is_not_mapped():
    one = MAPPED_BYTES / 16
    # Six allocations in all, three of them held at the peak.
    features = zeros(live_bytes=((0.0, one), (0.0, 3 * one)), storages=((0.0, one, 4.0), (0.0, 2 * one, 1.0)))
    assert features.heap_bytes(np.array([4.0, 8.0, 16.0, 64.0])).tolist() == [12 * one, 24 * one, 40 * one, 40 * one]


def test_without_large_storages_all_that_is_held_is_in_the_heap():
    assert zeros(live_bytes=((5.0, 2.0),)).heap_bytes(np.array([1.0, 10.0])).tolist() == [7, 25]


@given(
    st.lists(st.tuples(*[st.floats(0, 1e9)] * 2, st.integers(1, 9)), max_size=4).map(tuple),
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), min_size=1, max_size=3).map(tuple),
)
def test_the_heap_never_shrinks_with_the_batch(storages, live_bytes):
    heap = zeros(live_bytes=live_bytes, storages=storages).heap_bytes(np.arange(1.0, 300.0))
    assert (np.diff(heap) >= 0).all()


def step(batch_size, **changes):
    fields = {
        "operators": {Operator(f"a{batch_size}", False, "conv", 3.0 * batch_size, 5.0): 2},
        "parameters": 4,
        "trainable_parameters": 3,
        "trainable_tensors": 2,
        "buffer_bytes": 0,
        "batch_bytes": 8 * batch_size,
        "saved_bytes": 16 * batch_size + 6,
        "live_bytes": (100 + batch_size, 10 * batch_size, 9 * batch_size),
        "storages": (1000, 50_000 * batch_size),
    }
    return Step(batch_size=batch_size, **(fields | changes))


def test_two_steps_give_what_grows_and_what_stays():
    features = summarize_steps(step(2), step(4))
    place = WORK.index("forward_conv_macs")
    assert (features.per_sample[place], features.constant[place]) == (6.0, 0.0)
    place = WORK.index("forward_conv_elements")
    assert (features.per_sample[place], features.constant[place]) == (0.0, 10.0)
    assert (features.forward_operators, features.backward_operators) == (2.0, 0.0)
    assert features.saved_bytes == (6.0, 16.0)
    # The third moment never holds most.
    assert features.live_bytes == ((100.0, 1.0), (0.0, 10.0))
    assert features.storages == ((0.0, 50_000.0, 1.0),)
    assert features.largest_bytes == (0.0, 50_000.0)


def test_steps_that_do_not_match_moment_by_moment_still_have_a_peak():
    features = summarize_steps(step(2), step(4, live_bytes=(5, 80), storages=(200_000,)))
    assert features.live_bytes == ((102.0, 0.0),)
    assert features.storages == ()
