"""The arrays of replies, compared with the model that was sent, so that no broken or hostile client spoils an average.

One value that is not a number makes a whole average none, and arrays of another shape or order end a run in the strategy or,
worse, are averaged with the wrong partner. What comes from a client is read here without trusting what it says of itself: the
bytes must hold what their header promises, and what was sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord

from devprof.errors import DevprofError

__all__ = ["ModelScreen", "RejectedReplyError", "Update", "capped_updates", "is_floating", "not_finite", "read_array"]

_NUMPY = "numpy.ndarray"
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|][biufcSU]\d{1,9})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(\d{1,18}, ?)*(\d{1,18})?)\), \}\s*"
)
_FLOATING = "fc"
# With two updates nobody can say which of them is the strange one.
_FEWEST_TO_COMPARE = 3

NDArray = npt.NDArray[Any]


class RejectedReplyError(DevprofError):
    """A reply cannot be aggregated; the text names the array or the metric, and why."""


def is_floating(array: Array) -> bool:
    """Whether an array holds real or complex floating-point numbers, which alone can be averaged."""
    return np.dtype(array.dtype).kind in _FLOATING


def read_array(array: Array) -> NDArray:
    """The values of an array, without a copy and read-only.

    Flower's own ``Array.numpy`` believes the header: it allocates whatever size a client writes there, takes archives, and
    raises what NumPy's parser of Python literals raises. Here only the header that ``numpy.save`` writes is read.

    Raises:
        ValueError: If the bytes are not one array of NumPy's format, of numbers or text, or not the one that the array says it
            is.
    """
    if array.stype != _NUMPY:
        raise ValueError(f"it is stored as {array.stype!r}, not as {_NUMPY!r}")
    # Version 1 has two bytes for the header's length, later ones four.
    size = 2 if array.data[6:7] == b"\x01" else 4
    start = len(_MAGIC) + 2 + size
    end = start + int.from_bytes(array.data[start - size : start], "little")
    header = _HEADER.fullmatch(array.data[start:end])
    if not array.data.startswith(_MAGIC) or header is None:
        raise ValueError("it has no header of NumPy's format for an array of numbers or text")
    try:
        dtype, told = np.dtype(header["dtype"].decode()), np.dtype(array.dtype)
    except TypeError as error:
        raise ValueError(str(error)) from None
    shape = tuple(int(side) for side in header["shape"].split(b",") if side.strip())
    if tuple(array.shape) != shape or told != dtype:
        raise ValueError(f"it says {array.dtype}{list(array.shape)} of itself and holds {dtype}{list(shape)}")
    if len(array.data) - end != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"its bytes do not hold the {math.prod(shape)} values of its header")
    values = np.frombuffer(array.data, dtype=dtype, offset=end) if math.prod(shape) else np.zeros(0, dtype)
    return values.reshape(shape, order="F" if header["fortran"] == b"True" else "C")


@dataclass(frozen=True, slots=True)
class Update:
    """A reply that passed the screen.

    Attributes:
        arrays: Its arrays, named, ordered and typed as the model that was sent.
        norm: Euclidean norm of its difference from that model, over the measured arrays.
    """

    arrays: ArrayRecord
    norm: float


class ModelScreen:
    """Compares replies with the model that was sent.

    Floating-point arrays may come in another precision (a client that uploads half precision) and are cast; everything else
    must be as sent.

    Args:
        sent: The model as sent; the server's own, so it is trusted.
        measured: Names of the arrays whose change is the update; by default the floating ones.
        ignored: Names that a reply may have or lack; they are dropped from it.

    Raises:
        ValueError: If an array of the model is not in NumPy's format: then no reply can be compared with it.
    """

    def __init__(
        self, sent: ArrayRecord, *, measured: Collection[str] | None = None, ignored: Collection[str] = ()
    ) -> None:
        self.expected: Mapping[str, NDArray] = {
            name: _own_array(name, array) for name, array in sent.items() if name not in ignored
        }
        self._ignored = frozenset(ignored)
        floating = [name for name, values in self.expected.items() if values.dtype.kind in _FLOATING]
        self.measured = frozenset(floating if measured is None else (name for name in floating if name in measured))

    def update(self, record: ArrayRecord) -> Update:
        """Screen the arrays of one reply.

        Raises:
            RejectedReplyError: If an array is missing, was not sent, has another shape or type, cannot be read, or holds
                values that are not finite; the text names the first such array.
        """
        for name in record:
            if name not in self.expected and name not in self._ignored:
                raise RejectedReplyError(f"the array {name!r} was not sent to it")
        arrays, squares = {}, 0.0
        for name, sent in self.expected.items():
            if name not in record:
                raise RejectedReplyError(f"the array {name!r} is missing")
            arrays[name], values = _screened(name, record[name], sent)
            if name in self.measured:
                squares += _norm(values, sent) ** 2
        if not math.isfinite(squares):
            raise RejectedReplyError("its distance from the model is too large for a number")
        return Update(ArrayRecord(arrays), math.sqrt(squares))


def _own_array(name: str, array: Array) -> NDArray:
    try:
        return read_array(array)
    except ValueError as error:
        raise ValueError(f"the array {name!r} of the model cannot be compared with replies: {error}") from None


def _screened(name: str, array: Array, sent: NDArray) -> tuple[Array, NDArray]:
    try:
        values = read_array(array)
    except ValueError as error:
        raise RejectedReplyError(f"the array {name!r} cannot be read: {error}") from None
    if values.shape != sent.shape:
        raise RejectedReplyError(f"the array {name!r} has shape {list(values.shape)} in place of {list(sent.shape)}")
    floating = sent.dtype.kind in _FLOATING
    if values.dtype.kind != sent.dtype.kind or not (floating or np.can_cast(values.dtype, sent.dtype)):
        raise RejectedReplyError(f"the array {name!r} is of type {values.dtype} in place of {sent.dtype}")
    if values.dtype != sent.dtype:
        with np.errstate(over="ignore"):
            values = values.astype(sent.dtype)
        array = Array(values)
    if floating and (wrong := values.size - int(np.count_nonzero(np.isfinite(values)))):
        raise RejectedReplyError(f"the array {name!r} has {wrong} of {values.size} values that are not finite")
    return array, values


def _norm(values: NDArray, sent: NDArray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.linalg.norm(_difference(values, sent).ravel()))


def _difference(values: NDArray, sent: NDArray) -> NDArray:
    wide = np.result_type(sent.dtype, np.float64)
    difference: NDArray = values.astype(wide) - sent.astype(wide)
    return difference


def capped_updates(
    updates: Sequence[Update], screen: ModelScreen, max_ratio: float | None
) -> list[tuple[ArrayRecord, float]]:
    """Updates scaled down to at most ``max_ratio`` times the median norm (norm bounding; Sun et al. 2019).

    The median, and not a fixed bound, because the size of honest updates changes over a training by orders of magnitude.
    Fewer than three updates, and those whose median is zero, stay as they are: nothing says what is usual.

    Args:
        updates: The round's updates.
        screen: The screen that they passed.
        max_ratio: At least 1; ``None`` caps nothing.

    Returns:
        For each update its arrays, and the factor from 0 to 1 by which it was scaled: 1 where it stays as it was.

    Source:
        Sun, Kairouz, Suresh, McMahan, "Can You Really Backdoor Federated Learning?", 2019, section 4.
    """
    middle = float(np.median([update.norm for update in updates])) if updates else 0.0
    if max_ratio is None or len(updates) < _FEWEST_TO_COMPARE or not middle > 0:
        return [(update.arrays, 1.0) for update in updates]
    return [_capped(update, screen, max_ratio * middle) for update in updates]


def _capped(update: Update, screen: ModelScreen, limit: float) -> tuple[ArrayRecord, float]:
    if update.norm <= limit:
        return update.arrays, 1.0
    factor = limit / update.norm
    arrays = {}
    for name, array in update.arrays.items():
        if name in screen.measured:
            sent = screen.expected[name]
            scaled = sent + factor * _difference(read_array(array), sent)
            arrays[name] = Array(np.asarray(scaled, dtype=sent.dtype))
        else:
            arrays[name] = array
    return ArrayRecord(arrays), factor


def not_finite(arrays: ArrayRecord) -> str | None:
    """Name of the first array with values that are not finite; ``None`` if there is none."""
    return next(
        (name for name, array in arrays.items() if is_floating(array) and not np.isfinite(array.numpy()).all()), None
    )
