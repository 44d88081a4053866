from dataclasses import dataclass

import pytest

from devprof.costmodel.operators import FAMILIES, classify, is_free


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
        ("native_batch_norm_backward", "norm"),
        ("native_layer_norm", "norm"),
        ("_native_batch_norm_legit", "norm"),
        ("max_pool2d_with_indices_backward", "pooling"),
        ("_adaptive_avg_pool2d", "pooling"),
        ("upsample_bilinear2d", "pooling"),
        ("cat", "moved"),
        ("copy_", "moved"),
        ("_to_copy", "moved"),
        ("index_put_", "moved"),
        ("constant_pad_nd", "moved"),
        ("slice_backward", "moved"),
        ("roll", "moved"),
        ("new_zeros", "moved"),
        ("gelu_backward", "transcendental"),
        ("_log_softmax_backward_data", "transcendental"),
        ("_safe_softmax", "transcendental"),
        ("sigmoid_", "transcendental"),
        ("bernoulli_", "transcendental"),
        ("add_", "elementwise"),
        ("threshold_backward", "elementwise"),
        ("hardswish", "elementwise"),
        ("sum", "elementwise"),
        ("an_operator_of_the_future", "elementwise"),
    ],
)
def test_operators_without_products_count_elements(name, family):
    assert classify(name, [Shape((2, 3)), [Shape((4,))], 0.5], Shape((5,))) == (family, 0.0, 15.0)


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
    assert classify(name, [query, key, value], [Shape((2, 3, 5, 4))])[:2] == ("attention", 2 * 3 * 5 * 7 * (8 + 4))


def test_fused_attention_backward_computes_the_scores_again():
    gradient, query, key, value = Shape((1, 1, 5, 4)), Shape((1, 1, 5, 8)), Shape((1, 1, 7, 8)), Shape((1, 1, 7, 4))
    name = "_scaled_dot_product_flash_attention_for_cpu_backward"
    assert classify(name, [gradient, query, key, value], [])[:2] == ("attention", 5 * 7 * (3 * 8 + 2 * 4))
