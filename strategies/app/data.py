"""The app's data: a client's own samples, and the test part for the server.

A data set is described in ``datasets_meta``; here its loader is chosen, and each client takes its part by index: bytes, as they
lie in the files. What becomes of them in a batch is in :mod:`strategies.app.batches`. Nothing here uses the network, except the
hub's loader where the user asks for it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devprof.errors import DevprofError, MissingExtraError
from strategies.app.config import DataConfig
from strategies.app.split import partition
from strategies.app.streams import ImagePart

__all__ = ["DigitsPart", "Samples", "client_samples", "held_back", "open_part", "server_samples", "training_size"]

_TEST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Samples:
    """Images of shape (n, channels, height, width), bytes as they are in the files, and their classes of shape (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Samples:
        """The samples at these positions, copied."""
        return Samples(self.images[indices], self.labels[indices])


@dataclass(frozen=True, slots=True)
class DigitsPart:
    """A part of the 1,797 digits that scikit-learn bundles: a seeded fifth of them is for testing."""

    part: str
    seed: int

    def labels(self) -> NDArray[np.int64]:
        """All labels of the part."""
        return _digits()[1][self._positions()]

    def images(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at these positions, of shape (n, 1, 8, 8) and with values up to 16."""
        return _digits()[0][self._positions()[wanted]]

    def _positions(self) -> NDArray[np.int64]:
        labels = _digits()[1]
        order = np.random.default_rng(self.seed).permutation(len(labels))
        held_out = int(len(labels) * _TEST_SHARE)
        return order[held_out:] if self.part == "train" else order[:held_out]


@functools.lru_cache(maxsize=1)
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("fl", "scikit-learn", "the data set of digits") from error
    bunch = load_digits()
    return bunch.images[:, None].astype(np.uint8), bunch.target.astype(np.int64)


def open_part(config: DataConfig, part: str, data_dir: str = "") -> ImagePart:
    """The training or test part of the configured data set; nothing is read yet.

    Args:
        config: Says the data set and where it comes from.
        part: ``train`` or ``test``.
        data_dir: This machine's own folder; it wins over the configured one.

    Raises:
        DevprofError: If a folder is needed and not named or not there, or the hub's loader is not installed.
    """
    meta, folder = config.meta, data_dir or config.data_dir
    if config.data_source == "hub":
        from strategies.app.hub import open_hub

        return open_hub(meta, part, folder)
    if meta.loader == "sklearn:load_digits":
        return DigitsPart(part, config.seed)
    if meta.loader == "idx":
        from strategies.app.idx import IdxPart

        return IdxPart(_folder(config.data, folder), part, meta.input_shape, meta.num_classes)
    if meta.loader == "cifar":
        from strategies.app.cifar import CifarPart

        return CifarPart(_folder(config.data, folder), part, meta.input_shape, meta.num_classes)
    raise DevprofError(f"the data set {config.data!r} has the loader {meta.loader!r}, which this app does not know")


def _folder(name: str, folder: str) -> Path:
    if not folder:
        raise DevprofError(
            f"the data set {name!r} is read from local files: name their folder as data-dir, in the run config for all "
            "or in the node config of each SuperNode"
        )
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise DevprofError(f"the data-dir {path.absolute()} of the data set {name!r} is no folder on this machine")
    return path / name if (path / name).is_dir() else path


@functools.lru_cache(maxsize=8)
def _parts(config: DataConfig, clients: int, data_dir: str) -> list[NDArray[np.int64]]:
    """The split of the training part; a hundred kilobytes, kept for a process that plays many clients."""
    labels = open_part(config, "train", data_dir).labels()
    return partition(
        labels,
        clients,
        seed=config.seed,
        alpha=config.dirichlet_alpha or None if config.split == "dirichlet" else None,
        classes_per_client=config.classes_per_client if config.split == "digits" else None,
    )


@functools.lru_cache(maxsize=256)
def client_samples(config: DataConfig, client: int, clients: int, data_dir: str = "") -> Samples:
    """The training samples of one client, all of them.

    Args:
        config: Says the data set and the split.
        client: From 0 to ``clients - 1``.
        clients: Parts that the data are split into.
        data_dir: This machine's own folder; it wins over the configured one.

    Raises:
        DevprofError: If there is no such client or the data cannot be had; the text says why.
    """
    own = _own_part(config, client, clients, data_dir)
    part = open_part(config, "train", data_dir)
    return Samples(part.images(own), part.labels()[own])


def training_size(config: DataConfig, client: int, clients: int, data_dir: str = "") -> int:
    """Samples that one client trains on, from the labels alone: arguments and errors as of :func:`client_samples`."""
    own = len(_own_part(config, client, clients, data_dir))
    return own - _held_back_count(own, config.test_share)


def _own_part(config: DataConfig, client: int, clients: int, data_dir: str) -> NDArray[np.int64]:
    if not 0 <= client < clients:
        raise DevprofError(
            f"there is no partition {client}: the data set {config.data!r} is split into {clients}, numbered from 0"
        )
    return _parts(config, clients, data_dir)[client]


@functools.lru_cache(maxsize=2)
def server_samples(config: DataConfig, data_dir: str = "") -> Samples:
    """The test part, as bytes (30 MB for CIFAR-10): batches of it are made one at a time.

    Raises:
        DevprofError: If the data cannot be had.
    """
    part = open_part(config, "test", data_dir)
    labels = part.labels()
    return Samples(part.images(np.arange(len(labels))), labels)


def held_back(samples: Samples, share: float, seed: int) -> tuple[Samples, Samples]:
    """A client's samples for training and for evaluation: the same in every round.

    Without a share, or with a single sample, both are all that it has.

    Args:
        samples: All that the client has.
        share: From 0 to 1, of them for evaluation; at least one sample stays on either side.
        seed: Of the draw.
    """
    count = _held_back_count(len(samples), share)
    if count == 0:
        return samples, samples
    order = np.random.default_rng(seed).permutation(len(samples))
    return samples.take(np.sort(order[count:])), samples.take(np.sort(order[:count]))


def _held_back_count(total: int, share: float) -> int:
    return 0 if share <= 0 or total < 2 else min(total - 1, max(1, round(share * total)))
