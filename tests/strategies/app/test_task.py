"""Batches and training: what a model is given, and what a step does to it."""

import numpy as np
import pytest
import torch
from torch import nn

from datasets_meta import load_dataset_meta
from devprof.errors import DevprofError, UnknownNameError, WorkloadError
from devprof.records import Workload
from strategies.app.batches import Preparation, cropped_and_flipped, evaluation_batches, training_batches
from strategies.app.config import DataConfig, TrainConfig
from strategies.app.data import Samples, client_samples, open_part, server_samples
from strategies.app.task import Task, evaluate, make_task, train, workload
from strategies.client import Budget

DIGITS, MNIST, CIFAR = (load_dataset_meta(name) for name in ("digits", "mnist", "cifar10"))


def coloured(count, seed=0):
    generator = np.random.default_rng(seed)
    return Samples(generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), generator.integers(0, 10, count))


class TestPreparation:
    def test_images_are_scaled_and_normalised_by_what_is_published(self):
        images = np.full((2, 3, 32, 32), 255, dtype=np.uint8)
        batch = Preparation(CIFAR, (3, 32, 32))(images)
        expected = [(1 - mean) / std for mean, std in zip(CIFAR.mean, CIFAR.std, strict=True)]
        assert batch[1, :, 5, 5].tolist() == pytest.approx(expected, rel=1e-6)
        assert images.min() == 255

    def test_digits_are_only_scaled(self):
        images = np.arange(17, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), dtype=np.uint8)
        assert Preparation(DIGITS, (1, 8, 8))(images)[:, 0, 0, 0].tolist() == [value / 16 for value in range(17)]

    def test_grey_images_are_repeated_over_the_colours_and_resized(self):
        images = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), dtype=np.uint8)
        batch = Preparation(MNIST, (3, 32, 32))(images)
        assert batch.shape == (3, 3, 32, 32)
        assert torch.equal(batch[:, 0], batch[:, 2])
        assert batch.mean() == pytest.approx(float(Preparation(MNIST, (1, 28, 28))(images).mean()), abs=0.05)

    def test_flat_inputs_have_all_values(self):
        assert Preparation(CIFAR, (3072,))(coloured(2).images).shape == (2, 3072)

    @pytest.mark.parametrize(("meta", "shape"), [(CIFAR, (1, 28, 28)), (MNIST, (3072,)), (MNIST, (8, 1024))])
    def test_data_that_do_not_fit_the_model_are_named(self, meta, shape):
        with pytest.raises(WorkloadError, match=f"'{meta.name}' has images of shape"):
            Preparation(meta, shape)


class TestBatches:
    def test_a_pass_has_every_sample_once_and_a_smaller_last_batch(self):
        samples = Samples(np.zeros((35, 1, 8, 8), dtype=np.uint8), np.arange(35))
        passes = list(training_batches(samples, 16, np.random.default_rng(0), Preparation(DIGITS, (1, 8, 8))))
        assert [len(labels) for _, labels in passes] == [16, 16, 3]
        assert sorted(torch.cat([labels for _, labels in passes]).tolist()) == list(range(35))

    @pytest.mark.parametrize(
        ("count", "batch_size", "sizes"),
        [(33, 16, [16, 16]), (34, 16, [16, 16, 2]), (1, 16, [1]), (3, 1, [1, 1, 1]), (17, 17, [17])],
    )
    def test_a_single_last_sample_is_dropped_behind_others_only(self, count, batch_size, sizes):
        samples = Samples(np.zeros((count, 1, 8, 8), dtype=np.uint8), np.arange(count))
        preparation = Preparation(DIGITS, (1, 8, 8))
        passes = training_batches(samples, batch_size, np.random.default_rng(0), preparation, keep_single=False)
        assert [len(labels) for _, labels in passes] == sizes

    def test_evaluation_takes_all_in_order_and_small_batches(self):
        samples = server_samples(DataConfig())
        batches = list(evaluation_batches(samples, Preparation(DIGITS, (1, 8, 8))))
        assert [len(labels) for _, labels in batches] == [256, 103]
        assert torch.cat([labels for _, labels in batches]).tolist() == samples.labels.tolist()

    def test_augmented_images_are_crops_of_the_padded_ones_or_their_mirrors(self):
        images = coloured(40).images
        augmented = cropped_and_flipped(images, np.random.default_rng(1))
        assert augmented.shape == images.shape
        assert augmented.dtype == np.uint8
        mirrored = 0
        for before, after in zip(images, augmented, strict=True):
            padded = np.pad(before, ((0, 0), (4, 4), (4, 4)))
            crops = {
                padded[:, row : row + 32, column : column + 32].tobytes() for row in range(9) for column in range(9)
            }
            mirrored += after.tobytes() not in crops
            assert after.tobytes() in crops or after[..., ::-1].tobytes() in crops
        assert 10 < mirrored < 30
        assert np.array_equal(augmented, cropped_and_flipped(images, np.random.default_rng(1)))


class TestModel:
    def test_it_is_reproducible_and_leaves_the_global_random_state_alone(self):
        torch.manual_seed(7)
        expected = torch.rand(1)
        torch.manual_seed(7)
        first, second = (make_task(DataConfig(seed=3), TrainConfig()).model for _ in range(2))
        assert torch.equal(torch.rand(1), expected)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))

    @pytest.mark.parametrize(
        ("data", "training", "expected"),
        [
            ("digits", {}, Workload("seed:net", image_size=8, num_classes=10)),
            ("mnist", {"mode": "head"}, Workload("seed:net", mode="head", image_size=28, num_classes=10)),
            ("mnist", {"model": "seed:cnn", "image_size": 20}, Workload("seed:cnn", image_size=20, num_classes=10)),
            ("cifar10", {}, Workload("mobilenetv2_100", image_size=32, num_classes=10)),
            ("cifar10", {"model": "seed:mlp"}, Workload("seed:mlp", num_classes=10)),
        ],
    )
    def test_the_workload_is_what_measure_would_be_asked_for(self, data, training, expected):
        assert workload(TrainConfig(**training), DataConfig(data=data).meta) == expected

    def test_flowers_small_network_fits_digits_and_mnist(self):
        for data, values in (("digits", 256), ("mnist", 3136)):
            model = make_task(DataConfig(data=data), TrainConfig()).model
            assert model(torch.zeros(2, 1, *DataConfig(data=data).meta.input_shape[1:])).shape == (2, 10)
            assert model[7].in_features == values

    @pytest.mark.parametrize("device", ["warp", "cuda:99"])
    def test_a_device_that_torch_lacks_is_named(self, device):
        with pytest.raises(DevprofError, match=f"cannot train on the device '{device}' here"):
            make_task(DataConfig(), TrainConfig(), device)

    @pytest.mark.hardware
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
    def test_a_gpu_learns_what_a_processor_does(self):
        samples, found = client_samples(DataConfig(), 0, 4), []
        for device in ("cpu", "cuda"):
            task = make_task(DataConfig(), TrainConfig(), device)
            train(task, samples, Budget(local_steps=5), TrainConfig(), seed=0)
            found.append(weights(task).cpu())
        assert torch.allclose(*found, atol=1e-3)

    def test_an_unknown_model_finds_the_closest(self):
        with pytest.raises(UnknownNameError, match="mobilenetv2_100"):
            make_task(DataConfig(data="cifar10"), TrainConfig(model="mobilenetv2_10"))


def digits_task(**settings):
    training = TrainConfig(**settings)
    return make_task(DataConfig(), training), training


def weights(task):
    return torch.cat([parameter.detach().flatten() for parameter in task.model.parameters()])


class TestTraining:
    SAMPLES = client_samples(DataConfig(), 0, 4)

    def test_it_stays_within_its_budget_and_learns(self):
        part = open_part(DataConfig(), "train")
        samples = Samples(part.images(np.arange(1438)), part.labels())
        task, training = digits_task()
        before = evaluate(task, samples)[1]
        budget = Budget(local_steps=30)
        train(task, samples, budget, training, seed=0)
        assert (budget.steps_done, budget.examples_done) == (30, 480)
        assert evaluate(task, samples)[1] < before

    def test_the_same_seed_gives_the_same_weights(self):
        found = []
        for seed in (1, 1, 2):
            task, training = digits_task()
            train(task, self.SAMPLES, Budget(local_steps=3), training, seed=seed)
            found.append(weights(task))
        assert torch.equal(found[0], found[1])
        assert not torch.equal(found[0], found[2])

    def test_one_step_of_sgd_is_the_formula(self):
        task, training = digits_task(momentum=0.0, weight_decay=0.1, learning_rate=0.2, batch_size=400)
        before = weights(task)
        inputs, targets = next(
            training_batches(self.SAMPLES, 400, np.random.default_rng(5), Preparation(DIGITS, (1, 8, 8)))
        )
        task.model.train()
        nn.functional.cross_entropy(task.model(inputs), targets).backward()
        gradient = torch.cat([parameter.grad.flatten() for parameter in task.model.parameters()])
        task.model.zero_grad()
        train(task, self.SAMPLES, Budget(local_steps=1), training, seed=5, learning_rate_scale=0.5)
        assert torch.allclose(weights(task), before - 0.1 * (gradient + 0.1 * before), atol=1e-6)

    def test_momentum_and_the_optimizer_are_as_asked_for(self):
        found = []
        for settings in ({}, {"momentum": 0.0}, {"optimizer": "adam", "learning_rate": 0.001}):
            task, training = digits_task(**settings)
            train(task, self.SAMPLES, Budget(local_steps=3), training, seed=0)
            found.append(weights(task))
        assert not torch.allclose(found[0], found[1])
        assert not torch.allclose(found[0], found[2])

    def test_the_proximal_term_adds_its_gradient(self):
        """With w1 = w0 - r g0, the second step of the proximal loss goes ``r mu (w0 - w1)`` less far from w0."""
        mu, rate, found = 0.5, 0.1, {}
        for proximal, steps in ((0.0, 1), (0.0, 2), (mu, 2)):
            task, training = digits_task(momentum=0.0, learning_rate=rate, proximal_mu=proximal)
            start = weights(task)
            train(task, self.SAMPLES, Budget(local_steps=steps), training, seed=0)
            found[proximal, steps] = weights(task)
        pull = rate * mu * (start - found[0.0, 1])
        assert torch.allclose(found[mu, 2], found[0.0, 2] + pull, atol=1e-6)
        assert not torch.allclose(found[mu, 2], found[0.0, 2], atol=1e-4)

    def test_the_loss_is_told_without_the_proximal_term(self):
        losses = []
        for mu in (0.0, 1e3):
            task, training = digits_task(proximal_mu=mu, learning_rate=1e-9)
            losses.append(train(task, self.SAMPLES, Budget(local_steps=4), training, seed=0))
        assert losses[0] == pytest.approx(losses[1], abs=1e-4)
        assert losses[0] == pytest.approx(np.log(10), abs=0.3)

    def test_mode_head_changes_the_classifier_only(self):
        task, training = digits_task(mode="head")
        before = {name: value.clone() for name, value in task.model.state_dict().items()}
        train(task, self.SAMPLES, Budget(local_steps=2), training, seed=0)
        changed = {name for name, value in task.model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {"9.weight", "9.bias"}


def normalised_task():
    model = nn.Sequential(nn.Conv2d(3, 4, 32), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))
    return Task(model, Preparation(CIFAR, (3, 32, 32)), nn.functional.cross_entropy)


class TestBatchNorm:
    """A batch of one sample has no variance, and torch refuses it where a layer sees one value per channel."""

    @pytest.mark.parametrize(("count", "steps"), [(9, 2), (10, 3), (2, 1)])
    def test_a_last_batch_of_one_sample_is_dropped(self, count, steps):
        task, budget = normalised_task(), Budget()
        loss = train(task, coloured(count), budget, TrainConfig(batch_size=4), seed=0)
        assert np.isfinite(loss)
        assert (budget.steps_done, budget.examples_done) == (steps, count - (count == 9))
        assert int(task.model[1].num_batches_tracked) == steps

    @pytest.mark.parametrize(("count", "batch_size"), [(1, 4), (3, 1)])
    def test_where_there_is_no_other_batch_the_statistics_stay(self, count, batch_size):
        task, budget = normalised_task(), Budget()
        before = task.model[3].weight.detach().clone()
        train(task, coloured(count), budget, TrainConfig(batch_size=batch_size), seed=0)
        assert budget.examples_done == count
        assert int(task.model[1].num_batches_tracked) == 0
        assert task.model[1].training
        assert not torch.equal(task.model[3].weight, before)

    def test_evaluation_uses_the_statistics_and_keeps_them(self):
        task = normalised_task()
        train(task, coloured(16), Budget(local_epochs=2), TrainConfig(batch_size=4), seed=0)
        before = task.model[1].running_mean.clone()
        accuracy, loss = evaluate(task, coloured(1))
        assert accuracy in {0.0, 1.0}
        assert np.isfinite(loss)
        assert torch.equal(task.model[1].running_mean, before)

    @pytest.mark.slow
    @pytest.mark.parametrize("model", ["mobilenetv2_100", "mobilenetv3_small_100"])
    def test_mobile_networks_train_on_cifar_with_an_odd_sample(self, model):
        data, training = DataConfig(data="cifar10"), TrainConfig(model=model, batch_size=4, learning_rate=0.01)
        task, budget = make_task(data, training), Budget()
        loss = train(task, coloured(9), budget, training, seed=0)
        assert budget.steps_done == 2
        assert np.isfinite(loss)
        assert all(bool(torch.isfinite(value).all()) for value in task.model.state_dict().values())
