"""How training data are split over clients: every sample belongs to one client, and no client is empty.

Splits are functions of labels and seed alone, so that every client finds its own part without asking anybody.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from devprof.errors import DevprofError

__all__ = ["partition"]

Positions = NDArray[np.int64]


def partition(
    labels: NDArray[np.int64],
    clients: int,
    *,
    seed: int,
    alpha: float | None = None,
    classes_per_client: int | None = None,
) -> list[Positions]:
    """Positions of each client's samples, ascending; at random (IID) unless one of the two ways to be uneven is asked for.

    Args:
        labels: Class of each sample, shape (n,).
        clients: Number of clients.
        seed: Of the draws.
        alpha: Concentration of a Dirichlet draw per class that says which share each client gets (Hsu, Qi and Brown, 2019,
            arXiv 1909.06335): 0.1 is very uneven, 10 nearly even.
        classes_per_client: Number of classes of each client, drawn so that all classes have equally many clients, whose
            samples are shared evenly: the pathological split of McMahan et al. 2017, arXiv 1602.05629.

    Raises:
        DevprofError: If there are more clients than samples, both ways are asked for, alpha is not positive, or the classes
            of all clients together are not all classes.
    """
    if not 1 <= clients <= len(labels):
        raise DevprofError(f"{len(labels)} samples cannot be split over {clients} clients")
    if alpha is not None and classes_per_client is not None:
        raise DevprofError("a split takes either alpha or classes_per_client, not both")
    generator = np.random.default_rng(seed)
    if alpha is not None:
        return _filled(_dirichlet(labels, clients, alpha, generator))
    if classes_per_client is not None:
        return _filled(_by_class(labels, clients, classes_per_client, generator))
    return [np.sort(part) for part in np.array_split(generator.permutation(len(labels)), clients)]


def _dirichlet(
    labels: NDArray[np.int64], clients: int, alpha: float, generator: np.random.Generator
) -> list[list[int]]:
    if not alpha > 0:
        raise DevprofError(f"alpha must be positive, got {alpha}")
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        shares = generator.dirichlet(np.full(clients, alpha))
        cuts = np.round(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for part, chunk in zip(parts, np.split(members, cuts), strict=True):
            part.extend(chunk.tolist())
    return parts


def _by_class(
    labels: NDArray[np.int64], clients: int, per_client: int, generator: np.random.Generator
) -> list[list[int]]:
    classes = np.unique(labels)
    if not 1 <= per_client <= len(classes):
        raise DevprofError(f"classes per client must be from 1 to the {len(classes)} that there are, got {per_client}")
    if clients * per_client < len(classes):
        raise DevprofError(
            f"{clients} clients of {per_client} classes each cannot hold all {len(classes)} classes: "
            "take more partitions or more classes per client"
        )
    holders: list[list[int]] = [[] for _ in classes]
    for client in range(clients):
        # The classes with the fewest clients so far, ties at random: all end with equally many, give or take one.
        order = np.lexsort((generator.random(len(classes)), np.array([len(held) for held in holders])))
        for position in order[:per_client]:
            holders[position].append(client)
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label, held in zip(classes, holders, strict=True):
        members = generator.permutation(np.flatnonzero(labels == label))
        for client, chunk in zip(held, np.array_split(members, len(held)), strict=True):
            parts[client].extend(chunk.tolist())
    return parts


def _filled(parts: list[list[int]]) -> list[Positions]:
    """The parts, ascending; a client without data cannot take part, so it gets one sample of the largest."""
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())
    return [np.sort(np.array(part, dtype=np.int64)) for part in parts]
