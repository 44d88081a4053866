"""The client's side: a budget that stops training at a batch boundary, and the account of what was done.

A server cannot cancel a Flower client that is training, and a reply that comes too late is lost: the cut-off has to live in
the client. It is cooperative and takes one line in a training loop::

    budget = Budget.from_message(message)
    for _ in range(budget.local_epochs):
        for images, labels in budget.limit(loader):
            ...                                    # one training step
    reply["devprof"] = budget.telemetry(context, batch_size).to_record()

With :data:`strategies.profiling.profile_mod` among the app's mods the last line is not needed.

The budget counts from the moment the message arrived, on a clock that the engine provides: the monotonic clock in deployment
and in Flower's simulation, a virtual one in :mod:`strategies.virtual`. The loop does not know the difference. A SuperNode
starts a process for each message; its age belongs to the round, and a budget counts it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

from flwr.app import ConfigRecord, Context, Message

from devprof.device.memory import peak_rss_bytes
from strategies.compat import client_process_age_s
from strategies.identity import client_identity
from strategies.telemetry import Telemetry

__all__ = ["TRAIN_CONFIG", "Budget", "ClientClock", "MonotonicClock", "collect_budgets", "current_clock", "use_clock"]

TRAIN_CONFIG = "config"
_ROUNDING = 1 + 1e-9

Batch = TypeVar("Batch")


class ClientClock(Protocol):
    """The time that a client lives in."""

    @property
    def real(self) -> bool:
        """Whether time and memory of this process are those of the client."""

    def received_s(self) -> float:
        """When the message that is being handled arrived."""

    def now_s(self) -> float:
        """The present."""

    def step_done(self, examples: int) -> None:
        """Called at each batch boundary: a virtual clock advances here, a real one has advanced by itself."""


class MonotonicClock:
    """The clock of a client that really runs: ``time.perf_counter``.

    Args:
        age_s: How long ago the message arrived.
    """

    real = True

    def __init__(self, age_s: float = 0.0) -> None:
        self._received_s = time.perf_counter() - age_s

    def received_s(self) -> float:
        """When the message arrived."""
        return self._received_s

    def now_s(self) -> float:
        """Seconds of the monotonic clock."""
        return time.perf_counter()

    def step_done(self, examples: int) -> None:
        """Nothing to do: real time has passed."""


_CLOCK: ContextVar[ClientClock | None] = ContextVar("devprof_client_clock", default=None)
_BUDGETS: ContextVar[list[Budget] | None] = ContextVar("devprof_budgets", default=None)


@contextmanager
def use_clock(clock: ClientClock) -> Iterator[None]:
    """Every :class:`Budget` made inside the block, without a clock of its own, lives in this clock's time."""
    token = _CLOCK.set(clock)
    try:
        yield
    finally:
        _CLOCK.reset(token)


def current_clock() -> ClientClock:
    """The time that the present handler lives in: the engine's, else real time since the message arrived.

    In the process that a SuperNode starts for a message, that is since the start of the process.
    """
    return _CLOCK.get() or MonotonicClock(client_process_age_s())


@contextmanager
def collect_budgets() -> Iterator[list[Budget]]:
    """The budgets that are made inside the block, in their order: what a handler did, for whoever called it."""
    budgets: list[Budget] = []
    token = _BUDGETS.set(budgets)
    try:
        yield budgets
    finally:
        _BUDGETS.reset(token)


class Budget:
    """How much of a round's work this client may do, and how much it has done.

    Args:
        cutoff_s: Seconds from the arrival of the message after which no step is begun; ``None`` for no limit.
        local_steps: Steps to do at the most; ``None`` for no limit.
        local_epochs: Passes over the data that the user's loop should make; only carried along.
        clock: The time to live in; by default the engine's, else the monotonic clock.

    Raises:
        ValueError: If a limit is negative or not a number.
    """

    def __init__(
        self,
        *,
        cutoff_s: float | None = None,
        local_steps: int | None = None,
        local_epochs: int = 1,
        clock: ClientClock | None = None,
    ) -> None:
        if cutoff_s is not None and not cutoff_s >= 0:
            raise ValueError(f"cutoff_s must be at least 0, got {cutoff_s}")
        if local_steps is not None and local_steps < 1:
            raise ValueError(f"local_steps must be at least 1, got {local_steps}")
        if local_epochs < 1:
            raise ValueError(f"local_epochs must be at least 1, got {local_epochs}")
        self.cutoff_s = cutoff_s
        self.local_steps = local_steps
        self.local_epochs = local_epochs
        self._clock: ClientClock = clock or current_clock()
        self._started_s = self._clock.received_s()
        self._first_step_s: float | None = None
        self._last_step_s: float | None = None
        self.steps_done = 0
        self.examples_done = 0
        self.largest_batch = 0
        self.cut = False
        made = _BUDGETS.get()
        if made is not None:
            made.append(self)

    @classmethod
    def from_message(cls, message: Message, *, local_epochs: int = 1, clock: ClientClock | None = None) -> Budget:
        """The budget that the server wrote into the message's config, or an unlimited one if it wrote none.

        Args:
            message: The message being handled; keys ``cutoff-s``, ``local-steps`` and ``local-epochs`` are read.
            local_epochs: Epochs to do if the server names none.
            clock: As in the constructor.
        """
        record = message.content.config_records.get(TRAIN_CONFIG) or ConfigRecord()
        cutoff = _number(record.get("cutoff-s"))
        steps = _number(record.get("local-steps"))
        epochs = _number(record.get("local-epochs"))
        return cls(
            cutoff_s=cutoff if cutoff is not None and math.isfinite(cutoff) else None,
            local_steps=None if steps is None else int(steps),
            local_epochs=local_epochs if epochs is None else max(1, int(epochs)),
            clock=clock,
        )

    @property
    def elapsed_s(self) -> float:
        """Seconds since the message arrived."""
        return self._clock.now_s() - self._started_s

    @property
    def train_s(self) -> float:
        """Seconds from the start of the first step to the end of the last."""
        if self._first_step_s is None or self._last_step_s is None:
            return 0.0
        return self._last_step_s - self._first_step_s

    def exhausted(self) -> bool:
        """Whether no further step may begin. The first step always may: a reply without work is no use to anybody."""
        if self.steps_done == 0:
            return False
        if self.local_steps is not None and self.steps_done >= self.local_steps:
            return True
        if self.cutoff_s is None:
            return False
        # A step that is expected to end after the cut-off is not begun, so that the cut-off is kept and not just noticed.
        # Sums of step times differ from the planned product in their last digits: three steps of 0.1 s fit into 0.3 s.
        return self.elapsed_s + self.train_s / self.steps_done > self.cutoff_s * _ROUNDING

    def limit(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches that fit the budget; a step is what happens between two of them."""
        for batch in batches:
            if self.exhausted():
                # A full count of steps is complete work; only the clock cuts it short.
                self.cut = self.local_steps is None or self.steps_done < self.local_steps
                return
            if self._first_step_s is None:
                self._first_step_s = self._clock.now_s()
            yield batch
            examples = examples_in(batch)
            self._clock.step_done(examples)
            self._last_step_s = self._clock.now_s()
            self.steps_done += 1
            self.examples_done += examples
            self.largest_batch = max(self.largest_batch, examples)

    def telemetry(self, context: Context, batch_size: int) -> Telemetry:
        """The account of the work, to be sent beside the result.

        Args:
            context: The client's context; its node config names ``device`` and ``processor``, else the fingerprint does.
            batch_size: Samples per full step.
        """
        first_step_s = self._clock.now_s() if self._first_step_s is None else self._first_step_s
        identity = client_identity(context)
        return Telemetry(
            device=identity.device,
            processor=identity.processor,
            steps_done=self.steps_done,
            examples_done=self.examples_done,
            batch_size=batch_size,
            train_s=self.train_s,
            startup_s=max(0.0, first_step_s - self._started_s),
            total_s=max(0.0, self.elapsed_s),
            cut=self.cut,
            # Many virtual clients share one process: its memory is nobody's.
            rss_peak_bytes=peak_rss_bytes() if self._clock.real else None,
        )


def examples_in(batch: object) -> int:
    """Samples in a batch: the length of the first tensor, array or list in it; 1 where nothing has a length."""
    if isinstance(batch, dict):
        batch = next(iter(batch.values()), None)
    elif isinstance(batch, (tuple, list)) and batch:
        batch = batch[0]
    try:
        return len(batch) if isinstance(batch, Sized) else 1
    except TypeError:  # a tensor or array without dimensions has a length in name only
        return 1


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
