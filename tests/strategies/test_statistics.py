from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import nn

from strategies.statistics import NormLayer, Seen, SplitModel, norm_layers

STATISTICS = ["1.running_mean", "1.running_var", "1.num_batches_tracked"]


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def arrays(**values):
    return ArrayRecord({name.replace("__", "."): Array(np.asarray(value)) for name, value in values.items()})


def layer(mean, variance, count=0):
    return arrays(w=np.zeros(1), running_mean=[mean], running_var=[variance], num_batches_tracked=count)


def pooled(*clients, momentum=0.1, sent=None):
    """Mean, variance and counter of clients given as (mean, variance, count, examples, steps)."""
    seen = [Seen(layer(mean, variance, count), examples, steps) for mean, variance, count, examples, steps in clients]
    model = SplitModel(sent or layer(0.0, 1.0), "pool", momentum)
    whole = model.restored(arrays(w=np.zeros(1)), seen)
    return tuple(whole[name].numpy().item() for name in ("running_mean", "running_var", "num_batches_tracked"))


# Which arrays they are ------------------------------------------------------------------------------------------------


def test_batch_norm_is_found_in_a_torch_model():
    found = norm_layers(ArrayRecord(network().state_dict()))
    assert found == [NormLayer("1.running_mean", "1.running_var", "1.num_batches_tracked", ("1.weight", "1.bias"))]
    assert found[0].statistics == tuple(STATISTICS)


@pytest.mark.parametrize(
    ("module", "count"),
    [
        (nn.BatchNorm2d(3), 1),
        (nn.BatchNorm1d(3, affine=False), 1),
        (nn.InstanceNorm1d(3, track_running_stats=True), 1),
        (nn.InstanceNorm1d(3), 0),
        (nn.BatchNorm1d(3, track_running_stats=False), 0),
        (nn.GroupNorm(1, 3), 0),
    ],
)
def test_layers_that_track_statistics_are_found_and_no_others(module, count):
    assert len(norm_layers(ArrayRecord(nn.Sequential(module, nn.Linear(2, 2)).state_dict()))) == count


def test_names_alone_do_not_make_a_layer():
    assert norm_layers(arrays(a__running_mean=np.zeros(3))) == []
    assert norm_layers(arrays(a__running_mean=np.zeros(3), a__running_var=np.zeros(4))) == []
    assert norm_layers(arrays(a__running_mean=np.zeros(3, int), a__running_var=np.zeros(3))) == []
    assert norm_layers(arrays(myrunning_mean=np.zeros(3), myrunning_var=np.zeros(3))) == []


# Taking the model apart -----------------------------------------------------------------------------------------------


def test_inner_strategy_never_sees_statistics_nor_counters():
    sent = ArrayRecord(network().state_dict())
    assert list(SplitModel(sent).shared) == ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]
    assert list(SplitModel(arrays(w=np.zeros(2), index=np.arange(3), mask=np.array([True]))).shared) == ["w"]


def test_local_mode_keeps_whole_layers_out():
    model = SplitModel(ArrayRecord(network().state_dict()), "local")
    assert list(model.shared) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert model.ignored == {"1.weight", "1.bias", *STATISTICS}


def test_inner_mode_and_models_without_statistics_are_left_whole():
    sent = ArrayRecord(network().state_dict())
    assert SplitModel(sent, "inner").shared is sent
    plain = arrays(a=np.zeros(2), b=np.zeros(2))
    assert SplitModel(plain).shared is plain
    counters = arrays(a=np.zeros(2, int))
    assert SplitModel(counters).shared is counters


def test_every_message_carries_the_same_whole_model():
    sent = ArrayRecord(network().state_dict())
    model = SplitModel(sent)
    config = ConfigRecord({"a": 1})
    contents = [model.completed(RecordDict({"arrays": model.shared, "config": config})) for _ in range(2)]
    assert all(content["arrays"] is sent and content["config"] is config for content in contents)


def test_weights_of_the_strategys_own_are_sent_with_the_models_statistics():
    model = SplitModel(layer(3.0, 4.0))
    made = model.completed(RecordDict({"arrays": arrays(w=np.ones(1))}))["arrays"]
    assert {name: array.numpy().item() for name, array in made.items()} == {
        "w": 1.0,
        "running_mean": 3.0,
        "running_var": 4.0,
        "num_batches_tracked": 0,
    }
    other = arrays(something=np.ones(1))
    assert model.completed(RecordDict({"arrays": other}))["arrays"] is other


# Putting it together --------------------------------------------------------------------------------------------------


def test_order_and_precision_are_those_of_the_model():
    sent = arrays(a=np.zeros(1, np.float32), n=np.array(0), b=np.zeros(1, np.float16))
    model = SplitModel(sent)
    whole = model.restored(arrays(b=np.ones(1), a=np.full(1, 2.0)), [Seen(arrays(n=np.array(5)), None, None)])
    assert [(name, array.dtype, array.numpy().item()) for name, array in whole.items()] == [
        ("a", "float32", 2.0),
        ("n", "int64", 5),
        ("b", "float16", 1.0),
    ]


def test_inner_mode_rounds_counters_that_were_averaged():
    model = SplitModel(layer(0.0, 1.0), "inner")
    whole = model.restored(
        arrays(w=[1.0], running_mean=[1.0], running_var=[1.0], num_batches_tracked=np.array(2.9999)), []
    )
    assert whole["num_batches_tracked"].numpy() == 3


def test_local_mode_leaves_the_layers_as_they_were_sent():
    model = SplitModel(layer(3.0, 4.0, 7), "local")
    whole = model.restored(arrays(w=np.ones(1)), [Seen(arrays(w=np.ones(1)), 10, 1)])
    assert [array.numpy().item() for array in whole.values()] == [1.0, 3.0, 4.0, 7]


def test_arrays_that_a_strategy_adds_or_drops_are_its_own_business():
    model = SplitModel(arrays(a=np.zeros(1), b=np.zeros(1)))
    assert list(model.restored(arrays(c=np.ones(1), b=np.ones(1)), [])) == ["b", "c"]


# Pooling --------------------------------------------------------------------------------------------------------------


def test_variance_contains_the_spread_of_the_means():
    # Two halves of the data around -1 and 1: the whole has mean 0 and variance 2 + 1.
    mean, variance, count = pooled((-1.0, 2.0, 30, 100, 1000), (1.0, 2.0, 30, 100, 1000))
    assert (mean, variance, count) == (0.0, pytest.approx(3.0), 30)


def test_pooled_statistics_are_those_of_the_pooled_data():
    rng = np.random.default_rng(0)
    parts = [rng.normal(loc, scale, size) for loc, scale, size in ((0, 1, 500), (3, 2, 1500), (-1, 0.5, 100))]
    mean, variance, _ = pooled(*[(part.mean(), part.var(), 0, part.size, None) for part in parts])
    whole = np.concatenate(parts)
    assert (mean, variance) == (pytest.approx(whole.mean()), pytest.approx(whole.var()))


def test_few_steps_pull_by_the_examples_that_they_saw():
    # Both clients see features of mean 10; the first has moved one tenth of the way there, the second all of it.
    mean, _, _ = pooled((1.0, 1.0, 1, 16, 1), (10.0, 1.0, 1000, 16, 1000))
    assert mean == pytest.approx((1.0 * 160 + 10.0 * 16) / 176)


def test_fixed_point_is_the_mean_by_examples_however_unequal_the_steps():
    own, steps, examples = np.array([0.0, 10.0]), [1, 50], [16, 48]
    mean = 5.0
    for _ in range(400):
        reported = [value + (mean - value) * 0.9**k for value, k in zip(own, steps, strict=True)]
        mean, _, _ = pooled(*[(m, 1.0, 0, n, k) for m, n, k in zip(reported, examples, steps, strict=True)])
    assert mean == pytest.approx(own @ examples / sum(examples))


def test_unknown_examples_count_as_the_mean_of_the_known():
    assert pooled((0.0, 1.0, 0, 30, None), (6.0, 1.0, 0, 10, None), (3.0, 1.0, 0, None, None))[0] == pytest.approx(2.0)
    assert pooled((0.0, 1.0, 0, None, None), (6.0, 1.0, 0, None, 3))[0] > 3.0


def test_counters_are_what_the_middle_client_says():
    assert pooled((0.0, 1.0, 5, 1, 1), (0.0, 1.0, 2**62, 1, 1), (0.0, 1.0, 7, 1, 1))[2] == 7
    assert pooled((0.0, 1.0, 5, 1, 1), (0.0, 1.0, 2**62, 1, 1))[2] == 5


def test_negative_variance_counts_as_zero():
    assert pooled((1.0, -5.0, 0, 1, None), (1.0, 4.0, 0, 1, None))[1] == 2.0


def test_feature_that_one_client_of_three_has_is_not_cut_off():
    assert pooled((0.0, 0.0, 0, 1, None), (0.0, 0.0, 0, 1, None), (5.0, 9.0, 0, 1, None))[:2] == (
        pytest.approx(5 / 3),
        pytest.approx(3 + 50 / 9),
    )


floats = st.floats(-1e3, 1e3)


@settings(deadline=None)
@given(
    st.lists(st.tuples(floats, st.floats(1e-3, 1e3)), min_size=4, max_size=12),
    st.tuples(st.floats(-1e200, 1e200), st.floats(-1e200, 1e200)),
)
def test_one_hostile_client_moves_the_statistics_by_a_bounded_amount(honest, lie):
    mean, variance, _ = pooled(*[(m, v, 0, 100, 20) for m, v in [*honest, lie]])
    means, largest = [m for m, _ in honest], max(v for _, v in honest)
    reach = 10 * math.sqrt(largest)
    slack = 1e-6 * (1 + reach + max(map(abs, means)))
    assert min(means) - reach - slack <= mean <= max(means) + reach + slack
    assert 0 <= variance <= 100 * largest + (max(means) - min(means) + 2 * reach) ** 2 + slack


@settings(deadline=None)
@given(npst.arrays(float, (3, 2), elements=floats), npst.arrays(float, (3, 2), elements=st.floats(0, 1e3)))
def test_pooled_variance_is_never_negative_and_means_are_between(means, variances):
    sent = arrays(w=np.zeros(1), running_mean=np.zeros(2), running_var=np.ones(2))
    seen = [
        Seen(arrays(w=np.zeros(1), running_mean=m, running_var=v), 10, 5) for m, v in zip(means, variances, strict=True)
    ]
    whole = SplitModel(sent).restored(arrays(w=np.zeros(1)), seen)
    assert (whole["running_var"].numpy() >= 0).all()
    mean = whole["running_mean"].numpy()
    assert (mean >= means.min(axis=0) - 1e-9).all()
    assert (mean <= means.max(axis=0) + 1e-9).all()


def test_torch_statistics_of_two_clients_become_those_of_all_their_data():
    torch.manual_seed(0)
    data = [torch.randn(4000, 4) * 2 + 1, torch.randn(4000, 4) - 3]
    replies = []
    for part in data:
        norm = nn.BatchNorm1d(4).train()
        for batch in part.split(40):
            norm(batch)
        replies.append(Seen(ArrayRecord(nn.Sequential(norm, nn.Linear(4, 1)).state_dict()), 4000, 100))
    model = SplitModel(ArrayRecord(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)).state_dict()))
    whole = model.restored(model.shared_part(replies[0].arrays), replies)
    both = torch.cat(data)
    assert whole["0.running_mean"].numpy() == pytest.approx(both.mean(0).numpy(), abs=0.2)
    assert whole["0.running_var"].numpy() == pytest.approx(both.var(0).numpy(), rel=0.1)
    assert whole["0.num_batches_tracked"].numpy() == 100
