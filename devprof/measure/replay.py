"""In the child: makes an operator's call again from its signature, and times it.

The operands have the shapes, types and strides of the call, and values that every operator takes: floating-point numbers
about 1, indices within their range. This module imports torch.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from devprof.costmodel.signature import decode_signature, is_tensor
from devprof.device.cores import largest_cache_bytes
from devprof.device.memory import minor_faults
from devprof.errors import DevprofError
from devprof.measure.operands import extent
from devprof.measure.timing import synchroniser

__all__ = ["Bench", "Replay", "Timing", "UnsupportedCallError", "make_bench", "rebuild", "time_operator"]

_LEAST_WARMUP, _MOST_WARMUP = 2, 5
_AGREE = 0.1
_LEAST_BATCHES = 3
_COLD_CALLS, _LONG_NS = 3, 5_000_000
# A batch is much longer than reading the clock, and on an accelerator much longer than waiting for it.
_LEAST_BATCH_NS = {"cpu": 20_000, "cuda": 200_000}
_FALLBACK_CACHE_BYTES = 16 << 20
_MOST_FLUSHED_BYTES = 64 << 20
_BLOCK = 1 << 16
_X_TYPES = (torch.dtype, torch.layout, torch.memory_format)


class UnsupportedCallError(DevprofError):
    """An operator cannot be called again by itself; the text says why."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A call that can be repeated.

    Attributes:
        run: Calls the operator.
        reset: Gives what an in-place operator overwrites its first values again, or does nothing.
    """

    run: Callable[[], Any]
    reset: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """What timing needs of a processor.

    Attributes:
        synchronise: Waits until everything that was asked for is done.
        flush: Drives from the caches what a call left there.
        least_batch_ns: Shorter calls are timed several at once.
        clock: Nanoseconds.
    """

    synchronise: Callable[[], None]
    flush: Callable[[], None]
    least_batch_ns: int
    clock: Callable[[], int] = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one operator; see :class:`~devprof.records.operator.OperatorTime`."""

    seconds: float
    seconds_first: float
    faults: float | None
    calls: int


def make_bench(processor: str) -> Bench:
    """The bench of a processor, ``cpu`` or ``cuda``."""
    cache = largest_cache_bytes() or _FALLBACK_CACHE_BYTES
    size = _MOST_FLUSHED_BYTES if processor == "cuda" else min(2 * cache, _MOST_FLUSHED_BYTES)
    buffer = torch.ones(size // 8, dtype=torch.int64, device=processor)

    def flush() -> None:
        # Reading is enough to take the place of other lines, and every thread takes its part.
        buffer.sum()

    return Bench(synchroniser(processor), flush, _LEAST_BATCH_NS[processor])


def rebuild(signature: str, processor: str = "cpu") -> Replay:
    """The call that a signature describes, with operands of its own.

    Raises:
        UnsupportedCallError: If it cannot be called again by itself.
        RuntimeError: If there is no memory for its operands.
    """
    try:
        name, args, options = decode_signature(signature)
    except ValueError as error:
        raise UnsupportedCallError(str(error)) from error
    operator = _operator(name)
    declared = operator._schema.arguments  # noqa: SLF001 - the only place where an operator says what it writes
    if len(args) > len(declared):
        raise UnsupportedCallError(f"{name} takes {len(declared)} arguments here, not {len(args)}")
    named = {argument.name: value for argument, value in zip(declared, args, strict=False)} | options
    build = _Builder(processor, name.split(".")[-2], named)
    values = {key: build.argument(key, value) for key, value in named.items()}
    if processor != "cpu" and any(argument.name == "device" for argument in declared):
        values["device"] = processor
    written = [
        tensor
        for argument in declared
        if argument.alias_info is not None and argument.alias_info.is_write
        for tensor in _tensors(values.get(argument.name))
    ]

    def reset() -> None:
        # Products of many calls would become infinite, or so small that a CPU computes them slowly.
        for tensor in written:
            tensor.fill_(1)

    positional = [values.pop(argument.name) for argument in declared[: len(args)]]
    return Replay(functools.partial(operator, *positional, **values), reset)


def _operator(name: str) -> Any:
    found: Any = torch.ops
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except (AttributeError, RuntimeError):
            raise UnsupportedCallError(f"this torch has no operator {name}") from None
    if not hasattr(found, "_schema"):
        raise UnsupportedCallError(f"{name} names no overload of an operator")
    return found


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in _tensors(part)]
    return [value] if isinstance(value, torch.Tensor) else []


class _Builder:
    """Makes arguments of one call from their descriptions.

    Args:
        processor: Where tensors are made.
        base: Name of the operator without name space and overload.
        named: All described arguments by their names, from which the range of indices is known.
    """

    def __init__(self, processor: str, base: str, named: Mapping[str, Any]) -> None:
        self._processor = processor
        self._base = base
        self._named = named

    def argument(self, name: str, value: Any) -> Any:
        """An argument; indices of each dimension have a range of their own."""
        if name == "indices" and isinstance(value, list) and is_tensor(self._named.get("self")):
            sizes = self._named["self"]["t"]
            return [self._value(part, size) for part, size in zip(value, sizes, strict=False)]
        return self._value(value, _index_range(self._base, self._named))

    def _value(self, value: Any, limit: int) -> Any:
        if is_tensor(value):
            return self._tensor(value, limit)
        if isinstance(value, list):
            return [self._value(part, limit) for part in value]
        return _decode_constant(value["x"]) if isinstance(value, dict) else value

    def _tensor(self, described: Mapping[str, Any], limit: int) -> torch.Tensor:
        dtype = getattr(torch, described["d"], None)
        if not isinstance(dtype, torch.dtype) or described["d"].startswith("q"):
            raise UnsupportedCallError(f"tensors of the type {described['d']} cannot be made")
        shape, strides = described["t"], described.get("s")
        flat = torch.empty(extent(described), dtype=dtype, device=self._processor)
        if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
            _fill(flat, _block(dtype, self._processor))
        elif "pool" in self._base:
            # The largest of each window: another position of the plane for each, as the windows are spread over it.
            plane = max(1, math.prod(shape[-3 if "3d" in self._base else -2 :]))
            flat.copy_(torch.arange(len(flat), device=self._processor) % plane * limit // plane)
        else:
            flat.random_(0, limit)
        return flat.view(shape) if strides is None else flat.as_strided(shape, strides)


def _decode_constant(text: str) -> Any:
    """A type, layout or memory format of torch from how it prints."""
    found = getattr(torch, text.removeprefix("torch."), None)
    if not isinstance(found, _X_TYPES):
        raise UnsupportedCallError(f"the argument {text} cannot be made again")
    return found


@functools.cache
def _block(dtype: torch.dtype, processor: str) -> torch.Tensor:
    """Values about 1, so that they do for variances and divisors, too; of truth values half are true."""
    values = torch.rand(_BLOCK, device=processor) + 0.5
    return values > 1.0 if dtype == torch.bool else values.to(dtype)


def _fill(flat: torch.Tensor, block: torch.Tensor) -> None:
    """Repeat a block: to make random numbers for every element would take longer than to time most operators."""
    whole = len(flat) // len(block) * len(block)
    flat[:whole].view(-1, len(block)).copy_(block)
    flat[whole:].copy_(block[: len(flat) - whole])


def _index_range(base: str, named: Mapping[str, Any]) -> int:
    """What an operator's indices must stay below; 1 for whole numbers that index nothing."""

    def shape(name: str) -> list[int]:
        return list(named[name]["t"]) if is_tensor(named.get(name)) else []

    own = shape("self") or named.get("self_sizes") or []
    limit = 1
    if base == "embedding":
        limit = shape("weight")[0]
    elif base == "embedding_dense_backward":
        limit = named["num_weights"]
    elif base.startswith("nll_loss"):
        limit = own[1] if len(own) > 1 else own[0]
    elif "pool" in base:
        limit = math.prod(own[-3 if "3d" in base else -2 :])
    elif is_tensor(named.get("index")) and isinstance(named.get("dim"), int) and own:
        limit = own[named["dim"]]
    return max(1, int(limit))


def time_operator(call: Replay, budget_s: float, bench: Bench) -> Timing:
    """Time an operator: warm up, time as many calls as fit into the budget, then a few whose operands are cold.

    What a call returns is freed before the next one, as in a training step, and that is part of its time.

    Args:
        call: The call.
        budget_s: Seconds for timed calls; three batches are timed whatever they take.
        bench: The processor.
    """
    with torch.no_grad():
        once = _warm_up(call, bench)
        repeats = max(1, math.ceil(bench.least_batch_ns / max(once, 1)))
        times: list[float] = []
        before = minor_faults()
        stop = bench.clock() + round(budget_s * 1e9)
        while len(times) < _LEAST_BATCHES or bench.clock() < stop:
            times.append(_batch_ns(call, bench, repeats))
        after = minor_faults()
        warm = statistics.median(times)
        # Each is as cold as the others; on a busy machine one in three may wait for a processor, which takes a thousand times
        # as long as a short operator.
        cold = min(_cold_ns(call, bench) for _ in range(1 if warm >= _LONG_NS else _COLD_CALLS))
    calls = repeats * len(times)
    return Timing(
        seconds=warm / 1e9,
        seconds_first=cold / 1e9,
        faults=None if before is None or after is None else (after - before) / calls,
        calls=calls,
    )


def _warm_up(call: Replay, bench: Bench) -> float:
    """Nanoseconds of one call when two in a row agree: libraries pack large weights in the second call or later."""
    times: list[float] = []
    while len(times) < _MOST_WARMUP:
        times.append(_batch_ns(call, bench, 1))
        if len(times) >= _LEAST_WARMUP and abs(times[-1] - times[-2]) <= _AGREE * max(times[-2:]):
            break
    return times[-1]


def _batch_ns(call: Replay, bench: Bench, repeats: int) -> float:
    """Nanoseconds per call."""
    call.reset()
    bench.synchronise()
    run, clock = call.run, bench.clock
    begin = clock()
    for _ in range(repeats):
        run()
    bench.synchronise()
    return (clock() - begin) / repeats


def _cold_ns(call: Replay, bench: Bench) -> float:
    call.reset()
    bench.flush()
    bench.synchronise()
    begin = bench.clock()
    call.run()
    bench.synchronise()
    return bench.clock() - begin
