import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.operator_times import OperatorTimes, TimedOperator, operator_sizes
from devprof.costmodel.signature import encode_signature


class Shape:
    def __init__(self, *shape):
        self.shape, self.dtype = shape, "torch.float32"

    def untyped_storage(self):
        raise AssertionError("a signature never touches memory")

    def stride(self):
        return tuple(np.cumprod((1, *self.shape[:0:-1]))[::-1])


def product(rows, inner, columns, seconds=None):
    """A matrix product of a device that makes 10 thousand million a second, less well for narrow ones."""
    signature = encode_signature("aten.mm.default", (Shape(rows, inner), Shape(inner, columns)), {})
    macs, elements = float(rows * inner * columns), float(rows * inner + inner * columns + rows * columns)
    real = 2e-6 + macs * 1e-10 * (1 + 8 / columns) if seconds is None else seconds
    return TimedOperator(signature, "matmul", macs, elements, real)


GRID = [product(rows, inner, columns) for rows in (16, 128, 1024) for inner in (8, 64, 512) for columns in (8, 64, 512)]


def ask(times, one):
    return times.seconds(one.signature, one.family, one.macs, one.elements)


def test_what_was_timed_is_known_exactly():
    times = OperatorTimes(GRID)
    assert [ask(times, one) for one in GRID] == [one.seconds for one in GRID]


def test_repeats_are_joined_by_their_median():
    times = OperatorTimes([*GRID, product(16, 8, 8, 1.0), product(16, 8, 8, 2.0), product(16, 8, 8, 3.0)])
    assert ask(times, GRID[0]) == pytest.approx(1.5)


@pytest.mark.parametrize("shape", [(64, 32, 256), (512, 128, 16), (256, 256, 128)])
def test_neighbours_in_shape_speak_for_what_was_not_timed(shape):
    one = product(*shape)
    assert ask(OperatorTimes(GRID), one) == pytest.approx(one.seconds, rel=0.25)


def test_far_from_everything_the_law_of_the_kind_holds():
    one = product(65536, 4096, 4096)
    assert ask(OperatorTimes(GRID), one) == pytest.approx(one.seconds, rel=0.5)


def test_another_operator_of_the_family_has_the_familys_law():
    one = product(256, 256, 128)
    other = TimedOperator(one.signature.replace("aten.mm", "aten.addmm"), "matmul", one.macs, one.elements, 0.0)
    assert ask(OperatorTimes(GRID), other) == pytest.approx(one.seconds, rel=0.5)


def test_a_family_that_was_never_timed_costs_something():
    times = OperatorTimes(
        [*GRID, TimedOperator(encode_signature("aten.relu.default", (Shape(9),), {}), "elementwise", 0, 18, 1e-6)]
    )
    strange = encode_signature("aten.roll.default", (Shape(100),), {})
    assert 0 < times.seconds(strange, "moved", 0.0, 200.0) < 1


def test_sizes_of_convolutions_are_those_of_both_passes():
    forward = encode_signature(
        "aten.convolution.default",
        (Shape(2, 4, 8, 8), Shape(6, 4, 3, 3), None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1),
        {},
    )
    backward = encode_signature(
        "aten.convolution_backward.default",
        (
            *(Shape(2, 6, 4, 4), Shape(2, 4, 8, 8), Shape(6, 4, 3, 3)),
            *(None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]),
        ),
        {},
    )
    first, second = operator_sizes(forward), operator_sizes(backward)
    assert first[:-1] == pytest.approx(second[:-1])
    assert second[-1] > first[-1]


shapes = st.lists(st.integers(1, 300), max_size=4)


@given(st.lists(shapes, min_size=1, max_size=3))
def test_whatever_the_shapes_sizes_are_finite_and_of_one_length(found):
    signature = encode_signature("aten.anything.default", [Shape(*shape) for shape in found], {})
    sizes = operator_sizes(signature)
    assert sizes.shape == (8,)
    assert np.isfinite(sizes).all()
