"""The power source ``shelly``: plugs and relays of Shelly with a power meter, ``--meter shelly:HOST[/CHANNEL]``.

Sources: Shelly's API documentation. Generation 1: ``/meter/0`` with ``power`` in watts, ``total`` in watt-minutes,
``is_valid``, and ``timestamp``, the minute of the newest count. Generation 2 and later: ``/rpc/Switch.GetStatus?id=0`` (meters
without a relay: ``PM1``) with ``apower`` in watts, and in ``aenergy`` ``total`` in watt-hours and ``minute_ts``, the present
minute. All of them say at ``/shelly`` what they are. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from devprof.meters.base import Channel, MeterError, MeterInfo, SourceState
from devprof.meters.plugs import JsonAsker, JsonServer, open_polled
from devprof.meters.polled import PolledMeter
from devprof.meters.quantities import Part, Recipe

__all__ = ["open_meter", "probe"]

_HOW = "give --meter shelly:HOST, or shelly:HOST/1 for its second channel"
_COMPONENTS = ("Switch", "PM1")


@dataclass(frozen=True, slots=True)
class _Generation:
    """Where a generation of devices has its values: JSON pointers."""

    recipes: tuple[Recipe, ...]
    stamp: str
    valid: str = ""


def _recipes(power: Part, step_w: float, energy: Part, step_j: float) -> tuple[Recipe, ...]:
    watts = Channel("power", "sensor", update_s=1.0, quantum=step_w)
    # Counted by the minute: kept for comparison over hours, too coarse to make the total.
    joules = Channel("energy", "counter", headline=False, update_s=60.0, quantum=step_j)
    return Recipe(watts, (power,)), Recipe(joules, (energy,))


_FIRST = _Generation(
    _recipes(Part("power", "/power"), 0.01, Part("energy", "/total", factor=60.0), 60.0), "/timestamp", "/is_valid"
)
_SECOND = _Generation(
    _recipes(Part("power", "/apower"), 0.1, Part("energy", "/aenergy/total", factor=3600.0), 3.6), "/aenergy/minute_ts"
)


def open_meter(argument: str) -> PolledMeter:
    """A Shelly's power meter.

    Args:
        argument: Its name or address, behind a slash the number of the channel, 0 for the first.

    Raises:
        MeterError: If nothing answers there, or what answers is no Shelly with a power meter.
    """
    host, _, number = argument.removeprefix("http://").strip("/").partition("/")
    number = number or "0"
    if not host or not (number.isascii() and number.isdigit() and len(number) <= 2):
        raise MeterError(f"the meter shelly needs an address, got {argument!r}", _HOW)
    server = JsonServer(f"http://{host}")
    said = server.get("/shelly")
    if not isinstance(said, dict) or "mac" not in said:
        raise MeterError(
            f"{server.address} is no Shelly", "for other devices that answer in JSON give --meter http:FILE"
        )
    old = "gen" not in said
    generation = _FIRST if old else _SECOND
    path = f"/meter/{number}" if old else _component(server, number)

    def fetch() -> object:
        return server.get(path)

    asker = JsonAsker(fetch, generation.recipes, stamp=generation.stamp, valid=generation.valid)
    if asker.values(server.get(path))[0] is None:
        raise MeterError(f"the Shelly at {server.address} says nothing of power at {path}", _HOW)
    model = said.get("type") if old else said.get("model")
    info = MeterInfo(
        source="shelly",
        rule="shelly-power/1",
        channels=tuple(recipe.channel for recipe in generation.recipes),
        period_s=1.0,
        detail=f"Shelly {model} {said['mac']} at {server.address}, {path}",
        notes=("measured at the socket, with the losses of the power supply", "values are new about once a second"),
    )
    return open_polled(asker, info)


def _component(server: JsonServer, number: str) -> str:
    """The path of the meter of a channel: that of a relay, or a meter without one."""
    reasons = []
    for name in _COMPONENTS:
        path = f"/rpc/{name}.GetStatus?id={number}"
        try:
            server.get(path)
        except MeterError as error:
            reasons.append(error.reason)
        else:
            return path
    raise MeterError(f"the Shelly at {server.address} has no power meter {number} ({'; '.join(reasons)})", _HOW)


def probe() -> SourceState:
    """How it is used; nothing is contacted."""
    return SourceState("shelly", "a Shelly plug or relay with a power meter", readable=True, detail=_HOW, remedy=None)
