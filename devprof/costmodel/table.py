"""Predictions for a whole table of queries: alike queries are answered together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from devprof.errors import CostModelError, DevprofError
from devprof.records import Estimate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PREDICTED_COLUMNS", "Queries", "predict_table"]

_ENERGY = ("energy_per_step_j", "energy_per_step_j_lo", "energy_per_step_j_hi", "power_w")
_NUMBERS = ("step_s", "step_s_lo", "step_s_hi", "memory_bytes", "memory_hi_bytes", *_ENERGY)
PREDICTED_COLUMNS: tuple[str, ...] = (*_NUMBERS, "fits", "largest_batch", "basis", "error")

_REQUIRED = ("device", "model", "batch_size")
_INTEGERS = ("batch_size", "image_size", "num_classes")

# (device, model, mode, batch sizes, image_size=, num_classes=) -> an estimate for each batch size.
PredictSizes = Callable[..., list[Estimate]]
# (device, model, mode, limits in bytes, image_size=, num_classes=) -> a batch size for each, or None without memory.
LargestBatches = Callable[..., list[int] | None]


def predict_table(predict_sizes: PredictSizes, largest_batches: LargestBatches, frame: pd.DataFrame) -> pd.DataFrame:
    """Predicts every row of a table.

    Args:
        predict_sizes: As :meth:`devprof.costmodel.model.CostModel.predict_sizes`.
        largest_batches: As :meth:`devprof.costmodel.model.CostModel.largest_batches`.
        frame: As for :meth:`devprof.costmodel.model.CostModel.predict_frame`.

    Raises:
        CostModelError: If a column that cannot be missing is missing.
    """
    import pandas as pd

    missing = [name for name in _REQUIRED if name not in frame.columns]
    if missing:
        raise CostModelError(f"the table of queries has no column {', '.join(missing)}")
    queries = Queries(frame)
    limits = queries.numbers["memory_limit_bytes"]
    numbers = {name: np.full(len(frame), np.nan) for name in _NUMBERS}
    basis, fits = np.full(len(frame), None, dtype=object), np.full(len(frame), None, dtype=object)
    largest = np.full(len(frame), np.nan)
    for (device, model, mode, image_size, num_classes), rows in queries.alike():
        asked = (str(device), str(model), str(mode))
        shape = {
            "image_size": None if math.isnan(image_size) else int(image_size),
            "num_classes": None if math.isnan(num_classes) else int(num_classes),
        }
        sizes, inverse = np.unique(queries.numbers["batch_size"][rows], return_inverse=True)
        try:
            estimates = predict_sizes(*asked, [int(size) for size in sizes], **shape)
        except (DevprofError, ValueError) as error:
            queries.errors[rows] = str(error)
            continue
        for name in _NUMBERS:
            numbers[name][rows] = np.array([getattr(one, name) for one in estimates], dtype=float)[inverse]
        basis[rows] = np.array([one.basis for one in estimates], dtype=object)[inverse]
        limited = rows[~np.isnan(limits[rows])]
        distinct, inverse = np.unique(limits[limited], return_inverse=True)
        if len(distinct) and (found := largest_batches(*asked, distinct, **shape)) is not None:
            largest[limited] = np.array(found)[inverse]
    known = ~np.isnan(limits) & ~np.isnan(numbers["memory_hi_bytes"])
    fits[known] = (numbers["memory_hi_bytes"][known] <= limits[known]).astype(object)
    objects = {"fits": fits, "basis": basis, "error": queries.errors}
    columns = {name: pd.Series(values, index=frame.index, dtype=object) for name, values in objects.items()}
    columns["largest_batch"] = pd.Series(largest, index=frame.index).astype("Int64")
    predicted = pd.DataFrame({**numbers, **columns}, index=frame.index)[list(PREDICTED_COLUMNS)]
    kept = frame.drop(columns=[name for name in PREDICTED_COLUMNS if name in frame.columns])
    return pd.concat([kept, predicted], axis=1)


class Queries:
    """A table of queries, read column by column.

    Attributes:
        errors: What is wrong with each row; ``None`` where nothing is.
        numbers: Numeric columns as floats, NaN for nulls.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        import pandas as pd

        self.errors = np.full(len(frame), None, dtype=object)
        self._wrong = np.zeros(len(frame), dtype=bool)
        self.numbers: dict[str, Any] = {}
        empty = {name: (frame[name].isna() | (frame[name] == "")).to_numpy(dtype=bool) for name in _REQUIRED}
        for row in np.flatnonzero(np.logical_or.reduce(list(empty.values()))):
            self._blame(row, f"{', '.join(name for name in _REQUIRED if empty[name][row])} is empty")
        self._texts = {name: frame[name].to_numpy(dtype=object) for name in ("device", "model")}
        mode = frame["mode"] if "mode" in frame.columns else pd.Series("full", index=frame.index, dtype=object)
        self._texts["mode"] = mode.where(mode.notna() & (mode != ""), "full").to_numpy(dtype=object)
        for name in (*_INTEGERS, "memory_limit_bytes"):
            column = frame[name] if name in frame.columns else pd.Series(np.nan, index=frame.index)
            self.numbers[name] = self._read(name, column)

    def alike(self) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Rows that differ in their batch size and memory limit only, with what they have in common."""
        import pandas as pd

        good = np.flatnonzero(~self._wrong)
        columns = {**self._texts, "image_size": self.numbers["image_size"], "num_classes": self.numbers["num_classes"]}
        table = pd.DataFrame({name: values[good] for name, values in columns.items()})
        for key, places in table.groupby(list(columns), sort=False, dropna=False).indices.items():
            yield tuple(key), good[places]  # type: ignore[arg-type]

    def _read(self, name: str, column: pd.Series) -> Any:
        import pandas as pd

        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        wrong = np.isinf(values) | (np.isnan(values) & column.notna().to_numpy())
        if name in _INTEGERS:
            with np.errstate(invalid="ignore"):
                wrong |= (values != np.floor(values)) & ~np.isnan(values) | (values < 1)
        for row in np.flatnonzero(wrong):
            self._blame(row, f"{name} must be a positive whole number, got {_plain(column.iloc[row])!r}")
        return values

    def _blame(self, row: Any, reason: str) -> None:
        if not self._wrong[row]:
            self.errors[row], self._wrong[row] = reason, True


def _plain(value: Any) -> Any:
    """A value as a user wrote it, not as numpy shows it."""
    return value.item() if hasattr(value, "item") else value
