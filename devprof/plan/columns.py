"""What the planner is told as arrays: a table of step costs per device, and one element per client.

A fleet of a million clients has a few hundred kinds of devices: costs are looked up once per device and batch size, and
clients name their row of that table. NaN stands for what is not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from devprof.plan.estimator import Z90
from devprof.records import Estimate

__all__ = ["Bools", "FleetArrays", "Floats", "Indices", "Ints", "StepCosts", "tags"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

_NAN = math.nan
_WHOLE = ("samples", "device", "rounds_left_out")
# Where NaN is allowed, and means that there is no limit.
_OPEN = ("memory_limit_bytes", "energy_budget_j")


@dataclass(frozen=True, slots=True)
class StepCosts:
    """A training step's cost on each device (row) at each batch size (column); NaN where it is not known.

    Attributes:
        batch_sizes: Samples per step of each column, ascending.
        step_s: Seconds per step.
        step_hi_s: Upper bound of its 90 % interval.
        memory_hi_bytes: Upper bound of peak memory.
        energy_j: Joules per step.
        energy_hi_j: Upper bound of its 90 % interval; where only ``energy_j`` is known, that.
        fits: Whether it fits the device's memory by the estimate's own verdict, whatever limit a client names.
    """

    batch_sizes: Ints
    step_s: Floats
    step_hi_s: Floats
    memory_hi_bytes: Floats
    energy_j: Floats
    energy_hi_j: Floats
    fits: Bools

    @classmethod
    def of(cls, rows: Sequence[Sequence[Estimate | None]], batch_sizes: Sequence[int]) -> StepCosts:
        """The table of these estimates.

        Args:
            rows: For each device its estimates at all batch sizes, ``None`` where there is none.
            batch_sizes: The batch sizes, ascending.

        Raises:
            ValueError: If batch sizes are not ascending, or an estimate is no positive, finite step time.
        """

        def column(name: str) -> Floats:
            values = [[getattr(one, name) if one is not None else None for one in row] for row in rows]
            return np.array(values, dtype=np.float64).reshape(len(rows), len(batch_sizes))

        energy, energy_hi = column("energy_per_step_j"), column("energy_per_step_j_hi")
        return cls(
            batch_sizes=np.array(batch_sizes, dtype=np.int64),
            step_s=column("step_s"),
            step_hi_s=column("step_s_hi"),
            memory_hi_bytes=column("memory_hi_bytes"),
            energy_j=energy,
            energy_hi_j=np.where(np.isnan(energy_hi), energy, energy_hi),
            fits=np.array(
                [[one is None or one.fits is not False for one in row] for row in rows], dtype=np.bool_
            ).reshape(len(rows), len(batch_sizes)),
        )

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if sizes.ndim != 1 or not sizes.size or sizes[0] < 1 or (np.diff(sizes) <= 0).any():
            raise ValueError(f"batch_sizes must be ascending and at least 1, got {sizes.tolist()}")
        for one in fields(self)[1:]:
            values = getattr(self, one.name)
            if values.ndim != 2 or values.shape[1] != sizes.size or values.shape != self.step_s.shape:
                raise ValueError(
                    f"{one.name} must be a table of devices by {sizes.size} batch sizes, got {values.shape}"
                )
        with np.errstate(invalid="ignore"):
            wrong = ~np.isnan(self.step_s) & ~(
                (self.step_s > 0) & (self.step_s <= self.step_hi_s) & np.isfinite(self.step_hi_s)
            )
            if wrong.any():
                row, at = np.argwhere(wrong)[0]
                raise ValueError(
                    f"device {row} at batch size {sizes[at]} needs 0 < step_s <= step_hi_s, finite, got "
                    f"{self.step_s[row, at]} and {self.step_hi_s[row, at]}"
                )
            for name in ("memory_hi_bytes", "energy_j", "energy_hi_j"):
                if (getattr(self, name) < 0).any() or np.isinf(getattr(self, name)).any():
                    raise ValueError(f"{name} must be at least 0 and finite, or NaN where it is not known")

    def of_devices(self, device: Indices) -> dict[str, Floats]:
        """The rows of some devices, column by column, with the standard deviation of the prediction itself (``step_sd_s``)."""
        rows = {one.name: np.asarray(getattr(self, one.name)[device], dtype=np.float64) for one in fields(self)[1:]}
        return rows | {"step_sd_s": (rows["step_hi_s"] - rows["step_s"]) / Z90}


@dataclass(frozen=True, slots=True)
class FleetArrays:
    """Clients, one array element each, or a number that holds for all; fields as those of a ``ClientState``.

    Attributes:
        samples: Size of a client's training data.
        device: Its row in :class:`StepCosts`; one of NaNs for a device that nothing is known of.
        up_mbps: Upload in megabits per second; infinite where transfers count nothing.
        down_mbps: Download in megabits per second.
        latency_s: Seconds added to each transfer.
        startup_s: Seconds from receipt of the message to the first step.
        overhead_s: Seconds that neither link nor start-up explain.
        fixed_sd_s: Standard deviation of transfers, overhead and start-up together.
        memory_limit_bytes: Memory it may use; NaN if unknown.
        energy_budget_j: Joules that its steps of this round may take; NaN for no limit.
        rounds_left_out: Rounds in a row that it was left out.
    """

    samples: npt.ArrayLike
    device: npt.ArrayLike
    up_mbps: npt.ArrayLike = math.inf
    down_mbps: npt.ArrayLike = math.inf
    latency_s: npt.ArrayLike = 0.0
    startup_s: npt.ArrayLike = 0.0
    overhead_s: npt.ArrayLike = 0.0
    fixed_sd_s: npt.ArrayLike = 0.0
    memory_limit_bytes: npt.ArrayLike = _NAN
    energy_budget_j: npt.ArrayLike = _NAN
    rounds_left_out: npt.ArrayLike = 0

    def checked(self, devices: int) -> FleetArrays:
        """The same with arrays of one length, numbers repeated without being copied.

        Args:
            devices: Rows of the table of costs.

        Raises:
            ValueError: If lengths differ or a value is impossible; the text names field and client.
        """
        arrays = {
            one.name: np.asarray(getattr(self, one.name), dtype=np.int64 if one.name in _WHOLE else np.float64)
            for one in fields(self)
        }
        lengths = {array.size for array in arrays.values() if array.ndim}
        if len(lengths) > 1 or any(array.ndim > 1 for array in arrays.values()):
            shapes = {name: array.shape for name, array in arrays.items() if array.ndim}
            raise ValueError(f"the columns of a fleet must have one length, got {shapes}")
        length = lengths.pop() if lengths else 1
        for name, array in arrays.items():
            with np.errstate(invalid="ignore"):
                if name in ("up_mbps", "down_mbps"):
                    good, rule = array > 0, "positive"
                elif name == "device":
                    good, rule = (array >= 0) & (array < devices), f"a row of the table of {devices} devices"
                else:
                    good, rule = (array >= 0) & (array < math.inf), "at least 0 and finite"
                    good = good | np.isnan(array) if name in _OPEN else good
            if not good.all():
                at = int(np.argmin(good))
                raise ValueError(f"{name} must be {rule}, got {np.atleast_1d(array)[at]} (client {at})")
        return FleetArrays(**{name: np.broadcast_to(array, (length,)) for name, array in arrays.items()})

    def take(self, index: Indices) -> dict[str, npt.NDArray[np.generic]]:
        """Some clients of a checked fleet, column by column."""
        return {one.name: np.asarray(getattr(self, one.name))[index] for one in fields(self)}


def tags(columns: Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.uint64]:
    """A number for each client that depends on its values only: a hash of them all (multiply and shift, as splitmix64).

    A sum of floats depends on its order: in that of the tags, a permutation of the clients does not even change the last digit.

    Args:
        columns: What :meth:`FleetArrays.take` gives.
    """
    mixed = np.zeros(len(columns["samples"]), dtype=np.uint64)
    for number, column in enumerate(columns.values()):
        mixed ^= column.view(np.uint64)
        mixed *= np.uint64(0x9E3779B97F4A7C15 + 2 * number)
        mixed ^= mixed >> np.uint64(29)
    return mixed
