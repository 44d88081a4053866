"""Signatures: what goes in comes out, and equal work has equal text."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.signature import decode_signature, encode_signature, is_tensor, tensor_shapes

SHAPES = st.lists(st.integers(0, 5), max_size=4)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))


@given(st.lists(st.one_of(PLAIN, st.lists(PLAIN, max_size=3)), max_size=4), st.dictionaries(st.text(max_size=3), PLAIN))
def test_plain_arguments_come_back_as_they_were(args, options):
    name, found, rest = decode_signature(encode_signature("aten.op.default", args, options))
    assert (name, found) == ("aten.op.default", args)
    assert rest == {key: value for key, value in options.items() if key not in ("device", "pin_memory")}


@given(SHAPES, st.sampled_from([torch.float32, torch.int64, torch.bool]))
def test_a_tensor_is_its_shape_and_type(shape, dtype):
    _, (found,), _ = decode_signature(encode_signature("x", [torch.empty(shape, dtype=dtype, device="meta")], {}))
    assert is_tensor(found)
    assert found == {"t": shape, "d": str(dtype).removeprefix("torch.")}


@given(st.lists(st.integers(2, 5), min_size=2, max_size=4))
def test_strides_are_named_where_elements_do_not_follow_each_other(shape):
    turned = torch.empty(shape, device="meta").transpose(0, -1)
    _, (found,), _ = decode_signature(encode_signature("x", [turned], {}))
    assert found["s"] == list(turned.stride())


def test_where_an_operator_runs_is_no_part_of_it():
    options = {"device": torch.device("cpu"), "pin_memory": False, "dtype": torch.float16}
    assert json.loads(encode_signature("x", [], options))[2] == {"dtype": {"x": "torch.float16"}}


def test_the_order_of_options_does_not_matter():
    assert encode_signature("x", [], {"a": 1, "b": 2}) == encode_signature("x", [], {"b": 2, "a": 1})


def test_shapes_are_found_in_lists_too():
    _, args, _ = decode_signature(encode_signature("x", [[torch.empty(2, 3), torch.empty(())], 1, torch.empty(4)], {}))
    assert [shape for value in args for shape in tensor_shapes(value)] == [(2, 3), (), (4,)]


@pytest.mark.parametrize("text", ["", "x", "{}", "[]", '["x",[]]', "[1,[],{}]", '["x",{},[]]', '["x",[],[]]'])
def test_what_is_no_signature_is_refused(text):
    with pytest.raises(ValueError):
        decode_signature(text)
