import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_meta import dataset_names, load_dataset_meta
from devprof.errors import DevprofError
from strategies.app.data import client_samples, load_digits_split, partition


def test_the_split_is_what_the_description_says():
    meta, digits = load_dataset_meta("digits"), load_digits_split(1)
    assert (len(digits.train), len(digits.test)) == (meta.train_samples, meta.test_samples)
    assert digits.train.images.shape[1:] == meta.input_shape
    assert set(digits.train.labels) == set(range(meta.num_classes))
    assert digits.train.images.dtype == np.float32
    assert 0 <= digits.train.images.min() < digits.train.images.max() == 1


@given(
    clients=st.integers(1, 40),
    alpha=st.none() | st.floats(0.01, 100),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_sample_belongs_to_one_client_and_no_client_is_empty(clients, alpha, seed):
    labels = np.arange(120) % 10
    parts = partition(labels, clients, alpha=alpha, seed=seed)
    assert len(parts) == clients
    assert all(len(part) for part in parts)
    assert sorted(np.concatenate(parts)) == list(range(120))


def test_a_small_alpha_is_uneven_and_none_is_even():
    labels = np.repeat(np.arange(10), 100)
    even = partition(labels, 10, alpha=None, seed=0)
    uneven = partition(labels, 10, alpha=0.1, seed=0)
    assert {len(part) for part in even} == {100}

    def largest_share(part):
        return np.bincount(labels[part], minlength=10).max() / len(part)

    assert np.mean([largest_share(part) for part in uneven]) > 2 * np.mean([largest_share(part) for part in even])


@pytest.mark.parametrize(("clients", "alpha"), [(0, None), (11, None), (2, 0.0), (2, -1.0)])
def test_a_split_that_cannot_be_is_refused(clients, alpha):
    with pytest.raises(DevprofError, match=r"clients|alpha"):
        partition(np.arange(10), clients, alpha=alpha, seed=0)


def test_clients_share_nothing():
    first, second = (client_samples(client, 3, alpha=0.3, seed=5) for client in (0, 1))
    assert len(first) + len(second) < len(load_digits_split(5).train)


@pytest.mark.parametrize("name", dataset_names())
def test_every_description_is_complete(name):
    meta = load_dataset_meta(name)
    assert meta.title
    assert meta.licence
    assert meta.source
    assert meta.train_samples > meta.test_samples > 0
    assert all(len(digest) == 32 for _, digest in meta.files)


def test_an_unknown_data_set_lists_the_known():
    with pytest.raises(KeyError, match="digits"):
        load_dataset_meta("digit")
