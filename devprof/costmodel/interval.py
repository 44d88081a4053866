"""How far off a prediction may be: 90 % intervals from residuals of held-out measurements.

Split-conformal intervals hold only for what resembles the calibration. A model that was measured here, one that was
measured on a kin device, a sibling of a measured one and an architecture never seen are different situations, so each has
a width of its own, from residuals that were made in the same situation. Residuals of one family are alike; therefore every
family (or model, or pair) weighs the same, however many rows it has (hierarchical conformal prediction: Dunn, Wasserman,
Ramdas, arXiv:1809.07441).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["BASES", "ENOUGH_GROUPS", "LEVEL", "Groups", "Residuals", "Widths", "calibrate", "half_width"]

LEVEL = 0.9
# From what is known best to what is known least.
BASES: tuple[str, ...] = ("known-pair", "known-model", "known-family", "new-family")

# What 90 % of Student's t-distribution with 1, 2, ... degrees of freedom lie within.
_STUDENT: tuple[float, ...] = (
    *(6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833),
    *(1.812, 1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734),
)
# With fewer groups than this, what was measured may all be of a kind.
ENOUGH_GROUPS = 9
# Nothing could be held out: a factor of three either way, stated in the note.
_WITHOUT_EVIDENCE = math.log(3.0)
# With so few families residuals say little. On published tables with nine or more families, 90 % of those
# never seen were within 0.25 to 0.45, so an interval from fewer families is not narrower than this.
_LEAST_NEW_FAMILY = 0.4
# Between two measured batch sizes, where fewer than nine models were measured at three, no interval is narrower than this. On
# 180,000 published layer times of three phones a line through batch sizes of 5 and 50 was off by 2 to 13 % in the median; on
# a two-core PC three networks between 4 and 32 by 3 to 29 %, and one recurrent network by 52 %.
_LEAST_BETWEEN = 0.35
# From a known to a new family, where one family only was measured: errors of random splits grow about threefold.
_FAMILY_STEP = 3.0

Groups = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Widths:
    """Half widths of the 90 % interval in log space: the interval is ``value * exp(-w) .. value * exp(w)``.

    Attributes:
        between: The model was measured on the device in this mode, at a smaller and at a larger batch size.
        known_pair: It was measured, but not on both sides.
        known_model: It was measured on a kin device only.
        known_family: Another model of its family was.
        new_family: No model of its family was.
        note: How widths were found where residuals were too few; empty where they sufficed.
    """

    between: float
    known_pair: float
    known_model: float
    known_family: float
    new_family: float
    note: str = ""

    def of(self, basis: str) -> float:
        """The half width for one of :data:`BASES`."""
        return float(getattr(self, basis.replace("-", "_")))


def half_width(groups: Groups) -> tuple[float, str]:
    """The half width that covers 90 % of the residuals, each group weighing the same.

    From nineteen groups on it is the conformal quantile. Below nine no such quantile exists, and up to eighteen it is
    the largest residual or nearly so, which swings with each group that comes or goes. There the residuals of groups are
    taken as normal around zero with an unknown spread: the half width is their root mean square times Student's quantile
    and ``sqrt(1 + 1 / groups)``, as for one more observation ("Student", Biometrika 6, 1908). On published tables of 8 to
    58 families, widths from random choices of 3 to 12 of them covered 88 to 95 % of the others' rows; largest residuals
    had covered 92 to 99 % with intervals up to twice as wide.

    Args:
        groups: Log residuals by group; none of the groups empty, and at least one of them there.

    Returns:
        The half width in log space, and a note if there are fewer than nine groups (else empty).
    """
    if len(groups) <= len(_STUDENT):
        squares = [statistics.fmean(value**2 for value in values) for values in groups.values()]
        factor = _STUDENT[len(groups) - 1] * math.sqrt(1 + 1 / len(groups))
        note = f"{len(groups)} groups: root mean square times {factor:.2f}" if len(groups) < ENOUGH_GROUPS else ""
        return factor * math.sqrt(statistics.fmean(squares)), note
    pairs = sorted((abs(value), 1.0 / len(values)) for values in groups.values() for value in values)
    # One more group, the one to be predicted, is taken as infinitely far off.
    needed, mass = LEVEL * (len(groups) + 1), 0.0
    for value, weight in pairs:
        mass += weight
        if mass >= needed - 1e-9:
            return value, ""
    return pairs[-1][0], ""


@dataclass(frozen=True, slots=True)
class Residuals:
    """Log of measured over predicted of what was left out, by group: what widths and error reports are made of.

    Attributes:
        between: Batch sizes between others, by model.
        pairs: Batch sizes beyond the others, by model.
        kin: Models whose measurements on this device, but not on kin devices, were left out, by model.
        models: Models left out everywhere, by model.
        families: Families left out everywhere, by family.
        costs: What was measured, by name of the basis, in the order of all its residuals.
    """

    between: Groups = field(default_factory=dict)
    pairs: Groups = field(default_factory=dict)
    kin: Groups = field(default_factory=dict)
    models: Groups = field(default_factory=dict)
    families: Groups = field(default_factory=dict)
    costs: Mapping[str, Sequence[float]] = field(default_factory=dict)


def calibrate(residuals: Residuals) -> Widths:
    """The widths, never shrinking from a known pair to a new family.

    Args:
        residuals: Those of ``models`` should be of models with a sibling only.
    """
    notes: list[str] = []

    def width(basis: str, groups: Groups) -> float | None:
        if not groups:
            return None
        value, note = half_width(groups)
        if note:
            notes.append(f"{basis}: {note}")
        return value

    found = (residuals.pairs, residuals.kin, residuals.models, residuals.families)
    pair, known, family, new = (width(basis, groups) for basis, groups in zip(BASES, found, strict=True))
    if new is None:
        new = _WITHOUT_EVIDENCE if family is None else _FAMILY_STEP * family
        how = "a factor of three either way is assumed" if family is None else "three times the width of known-family"
        notes.append(f"new-family: no family could be left out, {how}")
    if len(residuals.families) < ENOUGH_GROUPS and new < _LEAST_NEW_FAMILY:
        new = _LEAST_NEW_FAMILY
        notes.append(f"new-family: at least {_LEAST_NEW_FAMILY} with fewer than {ENOUGH_GROUPS} families")
    if family is None:
        family = new
        notes.append("known-family: no model with a sibling could be left out, the width of new-family is used")
    if pair is None:
        pair = family
        notes.append("known-pair: no pair has two batch sizes, the width of known-family is used")
    inner = width("between batch sizes", residuals.between)
    if inner is None or (len(residuals.between) < ENOUGH_GROUPS and inner < _LEAST_BETWEEN):
        inner = _LEAST_BETWEEN
        if residuals.pairs:
            notes.append(
                f"between batch sizes: at least {_LEAST_BETWEEN} with fewer than {ENOUGH_GROUPS} models at three sizes"
            )
    # A batch size beyond the measured ones may be less certain than a new model, never more than a new family.
    family, new = max(family, known or 0.0), max(new, family, known or 0.0)
    return Widths(
        min(inner, pair), pair, family if known is None else known, max(family, pair), max(new, pair), "; ".join(notes)
    )
