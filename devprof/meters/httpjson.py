"""The power source ``http``: anything that answers an HTTP request with JSON, described in a file, ``--meter http:FILE``.

::

    format = 1
    url = "http://192.0.2.7/status"
    user = "me"                          # for basic authentication; leave both out where there is none
    password = "secret"
    timeout_s = 2.0
    update_s = 1.0                       # seconds between new values; it is asked as often
    model = "Plug 7"                     # in words, for the record
    serial = "0123"
    stamp = "/time"                      # a JSON pointer (RFC 6901) to what changes while the meter lives; may be left out
    still_s = 150.0                      # seconds after which it must have changed

    [[channels]]                         # more about them in devprof/meters/tables.py
    power = {pointer = "/emeters/0/power", unit = "W"}

Standard library only.
"""

from __future__ import annotations

from devprof.meters.base import MAX_RATE_HZ, MeterError, MeterInfo, SourceState
from devprof.meters.plugs import TIMEOUT_S, JsonAsker, JsonServer, open_polled
from devprof.meters.polled import PolledMeter
from devprof.meters.quantities import Part
from devprof.meters.tables import Table, read_file

__all__ = ["open_meter", "probe"]

_KEYS = ("url", "user", "password", "timeout_s", "update_s", "model", "serial", "stamp", "still_s", "channels")
_HOW = "give --meter http:FILE, a description of address and values"
_LONGEST_S = 10.0


def open_meter(argument: str) -> PolledMeter:
    """The meter that a file describes.

    Args:
        argument: The file.

    Raises:
        MeterError: If the file makes no sense, nothing answers, or the answer does not have the values.
    """
    if not argument:
        raise MeterError("the meter http needs a file", _HOW)
    top = read_file(argument, _KEYS)
    timeout_s = top.number("timeout_s", TIMEOUT_S)
    if not 0 < timeout_s <= _LONGEST_S:
        raise top.error("timeout_s", f"must be above 0 and at most {_LONGEST_S:.0f}")
    server = JsonServer(
        top.text("url"), timeout_s=timeout_s, user=top.text("user", ""), password=top.text("password", "")
    )
    update_s = top.number("update_s", 1.0)
    recipes = top.recipes(_part, update_s=update_s)
    asker = JsonAsker(server.get, recipes, stamp=top.text("stamp", ""), still_s=top.number("still_s", 150.0))
    for recipe, value in zip(recipes, asker.values(server.get()), strict=True):
        if value is None:
            places = ", ".join(part.place for part in recipe.parts)
            raise MeterError(f"{server.address} does not give the channel {recipe.channel.domain}", f"look at {places}")
    model = " ".join(filter(None, (top.text("model", ""), top.text("serial", ""))))
    info = MeterInfo(
        source="http",
        rule="http-sum/1",
        channels=tuple(recipe.channel for recipe in recipes),
        period_s=max(1 / MAX_RATE_HZ, update_s),
        detail=", ".join(filter(None, (model, server.address))),
    )
    return open_polled(asker, info)


def _part(channel: Table, quantity: str) -> Part:
    table = channel.table(quantity, ("pointer", "unit"))
    pointer = table.text("pointer")
    if pointer and not pointer.startswith("/"):
        raise table.error("pointer", "must be a JSON pointer such as /emeters/0/power")
    return Part(quantity, pointer, factor=table.unit(quantity))


def probe() -> SourceState:
    """How it is used; nothing is contacted."""
    return SourceState("http", "anything that answers in JSON", readable=True, detail=_HOW, remedy=None)
