"""The same data sets from the hub, by Flower's package flwr-datasets: only where the user asks for it.

The package may download: ``data-source = "local"``, the default, never comes here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_meta import DatasetMeta
from devprof.errors import DevprofError, MissingExtraError
from strategies.app.streams import DataError, checked_labels

__all__ = ["HubPart", "open_hub"]


@dataclass(frozen=True, slots=True)
class HubPart:
    """The training or test part of a data set that flwr-datasets has loaded.

    Attributes:
        dataset: The split, a ``datasets.Dataset``; it stays on disk and is read by index.
        meta: Its description; says the columns, the shape and the number of classes.
        name: Where it comes from, for errors.
    """

    dataset: Any
    meta: DatasetMeta
    name: str

    def labels(self) -> NDArray[np.int64]:
        """All labels.

        Raises:
            DataError: If there is no such column, or a label is no class.
        """
        assert self.meta.hub is not None
        found = np.asarray(self._column(self.dataset, self.meta.hub.label))
        if found.dtype.kind not in "iu" or found.min(initial=0) < 0 or found.max(initial=0) > 255:
            raise DataError(f"{self.name}: the column {self.meta.hub.label!r} has no labels of classes")
        return checked_labels(found.astype(np.uint8), self.meta.num_classes, self.name)

    def images(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at these positions; only they are decoded.

        Raises:
            DataError: If there is no such column, or an image has another size.
        """
        assert self.meta.hub is not None
        channels, height, width = self.meta.input_shape
        column = self._column(self.dataset.select(wanted.tolist()), self.meta.hub.image)
        images = np.empty((len(wanted), channels, height, width), dtype=np.uint8)
        for position, image in enumerate(column):
            pixels = _pixels(image)
            pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
            if pixels.shape != (height, width, channels):
                raise DataError(
                    f"{self.name}: image {int(wanted[position])} has shape {pixels.shape}, not {(height, width, channels)}"
                )
            images[position] = pixels.transpose(2, 0, 1)
        return images

    def _column(self, dataset: Any, column: str) -> Any:
        if column not in dataset.column_names:
            raise DataError(f"{self.name} has no column {column!r}, only {', '.join(dataset.column_names)}")
        return dataset[column]


def _pixels(image: Any) -> NDArray[np.uint8]:
    """A decoded image, or the bytes of its file where the data set does not decode by itself."""
    if isinstance(image, dict) and isinstance(image.get("bytes"), bytes):
        from PIL import Image

        image = Image.open(io.BytesIO(image["bytes"]))
    return np.asarray(image, dtype=np.uint8)


def open_hub(meta: DatasetMeta, part: str, source: str) -> HubPart:
    """A part of a data set through flwr-datasets, whose own cache keeps what it downloaded.

    Args:
        meta: The description; says the data set's name on the hub.
        part: ``train`` or ``test``.
        source: A local copy, as ``datasets.load_dataset`` takes it (a folder of Parquet files); empty for the hub.

    Raises:
        MissingExtraError: If the package is not installed.
        DevprofError: If the data set is not on the hub, or cannot be loaded.
    """
    if meta.hub is None:
        raise DevprofError(f'the data set {meta.name!r} is not on the hub: use data-source = "local"')
    try:
        from flwr_datasets import FederatedDataset
    except ImportError as error:
        raise MissingExtraError("hub", "flwr_datasets", "data-source = 'hub'") from error
    name = source or meta.hub.name
    try:
        # The package is only asked for whole parts: all sources of data share one way to split.
        dataset = FederatedDataset(dataset=name, partitioners={}, shuffle=False).load_split(part)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"the {part} part of {name} cannot be loaded: {error}") from error
    return HubPart(dataset, meta, name)
