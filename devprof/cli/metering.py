"""The options of a meter, and which meter ``auto`` is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from devprof.cli.common import SECONDS

if TYPE_CHECKING:
    from devprof.meters.sampling import Sampling

__all__ = ["meter_asked", "meter_options", "opened_meter"]

Function = TypeVar("Function", bound=Callable[..., Any])


def meter_options(function: Function) -> Function:
    """The options ``--meter``, ``--meter-rate``, ``--idle``, ``--max-window`` and ``--sync-pattern``."""
    for option in (
        click.option(
            "--sync-pattern",
            is_flag=True,
            help="Pause and work in turn, 14 s before the timed window and 14 s after it, so that devprof meter align finds "
            "the run in the log of a meter that is not read from here.",
        ),
        click.option(
            "--max-window",
            type=SECONDS,
            default="120s",
            show_default=True,
            help="The longest timed window for the sake of a small error of the energy.",
        ),
        click.option(
            "--idle",
            type=SECONDS,
            default="30s",
            show_default=True,
            help="Idle power is measured this long before and after each run; needs a meter or --sync-pattern.",
        ),
        click.option(
            "--meter-rate",
            type=click.FloatRange(0.0, min_open=True),
            default=20.0,
            show_default=True,
            help="Readings per second, at the most.",
        ),
        click.option(
            "--meter",
            default="auto",
            show_default=True,
            metavar="NAME[:ARGUMENT]",
            help="Power source: auto, none, or a name that devprof doctor lists.",
        ),
    ):
        function = option(function)
    return function


def meter_asked(asked: dict[str, Any]) -> dict[str, Any]:
    """What the options say, as fields of :class:`~devprof.measure.harness.MeasureOptions`."""
    from devprof.measure.pattern import PART_S

    return {
        "idle_s": asked["idle"],
        "max_window_s": asked["max_window"],
        "sync_s": PART_S if asked["sync_pattern"] else 0.0,
    }


@contextmanager
def opened_meter(asked: dict[str, Any], processor: str) -> Iterator[Sampling | None]:
    """The meter that the options name, read from here to the end of the block; ``None`` without one.

    It is opened once for all runs, and before the first, so that one that does not work is found out now. With ``auto`` a
    source that should work and does not is said and passed over.

    Raises:
        MeterError: If the meter that was named cannot be opened.
        UnknownNameError: If there is no such meter.
    """
    from devprof.meters.catalogue import choose

    spec, rate_hz = asked["meter"], asked["meter_rate"]
    candidates = [] if spec == "none" else choose(processor) if spec == "auto" else [spec]
    with ExitStack() as stack:
        for candidate in candidates:
            sampling = _sampling(candidate, rate_hz, stack, required=spec != "auto")
            if sampling is not None:
                yield sampling
                return
        yield None


def _sampling(spec: str, rate_hz: float, stack: ExitStack, *, required: bool) -> Sampling | None:
    from devprof.meters.base import MeterError
    from devprof.meters.sampling import Sampling

    try:
        sampling = stack.enter_context(Sampling(spec, rate_hz=rate_hz))
    except MeterError as error:
        if required:
            raise
        click.echo(f"The meter {spec} is not used: {error}", err=True)
        return None
    info = sampling.info
    total = " + ".join(channel.domain for channel in info.channels if channel.headline)
    click.echo(f"Meter: {info.source} {info.detail}".rstrip() + f"; the total is {total} ({info.rule}).", err=True)
    return sampling
