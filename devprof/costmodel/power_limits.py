"""Power, time and energy of a workload at power limits between two at which it was measured.

Below some limit a processor draws what the limit allows, above it what the workload asks for; in between it changes from
one to the other, workload by workload. Raised to a negative power, the two add up (a smooth minimum), and so do the time
that the limit costs and the time that it does not touch::

    P(l)^-k = A + B * l^-k          T(l) = C + D * l^-b

The four constants belong to the workload, and the two limits at which it was measured determine them. The exponents belong
to the device and come from its other workloads: ``k`` says how sharp the saturation is (large: ``min(demand, l)``; -1: a
straight line), ``b`` how steeply time falls with the limit. Energy is power times time.

The form was chosen on the published traces of two GPUs of You, Chung and Chowdhury, Zeus (NSDI 2023, arXiv:2208.06102).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from devprof.costmodel.metering import read_metered
from devprof.costmodel.samples import clean_records
from devprof.errors import CostModelError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LimitEstimate", "LimitPoint", "PowerLimits", "fit_power_limits", "limit_points", "limit_watts"]

Array = npt.NDArray[np.float64]

# Exponents where nothing was learned, and what to search. In round numbers what five networks on two GPUs agree on.
_SATURATION, _SATURATIONS = 1.0, np.arange(-1.0, 6.01, 0.25)
_STEEPNESS, _STEEPNESSES = 4.0, np.arange(0.5, 8.01, 0.25)
# What it costs to move an exponent by 1 from there, as a mean absolute error of one network: one network at three limits
# must not choose an extreme.
_PRIOR = 0.003
_WATTS = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?) ?W(?![A-Za-z0-9])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LimitPoint:
    """A workload measured at one power limit.

    Attributes:
        device: Name of the device.
        model: Name of the network; networks weigh the same when exponents are learned.
        workload: What else tells workloads apart: batch size, mode, optimizer.
        power_limit_w: The limit in watts.
        power_w: Mean watts while it trained.
        time_s: Seconds of a fixed amount of work, such as one step or one epoch.

    Raises:
        ValueError: If one of the three numbers is not positive and finite.
    """

    device: str
    model: str
    workload: Hashable
    power_limit_w: float
    power_w: float
    time_s: float

    def __post_init__(self) -> None:
        for name in ("power_limit_w", "power_w", "time_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} of {self.model} on {self.device} must be positive, got {value}")


@dataclass(frozen=True, slots=True)
class LimitEstimate:
    """What a workload is predicted to take at a power limit.

    Attributes:
        power_w: Mean watts.
        time_s: Seconds of the amount of work that was measured.
        energy_j: Joules of it.
        basis: Where the exponents come from: ``device`` (other workloads on it), ``other-devices``, or ``assumed``, because
            no workload was measured at three limits. ``measured`` at a limit that was measured itself.
    """

    power_w: float
    time_s: float
    energy_j: float
    basis: str


@dataclass(frozen=True, slots=True)
class PowerLimits:
    """The exponents of devices, learned by :func:`fit_power_limits`.

    Attributes:
        exponents: Saturation ``k`` and steepness ``b`` by device.
        others: The same for devices that are not among them; ``None`` where nothing was learned.
    """

    exponents: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    others: tuple[float, float] | None = None

    def at_limit(self, known: Sequence[LimitPoint], power_limit_w: float) -> LimitEstimate:
        """Predicts a workload at a limit between two at which it was measured; the nearest ones on both sides are used.

        Args:
            known: The workload on one device, at two different limits or more.
            power_limit_w: The limit asked for, in watts.

        Raises:
            CostModelError: If ``known`` mixes workloads or devices, has fewer than two limits, or the limit asked for is not
                between them.
        """
        if len({(one.device, one.model, one.workload) for one in known}) != 1:
            raise CostModelError("a power limit is predicted for one workload on one device: give points of no other")
        limits, powers, times = _columns(known)
        name = f"{known[0].model} on {known[0].device}"
        if len(limits) < 2:
            raise CostModelError(
                f"{name} was measured at one power limit only: measure it at the lowest and the highest"
            )
        if not limits[0] <= power_limit_w <= limits[-1]:
            span = f"{limits[0]:g} to {limits[-1]:g} W"
            raise CostModelError(
                f"{name} was measured from {span}, which says nothing of {power_limit_w:g} W: measure there"
            )
        high = max(1, int(np.searchsorted(limits, power_limit_w)))
        near = slice(high - 1, high + 1)
        (saturation, steepness), basis = self._of(known[0].device)
        asked = np.array([power_limit_w])
        power_w = float(_power(limits[near], powers[near], asked, saturation)[0])
        time_s = float(_time(limits[near], times[near], asked, steepness)[0])
        if power_limit_w in limits:
            basis = "measured"
        return LimitEstimate(power_w, time_s, power_w * time_s, basis)

    def _of(self, device: str) -> tuple[tuple[float, float], str]:
        own = self.exponents.get(device)
        if own is not None:
            return own, "device"
        return (self.others, "other-devices") if self.others is not None else ((_SATURATION, _STEEPNESS), "assumed")


def fit_power_limits(points: Iterable[LimitPoint]) -> PowerLimits:
    """Learns the exponents of each device from workloads that were measured there at three limits or more.

    Of each workload the lowest and the highest limit predict those between; the exponents that do it with the least mean
    absolute error in the logarithm are searched on a grid, each network weighing the same. Leave out the network that is
    to be predicted, or its errors are too good.
    """
    by_workload: dict[tuple[str, str, Hashable], list[LimitPoint]] = defaultdict(list)
    for point in points:
        by_workload[point.device, point.model, point.workload].append(point)
    curves: dict[tuple[str, str], list[tuple[Array, Array, Array]]] = defaultdict(list)
    for (device, model, _), own in by_workload.items():
        columns = _columns(own)
        if len(columns[0]) > 2:
            curves[device, model].append(columns)
    if not curves:
        return PowerLimits()
    devices = dict.fromkeys(device for device, _ in curves)
    exponents = {name: _search([own for (device, _), own in curves.items() if device == name]) for name in devices}
    return PowerLimits(exponents, _search(list(curves.values())))


def limit_points(frame: pd.DataFrame) -> list[LimitPoint]:
    """The points of a table of runs: its training rows whose ``power_mode`` names watts and whose power was measured.

    Args:
        frame: Columns as the fields of :class:`devprof.records.Measurement`; ``device``, ``model``, ``batch_size``,
            ``power_mode`` and ``step_s`` must be there. Other rows are passed over. Time is seconds per step.

    Raises:
        CostModelError: If a column that cannot be missing is missing.
    """
    missing = [name for name in ("device", "model", "batch_size", "power_mode", "step_s") if name not in frame.columns]
    if missing:
        raise CostModelError(f"the table of runs has no column {', '.join(missing)}")
    points = []
    for record in clean_records(frame):
        limit_w = limit_watts(record["power_mode"])
        step_s = record["step_s"]
        good = record.get("status") in (None, "ok") and record.get("task") in (None, "train")
        if limit_w is None or not good or step_s is None or not (math.isfinite(step_s) and step_s > 0):
            continue
        metered, _ = read_metered(record, step_s)
        if metered is not None:
            workload = tuple(record.get(name) for name in _WORKLOAD)
            model, device = str(record["model"]), str(record["device"])
            points.append(LimitPoint(device, model, workload, limit_w, metered.power_w, step_s))
    return points


_WORKLOAD = (
    "batch_size",
    "mode",
    "image_size",
    "num_classes",
    "optimizer",
    "precision",
    "memory_format",
    "threads",
    "data",
)


def limit_watts(power_mode: str | None) -> float | None:
    """The watts in the name of a power mode, such as 30 of ``MODE_30W_4CORE``; ``None`` where it names none, or several."""
    found = {float(number) for number in _WATTS.findall((power_mode or "").replace("_", " "))}
    watts = found.pop() if len(found) == 1 else None
    return watts or None


def _columns(points: Sequence[LimitPoint]) -> tuple[Array, Array, Array]:
    """Limits, lowest first, with the power and time at each; repeats joined by their geometric mean."""
    logs: dict[float, list[tuple[float, float]]] = defaultdict(list)
    for one in points:
        logs[one.power_limit_w].append((math.log(one.power_w), math.log(one.time_s)))
    limits = sorted(logs)
    means = np.exp([np.mean(logs[limit], axis=0) for limit in limits])
    return np.array(limits), means[:, 0], means[:, 1]


def _power(limits: Array, powers: Array, asked: Array, saturation: float) -> Array:
    """Watts at limits between the first and the last of those known."""
    share = _share_of_first(limits, asked, saturation)
    first, last = powers[0], powers[-1]
    mean: Array
    if saturation == 0:
        mean = np.exp(share * np.log(first) + (1 - share) * np.log(last))
    else:
        mean = (share * first**-saturation + (1 - share) * last**-saturation) ** (-1 / saturation)
    return mean


def _time(limits: Array, times: Array, asked: Array, steepness: float) -> Array:
    """Seconds at limits between the first and the last of those known."""
    share = _share_of_first(limits, asked, steepness)
    mean: Array = share * times[0] + (1 - share) * times[-1]
    return mean


def _share_of_first(limits: Array, asked: Array, exponent: float) -> Array:
    """How much the first limit counts beside the last one, where limits are raised to minus an exponent."""
    # In units of the last limit: the eighth power of watts would leave no digits of a difference.
    first, places = limits[0] / limits[-1], asked / limits[-1]
    share: Array = np.log(places) / np.log(first) if exponent == 0 else (places**-exponent - 1) / (first**-exponent - 1)
    return share


def _search(networks: Sequence[Sequence[tuple[Array, Array, Array]]]) -> tuple[float, float]:
    """The saturation and the steepness with the least mean absolute log error."""

    def best(grid: Array, usual: float, values: int, predict: Callable[[Array, Array, Array, float], Array]) -> float:
        def cost(exponent: float) -> float:
            errors = [
                float(np.mean(np.abs(np.concatenate([_errors(one, values, predict, exponent) for one in own]))))
                for own in networks
            ]
            return sum(errors) + _PRIOR * abs(exponent - usual)

        return float(min(grid, key=cost))

    return best(_SATURATIONS, _SATURATION, 1, _power), best(_STEEPNESSES, _STEEPNESS, 2, _time)


def _errors(
    columns: tuple[Array, Array, Array],
    values: int,
    predict: Callable[[Array, Array, Array, float], Array],
    exponent: float,
) -> Array:
    limits, known = columns[0], columns[values]
    logs: Array = np.log(predict(limits, known, limits[1:-1], exponent) / known[1:-1])
    return logs
