"""The options of a meter, and which meter ``auto`` is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from devprof.cli.common import SECONDS

__all__ = ["meter_asked", "meter_options"]

Function = TypeVar("Function", bound=Callable[..., Any])


def meter_options(function: Function) -> Function:
    """The options ``--meter``, ``--idle``, ``--max-window`` and ``--sync-pattern``."""
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
            "--meter",
            default="auto",
            show_default=True,
            metavar="NAME[:ARGUMENT]",
            help="Power source: auto, none, or a name that devprof doctor lists.",
        ),
    ):
        function = option(function)
    return function


def meter_asked(asked: dict[str, Any], processor: str) -> dict[str, Any]:
    """What the options say, as fields of :class:`~devprof.measure.harness.MeasureOptions`.

    A meter is opened once before the sweep, so that one that does not work is found out now. With ``auto`` a source that
    should work and does not is said and passed over.

    Raises:
        MeterError: If the meter that was named cannot be opened.
        UnknownNameError: If there is no such meter.
    """
    from devprof.measure.pattern import PART_S
    from devprof.meters.catalogue import choose

    spec = asked["meter"]
    found = {"idle_s": asked["idle"], "max_window_s": asked["max_window"]}
    if asked["sync_pattern"]:
        found["sync_s"] = PART_S
    if spec == "none":
        return found
    candidates = choose(processor) if spec == "auto" else [spec]
    for candidate in candidates:
        if _opens(candidate, required=spec != "auto"):
            return found | {"meter": candidate}
    return found


def _opens(spec: str, *, required: bool) -> bool:
    from devprof.meters.base import MeterError
    from devprof.meters.sampling import Sampling

    try:
        with Sampling(spec) as sampling:
            info = sampling.info
    except MeterError as error:
        if required:
            raise
        click.echo(f"The meter {spec} is not used: {error}", err=True)
        return False
    total = " + ".join(channel.domain for channel in info.channels if channel.headline)
    click.echo(f"Meter: {info.source} {info.detail}".rstrip() + f"; the total is {total} ({info.rule}).", err=True)
    return True
