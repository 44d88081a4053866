"""A mod that measures a client's part of a round and writes it into the reply: no line of the training loop changes for it.

    app = ClientApp(mods=[profile_mod])

The reply to a train message gets the ConfigRecord ``devprof``: device and processor, steps and samples (from the handler's
:class:`~strategies.client.Budget`), seconds from the start of the process, peak of resident memory, bytes of the arrays both
ways, and energy where a meter is given. Works with whatever the handler trains with.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from flwr.app import ConfigRecord, Context, Message

from devprof.device.memory import peak_rss_bytes, reset_peak_rss
from strategies.client import TRAIN_CONFIG, Budget, ClientClock, collect_budgets, current_clock, use_clock
from strategies.compat import payload_bytes
from strategies.identity import client_identity
from strategies.reading import whole_or_none
from strategies.roundmeter import RoundEnergy, round_energy
from strategies.telemetry import RECORD_NAME, Telemetry

__all__ = ["EnergyCounter", "ProfileMod", "profile_mod"]

_log = logging.getLogger(__name__)


class EnergyCounter(Protocol):
    """A meter that counts: joules since a moment of its own, such as a RAPL package or a smart plug."""

    def __call__(self) -> float | None:
        """The count now, or ``None`` if the meter does not answer."""


class ProfileMod:
    """The mod, with the meter of this device.

    Where several budgets were made (one for each phase of a handler), the account is that of the last that did steps.

    Args:
        energy: A counter of your own; ``None`` takes the meter that the node config names (:mod:`strategies.roundmeter`), if
            any. Only a whole difference counts: if either reading fails or the count falls, no energy is told.
    """

    def __init__(self, energy: EnergyCounter | None = None) -> None:
        self._energy = energy

    def __call__(self, message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        """Measure what follows, if the message is one to train; any other passes as it is."""
        if message.metadata.message_type.split(".")[0] != "train":
            return call_next(message, context)
        clock = current_clock()
        if clock.real:
            reset_peak_rss()
        received_bytes = payload_bytes(message.content)
        batch_size = _asked_batch_size(message)
        with self._measured(context if clock.real else None) as energy, use_clock(clock), collect_budgets() as budgets:
            reply = call_next(message, context)
        if not reply.has_content():
            return reply
        worked = [budget for budget in budgets if budget.steps_done] or budgets
        if not worked:
            _log.warning(
                "the handler made no strategies.client.Budget: its steps are unknown, so nothing is learned from the round"
            )
            reply.content[RECORD_NAME] = _without_steps(context, clock)
            return reply
        told = _account(worked[-1], context, batch_size)
        reply.content[RECORD_NAME] = replace(
            told,
            total_s=max(told.total_s, clock.now_s() - clock.received_s()),
            rss_peak_bytes=peak_rss_bytes() if clock.real else None,
            energy_j=energy.energy_j,
            received_bytes=received_bytes,
            sent_bytes=payload_bytes(reply.content),
        ).to_record()
        return reply

    @contextmanager
    def _measured(self, context: Context | None) -> Iterator[RoundEnergy]:
        """The energy of a block; in virtual time, without a context, there is none."""
        if context is None:
            yield RoundEnergy()
        elif self._energy is None:
            with round_energy(context.node_config) as energy:
                yield energy
        else:
            energy = RoundEnergy()
            before_j = _count_j(self._energy)
            yield energy
            energy.energy_j = _spent_j(before_j, _count_j(self._energy))


profile_mod = ProfileMod()
"""The mod with the meter that the node config names, if any."""


def _count_j(counter: EnergyCounter) -> float | None:
    try:
        count = counter()
    except Exception:  # noqa: BLE001 - a meter's trouble must not cost the round
        _log.warning("the energy meter failed: this round has no energy", exc_info=True)
        return None
    return count if count is not None and math.isfinite(count) else None


def _asked_batch_size(message: Message) -> int | None:
    record = message.content.config_records.get(TRAIN_CONFIG) or ConfigRecord()
    size = whole_or_none(record.get("batch-size"))
    return size if size is not None and size >= 1 else None


def _account(budget: Budget, context: Context, asked: int | None) -> Telemetry:
    # A handler that trains at another size than it was asked to says so by its batches.
    size = max(1, budget.largest_batch)
    return budget.telemetry(context, size if asked is None or size > asked else asked)


def _without_steps(context: Context, clock: ClientClock) -> ConfigRecord:
    """What is known of a handler without a budget."""
    identity = client_identity(context)
    total_s = max(0.0, clock.now_s() - clock.received_s())
    record = ConfigRecord({"device": identity.device, "processor": identity.processor, "total-s": total_s})
    peak = peak_rss_bytes() if clock.real else None
    if peak is not None:
        record["rss-peak-bytes"] = peak
    return record


def _spent_j(before_j: float | None, after_j: float | None) -> float | None:
    if before_j is None or after_j is None:
        return None
    if after_j < before_j:
        _log.warning("the energy counter fell from %g to %g J: this round has no energy", before_j, after_j)
        return None
    return after_j - before_j
