"""A calibration: the operators of many models, each timed by itself on this device. The parent's part; no torch here.

A first child traces the models; a second one, which has done nothing else, times their operators in random order, so that a
device that slows down does not make some kind of operator look slow. What it has timed is here at once: a child that dies
loses the operator that it was at.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from devprof.costmodel.signature import step_signature
from devprof.device.identity import installed_version
from devprof.errors import MeasureError
from devprof.measure.calibration import (
    Begun,
    Event,
    OperatorCall,
    Prepared,
    Timed,
    TimeRequest,
    Traced,
    TraceRequest,
    decode_message,
    encode_message,
    operator_status,
)
from devprof.measure.child import Child, started
from devprof.measure.harness import MeasureOptions, measure_workload
from devprof.measure.protocol import Failed
from devprof.records import MODES, Device, OperatorStatus, OperatorTime, Workload
from devprof.workloads.names import CHAINS

__all__ = [
    "CALIBRATOR",
    "REFERENCE_MODELS",
    "STEPS",
    "Calibration",
    "Traces",
    "in_random_order",
    "trace_operators",
]

CALIBRATOR = (sys.executable, "-m", "devprof.measure.calibrator")
# Models of different families: between them they call the kinds of operators that vision models are made of, in small and
# large shapes. Each is there for something that the others lack.
REFERENCE_MODELS = (
    "resnet18",
    "resnet50",  # bottlenecks: large convolutions of 1x1
    "mobilenetv2_100",  # depthwise convolutions
    "mobilenetv3_small_100",  # squeeze and excite, hard-swish
    "efficientnet_b0",  # SiLU, kernels of 5x5
    "regnety_008",  # grouped convolutions
    "torchvision:densenet121",  # concatenation
    "torchvision:vgg11_bn",  # large matrix products
    "torchvision:squeezenet1_1",
    "torchvision:shufflenet_v2_x1_0",  # shuffled channels
    "inception_v3",  # kernels of 1x7 and 7x1, average pooling
    "vit_tiny_patch16_224",  # fused attention, GELU
    "swin_tiny_patch4_window7_224",  # windows: attention of single products, rolling, padding
    "convnext_tiny",  # kernels of 7x7
    "mixer_s16_224",
    "mobilevit_s",  # convolutions and attention, resizing
    "seed:cnn",
    "seed:lstm",
    "seed:mlp",
)
# Whole steps of synthetic networks show what a step costs beyond its operators. Each runs in a process of its own, as every
# measured model does: what an allocator has seen before decides whether memory must be found anew, which on a PC was half of
# the time of a step.
STEPS = tuple(Workload(model=model, mode=mode, batch_size=16) for model in CHAINS for mode in MODES)
_STEP_OPTIONS = MeasureOptions(min_time_s=0.5, min_steps=5, phase_steps=0, timeout_s=120.0)
_log = logging.getLogger(__name__)
_RESTARTS = 5
# From one event to the next: importing torch on a slow board, or a very large operator.
_PATIENCE_S = 120.0
# An operator that began before the time was over may end.
_GRACE_S = 60.0
_ORDER_SEED = 0


@dataclass(slots=True)
class Traces:
    """What tracing found.

    Attributes:
        operators: Every operator once.
        left_out: Models without operators, with the reason.
    """

    operators: dict[str, OperatorCall] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def none(self) -> bool:
        """Whether nothing was found or left out yet."""
        return not (self.operators or self.left_out)


def trace_operators(
    models: Sequence[str],
    batch_sizes: Sequence[int],
    *,
    stop_s: float,
    on_model: Callable[[str], None] | None = None,
    worker: Sequence[str] = CALIBRATOR,
) -> Traces:
    """Find out which operators training steps of some models call, in both modes.

    Args:
        models: Model names as everywhere.
        batch_sizes: Samples per step.
        stop_s: Moment of ``time.monotonic`` after which models that are not traced yet are left out; the first one is waited
            for, because a board may take that long to import torch.
        on_model: Called after each model.
        worker: The command of the child.

    Raises:
        MeasureError: If the child cannot trace anything, with the reason.
    """
    traces = Traces()
    waiting = dict.fromkeys(models)
    request = TraceRequest(tuple(models), MODES, tuple(batch_sizes))
    with started(worker, 1, request=encode_message(request)) as child:
        reason = "there was no time left to trace it; try a larger --time"
        try:
            for event in _events(child, lambda: _PATIENCE_S if traces.none else stop_s - time.monotonic()):
                if isinstance(event, Traced):
                    waiting.pop(event.model, None)
                    traces.operators |= {operator.signature: operator for operator in event.operators}
                    if event.error is not None:
                        traces.left_out[event.model] = event.error
                    if on_model is not None:
                        on_model(event.model)
                elif isinstance(event, Failed):
                    raise MeasureError(f"the models cannot be traced: {event.error}")
        except TimeoutError:
            pass
        else:
            reason = child.verdict()[1]
    return Traces(traces.operators, traces.left_out | dict.fromkeys(waiting, reason))


def in_random_order(operators: Iterable[OperatorCall], measured: Collection[str]) -> list[OperatorCall]:
    """The operators that have no row yet, shuffled: in the same order each time."""
    found = [operator for operator in operators if operator.signature not in measured]
    random.Random(_ORDER_SEED).shuffle(found)
    return found


def _events(child: Child, patience_s: Callable[[], float]) -> Iterator[Event]:
    for line in child.lines(patience_s):
        message = decode_message(line)
        if message is not None and not isinstance(message, (TraceRequest, TimeRequest)):
            yield message


@dataclass(slots=True)
class _Position:
    """What a child is at, and how many operators of its request are finished."""

    begun: int | None = None
    finished: int = 0


class Calibration:
    """One calibration of a device.

    Args:
        device: The device as rows name it; its processor and threads are used.
        affinity: CPUs to which the child is bound; ``None`` leaves it free.
        worker: The command of the child.
    """

    def __init__(
        self, device: Device, *, affinity: tuple[int, ...] | None = None, worker: Sequence[str] = CALIBRATOR
    ) -> None:
        now = datetime.now(timezone.utc)
        self.id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self._started_utc = now.isoformat(timespec="seconds")
        self._device = device
        self._affinity = affinity
        self._worker = worker
        self._versions: str | None = None

    def time_steps(self, measured: Collection[str], *, stop_s: float) -> Iterator[OperatorTime]:
        """Time the steps of :data:`STEPS`, a row each, with the memory peak of its process.

        Args:
            measured: Signatures that have a row already.
            stop_s: Moment of ``time.monotonic`` after which no step begins.
        """
        options = replace(_STEP_OPTIONS, affinity=self._affinity)
        for workload in STEPS:
            signature = step_signature(workload.model, workload.mode, workload.batch_size)
            if signature in measured or time.monotonic() >= stop_s:
                continue
            run = measure_workload(workload, self._device, options).run
            timed = Timed(0, operator_status(run.status), run.error, run.step_s, run.first_step_s, None, run.steps)
            self._versions = run.versions or self._versions
            row = self._row(OperatorCall(signature, "step", 0.0, 0.0), timed)
            yield replace(row, rss_peak_bytes=run.rss_peak_bytes)

    def time_operators(
        self, operators: Sequence[OperatorCall], *, stop_s: float
    ) -> Generator[OperatorTime, None, None]:
        """Time operators in this order, yielding each row as soon as it stands.

        A child that is killed, crashes or hangs costs the operator that it was at, which becomes a row with the reason, and is
        replaced a few times.

        Args:
            operators: The operators.
            stop_s: Moment of ``time.monotonic`` after which no operator begins.

        Raises:
            MeasureError: If the child cannot time anything, with the reason.
        """
        rest = tuple(operators)
        for _ in range(1 + _RESTARTS):
            if not rest or time.monotonic() >= stop_s:
                return
            at = _Position()
            failure = yield from self._run(rest, stop_s, at)
            if failure is None:
                return
            if at.begun is not None:
                yield self._row(rest[at.begun], Timed(at.begun, *failure))
                at.finished = at.begun + 1
            elif not at.finished:
                raise MeasureError(f"no operator can be timed: {failure[1]}")
            rest = rest[at.finished :]
        if rest:
            _log.warning(
                "the measuring process ended %d times before it was done: no further one is started", _RESTARTS
            )

    def _run(
        self, operators: tuple[OperatorCall, ...], stop_s: float, at: _Position
    ) -> Generator[OperatorTime, None, tuple[OperatorStatus, str] | None]:
        """Rows from one child; returns why it ended before it was done, ``None`` if it did not."""
        device, left_s = self._device, stop_s - time.monotonic()
        request = TimeRequest(operators, device.processor, device.threads, left_s, self._affinity)
        with started(self._worker, device.threads, request=encode_message(request)) as child:
            try:
                for event in _events(child, lambda: min(_PATIENCE_S, stop_s + _GRACE_S - time.monotonic())):
                    if isinstance(event, Timed):
                        at.begun, at.finished = None, event.index + 1
                        yield self._row(operators[event.index], event)
                    elif isinstance(event, Begun):
                        at.begun = event.index
                    elif isinstance(event, Prepared):
                        self._versions = json.dumps(event.versions, sort_keys=True)
                    elif isinstance(event, Failed):
                        return operator_status(event.status), event.error
            except TimeoutError as error:
                return "error", f"ended, because {error}"
            status, reason = child.verdict()
            if child.process.returncode == 0 and at.begun is None:
                return None
            return operator_status(status), reason

    def _row(self, operator: OperatorCall, timed: Timed) -> OperatorTime:
        return OperatorTime(
            calibration_id=self.id,
            started_utc=self._started_utc,
            devprof_version=installed_version("devprof") or "unknown",
            device=self._device.name,
            device_key=self._device.key,
            processor=self._device.processor,
            signature=operator.signature,
            family=operator.family,
            macs=operator.macs,
            elements=operator.elements,
            status=timed.status,
            power_mode=self._device.power_mode,
            threads=self._device.threads,
            seconds=timed.seconds,
            seconds_first=timed.seconds_first,
            faults=timed.faults,
            calls=timed.calls,
            error=timed.error,
            versions=self._versions,
        )
