"""How data are split over clients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.errors import DevprofError
from strategies.app.split import partition

LABELS = np.arange(120) % 10
WAYS = st.one_of(
    st.just({}),
    st.builds(lambda alpha: {"alpha": alpha}, st.floats(0.01, 100)),
    st.builds(lambda count: {"classes_per_client": count}, st.integers(1, 10)),
)


@given(clients=st.integers(10, 120), way=WAYS, seed=st.integers(0, 2**32 - 1))
def test_every_sample_belongs_to_one_client_and_no_client_is_empty(clients, way, seed):
    parts = partition(LABELS, clients, seed=seed, **way)
    assert len(parts) == clients
    assert all(len(part) and np.all(np.diff(part) > 0) for part in parts)
    assert sorted(np.concatenate(parts)) == list(range(120))
    again = partition(LABELS, clients, seed=seed, **way)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


def test_a_small_alpha_is_uneven_and_none_is_even():
    labels = np.repeat(np.arange(10), 100)
    even = partition(labels, 10, seed=0)
    uneven = partition(labels, 10, alpha=0.1, seed=0)
    assert {len(part) for part in even} == {100}

    def largest_share(part):
        return np.bincount(labels[part], minlength=10).max() / len(part)

    assert np.mean([largest_share(part) for part in uneven]) > 2 * np.mean([largest_share(part) for part in even])


@pytest.mark.parametrize(("clients", "classes"), [(5, 2), (10, 1), (50, 2), (7, 3), (4, 10)])
def test_each_client_has_as_many_classes_as_asked_for_and_each_class_as_many_clients(clients, classes):
    labels = np.repeat(np.arange(10), 100)
    held = [set(labels[part]) for part in partition(labels, clients, classes_per_client=classes, seed=3)]
    assert {len(one) for one in held} == {classes}
    holders = [sum(label in one for one in held) for label in range(10)]
    assert max(holders) - min(holders) <= 1


def test_the_pairs_of_classes_differ_between_clients():
    labels = np.repeat(np.arange(10), 100)
    pairs = {frozenset(labels[part]) for part in partition(labels, 50, classes_per_client=2, seed=0)}
    assert len(pairs) > 20


@pytest.mark.parametrize(
    ("clients", "way"),
    [
        (0, {}),
        (11, {}),
        (2, {"alpha": 0.0}),
        (2, {"alpha": -1.0}),
        (2, {"classes_per_client": 0}),
        (2, {"classes_per_client": 11}),
        (4, {"classes_per_client": 2}),
        (2, {"classes_per_client": 5, "alpha": 1.0}),
    ],
)
def test_a_split_that_cannot_be_is_refused(clients, way):
    with pytest.raises(DevprofError, match=r"clients|alpha|classes"):
        partition(np.arange(10), clients, seed=0, **way)
