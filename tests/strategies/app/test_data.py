"""The app's data sets: their descriptions, the digits, files in folders, and each client's own part."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_datasets import CIFAR_BATCHES, write_cifar, write_idx

from datasets_meta import dataset_names, load_dataset_meta
from devprof.errors import DevprofError
from strategies.app.config import DataConfig
from strategies.app.data import Samples, client_samples, held_back, open_part, server_samples, training_size

DIGITS = DataConfig(seed=5)
REAL = Path(os.environ.get("DEVPROF_DATA", "/nowhere"))


@pytest.mark.parametrize("name", dataset_names())
def test_every_description_is_complete(name):
    meta = load_dataset_meta(name)
    assert meta.title
    assert meta.licence
    assert meta.source
    assert meta.train_samples > meta.test_samples > 0
    assert all(len(digest) == 32 for _, digest in meta.files)
    assert (meta.mean is None) == (meta.std is None)
    assert meta.mean is None or len(meta.mean) == len(meta.std) == meta.input_shape[0]
    assert meta.augmentation in {None, "crop-flip"}


def test_an_unknown_data_set_lists_the_known():
    with pytest.raises(KeyError, match="digits"):
        load_dataset_meta("digit")


class TestDigits:
    def test_the_parts_are_what_the_description_says(self):
        meta = load_dataset_meta("digits")
        train, test = (open_part(DataConfig(seed=1), part) for part in ("train", "test"))
        assert (len(train.labels()), len(test.labels())) == (meta.train_samples, meta.test_samples)
        images = train.images(np.arange(meta.train_samples))
        assert images.shape[1:] == meta.input_shape
        assert images.max() == meta.max_value
        assert set(train.labels()) == set(range(meta.num_classes))

    def test_clients_share_nothing(self):
        parts = [client_samples(DIGITS, client, 3) for client in range(3)]
        assert sum(len(part) for part in parts) == 1438

    def test_an_alpha_of_nought_splits_evenly(self):
        even = DataConfig(dirichlet_alpha=0.0)
        assert [len(client_samples(even, client, 4)) for client in range(4)] == [360, 360, 359, 359]
        assert len(client_samples(DataConfig(split="iid"), 3, 4)) == 359

    def test_a_partition_that_is_not_there_is_named(self):
        with pytest.raises(DevprofError, match=r"no partition 3: .*'digits' is split into 3, numbered from 0"):
            client_samples(DIGITS, 3, 3)


def all_images(part):
    return part.images(np.arange(len(part.labels())))


class TestFolders:
    @pytest.mark.parametrize(("packed", "dotted"), [(False, False), (True, False), (False, True)])
    @pytest.mark.parametrize("nested", [False, True])
    def test_idx_files_give_their_images_and_labels(self, tmp_path, packed, dotted, nested):
        content = write_idx(tmp_path / "mnist" if nested else tmp_path, packed=packed, dotted=dotted)
        config = DataConfig(data="mnist", data_dir=str(tmp_path))
        for part, name in (("train", "train"), ("test", "t10k")):
            images, labels = content[name]
            assert np.array_equal(open_part(config, part).labels(), labels)
            assert np.array_equal(all_images(open_part(config, part)), images[:, None])

    @pytest.mark.parametrize("version", ["python", "resaved", "binary"])
    @pytest.mark.parametrize("packed", [False, True])
    def test_all_versions_of_cifar_give_their_images_and_labels(self, tmp_path, version, packed):
        content = write_cifar(tmp_path, version, packed=packed)
        config = DataConfig(data="cifar10", data_dir=str(tmp_path))
        train = open_part(config, "train")
        assert np.array_equal(train.labels(), np.concatenate([content[name][1] for name in CIFAR_BATCHES[:5]]))
        assert np.array_equal(all_images(train), np.concatenate([content[name][0] for name in CIFAR_BATCHES[:5]]))
        assert np.array_equal(all_images(open_part(config, "test")), content["test_batch"][0])

    def test_batches_may_lie_in_the_folder_itself(self, tmp_path):
        content = write_cifar(tmp_path, "binary")
        config = DataConfig(data="cifar10", data_dir=str(tmp_path / "cifar-10-batches-bin"))
        assert np.array_equal(open_part(config, "test").labels(), content["test_batch"][1])

    @pytest.mark.parametrize("name", ["mnist", "cifar10"])
    def test_a_client_gets_its_own_samples_only(self, tmp_path, name):
        if name == "mnist":
            write_idx(tmp_path, packed=True)
        else:
            write_cifar(tmp_path, "python", packed=True)
        config = DataConfig(data=name, data_dir=str(tmp_path), split="digits", classes_per_client=3)
        part = open_part(config, "train")
        images, labels = all_images(part), part.labels()
        clients = [client_samples(config, client, 4) for client in range(4)]
        assert sum(len(client) for client in clients) == len(labels) == 60
        assert all(len(set(client.labels)) == 3 for client in clients)
        known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        for client in clients:
            assert [known[image.tobytes()] for image in client.images] == client.labels.tolist()

    @pytest.mark.parametrize("share", [0.0, 0.3])
    def test_the_size_of_a_clients_training_part_is_known_without_its_images(self, tmp_path, share):
        write_idx(tmp_path)
        config = DataConfig(data="mnist", data_dir=str(tmp_path), test_share=share, split="iid")
        for client in range(4):
            train, _ = held_back(client_samples(config, client, 4), share, config.seed)
            assert training_size(config, client, 4) == len(train)

    def test_a_nodes_own_folder_wins(self, tmp_path):
        write_idx(tmp_path)
        config = DataConfig(data="fashion-mnist", data_dir=str(tmp_path / "elsewhere"), split="iid")
        assert len(client_samples(config, 0, 10, str(tmp_path))) == 6
        assert len(server_samples(config, str(tmp_path))) == 20

    def test_without_a_folder_the_error_says_what_to_set(self, tmp_path):
        with pytest.raises(DevprofError, match="'mnist' is read from local files: name their folder as data-dir"):
            open_part(DataConfig(data="mnist"), "train")
        with pytest.raises(DevprofError, match="of the data set 'mnist' is no folder on this machine"):
            open_part(DataConfig(data="mnist", data_dir=str(tmp_path / "none")), "train")


class TestHeldBack:
    SAMPLES = Samples(np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10))

    def test_the_two_parts_are_all_samples_and_the_same_each_time(self):
        train, test = held_back(self.SAMPLES, 0.2, 3)
        assert (len(train), len(test)) == (8, 2)
        assert sorted([*train.labels, *test.labels]) == list(range(10))
        assert np.array_equal(held_back(self.SAMPLES, 0.2, 3)[1].labels, test.labels)

    @pytest.mark.parametrize(("share", "kept"), [(0.01, 1), (1.0, 9)])
    def test_either_side_has_at_least_one(self, share, kept):
        assert len(held_back(self.SAMPLES, share, 0)[1]) == kept

    def test_without_a_share_or_with_one_sample_both_are_all(self):
        assert held_back(self.SAMPLES, 0.0, 0) == (self.SAMPLES, self.SAMPLES)
        one = self.SAMPLES.take(np.array([4]))
        assert held_back(one, 0.5, 0) == (one, one)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
class TestRealFiles:
    @pytest.fixture(autouse=True)
    def _needed(self, name):
        if not (REAL / name).is_dir():
            pytest.skip("the real files are where DEVPROF_DATA points to")

    def test_the_description_is_true_of_the_real_files(self, name):
        config = DataConfig(data=name, data_dir=str(REAL))
        meta, train = config.meta, open_part(config, "train")
        assert len(train.labels()) == meta.train_samples
        assert len(open_part(config, "test").labels()) == meta.test_samples
        scaled = all_images(train) / meta.max_value
        assert (round(scaled.mean(), 4), round(scaled.std(), 4)) == (meta.mean[0], meta.std[0])

    def test_the_hashes_are_those_of_the_unpacked_files(self, name):
        import gzip

        known = dict(load_dataset_meta(name).files)
        for path in (REAL / name).glob("*.gz"):
            content = gzip.decompress(path.read_bytes())
            assert hashlib.md5(content, usedforsecurity=False).hexdigest() == known[path.stem]
