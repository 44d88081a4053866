"""The hub's loader: on a stand-in with the package's interface, and on the package itself where it is installed.

flwr-datasets pins versions that this project's other packages do not, so it is not among what the tests install.
"""

import importlib.util
import io
import sys
import types

import numpy as np
import pytest
from PIL import Image
from tiny_datasets import images_and_labels

from devprof.errors import DevprofError
from strategies.app.config import DataConfig
from strategies.app.data import client_samples, open_part
from strategies.app.streams import DataError

COLUMNS = {"mnist": ("image", "label"), "cifar10": ("img", "label")}
SHAPES = {"mnist": (28, 28), "cifar10": (3, 32, 32)}


def png(image):
    pixels = image if image.ndim == 2 else image.transpose(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


class Split:
    """The part of ``datasets.Dataset`` that is used: columns, rows by index, images decoded when they are read."""

    def __init__(self, columns, indices=None):
        self._columns = columns
        self._indices = range(len(next(iter(columns.values())))) if indices is None else indices
        self.column_names = list(columns)

    def select(self, indices):
        return Split(self._columns, indices)

    def __getitem__(self, column):
        return [self._columns[column][index] for index in self._indices]


class StandIn:
    asked = ()

    def __init__(self, *, dataset, partitioners, shuffle=True):
        self.asked.append((dataset, partitioners, shuffle))
        self.dataset = dataset

    def load_split(self, split):
        if self.dataset.startswith("/missing"):
            raise FileNotFoundError(f"Couldn't find any data file at {self.dataset}")
        name = "cifar10" if "cifar" in self.dataset else "mnist"
        images, labels = images_and_labels({"train": 60, "test": 20}[split], SHAPES[name], split == "test")
        decoded = [Image.open(io.BytesIO(png(image))) for image in images]
        return Split(dict(zip(COLUMNS[name], (decoded, labels.tolist()), strict=True)))


@pytest.fixture
def stand_in(monkeypatch):
    module = types.ModuleType("flwr_datasets")
    module.FederatedDataset = StandIn
    monkeypatch.setitem(sys.modules, "flwr_datasets", module)
    monkeypatch.setattr(StandIn, "asked", [])
    return StandIn.asked


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_part_is_the_same_as_from_files(stand_in, name):
    config = DataConfig(data=name, data_source="hub")
    for part, count, seed in (("train", 60, 0), ("test", 20, 1)):
        images, labels = images_and_labels(count, SHAPES[name], seed)
        opened = open_part(config, part)
        assert np.array_equal(opened.labels(), labels)
        wanted = np.array([0, 3, count - 1])
        assert np.array_equal(opened.images(wanted), images[wanted].reshape(3, *config.meta.input_shape))
    # The order must be the files', or no two machines would agree on the split.
    assert stand_in == [(config.meta.hub.name, {}, False)] * 2


def test_the_split_is_the_same_for_all_sources(stand_in):
    config = DataConfig(data="mnist", data_source="hub", split="digits", partitions=5)
    clients = [client_samples(config, client, 5) for client in range(5)]
    assert sum(len(client) for client in clients) == 60
    assert all(len(set(client.labels)) == 2 for client in clients)


def test_a_folder_is_a_local_copy(stand_in):
    open_part(DataConfig(data="mnist", data_source="hub", data_dir="/copies/mnist"), "train")
    assert stand_in == [("/copies/mnist", {}, False)]


def test_files_of_images_are_decoded_where_the_package_does_not():
    from datasets_meta import load_dataset_meta
    from strategies.app.hub import HubPart

    images, labels = images_and_labels(10, (28, 28), 0)
    encoded = Split({"image": [{"bytes": png(image), "path": None} for image in images], "label": labels.tolist()})
    found = HubPart(encoded, load_dataset_meta("mnist"), "a copy").images(np.arange(10))
    assert np.array_equal(found[:, 0], images)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"picture": [0], "label": [0]}, r"no column 'image', only picture, label"),
        ({"image": [np.zeros((8, 8), np.uint8)], "label": [0]}, r"image 0 has shape \(8, 8, 1\), not \(28, 28, 1\)"),
        ({"image": [np.zeros((28, 28), np.uint8)], "label": [10]}, "the label 10 of sample 0 is no class"),
        ({"image": [np.zeros((28, 28), np.uint8)], "label": [-1]}, "no labels of classes"),
        ({"image": [np.zeros((28, 28), np.uint8)], "label": ["cat"]}, "no labels of classes"),
    ],
)
def test_a_data_set_of_another_kind_is_named(columns, reason):
    from datasets_meta import load_dataset_meta
    from strategies.app.hub import HubPart

    part = HubPart(Split(columns), load_dataset_meta("mnist"), "a copy")
    with pytest.raises(DataError, match=f"a copy.*{reason}"):
        part.images(np.arange(len(part.labels())))


def test_what_cannot_be_loaded_is_named(stand_in):
    with pytest.raises(
        DataError, match="the train part of /missing/copy cannot be loaded: Couldn't find any data file"
    ):
        open_part(DataConfig(data="mnist", data_source="hub", data_dir="/missing/copy"), "train")


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "flwr_datasets", None)
    with pytest.raises(DevprofError, match=r"pip install 'devprof\[hub\]'"):
        open_part(DataConfig(data="mnist", data_source="hub"), "train")


def test_digits_are_not_on_the_hub(stand_in):
    with pytest.raises(DevprofError, match="'digits' is not on the hub"):
        open_part(DataConfig(data_source="hub"), "train")


@pytest.mark.skipif(importlib.util.find_spec("flwr_datasets") is None, reason="flwr-datasets is not installed")
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_the_package_itself_reads_a_local_folder(tmp_path, monkeypatch, name):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    image_column, label_column = COLUMNS[name]
    content = {part: images_and_labels(count, SHAPES[name], 0) for part, count in (("train", 60), ("test", 20))}
    features = datasets.Features({image_column: datasets.Image(), label_column: datasets.ClassLabel(num_classes=10)})
    folder = tmp_path / name
    folder.mkdir()
    for part, (images, labels) in content.items():
        rows = {image_column: [{"bytes": png(image), "path": None} for image in images], label_column: labels.tolist()}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{part}-00000-of-00001.parquet")
    config = DataConfig(data=name, data_source="hub", data_dir=str(folder))
    for part, (images, labels) in content.items():
        opened = open_part(config, part)
        assert np.array_equal(opened.labels(), labels)
        found = opened.images(np.arange(len(labels)))
        assert np.array_equal(found, images.reshape(len(images), *config.meta.input_shape))
