"""What measured siblings say of a model beyond its counted work: random effects of families and models.

Two models of one family are off the base by similar factors, the same model on two boards even more so. The logarithm of
measured over predicted is taken as a sum of independent normal effects, of the family, the model and the configuration,
each partly shared by kin devices and by both modes, and of noise. Their covariance weighs the rows when the base is fitted
(ten siblings are not ten independent witnesses), and the best linear unbiased prediction (Henderson, Biometrics 31, 1975)
carries them over to what was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from devprof.costmodel.families import model_family

__all__ = ["NOISE_SD", "Effects", "Label", "covariance"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Label:
    """What a row shares with others."""

    family: str
    model: str
    mode: str
    device: str


# Standard deviations in log space; chosen like those of the base, and rounded.
_FAMILY_SD = 0.02  # of a family, on all kin devices and in both modes
_FAMILY_DEVICE_SD = 0.02
_FAMILY_MODE_SD = 0.03
_MODEL_SD = 0.1
_MODEL_DEVICE_SD = 0.05
_MODEL_MODE_SD = 0.03
NOISE_SD = 0.035  # of one measurement around all of this


def covariance(rows: Sequence[Label], columns: Sequence[Label]) -> Array:
    """Covariance of the effects between rows and columns, without noise; shape (rows, columns)."""

    def same(name: str) -> npt.NDArray[np.bool_]:
        left, right = (np.array([getattr(one, name) for one in side], dtype=object) for side in (rows, columns))
        equal: npt.NDArray[np.bool_] = left[:, None] == right[None, :]
        return equal

    family, model, mode, device = (same(name) for name in ("family", "model", "mode", "device"))
    total: Array = family.astype(float) * (_FAMILY_SD**2 + _FAMILY_DEVICE_SD**2 * device + _FAMILY_MODE_SD**2 * mode)
    total += model * (_MODEL_SD**2 + _MODEL_DEVICE_SD**2 * device + _MODEL_MODE_SD**2 * mode)
    return total


@dataclass(frozen=True, slots=True)
class Effects:
    """What is known of models beyond their counted work: logarithms of measured over base on this device.

    Attributes:
        models: By model and mode, of models measured here or on a kin device.
        families: By family and mode, for other models of the family.
        measured: The models and modes that were measured, here or there; others were in another mode only.
    """

    models: Mapping[tuple[str, str], float] = field(default_factory=dict)
    families: Mapping[tuple[str, str], float] = field(default_factory=dict)
    measured: frozenset[tuple[str, str]] = frozenset()

    def of(self, model: str, mode: str) -> float:
        """The expected logarithm for a model; 0 where nothing is known."""
        known = self.models.get((model, mode))
        return self.families.get((model_family(model), mode), 0.0) if known is None else known
