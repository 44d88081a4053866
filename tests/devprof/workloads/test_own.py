"""The user's own model and data behind ``module:factory``."""

import numpy as np
import pytest
import torch
from torch import nn

from devprof.costmodel.trace import trace_training
from devprof.errors import UnknownNameError, WorkloadError
from devprof.records import Workload
from devprof.workloads.catalogue import build


class Rows:
    """A regression's data: three features, one target."""

    def __init__(self, count=10):
        self.values = np.arange(3 * count, dtype=np.float32).reshape(count, 3)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index], self.values[index, :1]


class Words(Rows):
    """Indices into a vocabulary, and a class."""

    def __getitem__(self, index):
        return torch.arange(5) + index % 3, index % 2


class WordModel(nn.Module):
    num_classes = 2

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, inputs):
        return self.head(self.embedding(inputs).mean(1))


def regression(count=10):
    return nn.Linear(3, 1), Rows(count), nn.functional.mse_loss


def test_data_set_and_loss_of_a_factory_are_used(factory):
    trainable = build(Workload(factory(regression)))
    assert (trainable.input_shape, trainable.num_classes, trainable.image_size) == ((3,), None, None)
    assert trainable.loss_fn is nn.functional.mse_loss
    inputs, targets = trainable.make_batch(2)
    assert inputs.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert targets.tolist() == [[0], [3]]


def test_the_loss_is_cross_entropy_unless_the_factory_brings_one(factory):
    assert build(Workload("seed:mlp")).loss_fn is nn.functional.cross_entropy
    trainable = build(Workload(factory(lambda: (WordModel(), Words()))))
    assert trainable.loss_fn is nn.functional.cross_entropy
    assert trainable.num_classes == 2


@pytest.mark.parametrize("make", [regression, lambda: (WordModel(), Words())])
def test_a_factory_with_data_is_traced_from_the_shapes_of_its_first_sample(factory, make):
    trainable = build(Workload(factory(make)), device="meta")
    inputs, targets = trainable.make_batch(100)
    first = make()[1][0]
    assert inputs.device.type == "meta"
    assert (inputs.shape, inputs.dtype) == ((100, *first[0].shape), torch.as_tensor(first[0]).dtype)
    assert targets.shape[0] == 100
    features = trace_training(trainable.model, trainable.make_batch, trainable.loss_fn)
    assert features.parameters == trainable.parameter_counts()[0]


def test_a_constructor_that_reads_values_is_traced_all_the_same(factory):
    def make():
        rates = [rate.item() for rate in torch.linspace(0, 0.2, 3)]
        return nn.Sequential(nn.Linear(3, 3), nn.Dropout(rates[1]), nn.Linear(3, 1)), Rows(), nn.functional.mse_loss

    trainable = build(Workload(factory(make)), device="meta")
    assert {parameter.device.type for parameter in trainable.model.parameters()} == {"meta"}
    assert trace_training(trainable.model, trainable.make_batch, trainable.loss_fn).parameters == 16


def test_too_few_samples_for_a_batch_are_said(factory):
    trainable = build(Workload(factory(regression)))
    with pytest.raises(WorkloadError, match="has 10 samples, too few for a batch of 11"):
        trainable.make_batch(11)
    with pytest.raises(WorkloadError, match="has 0 samples"):
        build(Workload(factory(lambda: regression(0))))


class Pairless(Rows):
    def __getitem__(self, index):
        return self.values[index]


class Objects(Rows):
    def __getitem__(self, index):
        return object(), 0


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: (3, Rows()), r"returned \(int, Rows\), not a torch.nn.Module"),
        (lambda: [nn.Linear(3, 1)], "returned list"),
        (lambda: (*regression(), 1), "returned "),
        (lambda: (nn.Linear(3, 1), iter([])), "is a list_iterator; it needs a length"),
        (lambda: (nn.Linear(3, 1), None), "is a NoneType; it needs a length"),
        (lambda: (nn.Linear(3, 1), Rows(), "mse"), "loss of the factory .* is a str"),
        (lambda: (nn.Linear(3, 1), Pairless()), "must be a pair"),
        (lambda: (nn.Linear(3, 1), Objects()), "cannot be stacked"),
        (nn.ReLU, "no parameter to train"),
        (lambda: open("/no/such/folder/data.csv"), "cannot be built: .*No such file"),  # noqa: PTH123, SIM115
    ],
)
def test_a_factory_that_cannot_be_used_says_why(factory, make, reason):
    with pytest.raises(WorkloadError, match=reason):
        build(Workload(factory(make)))


def test_a_mistyped_factory_names_the_closest(factory):
    factory(regression)
    with pytest.raises(UnknownNameError, match="closest: own_models:make"):
        build(Workload("own_models:mak"))


class Vision(nn.Module):
    num_classes = 5
    input_shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 5)

    def forward(self, inputs):
        return self.head(inputs.flatten(1))


def test_what_was_measured_can_be_asked_for_again(factory):
    """A row keeps image size and classes; tracing builds from the row."""
    name = factory(Vision)
    trainable = build(Workload(name))
    assert (trainable.image_size, trainable.num_classes) == (16, 5)
    again = build(Workload(name, image_size=16, num_classes=5))
    assert again.input_shape == trainable.input_shape


@pytest.mark.parametrize(
    ("make", "asked", "reason"),
    [
        (Vision, {"image_size": 32}, "image size 16, not 32"),
        (Vision, {"num_classes": 10}, "number of classes 5, not 10"),
        (regression, {"image_size": 32}, "takes no images"),
    ],
)
def test_a_factory_is_not_asked_for_another_input_than_its_own(factory, make, asked, reason):
    with pytest.raises(WorkloadError, match=reason):
        build(Workload(factory(make), **asked))


def test_a_module_that_says_nothing_is_asked_like_a_vision_model(factory):
    trainable = build(Workload(factory(lambda: nn.Conv2d(3, 7, 1)), image_size=8, num_classes=7))
    assert (trainable.input_shape, trainable.num_classes, trainable.image_size) == ((3, 8, 8), 7, 8)
    assert build(Workload(factory(lambda: nn.Conv2d(3, 7, 1)))).num_classes == 1000
