"""The app's data: handwritten digits that scikit-learn bundles, split over clients. No network, no files.

Non-IID splits follow the usual recipe: per class, a Dirichlet draw says which share each client gets (Hsu, Qi and Brown, 2019,
arXiv 1909.06335).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devprof.errors import DevprofError, MissingExtraError

__all__ = ["Digits", "Samples", "client_samples", "load_digits_split", "partition"]

_TEST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Samples:
    """Images of shape (n, 1, 8, 8), scaled to 0..1, and their classes of shape (n,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Samples:
        """The samples at these positions, copied."""
        return Samples(self.images[indices], self.labels[indices])


@dataclass(frozen=True, slots=True)
class Digits:
    """The data set in its two parts."""

    train: Samples
    test: Samples


@functools.lru_cache(maxsize=4)
def load_digits_split(seed: int) -> Digits:
    """All 1,797 digits, a seeded fifth of them for testing.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("fl", "scikit-learn", "the data set of digits") from error
    bunch = load_digits()
    samples = Samples(
        (bunch.images[:, None] / 16.0).astype(np.float32),
        bunch.target.astype(np.int64),
    )
    order = np.random.default_rng(seed).permutation(len(samples))
    held_out = int(len(samples) * _TEST_SHARE)
    return Digits(train=samples.take(order[held_out:]), test=samples.take(order[:held_out]))


def partition(labels: NDArray[np.int64], clients: int, *, alpha: float | None, seed: int) -> list[NDArray[np.int64]]:
    """Positions of each client's samples; every sample belongs to exactly one client, and no client is empty.

    Args:
        labels: Class of each sample, shape (n,).
        clients: Number of clients.
        alpha: Concentration of the Dirichlet draws: 0.1 is very uneven, 10 nearly even; ``None`` splits at random (IID).
        seed: Of the draws.

    Raises:
        DevprofError: If there are more clients than samples, or alpha is not positive.
    """
    if not 1 <= clients <= len(labels):
        raise DevprofError(f"{len(labels)} samples cannot be split over {clients} clients")
    if alpha is not None and not alpha > 0:
        raise DevprofError(f"alpha must be positive, got {alpha}")
    generator = np.random.default_rng(seed)
    if alpha is None:
        return [np.sort(part) for part in np.array_split(generator.permutation(len(labels)), clients)]
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        shares = generator.dirichlet(np.full(clients, alpha))
        cuts = np.round(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for part, chunk in zip(parts, np.split(members, cuts), strict=True):
            part.extend(chunk.tolist())
    for part in parts:
        if not part:
            # A client without data cannot take part: it gets one sample of the largest.
            part.append(max(parts, key=len).pop())
    return [np.sort(np.array(part, dtype=np.int64)) for part in parts]


@functools.lru_cache(maxsize=256)
def client_samples(client: int, clients: int, *, alpha: float | None, seed: int) -> Samples:
    """The training samples of one client."""
    train = load_digits_split(seed).train
    return train.take(partition(train.labels, clients, alpha=alpha, seed=seed)[client])
