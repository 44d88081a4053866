from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.weights import capped_claims, effective_steps, tempered_weights


def test_gamma_zero_is_averaging_by_data():
    assert tempered_weights([10, 30], [1, 100], gamma=0.0, max_ratio=5.0) == [10, 30]


def test_gamma_one_gives_each_client_the_same_pull_per_sample():
    weights = tempered_weights([10, 30], [4, 8], gamma=1.0, max_ratio=100.0)
    assert weights[0] * 4 / 10 == pytest.approx(weights[1] * 8 / 30)


def test_gamma_between_is_the_geometric_middle():
    none, half, full = (tempered_weights([10, 30], [4, 8], gamma=g, max_ratio=100.0) for g in (0.0, 0.5, 1.0))
    assert half == pytest.approx([math.sqrt(a * b) for a, b in zip(none, full, strict=True)])


def test_ratio_is_capped_both_ways():
    weights = tempered_weights([1, 1], [1, 1000], gamma=1.0, max_ratio=5.0)
    assert weights == [5.0, pytest.approx(0.5005)]
    assert tempered_weights([1, 99], [1000, 1], gamma=1.0, max_ratio=5.0)[0] == 0.2


def test_unknown_work_counts_as_mean_work():
    assert tempered_weights([10, 20], [None, None], gamma=1.0, max_ratio=5.0) == [10.0, 20.0]
    assert tempered_weights([10, 20, 10], [4, None, 4], gamma=1.0, max_ratio=5.0) == [10.0, 20.0, 10.0]


@pytest.mark.parametrize(("gamma", "max_ratio"), [(-0.1, 5), (1.1, 5), (math.nan, 5), (0.5, 0.9), (0.5, math.inf)])
def test_tempering_out_of_range_is_refused(gamma, max_ratio):
    with pytest.raises(ValueError, match=r"gamma|max_ratio"):
        tempered_weights([1], [1], gamma=gamma, max_ratio=max_ratio)


def test_work_and_samples_must_be_positive():
    with pytest.raises(ValueError, match="samples"):
        tempered_weights([0], [1], gamma=0.5, max_ratio=5)
    with pytest.raises(ValueError, match="work"):
        tempered_weights([1], [0], gamma=0.5, max_ratio=5)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(1, 1e6), st.none() | st.floats(1e-3, 1e6)), max_size=20),
    st.floats(0, 1),
    st.floats(1, 100),
)
def test_weights_are_positive_and_within_the_cap(clients, gamma, max_ratio):
    samples, work = [size for size, _ in clients], [done for _, done in clients]
    for weight, size in zip(tempered_weights(samples, work, gamma=gamma, max_ratio=max_ratio), samples, strict=True):
        assert 0 < size / max_ratio * (1 - 1e-9) <= weight <= size * max_ratio * (1 + 1e-9)


# How far a liar's weight goes -----------------------------------------------------------------------------------------


def test_claim_is_capped_by_the_median_of_the_others():
    assert capped_claims([100, 120, 80, 1e9], [False] * 4, max_ratio=3) == [100, 120, 80, 300]
    assert capped_claims([100, 120, 80, 1e9], [True] * 4, max_ratio=3) == [100, 120, 80, 1e9]


def test_small_claim_does_not_cap_the_other_of_two():
    assert capped_claims([1, 100], [False, True]) == [1, 100]
    assert capped_claims([1, 100, 100], [False] * 3) == [1, 100, 100]
    assert capped_claims([100, 1000], [False] * 2) == [100, 300]


def test_client_without_a_claim_stays_and_is_in_no_median():
    assert capped_claims([100, None, 1e9, None, 110], [False] * 5, max_ratio=3) == [100, None, 330, None, 110]
    assert capped_claims([None, 1e9], [False] * 2) == [None, 1e9]


def test_single_claim_and_none_stay():
    assert capped_claims([1e9], [False]) == [1e9]
    assert capped_claims([], []) == []


@pytest.mark.parametrize(("samples", "max_ratio"), [([0.0], 3), ([math.nan], 3), ([math.inf], 3), ([1.0], 0.5)])
def test_claims_out_of_range_are_refused(samples, max_ratio):
    with pytest.raises(ValueError, match=r"samples|max_ratio"):
        capped_claims(samples, [False], max_ratio=max_ratio)


honest_clients = st.lists(st.tuples(st.floats(1, 1e6), st.integers(1, 100)), min_size=1, max_size=12)


@settings(deadline=None)
@given(honest_clients, st.floats(1, 10))
def test_claims_that_are_alike_are_never_changed(clients, max_ratio):
    samples = [size for size, _ in clients]
    capped = capped_claims(samples, [False] * len(samples), max_ratio=max_ratio)
    assert all(after <= before for after, before in zip(capped, samples, strict=True))
    if max(samples) <= max_ratio * min(samples):
        assert capped == samples


@settings(deadline=None)
@given(
    honest_clients,
    st.tuples(st.floats(1e-9, 1e15), st.floats(1e-9, 1e15)),
    st.floats(0, 1),
    st.tuples(st.floats(1, 10), st.floats(1, 10)),
    st.booleans(),
)
def test_share_of_one_liar_is_bounded(clients, lie, gamma, ratios, sure):
    (claim, work), (max_ratio, claim_ratio) = lie, ratios
    sizes = capped_claims([*(n for n, _ in clients), claim], [*[sure] * len(clients), False], max_ratio=claim_ratio)
    done = [*(k for _, k in clients), work]
    weights = tempered_weights(sizes, done, gamma=gamma, max_ratio=max_ratio)
    by_data = claim_ratio / (claim_ratio + math.ceil(len(clients) / 2))
    assert sizes[-1] / sum(sizes) <= by_data * (1 + 1e-9)
    bound = max_ratio**2 * by_data / (max_ratio**2 * by_data + 1 - by_data)
    assert weights[-1] / sum(weights) <= bound * (1 + 1e-9)
    per_sample = [weight / size for weight, size in zip(weights, sizes, strict=True)]
    assert max(per_sample) <= min(per_sample) * max_ratio**2 * (1 + 1e-9)


# Effective steps ------------------------------------------------------------------------------------------------------


def accumulated(steps, momentum, decay):
    """The 1-norm of FedNova's accumulation vector, by doing the steps on a gradient of 1."""
    velocity = way = 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1.0
        way = (1.0 - decay) * way + velocity
    return way


def test_plain_steps_count_as_they_are():
    assert [effective_steps(k) for k in (0, 1, 7, 10**9)] == [0, 1, 7, 10**9]


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
def test_momentum_is_the_formula_of_the_paper(steps):
    expected = (steps - 0.9 * (1 - 0.9**steps) / 0.1) / 0.1
    assert effective_steps(steps, momentum=0.9) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
def test_decay_is_the_formula_of_the_paper(steps):
    assert effective_steps(steps, decay=0.01) == pytest.approx((1 - 0.99**steps) / 0.01)


def test_momentum_counts_what_torch_does():
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    for _ in range(12):
        weight.grad = -torch.ones(1)
        optimizer.step()
    assert effective_steps(12, momentum=0.9) == pytest.approx(weight.item(), rel=1e-5)


@settings(deadline=None)
@given(st.integers(0, 60), st.floats(0, 0.99), st.floats(0, 0.99))
def test_effective_steps_are_those_that_are_done(steps, momentum, decay):
    assert effective_steps(steps, momentum=momentum, decay=decay) == pytest.approx(accumulated(steps, momentum, decay))


@settings(deadline=None)
@given(st.integers(1, 10**6), st.floats(0, 0.99), st.floats(0, 0.99))
def test_more_steps_never_count_less(steps, momentum, decay):
    less, more = (effective_steps(k, momentum=momentum, decay=decay) for k in (steps, steps + 1))
    assert 1 - 1e-9 <= less <= more * (1 + 1e-9)
    assert more <= (steps + 1) / (1 - momentum) * (1 + 1e-9)


def test_limits_of_the_effective_steps():
    assert effective_steps(10**9, decay=0.5) == pytest.approx(2.0)
    assert effective_steps(10**9, decay=1e-15) == pytest.approx(10**9, rel=1e-5)
    assert effective_steps(10**9, momentum=0.9) == pytest.approx(10**10, rel=1e-6)
    assert effective_steps(20, momentum=0.5, decay=0.5) == pytest.approx(accumulated(20, 0.5, 0.5))


@pytest.mark.parametrize(
    "wrong",
    [{"steps": -1}, {"steps": math.inf}, {"momentum": 1.0}, {"momentum": -0.1}, {"decay": 1.0}, {"decay": math.nan}],
)
def test_effective_steps_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        effective_steps(**({"steps": 3} | wrong))
