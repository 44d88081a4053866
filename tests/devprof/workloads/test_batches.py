import itertools

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from devprof.errors import WorkloadError
from devprof.records import Workload
from devprof.workloads import batches as module
from devprof.workloads.batches import batches
from devprof.workloads.catalogue import build
from devprof.workloads.jpeg import make_jpegs


class Vision(nn.Module):
    num_classes = 4
    input_shape = (3, 8, 12)

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3)


def numbered(count=10):
    return nn.Linear(1, 1), TensorDataset(torch.arange(count)[:, None].float(), torch.arange(count))


def take(name, count, **changes):
    workload = Workload(name, **{"batch_size": 4} | changes)
    return list(itertools.islice(batches(build(workload), workload), count))


def test_a_batch_in_memory_is_the_same_for_ever():
    first, second = take("seed:net", 2)
    assert first[0] is second[0]
    assert first[1] is second[1]
    assert first[0].shape == (4, 1, 28, 28)


def test_own_data_goes_on_for_ever_in_whole_shuffled_batches(factory):
    name = factory(numbered)
    loaded = take(name, 6, data="own")
    assert all(len(targets) == 4 for _, targets in loaded)
    assert all(torch.equal(inputs[:, 0].long(), targets) for inputs, targets in loaded)
    passes = [torch.cat([loaded[index][1], loaded[index + 1][1]]).tolist() for index in (0, 2, 4)]
    assert all(len(set(numbers)) == 8 for numbers in passes)
    assert passes[0] != passes[1] != passes[2]
    assert [targets.tolist() for _, targets in take(name, 6, data="own")] == [t.tolist() for _, t in loaded]


def test_loading_leaves_torchs_random_state_alone(factory):
    name = factory(numbered)
    workload = Workload(name, batch_size=4, data="own")
    trainable = build(workload)
    state = torch.get_rng_state()
    list(itertools.islice(batches(trainable, workload), 6))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def few_files(monkeypatch, tmp_path):
    """Two files instead of 64, in the test's folder."""
    monkeypatch.setattr(module, "make_jpegs", lambda folder, *, seed: make_jpegs(folder, count=2, seed=seed))
    monkeypatch.setattr(module, "default_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.usefixtures("few_files")
@pytest.mark.parametrize("size", [4, 70])
def test_jpeg_files_become_batches_of_any_size_in_the_models_shape(factory, size):
    (inputs, targets), (others, _) = take(factory(Vision), 2, data="jpeg", batch_size=size)
    assert inputs.shape == others.shape == (size, 3, 8, 12)
    assert set(targets.tolist()) <= {0, 1, 2, 3}
    assert not torch.equal(inputs, others)


def test_jpeg_files_lie_where_they_are_wanted(factory, few_files):
    workload = Workload(factory(Vision), data="jpeg", batch_size=1)
    next(batches(build(workload), workload, folder=few_files / "there"))
    assert len(list((few_files / "there").rglob("*.jpg"))) == 2


@pytest.mark.usefixtures("few_files")
@pytest.mark.parametrize("data", ["memory", "jpeg"])
def test_the_memory_format_is_that_of_the_workload(factory, data):
    name = factory(Vision)
    ((inputs, _),) = take(name, 1, data=data, memory_format="nhwc")
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    ((inputs, _),) = take(name, 1, data=data)
    assert inputs.is_contiguous()


@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        ("seed:mlp", {"memory_format": "nhwc"}, "nhwc means nothing"),
        ("seed:mlp", {"data": "jpeg"}, "images of 3 channels"),
        ("seed:cnn", {"data": "jpeg"}, "images of 3 channels"),
        ("seed:cnn", {"data": "own"}, "brings no data set"),
        ("seed:cnn", {"data": "disk"}, "unknown data 'disk'; use one of memory, jpeg, own"),
    ],
)
def test_data_that_do_not_suit_the_model_are_refused_at_once(model, changes, reason):
    workload = Workload(model, batch_size=2, **changes)
    with pytest.raises(WorkloadError, match=reason):
        batches(build(workload), workload)


def test_a_data_set_smaller_than_a_batch_is_refused_at_once(factory):
    workload = Workload(factory(numbered), batch_size=11, data="own")
    with pytest.raises(WorkloadError, match="too few for a batch of 11"):
        batches(build(workload), workload)


def test_targets_of_jpeg_files_need_a_number_of_classes(factory):
    images = TensorDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4))
    workload = Workload(factory(lambda: (nn.Conv2d(3, 1, 8), images)), batch_size=2, data="jpeg")
    with pytest.raises(WorkloadError, match="does not say its number of classes"):
        batches(build(workload), workload)
