"""The time of a client's round: download, start-up, steps, data loading, upload; for one client or a million at once.

``download + startup + thermal * (epochs * (full * step(B) + step(r)) + loading) + upload`` with ``full = samples // B`` full
batches and one partial batch of ``r = samples % B`` per epoch. The thermal factor is on what the device itself does for minutes
on end, steps and loading; transfers and start-up do not slow down with it. There is one implementation of this arithmetic,
:func:`round_times`, on arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from devprof.records import Estimate, Link

__all__ = [
    "ClientRounds",
    "Fault",
    "RoundTime",
    "RoundTimes",
    "StepTimes",
    "find_faults",
    "round_time",
    "round_times",
    "steps_per_epoch",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_COUNTS = ("epochs", "samples", "batch_sizes")
_NUMBERS: tuple[str, ...] = (
    *_COUNTS,
    *("payload_bytes", "up_mbps", "down_mbps", "latency_s", "startup_s"),
    *("data_s_per_sample", "data_s_per_batch", "thermal_factor"),
)
# The product of two counts must be a 64-bit integer.
_LARGEST_COUNT = 2**31 - 1


class StepTimes(NamedTuple):
    """Seconds per step of each client with the 90 % interval; arrays, or numbers that hold for all clients.

    NaN in all three says that there is no estimate, which only a partial batch may lack.
    """

    step_s: npt.ArrayLike
    lo_s: npt.ArrayLike
    hi_s: npt.ArrayLike

    @classmethod
    def of(cls, estimate: Estimate) -> StepTimes:
        """The step of one estimate."""
        return cls(estimate.step_s, estimate.step_s_lo, estimate.step_s_hi)


@dataclass(frozen=True, slots=True)
class ClientRounds:
    """What clients are asked to do, and with what; every field is an array, or a number that holds for all of them.

    Attributes:
        steps: A step at the full batch size.
        epochs: Passes over the data.
        samples: Size of a client's data.
        batch_sizes: Samples per step.
        partial: A step at the size of the partial last batch, ``samples % batch_sizes``. Where it is missing or NaN, that
            batch is priced as a full one: the round is an upper bound, by less than a step per epoch.
        payload_bytes: Size of the model as sent, taken to be the same both ways.
        up_mbps: Upload in megabits (10^6 bits) per second; infinite where transfers count nothing.
        down_mbps: Download in megabits per second.
        latency_s: Seconds added to each transfer.
        startup_s: Seconds from receipt of the message to the first step.
        data_s_per_sample: Seconds of data loading per sample, as far as no step runs meanwhile and steps do not include it.
        data_s_per_batch: The same per batch, on top; a partial batch costs as much as a full one.
        thermal_factor: How many times slower the device is when it is hot, at least 1: the settled step time of a soak of five
            minutes or more over that of a cool device.
        drop_last: Leave out the partial batch, as torch's ``DataLoader(drop_last=True)`` does: its samples are not
            loaded either, and a client with less data than a batch does no step at all.
    """

    steps: StepTimes
    epochs: npt.ArrayLike
    samples: npt.ArrayLike
    batch_sizes: npt.ArrayLike
    partial: StepTimes | None = None
    payload_bytes: npt.ArrayLike = 0.0
    up_mbps: npt.ArrayLike = math.inf
    down_mbps: npt.ArrayLike = math.inf
    latency_s: npt.ArrayLike = 0.0
    startup_s: npt.ArrayLike = 0.0
    data_s_per_sample: npt.ArrayLike = 0.0
    data_s_per_batch: npt.ArrayLike = 0.0
    thermal_factor: npt.ArrayLike = 1.0
    drop_last: bool | Bools = False


@dataclass(frozen=True, slots=True)
class RoundTimes:
    """The rounds of many clients, one array element each.

    Attributes:
        download_s: Seconds to receive the model.
        startup_s: Seconds from receipt to the first step.
        train_s: Seconds of the steps at the centre of the interval, thermal factor included.
        data_s: Seconds of data loading that no step hides, thermal factor included.
        upload_s: Seconds to send the result.
        total_s: The sum of the five.
        total_lo_s: The sum with all steps at the lower end of their 90 % intervals.
        total_hi_s: The sum with all steps at the upper end.
        steps: Optimizer steps.
        partial_as_full: Whether a partial batch was priced as a full one for want of an estimate, so that the round is an
            upper bound.
    """

    download_s: Floats
    startup_s: Floats
    train_s: Floats
    data_s: Floats
    upload_s: Floats
    total_s: Floats
    total_lo_s: Floats
    total_hi_s: Floats
    steps: npt.NDArray[np.int64]
    partial_as_full: Bools


@dataclass(frozen=True, slots=True)
class RoundTime:
    """What one client's part of a round takes, by phase; fields as those of :class:`RoundTimes`."""

    download_s: float
    startup_s: float
    train_s: float
    upload_s: float
    total_s: float
    total_lo_s: float
    total_hi_s: float
    steps: int
    data_s: float = 0.0
    partial_as_full: bool = False


class Fault(NamedTuple):
    """An impossible value of some clients.

    Attributes:
        name: The field of :class:`ClientRounds`.
        rule: What its values must be.
        wrong: Which clients break the rule.
        values: The values of all clients.
    """

    name: str
    rule: str
    wrong: Bools
    values: Floats


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Optimizer steps in one pass over the data, the partial last batch counted as one.

    Raises:
        ValueError: If either is below 1.
    """
    if samples < 1 or batch_size < 1:
        raise ValueError(f"an epoch needs at least one sample and a batch of one, got {samples} and {batch_size}")
    return -(-samples // batch_size)


def find_faults(numbers: Mapping[str, npt.ArrayLike]) -> Iterator[Fault]:
    """The impossible ones among values of fields of :class:`ClientRounds`, NaN among them.

    Args:
        numbers: Values by name of the field; estimates of steps are not looked at.
    """
    for name, value in numbers.items():
        values = np.atleast_1d(np.asarray(value, dtype=np.float64))
        if name in _COUNTS:
            good = (values >= 1) & (values <= _LARGEST_COUNT) & (values == np.floor(values))
            rule = f"a whole number from 1 to {_LARGEST_COUNT}"
        elif name in ("up_mbps", "down_mbps"):
            good, rule = values > 0, "positive"
        elif name == "thermal_factor":
            good, rule = (values >= 1) & np.isfinite(values), "at least 1 and finite"
        else:
            good, rule = (values >= 0) & np.isfinite(values), "at least 0 and finite"
        if not good.all():
            yield Fault(name, rule, ~good, values)


def round_times(clients: ClientRounds) -> RoundTimes:
    """The times of all clients' rounds.

    The intervals assume that a client's steps are wrong together: a prediction that is too short for one is for all.

    Raises:
        ValueError: If a value is impossible; the text names the first such client by its index.
    """
    for fault in find_faults({name: getattr(clients, name) for name in _NUMBERS}):
        at = int(np.argmax(fault.wrong))
        where = f" (client {at})" if fault.values.size > 1 else ""
        raise ValueError(f"{fault.name} must be {fault.rule}, got {fault.values.flat[at]}{where}")
    fields = [np.asarray(getattr(clients, name), dtype=np.float64) for name in _NUMBERS]
    step = [np.asarray(value, dtype=np.float64) for value in clients.steps]
    partial = [np.asarray(value, dtype=np.float64) for value in clients.partial or (math.nan,) * 3]
    drop_last, *arrays = np.broadcast_arrays(np.asarray(clients.drop_last, dtype=bool), *fields, *step, *partial)
    numbers = dict(zip(_NUMBERS, arrays, strict=False))
    step, partial = arrays[len(_NUMBERS) : -3], arrays[-3:]
    _check_steps("step", *step)
    full = np.floor_divide(numbers["samples"], numbers["batch_sizes"])
    rest = np.where(drop_last, 0.0, numbers["samples"] - full * numbers["batch_sizes"])
    known = ~np.isnan(partial[0])
    _check_steps("partial step", *(values[known] for values in partial))
    batches = full + (rest > 0)
    loaded = (full * numbers["batch_sizes"] + rest) * numbers["data_s_per_sample"]
    heat = numbers["epochs"] * numbers["thermal_factor"]
    data_s = heat * (loaded + batches * numbers["data_s_per_batch"])
    download_s, upload_s = (
        numbers["latency_s"] + numbers["payload_bytes"] * 8e-6 / numbers[name] for name in ("down_mbps", "up_mbps")
    )
    trains = [
        heat * (full * whole + np.where(rest > 0, np.where(known, last, whole), 0.0))
        for whole, last in zip(step, partial, strict=True)
    ]
    fixed_s = download_s + numbers["startup_s"] + upload_s + data_s
    return RoundTimes(
        download_s=download_s,
        startup_s=numbers["startup_s"].copy(),
        train_s=trains[0],
        data_s=data_s,
        upload_s=upload_s,
        total_s=fixed_s + trains[0],
        total_lo_s=fixed_s + trains[1],
        total_hi_s=fixed_s + trains[2],
        steps=(numbers["epochs"] * batches).astype(np.int64),
        partial_as_full=(rest > 0) & ~known,
    )


def _check_steps(what: str, step_s: Floats, lo_s: Floats, hi_s: Floats) -> None:
    good = (lo_s > 0) & (lo_s <= step_s) & (step_s <= hi_s) & np.isfinite(hi_s)
    if not good.all():
        at = np.flatnonzero(~good.ravel())[0]
        found = ", ".join(f"{name} {values.ravel()[at]}" for name, values in _named(step_s, lo_s, hi_s))
        raise ValueError(f"the estimate of a {what} needs 0 < step_s_lo <= step_s <= step_s_hi, got {found}")


def _named(step_s: Floats, lo_s: Floats, hi_s: Floats) -> Iterator[tuple[str, Floats]]:
    return zip(("step_s", "step_s_lo", "step_s_hi"), (step_s, lo_s, hi_s), strict=True)


def round_time(
    estimate: Estimate,
    *,
    epochs: int,
    samples: int,
    batch_size: int,
    payload_bytes: float,
    link: Link,
    startup_s: float = 0.0,
    partial: Estimate | None = None,
    data_s_per_sample: float = 0.0,
    data_s_per_batch: float = 0.0,
    thermal_factor: float = 1.0,
    drop_last: bool = False,
) -> RoundTime:
    """The time of one client's round of ``epochs`` passes over its data: :func:`round_times` of a single client.

    Args:
        estimate: Seconds per step at this batch size.
        epochs: Passes over the data.
        samples: Size of the client's data.
        batch_size: Samples per step.
        payload_bytes: Size of the model as sent, taken to be the same both ways.
        link: The client's link.
        startup_s: Seconds from receipt of the message to the first step.
        partial: Seconds per step at ``samples % batch_size``, the size of the last batch of an epoch. Without it that batch
            is priced as a full one, and the result is an upper bound, by less than a step per epoch; it says so in
            ``partial_as_full``.
        data_s_per_sample: As in :class:`ClientRounds`, and so are the arguments below.
        data_s_per_batch: Seconds of loading per batch.
        thermal_factor: How many times slower the hot device is.
        drop_last: Whether the partial batch is left out.

    Raises:
        ValueError: If a count is below 1, a size or time is negative or not finite, or the thermal factor is below 1.
    """
    whole = round_times(
        ClientRounds(
            steps=StepTimes.of(estimate),
            epochs=[epochs],
            samples=samples,
            batch_sizes=batch_size,
            partial=None if partial is None else StepTimes.of(partial),
            payload_bytes=payload_bytes,
            up_mbps=link.up_mbps,
            down_mbps=link.down_mbps,
            latency_s=link.latency_s,
            startup_s=startup_s,
            data_s_per_sample=data_s_per_sample,
            data_s_per_batch=data_s_per_batch,
            thermal_factor=thermal_factor,
            drop_last=drop_last,
        )
    )
    return RoundTime(**{name: getattr(whole, name)[0].item() for name in RoundTime.__slots__})
