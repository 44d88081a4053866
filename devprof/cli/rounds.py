"""Where steps meet rounds: the cost model's step times and the planner's arithmetic, for one client or a table of them.

pandas and numpy are imported when something is predicted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from devprof.records import Estimate, Link

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from devprof.costmodel.model import CostModel

__all__ = ["ROUND_COLUMNS", "Query", "RoundOptions", "add_rounds", "predict_round", "under_conditions"]

ROUND_COLUMNS = ("round_s", "round_s_lo", "round_s_hi")

_PARAMETER_BYTES = 4
_STEP = ("step_s", "step_s_lo", "step_s_hi")
# Columns of a table that say what a round is, as the arithmetic of rounds calls them.
_COLUMNS = (
    *("epochs", "samples", "up_mbps", "down_mbps", "latency_s", "startup_s", "payload_bytes"),
    *("data_s_per_sample", "thermal_factor"),
)


@dataclass(frozen=True, slots=True)
class RoundOptions:
    """What the user says of a round; ``None`` for what is not said.

    Attributes:
        up_mbps: Upload in megabits per second; without it transfers count nothing.
        down_mbps: Download in megabits per second; goes with ``up_mbps``.
        startup_s: Seconds from the message to the first step.
        payload_bytes: Size of the model as sent; by default 4 bytes per parameter.
        data_s_per_sample: Seconds of loading per sample that no step hides; by default as measured on the device.
        thermal_factor: How many times slower the hot device is; by default as measured on the device.
        drop_last: Leave out the partial batch of an epoch.
    """

    up_mbps: float | None = None
    down_mbps: float | None = None
    startup_s: float = 0.0
    payload_bytes: int | None = None
    data_s_per_sample: float | None = None
    thermal_factor: float | None = None
    drop_last: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What is trained where; fields as the arguments of :meth:`devprof.costmodel.model.CostModel.predict_sizes`."""

    device: str
    model: str
    mode: str
    image_size: int | None = None
    num_classes: int | None = None

    @property
    def sizes(self) -> dict[str, int | None]:
        """Its image size and number of classes, as keyword arguments."""
        return {"image_size": self.image_size, "num_classes": self.num_classes}

    def payload_bytes(self, model: CostModel) -> int:
        """The size of its parameters as sent."""
        return _PARAMETER_BYTES * round(model.features(self.device, self.model, self.mode, **self.sizes).parameters)

    def steps(self, model: CostModel, batch_sizes: list[int]) -> list[Estimate]:
        """Its steps at several batch sizes."""
        return model.predict_sizes(self.device, self.model, self.mode, batch_sizes, **self.sizes)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A value that rows of the device gave, and where it comes from or why it is not used; both may be missing."""

    value: float | None = None
    note: str | None = None


class Conditioned(NamedTuple):
    """Steps under a device's measured conditions, and notes on what was added or not."""

    steps: list[Estimate]
    notes: list[str]


def _measured_loading(model: CostModel, device: str) -> _Measured:
    known = model.conditions(device)
    if known.data_s_per_sample is None:
        return _Measured()
    what = f"{device}: data loading of {known.data_s_per_sample:.3g} s per sample"
    if known.steps_include_data:
        return _Measured(note=f"{what} not added: the measured steps include it")
    if _is_adapted(model, device):
        return _Measured(note=f"{what} not added: observed rounds correct the steps")
    source = f"median of {known.data_rows} runs with data {known.data}"
    return _Measured(known.data_s_per_sample, f"{what}: {source}")


def _measured_heat(model: CostModel, device: str) -> _Measured:
    known = model.conditions(device)
    if known.thermal_factor is None:
        return _Measured()
    what = f"{device}: thermal factor of {known.thermal_factor:.3g}"
    if _is_adapted(model, device):
        return _Measured(note=f"{what} not applied: observed rounds correct the steps")
    source = f"median of {known.thermal_pairs} configurations that were measured throttled and not"
    return _Measured(known.thermal_factor, f"{what}: {source}")


def _is_adapted(model: CostModel, device: str) -> bool:
    """Observed rounds waited for their data and were as hot as they were: neither may count twice."""
    adaptation = model.adaptation(device)
    return adaptation is not None and adaptation.taken > 0


def under_conditions(
    model: CostModel, device: str, batch_sizes: Sequence[int], steps: Sequence[Estimate]
) -> Conditioned:
    """Steps with what a round adds to them on a device: data loading that they do not include, and heat, as far as measured.

    Joules stay those of the steps themselves.

    Args:
        model: What predicted the steps.
        device: The device.
        batch_sizes: Samples per step.
        steps: The steps at these sizes.
    """
    loading, heat = _measured_loading(model, device), _measured_heat(model, device)
    data_s, factor = loading.value or 0.0, heat.value or 1.0
    return Conditioned(
        [
            replace(step, **{name: factor * (getattr(step, name) + size * data_s) for name in _STEP})
            for step, size in zip(steps, batch_sizes, strict=True)
        ],
        [one.note for one in (loading, heat) if one.note],
    )


_DEFAULTS = {"data_s_per_sample": _measured_loading, "thermal_factor": _measured_heat}


def predict_round(
    model: CostModel, query: Query, estimate: Estimate, counts: tuple[int, int, int], options: RoundOptions
) -> dict[str, Any]:
    """A client's round as entries of the printed result.

    Args:
        model: What predicts the step of the partial batch.
        query: What is trained where.
        estimate: Its step at the full batch size.
        counts: Passes over the data, size of the data, samples per step.
        options: What else is said of the round.
    """
    from devprof.plan.roundtime import round_time

    epochs, samples, batch_size = counts
    payload = query.payload_bytes(model) if options.payload_bytes is None else options.payload_bytes
    rest = 0 if options.drop_last else samples % batch_size
    given = {name: getattr(options, name) for name in _DEFAULTS}
    measured = {name: find(model, query.device) for name, find in _DEFAULTS.items() if given[name] is None}
    given |= {name: one.value for name, one in measured.items()}
    up, down = (math.inf if value is None else value for value in (options.up_mbps, options.down_mbps))
    partial = query.steps(model, [rest])[0] if rest else None
    whole = round_time(
        estimate,
        epochs=epochs,
        samples=samples,
        batch_size=batch_size,
        payload_bytes=payload,
        link=Link(up, down),
        startup_s=options.startup_s,
        partial=partial,
        drop_last=options.drop_last,
        **{name: value for name, value in given.items() if value is not None},
    )
    energy: dict[str, float] = {}
    if estimate.energy_per_step_j is not None:
        last = 0.0 if partial is None or partial.energy_per_step_j is None else partial.energy_per_step_j
        energy["round_energy_j"] = epochs * (samples // batch_size * estimate.energy_per_step_j + last)
    return {
        "round_s": whole.total_s,
        "round_s_lo": whole.total_lo_s,
        "round_s_hi": whole.total_hi_s,
        "round_steps": whole.steps,
        "round_download_s": whole.download_s,
        "round_startup_s": whole.startup_s,
        "round_train_s": whole.train_s,
        **({} if given["data_s_per_sample"] is None else {"round_data_s": whole.data_s}),
        "round_upload_s": whole.upload_s,
        "payload_bytes": payload,
        **{name: value for name, value in given.items() if value is not None},
        **energy,
        "round_notes": [one.note for one in measured.values() if one.note],
    }


def add_rounds(model: CostModel, frame: pd.DataFrame, options: RoundOptions) -> tuple[pd.DataFrame, list[str]]:
    """The predictions of a table of queries, with rounds where ``epochs`` and ``samples`` are given.

    Args:
        model: What predicts the steps.
        frame: As for :meth:`devprof.costmodel.model.CostModel.predict_frame`; with ``epochs`` and ``samples``, and perhaps
            ``up_mbps``, ``down_mbps``, ``latency_s``, ``startup_s``, ``payload_bytes``, ``data_s_per_sample`` and
            ``thermal_factor``.
        options: What holds where a row has a null or the table has no such column.

    Returns:
        The table with predictions, and :data:`ROUND_COLUMNS` if it has both columns of a round: nulls where either is null or
        the step cannot be predicted. A row with an impossible value has an error, and nulls. Then notes on what was
        filled in from measurements, or was not.

    Raises:
        CostModelError: If a column that cannot be missing is missing.
    """
    if not {"epochs", "samples"} <= set(frame.columns):
        return model.predict_frame(frame), []
    import numpy as np

    from devprof.costmodel.table import PREDICTED_COLUMNS

    predicted = model.predict_frame(frame.drop(columns=[name for name in ROUND_COLUMNS if name in frame.columns]))
    rounds = _Rounds(frame, predicted["error"].isna().to_numpy(dtype=bool))
    notes = rounds.complete(model, options)
    if rounds.wrong.any():
        for name in PREDICTED_COLUMNS:
            values = predicted[name].to_numpy(copy=True)
            values[rounds.wrong] = rounds.errors[rounds.wrong] if name == "error" else None
            predicted[name] = values
    rows = np.flatnonzero(rounds.good)
    steps = [predicted[name].to_numpy(dtype=float)[rows] for name in _STEP]
    for name, values in zip(ROUND_COLUMNS, rounds.seconds(model, rows, steps, options), strict=True):
        column = np.full(len(frame), np.nan)
        column[rows] = values
        predicted[name] = column
    return predicted, notes


class _Rounds:
    """What a table says of rounds, column by column.

    Attributes:
        good: The rows whose round can be told.
        wrong: The rows with an impossible value.
        errors: What is wrong with each of those.
    """

    def __init__(self, frame: pd.DataFrame, predicted: npt.NDArray[np.bool_]) -> None:
        import numpy as np
        import pandas as pd

        self._frame = frame
        self._groups: list[tuple[Query, npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        self._numbers: dict[str, npt.NDArray[np.float64]] = {}
        unread: dict[str, npt.NDArray[np.bool_]] = {}
        for name in _COLUMNS:
            column = frame[name] if name in frame.columns else pd.Series(np.nan, index=frame.index)
            self._numbers[name] = np.array(pd.to_numeric(column, errors="coerce"), dtype=float)
            unread[name] = np.isnan(self._numbers[name])
            if unread[name].any():
                unread[name] &= (column.notna() & (column != "")).to_numpy(dtype=bool)
        self.good = predicted
        for name in ("epochs", "samples"):
            self.good = self.good & (unread[name] | ~np.isnan(self._numbers[name]))
        self.wrong = np.zeros(len(frame), dtype=bool)
        self.errors = np.full(len(frame), None, dtype=object)
        for name, faults in unread.items():
            self._blame(faults, f"{name} must be a number", frame[name].to_numpy() if name in frame.columns else None)

    def complete(self, model: CostModel, options: RoundOptions) -> list[str]:
        """Fills what rows leave open, and finds impossible values; returns notes on what was measured."""
        import numpy as np
        import pandas as pd

        from devprof.plan.roundtime import find_faults

        numbers, notes = self._numbers, []
        if options.up_mbps is None:
            half = np.isnan(numbers["up_mbps"]) ^ np.isnan(numbers["down_mbps"])
            self._blame(half, "up_mbps goes with down_mbps: give both or none")
        said = {
            "up_mbps": math.inf if options.up_mbps is None else options.up_mbps,
            "down_mbps": math.inf if options.down_mbps is None else options.down_mbps,
            "latency_s": 0.0,
            **{name: getattr(options, name) for name in ("startup_s", "payload_bytes", *_DEFAULTS)},
        }
        for name, value in said.items():
            if value is not None:
                numbers[name][np.isnan(numbers[name])] = value
        for name, find in _DEFAULTS.items():
            rows = np.flatnonzero(self.good & np.isnan(numbers[name]))
            codes, devices = pd.factorize(self._frame["device"].to_numpy(dtype=object)[rows])
            found = [find(model, str(device)) for device in devices]
            nothing = 1.0 if name == "thermal_factor" else 0.0
            numbers[name][rows] = np.array([nothing if one.value is None else one.value for one in found])[codes]
            notes += [one.note for one in found if one.note]
        self._groups = list(self._alike(np.flatnonzero(self.good)))
        for query, rows, _ in self._groups:
            without = rows[np.isnan(numbers["payload_bytes"][rows])]
            if len(without):
                numbers["payload_bytes"][without] = query.payload_bytes(model)
        rows = np.flatnonzero(self.good)
        for fault in find_faults({name: numbers[name][rows] for name in _COLUMNS}):
            wrong = np.zeros(len(self._frame), dtype=bool)
            wrong[rows] = fault.wrong
            self._blame(wrong, f"{fault.name} must be {fault.rule}", numbers[fault.name])
        return notes

    def seconds(
        self,
        model: CostModel,
        rows: npt.NDArray[np.int64],
        steps: list[npt.NDArray[np.float64]],
        options: RoundOptions,
    ) -> tuple[npt.NDArray[np.float64], ...]:
        """Seconds of the rounds of some rows with these steps: the centre and both ends of the interval."""
        import numpy as np

        from devprof.plan.roundtime import ClientRounds, StepTimes, round_times

        partial = np.full((len(_STEP), len(self._frame)), np.nan)
        rest = np.zeros(len(self._frame), dtype=np.int64)
        sizes = np.zeros(len(self._frame), dtype=np.int64)
        for query, own, batches in self._groups:
            sizes[own] = batches
            told = own[self.good[own]]
            rest[told] = 0 if options.drop_last else self._numbers["samples"][told].astype(np.int64) % sizes[told]
            cut = told[rest[told] > 0]
            distinct, inverse = np.unique(rest[cut], return_inverse=True)
            if len(distinct):
                estimates = query.steps(model, distinct.tolist())
                partial[:, cut] = np.array([[getattr(one, name) for one in estimates] for name in _STEP])[:, inverse]
        numbers = {name: self._numbers[name][rows] for name in _COLUMNS}
        whole = round_times(
            ClientRounds(
                steps=StepTimes(*steps),
                batch_sizes=sizes[rows],
                partial=StepTimes(*partial[:, rows]),
                drop_last=options.drop_last,
                **numbers,
            )
        )
        return whole.total_s, whole.total_lo_s, whole.total_hi_s

    def _alike(
        self, rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[Query, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Rows that train the same on the same device, with their batch sizes; all of them can be predicted."""
        from devprof.costmodel.table import Queries

        own = ("device", "model", "mode", "batch_size", "image_size", "num_classes")
        queries = Queries(self._frame[[name for name in own if name in self._frame.columns]].iloc[rows])
        for (device, model, mode, *sizes), places in queries.alike():
            known = [None if math.isnan(size) else int(size) for size in sizes]
            batches = queries.numbers["batch_size"][places].astype("int64")
            yield Query(str(device), str(model), str(mode), *known), rows[places], batches

    def _blame(self, wrong: npt.NDArray[np.bool_], reason: str, values: npt.NDArray[Any] | None = None) -> None:
        """Rows that could be told get an error, unless they have one."""
        import numpy as np

        for row in np.flatnonzero(wrong & self.good):
            value = None if values is None else values[row]
            shown = f"{value:g}" if isinstance(value, float) else repr(value)
            self.errors[row] = reason if values is None else f"{reason}, got {shown}"
        self.wrong |= wrong & self.good
        self.good = self.good & ~wrong
