"""MNIST's file format, IDX: a magic number, the sizes of the axes (big-endian), then the values (as Y. LeCun describes it)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from strategies.app.streams import (
    DataError,
    FolderPart,
    checked_labels,
    find,
    named_errors,
    open_stream,
    read_exactly,
    selected_records,
)

__all__ = ["IdxPart"]

_UNSIGNED_BYTE = 0x08
_MOST_SAMPLES = 1 << 31
_PREFIX = {"train": "train", "test": "t10k"}


@dataclass(frozen=True, slots=True)
class IdxPart(FolderPart):
    """The training or test part in a folder of four IDX files, each plain or ``.gz``."""

    def labels(self) -> NDArray[np.int64]:
        """All labels.

        Raises:
            DataError: If the file is missing, damaged, or has a label that is no class.
        """
        path = self._path("labels-idx1")
        with named_errors(path), open_stream(path) as stream:
            (count,) = _axes(stream, path, 1)
            labels = np.frombuffer(read_exactly(stream, count, path), dtype=np.uint8)
            if stream.read(1):
                raise DataError(f"{path} goes on after the {count} labels that its head announces")
        return checked_labels(labels, self.num_classes, path)

    def images(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at these ascending positions; the others are read past, never kept.

        Raises:
            DataError: If the file is missing or damaged, or its images have another size or number than they should.
        """
        path = self._path("images-idx3")
        with named_errors(path), open_stream(path) as stream:
            count, *size = _axes(stream, path, 3)
            if tuple(size) != self.shape[1:]:
                raise DataError(f"{path} has images of {size[0]}x{size[1]}, not {self.shape[1]}x{self.shape[2]}")
            labels = len(self.labels())
            if count != labels:
                raise DataError(f"{path} has {count} images, but there are {labels} labels")
            records = selected_records(stream, count, math.prod(size), wanted, path)
        return records.reshape(-1, *self.shape)

    def _path(self, kind: str) -> Path:
        # Some copies have a dot where the official names have a hyphen.
        stems = [f"{_PREFIX[self.part]}-{kind}-ubyte", f"{_PREFIX[self.part]}-{kind.replace('-', '.')}-ubyte"]
        names = tuple(stem + ending for stem in stems for ending in ("", ".gz"))
        return find(self.folder, names, f"the {self.part} {kind.partition('-')[0]}")


def _axes(stream: BinaryIO, path: Path, number: int) -> tuple[int, ...]:
    """The sizes of the axes that an IDX file's head announces, the first being the number of samples."""
    magic = read_exactly(stream, 4, path)
    if magic != bytes((0, 0, _UNSIGNED_BYTE, number)):
        raise DataError(
            f"{path} is no IDX file of bytes with {number} axes: it begins with {magic.hex()}, "
            f"not 0000{_UNSIGNED_BYTE:02x}{number:02x}"
        )
    axes = struct.unpack(f">{number}I", read_exactly(stream, 4 * number, path))
    if math.prod(axes) == 0 or axes[0] > _MOST_SAMPLES:
        raise DataError(f"{path} announces {' x '.join(map(str, axes))} values, which cannot be")
    return axes
