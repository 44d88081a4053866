"""Descriptions of data sets, one TOML file each: shape, classes, sizes, source, licence, how to load.

What is published about models is in :mod:`datasets_meta.models`.

Standard library only (``tomli`` before Python 3.11); imports nothing of devprof.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from datasets_meta.files import read_table
from datasets_meta.models import MODEL_TABLE_FILE

__all__ = ["DatasetMeta", "dataset_names", "load_dataset_meta"]


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
        loader: How it is loaded: ``sklearn:NAME`` (bundled with a dependency) or ``idx`` (a folder of IDX files).
        files: (file name, MD5 of its official form) for data sets of files.
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
    files: tuple[tuple[str, str], ...] = ()


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
    return DatasetMeta(name=name, input_shape=shape, files=files, **table)
