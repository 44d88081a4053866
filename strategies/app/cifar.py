"""CIFAR-10's files: the python version (pickled batches) and the binary version, each as a folder or a ``.tar.gz``.

Batches are read one after the other, and of each only the wanted images stay.
"""

from __future__ import annotations

import functools
import math
import pickle
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from strategies.app.streams import DataError, FolderPart, checked_labels, find, named_errors, selected_records

__all__ = ["CifarPart"]

_BATCHES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
_PLACES = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
# Of the binary version, at a time: about a megabyte.
_RECORDS = 340
# What bytes that are no pickle make the reader raise.
_BROKEN_PICKLE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class CifarPart(FolderPart):
    """The training or test part in a folder that has one of the versions, packed or unpacked, or its batches themselves."""

    def labels(self) -> NDArray[np.int64]:
        """All labels, batch after batch.

        Raises:
            DataError: If a batch is missing, damaged, or has a label that is no class.
        """
        counted = _labels_by_batch(self)
        return np.concatenate([counted[name] for name in _BATCHES[self.part]])

    def images(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at these ascending positions.

        Raises:
            DataError: If a batch is missing or damaged.
        """
        counted = _labels_by_batch(self)
        ends = np.cumsum([len(counted[name]) for name in _BATCHES[self.part]])
        cuts = [0, *(int(cut) for cut in np.searchsorted(wanted, ends))]
        records = np.empty((len(wanted), math.prod(self.shape)), dtype=np.uint8)
        # An archive has its batches in any order.
        for name, stream, where in self.batches():
            number = _BATCHES[self.part].index(name)
            first, last = cuts[number], cuts[number + 1]
            own = wanted[first:last] - (int(ends[number]) - len(counted[name]))
            read = _read_binary if where.endswith(".bin") else _read_pickled
            with named_errors(where):
                records[first:last] = read(stream, own, len(counted[name]), records.shape[1], where)
        return records.reshape(-1, *self.shape)

    def place(self) -> Path:
        """The folder or archive that has the batches."""
        if any((self.folder / f"test_batch{ending}").is_file() for ending in ("", ".bin")):
            return self.folder
        return find(self.folder, (*_PLACES, "test_batch", "test_batch.bin"), "the batches of CIFAR-10")

    def batches(self) -> Iterator[tuple[str, BinaryIO, str]]:
        """The batches that are there: name, content and place, one at a time."""
        place = self.place()
        entries = _archived if place.is_file() else _unpacked
        # What goes wrong while a batch is read is raised where it is read, not in here.
        with named_errors(place):
            for file, stream in entries(place, lambda file: file.removesuffix(".bin") in _BATCHES[self.part]):
                yield file.removesuffix(".bin"), stream, f"{place}/{file}"


# Reading all labels of an archive means to unpack it: that is done once, and the images then take a second pass.
@functools.lru_cache(maxsize=4)
def _labels_by_batch(part: CifarPart) -> dict[str, NDArray[np.int64]]:
    size = math.prod(part.shape)
    labels = {}
    for name, stream, where in part.batches():
        read = _binary_labels if where.endswith(".bin") else _pickled_labels
        with named_errors(where):
            labels[name] = checked_labels(read(stream, size, where), part.num_classes, where)
    missing = [name for name in _BATCHES[part.part] if name not in labels]
    if missing:
        raise DataError(f"{part.place()} lacks {', '.join(missing)}")
    return labels


def _unpacked(place: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, BinaryIO]]:
    for path in sorted(place.iterdir()):
        if wanted(path.name):
            with path.open("rb") as stream:
                yield path.name, stream


def _archived(place: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, BinaryIO]]:
    # Front to back, as going back in a packed stream would mean to unpack it again.
    with tarfile.open(place, "r|*") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            content = archive.extractfile(member) if member.isfile() and wanted(name) else None
            if content is not None:
                yield name, cast("BinaryIO", content)


# The binary version: per image a byte for its class and then its pixels ----------------------------------------------


def _binary_labels(stream: BinaryIO, size: int, where: str) -> NDArray[np.uint8]:
    labels = []
    while chunk := stream.read(_RECORDS * (size + 1)):
        if len(chunk) % (size + 1):
            raise DataError(f"{where} is truncated or no batch: its length is no multiple of {size + 1} bytes")
        labels.append(np.frombuffer(chunk, dtype=np.uint8)[:: size + 1].copy())
    if not labels:
        raise DataError(f"{where} is empty")
    return np.concatenate(labels)


def _read_binary(stream: BinaryIO, wanted: NDArray[np.int64], count: int, size: int, where: str) -> NDArray[np.uint8]:
    return selected_records(stream, count, size + 1, wanted, where)[:, 1:]


# The python version: a pickled dictionary of lists and an array ------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    """Makes arrays of numbers and nothing else: a pickle may otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in {"numpy.core.multiarray", "numpy._core.multiarray"}:
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in {"ndarray", "dtype"}:
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return lambda text, _encoding: text.encode("latin-1")
        raise pickle.UnpicklingError(f"it wants to make {module}.{name}, which no batch of CIFAR has")


def _read_pickled(stream: BinaryIO, wanted: NDArray[np.int64], count: int, size: int, where: str) -> NDArray[np.uint8]:
    labels, pixels = _pickled(stream, size, where)
    if len(labels) != count:
        raise DataError(f"{where} has changed while it was read")
    return pixels[wanted]


def _pickled_labels(stream: BinaryIO, size: int, where: str) -> NDArray[np.uint8]:
    return _pickled(stream, size, where)[0]


def _pickled(stream: BinaryIO, size: int, where: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels and pixels of a pickled batch, the latter of shape (n, size)."""
    try:
        batch = _Unpickler(stream, encoding="bytes").load()
    except _BROKEN_PICKLE as error:
        raise DataError(f"{where} is truncated or no batch of CIFAR: {error}") from error
    table = {_text(key): value for key, value in batch.items()} if isinstance(batch, dict) else {}
    labels, pixels = table.get("labels"), table.get("data")
    if not isinstance(labels, list) or not isinstance(pixels, np.ndarray):
        raise DataError(f"{where} is no batch of CIFAR-10: it has no lists 'labels' and 'data'")
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), size) or not len(labels):
        raise DataError(
            f"{where} has {pixels.dtype} pixels of shape {pixels.shape} for {len(labels)} labels, "
            f"not bytes of shape ({len(labels)}, {size})"
        )
    if not all(isinstance(label, int) and 0 <= label < 256 for label in labels):
        raise DataError(f"{where} has labels that are no classes")
    return np.array(labels, dtype=np.uint8), pixels


def _text(key: object) -> object:
    return key.decode("latin-1") if isinstance(key, bytes) else key
