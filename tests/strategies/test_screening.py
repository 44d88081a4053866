from __future__ import annotations

import contextlib
import dataclasses
import io
import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from strategies.screening import ModelScreen, RejectedReplyError, capped_updates, not_finite, read_array

SENT = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3, dtype=np.int64)}


def record(**changes):
    return ArrayRecord(
        {name: Array(np.asarray(values)) for name, values in (SENT | changes).items() if values is not None}
    )


def screen(**more):
    return ModelScreen(record(), **more)


def reason(reply):
    with pytest.raises(RejectedReplyError) as error:
        screen().update(reply)
    return str(error.value)


# Reading what a client sent -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(npst.arrays(st.sampled_from(["f4", "f8", ">f4", "i8", "?", "U3"]), npst.array_shapes(min_dims=0, min_side=0)))
@example(np.zeros((0, 3)))
def test_arrays_are_read_as_flower_reads_them(values):
    array = Array(values)
    assert np.array_equal(read_array(array), array.numpy(), equal_nan=values.dtype.kind == "f")


def test_columns_first_arrays_are_read_too():
    values = np.asfortranarray(SENT["w"])
    assert np.array_equal(read_array(Array(values)), values)


def saved(*arrays, **named):
    stream = io.BytesIO()
    np.savez(stream, *arrays, **named)
    return stream.getvalue()


BROKEN_BYTES = {
    "empty": b"",
    "noise": bytes(range(200)),
    "archive": saved(np.zeros(3)),
    "cut short": Array(SENT["w"]).data[:-4],
    "too long": Array(SENT["w"]).data + b"0000",
    "other magic": b"\x94NUMPY" + Array(SENT["w"]).data[6:],
    "other version": b"\x93NUMPY\x09\x00" + Array(SENT["w"]).data[8:],
    "no literal": Array(SENT["w"]).data.replace(b"'descr'", b"('desc("),
}


@pytest.mark.parametrize("data", BROKEN_BYTES.values(), ids=BROKEN_BYTES)
def test_bytes_that_are_no_array_are_refused_with_the_name(data):
    reply = record()
    reply["w"] = Array("float32", (2, 3), "numpy.ndarray", data)
    assert reason(reply).startswith("the array 'w' cannot be read: ")


def test_header_that_promises_more_than_there_is_allocates_nothing():
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**9)})
    array = Array("float32", (10**9, 10**9), "numpy.ndarray", stream.getvalue())
    with pytest.raises(ValueError, match="do not hold the 1000000000000000000 values"):
        read_array(array)


def test_header_of_endless_digits_is_refused_at_once():
    data = Array(SENT["w"]).data.replace(b"(2, 3)", b"(" + b"1" * 60_000 + b" ")
    whole = data[:8] + (len(data) - 10).to_bytes(2, "little") + data[10:]
    with pytest.raises(ValueError, match="no header"):
        read_array(Array("float32", (2, 3), "numpy.ndarray", whole))


def test_objects_are_never_unpickled():
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(ValueError, match="no header"):
        read_array(Array("object", (1,), "numpy.ndarray", stream.getvalue()))


@pytest.mark.parametrize(
    "change", [{"shape": (3, 2)}, {"dtype": "float64"}, {"dtype": "nonsense"}, {"stype": "pickle"}]
)
def test_array_that_says_other_things_than_it_holds_is_refused(change):
    reply = record()
    honest = {"dtype": "float32", "shape": (2, 3), "stype": "numpy.ndarray", "data": Array(SENT["w"]).data}
    reply["w"] = Array(**(honest | change))
    assert reason(reply).startswith("the array 'w' cannot be read: ")


# Comparing it with what was sent --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"w": None}, "the array 'w' is missing"),
        ({"extra": np.zeros(2)}, "the array 'extra' was not sent to it"),
        ({"w": np.zeros((3, 2), np.float32)}, "the array 'w' has shape [3, 2] in place of [2, 3]"),
        ({"w": np.zeros(6, np.float32)}, "the array 'w' has shape [6] in place of [2, 3]"),
        ({"w": np.zeros((2, 3), np.int32)}, "the array 'w' is of type int32 in place of float32"),
        ({"w": np.zeros((2, 3), complex)}, "the array 'w' is of type complex128 in place of float32"),
        ({"n": np.array(3.0)}, "the array 'n' is of type float64 in place of int64"),
        ({"n": np.array(3, np.uint64)}, "the array 'n' is of type uint64 in place of int64"),
        ({"w": np.full((2, 3), math.nan, np.float32)}, "the array 'w' has 6 of 6 values that are not finite"),
        (
            {"w": np.array([[0, 1, 2], [3, math.inf, 5]], np.float32)},
            "the array 'w' has 1 of 6 values that are not finite",
        ),
        ({"w": np.full((2, 3), 1e300)}, "the array 'w' has 6 of 6 values that are not finite"),
    ],
)
def test_reply_that_does_not_fit_is_rejected_with_the_array_and_why(changes, text):
    assert reason(record(**changes)) == text


def test_update_has_the_order_and_precision_of_the_model():
    reply = ArrayRecord({"n": Array(np.array(4, np.int32)), "w": Array(SENT["w"].astype(np.float64) + 2)})
    update = screen().update(reply)
    assert list(update.arrays) == ["w", "n"]
    assert [array.dtype for array in update.arrays.values()] == ["float32", "int64"]
    assert np.array_equal(update.arrays["w"].numpy(), SENT["w"] + 2)
    assert update.norm == pytest.approx(2 * math.sqrt(6))


def test_norm_is_taken_over_the_measured_arrays_only():
    model = ArrayRecord({"a": Array(np.zeros(2)), "b": Array(np.zeros(2))})
    reply = ArrayRecord({"a": Array(np.array([3.0, 4.0])), "b": Array(np.full(2, 100.0))})
    assert ModelScreen(model, measured=["a"]).update(reply).norm == 5.0


def test_ignored_arrays_may_be_there_or_not_and_are_dropped():
    own = screen(ignored=["n"])
    for reply in (record(), record(n=None), record(n=np.array(math.nan))):
        assert list(own.update(reply).arrays) == ["w"]


def test_update_too_large_for_a_number_is_rejected():
    model = ArrayRecord({"w": Array(np.full(2, -1.7e308))})
    with pytest.raises(RejectedReplyError, match="too large"):
        ModelScreen(model).update(ArrayRecord({"w": Array(np.full(2, 1.7e308))}))


def test_complex_models_are_compared_too():
    model = ArrayRecord({"w": Array(np.zeros(2, complex))})
    assert ModelScreen(model).update(ArrayRecord({"w": Array(np.array([3.0, 4.0j]))})).norm == 5.0
    with pytest.raises(RejectedReplyError, match="1 of 2 values"):
        ModelScreen(model).update(ArrayRecord({"w": Array(np.array([0, complex(0, math.inf)]))}))


def test_model_that_is_not_of_numpy_is_refused_by_name():
    with pytest.raises(ValueError, match="'w' of the model"):
        ModelScreen(ArrayRecord({"w": Array("float32", (1,), "mine", b"0000")}))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_but_a_rejection(data):
    reply = record()
    reply["w"] = Array("float32", (2, 3), "numpy.ndarray", data)
    with pytest.raises(RejectedReplyError):
        screen().update(reply)


@settings(deadline=None)
@given(st.binary(max_size=80), st.integers(0, 200))
def test_no_damage_to_a_header_raises_anything_but_a_rejection(noise, position):
    reply = record()
    whole = Array(SENT["w"]).data
    reply["w"] = Array("float32", (2, 3), "numpy.ndarray", whole[:position] + noise + whole[position + len(noise) :])
    with contextlib.suppress(RejectedReplyError):
        screen().update(reply)


# Capping updates ------------------------------------------------------------------------------------------------------


def updates(*values):
    model = ModelScreen(ArrayRecord({"w": Array(np.ones(1)), "n": Array(np.array(1))}))
    return model, [
        model.update(ArrayRecord({"w": Array(np.array([value])), "n": Array(np.array(9))})) for value in values
    ]


def capped(max_ratio, *values):
    model, made = updates(*values)
    return [
        (arrays["w"].numpy().item(), int(arrays["n"].numpy()), f)
        for arrays, f in capped_updates(made, model, max_ratio)
    ]


def test_update_far_longer_than_the_median_is_scaled_down_to_a_multiple_of_it():
    assert capped(10.0, 2.0, 0.0, 1001.0) == [(2.0, 9, 1.0), (0.0, 9, 1.0), (11.0, 9, pytest.approx(0.01))]


def test_updates_within_the_multiple_stay_the_same_objects():
    model, made = updates(2.0, 3.0, 11.0)
    assert [arrays for arrays, _ in capped_updates(made, model, 10.0)] == [update.arrays for update in made]


@pytest.mark.parametrize(
    ("max_ratio", "values"), [(None, (2.0, 2.0, 1e9)), (10.0, (2.0, 1e9)), (10.0, (1.0, 1.0, 1e9)), (10.0, ())]
)
def test_nothing_is_capped_without_a_limit_or_without_a_usual_length(max_ratio, values):
    assert [value for value, _, _ in capped(max_ratio, *values)] == list(values)


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=9), st.floats(-1e150, 1e150), st.floats(1, 20))
def test_one_liar_moves_no_further_than_the_multiple_of_the_longest_honest_update(honest, lie, max_ratio):
    longest = max(abs(value - 1) for value in honest)
    value, _, factor = capped(max_ratio, *honest, lie)[-1]
    if sum(abs(value - 1) > 0 for value in honest) > (len(honest) + 1) / 2:
        assert abs(value - 1) <= max_ratio * longest * (1 + 1e-9) + 1e-9
    assert 0 <= factor <= 1


def test_first_array_that_is_not_finite_is_named():
    assert not_finite(record()) is None
    assert not_finite(record(w=np.full(3, math.nan))) == "w"


def test_update_is_a_plain_record():
    update = screen().update(record())
    assert [field.name for field in dataclasses.fields(update)] == ["arrays", "norm"]
