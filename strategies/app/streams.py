"""Reading samples out of files from front to back, keeping only those that are wanted: a board never holds a whole data set."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from devprof.errors import DevprofError

__all__ = [
    "DataError",
    "FolderPart",
    "ImagePart",
    "checked_labels",
    "find",
    "named_errors",
    "open_stream",
    "read_exactly",
    "selected_records",
]

_CHUNK_BYTES = 1 << 20


class DataError(DevprofError):
    """A data set's file is missing or damaged; the text names it and says what is wrong."""


class ImagePart(Protocol):
    """The training or test part of a data set of images."""

    def labels(self) -> NDArray[np.int64]:
        """Class of each sample, shape (n,), in the order of the files."""

    def images(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at these positions, which must ascend: shape (len(wanted), channels, height, width)."""


@dataclass(frozen=True, slots=True)
class FolderPart:
    """What a part of a data set of files is read by.

    Attributes:
        folder: Where the files are.
        part: ``train`` or ``test``.
        shape: Of one image: (channels, height, width).
        num_classes: Labels are below it.
    """

    folder: Path
    part: str
    shape: tuple[int, ...]
    num_classes: int


def find(folder: Path, names: tuple[str, ...], what: str) -> Path:
    """The first of these files or folders that is there.

    Raises:
        DataError: If none is; the text names them all.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise DataError(f"{what} are not in {folder.absolute()}: none of {', '.join(names)} is there")


@contextmanager
def named_errors(path: Path | str) -> Iterator[None]:
    """Turns what reading a damaged or forbidden file raises into a :class:`DataError` that names it."""
    try:
        yield
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{path} cannot be read: {error or type(error).__name__}") from error


def open_stream(path: Path) -> BinaryIO:
    """A file for reading, unpacked on the way where its name ends in ``.gz``."""
    return cast("BinaryIO", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def read_exactly(stream: BinaryIO, size: int, name: Path | str) -> bytes:
    """The next bytes of a stream.

    Raises:
        DataError: If the stream ends before.
    """
    data = stream.read(size)
    if len(data) < size:
        raise DataError(f"{name} is truncated: {size - len(data)} bytes are missing")
    return data


def selected_records(
    stream: BinaryIO, count: int, size: int, wanted: NDArray[np.int64], name: Path | str
) -> NDArray[np.uint8]:
    """Some of the records of equal size that follow in a stream, which is read no further than the last of them.

    Args:
        stream: At the first record.
        count: Records in the stream.
        size: Bytes of each.
        wanted: Numbers of the wanted records, ascending.
        name: Of the file, for errors.

    Returns:
        Array of shape (len(wanted), size).

    Raises:
        DataError: If the stream ends too early.
    """
    records = np.empty((len(wanted), size), dtype=np.uint8)
    step = max(1, _CHUNK_BYTES // size)
    done = 0
    for start in range(0, count, step):
        if done == len(wanted):
            break
        rows = min(step, count - start)
        chunk = np.frombuffer(read_exactly(stream, rows * size, name), dtype=np.uint8).reshape(rows, size)
        end = int(np.searchsorted(wanted, start + rows))
        records[done:end] = chunk[wanted[done:end] - start]
        done = end
    return records


def checked_labels(labels: NDArray[np.uint8], num_classes: int, name: Path | str) -> NDArray[np.int64]:
    """Labels as whole numbers.

    Raises:
        DataError: If one is no class of the data set.
    """
    if len(labels) and int(labels.max()) >= num_classes:
        where = int(np.argmax(labels >= num_classes))
        raise DataError(
            f"{name}: the label {int(labels[where])} of sample {where} is no class, there are only {num_classes}"
        )
    return labels.astype(np.int64)
