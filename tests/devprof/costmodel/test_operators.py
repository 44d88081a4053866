from dataclasses import dataclass

import pytest

from devprof.costmodel.features import FAMILIES
from devprof.costmodel.operators import classify, is_free


@dataclass
class Shape:
    """A tensor as the counters see one."""

    shape: tuple

    def numel(self):
        count = 1
        for size in self.shape:
            count *= size
        return count

    def untyped_storage(self):
        raise AssertionError("counting never touches memory")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("native_batch_norm_backward", "norm_elements"),
        ("native_layer_norm", "norm_elements"),
        ("_native_batch_norm_legit", "norm_elements"),
        ("max_pool2d_with_indices_backward", "pooling_elements"),
        ("_adaptive_avg_pool2d", "pooling_elements"),
        ("upsample_bilinear2d", "pooling_elements"),
        ("cat", "moved_elements"),
        ("copy_", "moved_elements"),
        ("_to_copy", "moved_elements"),
        ("index_put_", "moved_elements"),
        ("constant_pad_nd", "moved_elements"),
        ("slice_backward", "moved_elements"),
        ("roll", "moved_elements"),
        ("new_zeros", "moved_elements"),
        ("gelu_backward", "transcendental_elements"),
        ("_log_softmax_backward_data", "transcendental_elements"),
        ("_safe_softmax", "transcendental_elements"),
        ("sigmoid_", "transcendental_elements"),
        ("bernoulli_", "transcendental_elements"),
        ("add_", "elementwise_elements"),
        ("threshold_backward", "elementwise_elements"),
        ("hardswish", "elementwise_elements"),
        ("sum", "elementwise_elements"),
        ("an_operator_of_the_future", "elementwise_elements"),
    ],
)
def test_operators_without_products_count_elements(name, family):
    assert classify(name, [Shape((2, 3)), [Shape((4,))], 0.5], Shape((5,))) == (family, 15.0)


def test_every_family_is_one_of_the_features():
    shapes = [Shape((2, 2))] * 3
    assert {classify(name, shapes, shapes[0])[0] for name in ("mm", "addmm", "relu")} <= set(FAMILIES)


@pytest.mark.parametrize("name", ["_unsafe_view", "empty", "new_empty_strided", "empty_like", "detach"])
def test_allocations_and_hidden_views_are_free(name):
    assert is_free(name)


def test_work_is_not_free():
    assert not is_free("emptying")


def test_fused_attention_counts_both_products():
    query, key, value = Shape((2, 3, 5, 8)), Shape((2, 3, 7, 8)), Shape((2, 3, 7, 4))
    name = "_scaled_dot_product_flash_attention_for_cpu"
    assert classify(name, [query, key, value], [Shape((2, 3, 5, 4))]) == ("attention_macs", 2 * 3 * 5 * 7 * (8 + 4))


def test_fused_attention_backward_computes_the_scores_again():
    gradient, query, key, value = Shape((1, 1, 5, 4)), Shape((1, 1, 5, 8)), Shape((1, 1, 7, 8)), Shape((1, 1, 7, 4))
    name = "_scaled_dot_product_flash_attention_for_cpu_backward"
    assert classify(name, [gradient, query, key, value], []) == ("attention_macs", 5 * 7 * (3 * 8 + 2 * 4))
