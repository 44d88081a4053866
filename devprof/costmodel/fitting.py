"""From observations to predictors: fits the bases, then what measurements correct of them, then the intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from devprof.costmodel.effects import Effects
from devprof.costmodel.families import model_family, model_kind
from devprof.costmodel.heldout import device_residuals, is_little, memory_residuals, time_residuals
from devprof.costmodel.interval import Groups, Residuals, Widths, calibrate
from devprof.costmodel.memory import fit_memory
from devprof.costmodel.pool import Pool
from devprof.costmodel.predictor import Predictor, Regression, correct, measured_values
from devprof.costmodel.samples import Observation

__all__ = ["Modes", "assemble", "fit_memory_predictor", "fit_time_predictors"]

_ENOUGH_IMAGE_FAMILIES = 3
# Residuals by mode.
Modes = Mapping[str, Residuals]


def fit_time_predictors(pool: Pool) -> dict[str, tuple[Predictor, Modes]]:
    """Predictors of seconds per step for kin devices, with the residuals that their intervals were made from.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    fitted = pool.fit()
    residuals = time_residuals(pool, fitted)
    found: dict[str, tuple[Predictor, Modes]] = {}
    for device in pool.devices:
        own = pool.of(device)
        modes = {mode: one for (name, mode), one in residuals.items() if name == device}
        probed: dict[str, Residuals] = {}
        if is_little(own):
            probed = device_residuals(pool, fitted, len(own))
        predictor = assemble(own, fitted.bases[device], fitted.known(device), _join(modes, probed))
        found[device] = replace(predictor, probed=bool(probed)), modes
    return found


def fit_memory_predictor(observations: Sequence[Observation]) -> tuple[Predictor, Modes]:
    """The predictor of the peak memory of one device, with its residuals.

    Raises:
        CostModelError: If there is no observation.
        MissingExtraError: If scipy is not installed.
    """
    modes = {mode: one for (_, mode), one in memory_residuals(observations).items()}
    return assemble(observations, fit_memory(observations), Effects(), modes), modes


def _join(own: Modes, probed: Modes) -> Modes:
    """A probed device's own residuals tell of batch sizes only."""
    if not probed:
        return own
    return {
        mode: replace(one, between=own[mode].between, pairs=own[mode].pairs) if mode in own else one
        for mode, one in probed.items()
    }


def assemble(own: Sequence[Observation], regression: Regression, effects: Effects, modes: Modes) -> Predictor:
    """The predictor of one cost on one device from its base, what is known beyond it, and residuals by mode."""
    siblings: dict[str, set[str]] = defaultdict(set)
    for one in own:
        siblings[one.family].add(one.configuration.model)
    # Small models of other kinds are far harder to predict than image models among themselves: where there are enough
    # image models, their intervals come from their own residuals.
    images = {one.family for one in own if model_kind(one.configuration.model) == "image"}
    chosen = images if len(images) >= _ENOUGH_IMAGE_FAMILIES else set(siblings)
    return Predictor(
        regression=regression,
        effects=effects,
        corrections=correct(own, regression),
        measured=measured_values(own),
        families=frozenset(siblings),
        widths=_widths(modes, siblings, chosen),
        other_widths=_widths(modes, siblings, None),
    )


def _widths(modes: Modes, siblings: Mapping[str, set[str]], chosen: set[str] | None) -> dict[str, Widths]:
    """Widths by mode from the residuals of some families, or of all."""

    def kept(groups: Groups, *, with_sibling: bool = False) -> Groups:
        return {
            group: values
            for group, values in groups.items()
            if (chosen is None or model_family(_stem(group)) in chosen)
            and (not with_sibling or len(siblings.get(model_family(_stem(group)), ())) != 1)
        }

    found = {
        mode: calibrate(
            Residuals(
                between=kept(one.between),
                pairs=kept(one.pairs),
                kin=kept(one.kin),
                models=kept(one.models, with_sibling=True),
                families={name: own for name, own in one.families.items() if chosen is None or _stem(name) in chosen},
            )
        )
        for mode, one in modes.items()
    }
    return found or {"": calibrate(Residuals())}


def _stem(group: str) -> str:
    """The model or family of a group; those of probed devices are named "model on device"."""
    return group.partition(" on ")[0]
