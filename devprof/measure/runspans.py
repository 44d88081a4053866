"""When the parts of a run were, on the system's monotonic clock: what a child says, and what the column ``spans`` keeps.

With it the energy of a run can be found afterwards in the log of a meter that nobody could reach from here.
Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from devprof.errors import MeasureError

__all__ = ["PATTERNS", "RunSpans", "SpanNs"]

SpanNs = tuple[int, int]
"""Begin and end."""

PATTERNS = ("sync-before", "sync-after")
"""Spans of the patterns around the timed window: idle, load, idle, load, and so on, idle."""

_PAIR = 2


@dataclass(frozen=True, slots=True)
class RunSpans:
    """Parts of a run that came to its end, in nanoseconds of the system's monotonic clock.

    Attributes:
        spans_ns: Begin and end by name: ``idle-before``, ``warm-up``, ``sync-before``, ``settle`` (the warm-up after that
            pattern), ``window``, ``phases``, ``sync-after``, ``idle-after``; those that there were.
        loads_ns: Begin and end of each load of a pattern, by its name.
        clocks_ns: Pairs of (monotonic clock, nanoseconds since 1970) from the beginning and the end.
        boot_id: The kernel's name of the time since the machine was started, in which its monotonic clock has a meaning.
    """

    spans_ns: dict[str, list[int]] = field(default_factory=dict)
    loads_ns: dict[str, list[list[int]]] = field(default_factory=dict)
    clocks_ns: list[list[int]] = field(default_factory=list)
    boot_id: str | None = None

    def to_json(self) -> str | None:
        """The column ``spans``; ``None`` where there is no timed window."""
        return json.dumps(dataclasses.asdict(self)) if "window" in self.spans_ns else None

    @classmethod
    def from_json(cls, text: str) -> RunSpans:
        """The spans that :meth:`to_json` wrote.

        Raises:
            MeasureError: If the text is something else, such as a column that another tool wrote.
        """
        try:
            values = json.loads(text)
            spans = cls(
                {str(name): _pair(span) for name, span in values["spans_ns"].items()},
                {str(name): [_pair(load) for load in loads] for name, loads in values["loads_ns"].items()},
                [_pair(clocks) for clocks in values["clocks_ns"]],
                values["boot_id"],
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise MeasureError(f"the column spans of the run cannot be read: {error!r}") from error
        return spans

    @property
    def timed_ns(self) -> dict[str, SpanNs]:
        """The spans that took any time."""
        return {name: (begin, end) for name, (begin, end) in self.spans_ns.items() if end > begin}

    @property
    def idle_ns(self) -> list[SpanNs]:
        """When the process did nothing on purpose: the idle times, and what lies between the loads of a pattern."""
        idle = [self.timed_ns[name] for name in ("idle-before", "idle-after") if name in self.timed_ns]
        for name in PATTERNS:
            if name in self.timed_ns:
                begin, end = self.timed_ns[name]
                edges = [begin, *(moment for load in self.loads_ns.get(name, []) for moment in load), end]
                idle += zip(edges[::2], edges[1::2], strict=True)
        return idle

    def utc_ns(self, t_ns: int) -> int | None:
        """Nanoseconds since 1970 at a moment, by this machine's own clock; ``None`` where that is not known."""
        if not self.clocks_ns:
            return None
        # The pair that is nearer: the clock of the day may have been set in between.
        monotonic, utc = min(self.clocks_ns, key=lambda clocks: abs(clocks[0] - t_ns))
        return utc + t_ns - monotonic


def _pair(values: object) -> list[int]:
    if not isinstance(values, list) or len(values) != _PAIR or not all(type(value) is int for value in values):
        raise ValueError(f"{values!r} is no pair of whole numbers")
    return values
