"""What a client says of its round, held against what it was asked to do.

A device that is broken or hostile can claim more work than it was asked for, more data than it has, or a speed that no device
has. Claims of work are cut to what was asked, with a reason that a person can read; what contradicts itself or the server's
clock was refused before (:func:`strategies.telemetry.read_telemetry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from strategies.reading import number_or_none, whole_or_none
from strategies.telemetry import Telemetry, exceeds

__all__ = ["Asked", "Credit", "plausible"]

# A last step that takes longer than the others is honest; twice the time is not one step.
_MOST_OVERRUN = 2.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client was asked to do in a round, as far as it was told; ``None`` for no limit or not known.

    Attributes:
        local_steps: Steps to do at the most.
        local_epochs: Passes over its data.
        batch_size: Samples per step.
        cutoff_s: Seconds from the arrival of the message after which no step is begun.
        samples: Size of its data, as the server knows it by itself.
    """

    local_steps: int | None = None
    local_epochs: int | None = None
    batch_size: int | None = None
    cutoff_s: float | None = None
    samples: int | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, object], samples: int | None = None) -> Asked:
        """What the train config of a message asks for.

        Args:
            config: The config as sent; values of another type than the key's count as absent.
            samples: Size of the client's data, as the server knows it.
        """
        return cls(
            local_steps=whole_or_none(config.get("local-steps")),
            local_epochs=whole_or_none(config.get("local-epochs")),
            batch_size=whole_or_none(config.get("batch-size")),
            cutoff_s=number_or_none(config.get("cutoff-s")),
            samples=samples,
        )

    @property
    def examples(self) -> int | None:
        """Examples that the work amounts to at the most; ``None`` without a limit."""
        limits = []
        if self.local_epochs is not None and self.samples is not None:
            limits.append(self.local_epochs * self.samples)
        if self.local_steps is not None and self.batch_size is not None:
            limits.append(self.local_steps * self.batch_size)
        return min(limits, default=None)


@dataclass(frozen=True, slots=True)
class Credit:
    """What is believed of a client's telemetry.

    Attributes:
        telemetry: The telemetry with steps, examples and batch size cut to what was asked; its times are as told.
        bounded: Whether the examples are bounded by what the server knows, and not only by the client's word.
        faults: What was cut or is odd, and why.
    """

    telemetry: Telemetry
    bounded: bool
    faults: tuple[str, ...]


def plausible(told: Telemetry, asked: Asked) -> Credit:
    """Hold validated telemetry against what was asked.

    Cut to what was asked for: steps above ``local_steps``, a batch size above ``batch_size``, and examples above
    ``local_epochs * samples`` and above credited steps times credited batch size. The time stays, so that a client which does
    more than it was asked for looks as slow as it is for what it was asked: claims of steps do not make it faster. A smaller
    batch than asked is a client short of memory, and is believed. Work of more than twice the cut-off is only named, since a
    client that ignores its cut-off is as slow as it says.

    Args:
        told: From :func:`~strategies.telemetry.read_telemetry`.
        asked: What the client was asked.
    """
    faults: list[str] = []

    def cut(name: str, value: int, limit: int | None) -> int:
        if limit is None or value <= limit:
            return value
        faults.append(f"{name} {value} counts as {limit}, which is all that it was asked for")
        return limit

    steps = cut("steps-done", told.steps_done, asked.local_steps)
    batch_size = cut("batch-size", told.batch_size, asked.batch_size)
    limit = steps * batch_size if asked.examples is None else min(asked.examples, steps * batch_size)
    examples = cut("examples-done", told.examples_done, limit)
    worked_s = told.startup_s + told.train_s
    # The first step always may be done, however long it takes.
    if asked.cutoff_s is not None and told.steps_done > 1 and exceeds(worked_s, _MOST_OVERRUN * asked.cutoff_s):
        faults.append(f"{worked_s:g} s of work against a cut-off of {asked.cutoff_s:g} s: it did not keep to it")
    return Credit(
        telemetry=replace(told, steps_done=steps, batch_size=batch_size, examples_done=examples),
        bounded=asked.examples is not None,
        faults=tuple(faults),
    )
