"""Descriptions of data sets, one TOML file each: shape, classes, sizes, source, licence, how to load.

What is published about models is in :mod:`datasets_meta.models`.

Standard library only (``tomli`` before Python 3.11); imports nothing of devprof.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from datasets_meta.files import read_table
from datasets_meta.models import MODEL_TABLE_FILE

__all__ = ["DatasetMeta", "HubMeta", "dataset_names", "load_dataset_meta"]


@dataclass(frozen=True, slots=True)
class HubMeta:
    """A data set on the hub: its name there, and the columns of images and classes."""

    name: str
    image: str
    label: str


@dataclass(frozen=True, slots=True)
class DatasetMeta:
    """What is known about a data set without loading it.

    Attributes:
        name: Its name here, which is the file's name.
        title: Its name for people.
        input_shape: Shape of one sample: (channels, height, width) for images.
        num_classes: Number of classes.
        train_samples: Samples for training.
        test_samples: Samples for testing.
        source: Who made it and where it is described.
        licence: Under which terms it may be used.
        loader: How it is loaded: ``sklearn:NAME`` (bundled with a dependency), ``idx`` (a folder of IDX files) or ``cifar``
            (the python or binary version of CIFAR, as folder or archive).
        max_value: The largest value of a pixel, by which images are scaled to 0..1.
        mean: Published mean of the scaled training images, per channel; ``None`` where none is published.
        std: Their published standard deviation.
        partitions: Clients that the training part is split over unless the user says otherwise; ``None`` for one a client.
        augmentation: ``crop-flip`` where random crops and mirror images suit the data; ``None`` for none.
        files: (file name, MD5 of its official form) for data sets of files.
        hub: Where the same data lie on the hub; ``None`` where they do not.
    """

    name: str
    title: str
    input_shape: tuple[int, ...]
    num_classes: int
    train_samples: int
    test_samples: int
    source: str
    licence: str
    loader: str
    max_value: int = 255
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    partitions: int | None = None
    augmentation: str | None = None
    files: tuple[tuple[str, str], ...] = ()
    hub: HubMeta | None = None


def dataset_names() -> tuple[str, ...]:
    """The data sets that are described."""
    files = {entry.name for entry in resources.files("datasets_meta").iterdir()} - {MODEL_TABLE_FILE}
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def load_dataset_meta(name: str) -> DatasetMeta:
    """The description of a data set.

    Raises:
        KeyError: If there is none of that name; the text lists the names.
    """
    if name not in dataset_names():
        raise KeyError(f"no data set {name!r}; there are: {', '.join(dataset_names())}")
    table = read_table(f"{name}.toml")
    shape = tuple(int(size) for size in table.pop("input_shape"))
    files = tuple((str(file), str(digest)) for file, digest in table.pop("files", {}).items())
    for key in ("mean", "std"):
        if key in table:
            table[key] = tuple(float(value) for value in table[key])
    hub = HubMeta(**table.pop("hub")) if "hub" in table else None
    return DatasetMeta(name=name, input_shape=shape, files=files, hub=hub, **table)
