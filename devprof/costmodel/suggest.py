"""Which models are worth measuring on a device: the ones that tell most about all others.

Before anything is measured, the logarithm of a step's time is uncertain in what its costs may deviate by on this device, and
in what the model itself may be off by. A probe takes away from every other model's variance what both share. The probes are
chosen one after the other, each the one that leaves least variance over all candidates (greedy A-optimal design; Krause,
Singh, Guestrin, JMLR 9, 2008, for Gaussian processes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devprof.costmodel.base import BaseModel, parameter_shape, shares, work_matrix
from devprof.costmodel.effects import NOISE_SD, Label, covariance
from devprof.costmodel.families import model_family
from devprof.costmodel.features import Features
from devprof.costmodel.samples import Configuration

__all__ = ["Probe", "suggest_probes"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Probe:
    """A configuration that can be measured.

    Attributes:
        configuration: What is trained.
        batch_size: Samples per step.
        features: Its work.
    """

    configuration: Configuration
    batch_size: int
    features: Features


def suggest_probes(base: BaseModel, candidates: Sequence[Probe], known: Sequence[Probe], count: int) -> list[Probe]:
    """The candidates worth measuring, the most telling first.

    Args:
        base: Of the device or of one like it.
        candidates: What could be measured; also what is to be predicted.
        known: What was measured on the device already.
        count: How many are wanted; fewer come back if there are no more candidates.
    """
    every = [*known, *candidates]
    if not every:
        return []
    uncertain = _covariance(base, every)
    for row in range(len(known)):
        uncertain = _without(uncertain, row)
    chosen: list[int] = []
    open_rows = list(range(len(known), len(every)))
    while open_rows and len(chosen) < count:
        gains = [
            float(np.sum(uncertain[row, len(known) :] ** 2) / (uncertain[row, row] + NOISE_SD**2)) for row in open_rows
        ]
        best = open_rows.pop(int(np.argmax(gains)))
        uncertain = _without(uncertain, best)
        chosen.append(best)
    return [every[row] for row in chosen]


def _covariance(base: BaseModel, probes: Sequence[Probe]) -> Array:
    """How the logarithms of the probes' times are uncertain together, on a device that is like others."""
    shape = parameter_shape(base.overlap)
    parts = work_matrix((one.features, one.batch_size) for one in probes) * np.array(base.seconds)
    slopes = shares(parts, base.overlap) @ shape.matrix * shape.own_sds
    labels = [
        Label(model_family(one.configuration.model), one.configuration.model, one.configuration.mode, "")
        for one in probes
    ]
    total: Array = slopes @ slopes.T + covariance(labels, labels)
    return total


def _without(uncertain: Array, row: int) -> Array:
    """What is left of the covariance when one row was measured."""
    column = uncertain[:, row]
    left: Array = uncertain - np.outer(column, column) / (column[row] + NOISE_SD**2)
    return left
