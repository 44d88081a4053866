"""The power source ``tasmota``: plugs with the firmware Tasmota and a power meter, ``--meter tasmota:HOST``.

Source: Tasmota's documentation of commands. ``Status 8`` gives in ``StatusSNS.ENERGY`` ``Power`` in watts and ``Total`` in
kilowatt-hours, in as many decimals as ``WattRes`` and ``EnergyRes`` say: 0 and 3 unless they were changed. Standard library
only.
"""

from __future__ import annotations

from devprof.meters.base import Channel, MeterError, MeterInfo, SourceState
from devprof.meters.plugs import JsonAsker, JsonServer, open_polled, pick
from devprof.meters.polled import PolledMeter
from devprof.meters.quantities import Part, Recipe

__all__ = ["open_meter", "probe"]

_HOW = "give --meter tasmota:HOST"
_STATUS = "/cm?cmnd=Status%208"
_JOULES_PER_KWH = 3.6e6


def open_meter(argument: str) -> PolledMeter:
    """The power meter of a plug with Tasmota.

    Args:
        argument: Its name or address.

    Raises:
        MeterError: If nothing answers there, or what answers has no power meter.
    """
    host = argument.removeprefix("http://").strip("/")
    if not host or "/" in host:
        raise MeterError(f"the meter tasmota needs an address, got {argument!r}", _HOW)
    server = JsonServer(f"http://{host}")
    first = server.get(_STATUS)
    if pick(first, "/WARNING") is not None:
        raise MeterError(f"{server.address} asks for a password", "describe it in a file: --meter http:FILE")
    step_w = 10.0 ** -_decimals(server, "WattRes", 0)
    step_j = _JOULES_PER_KWH * 10.0 ** -_decimals(server, "EnergyRes", 3)
    recipes = (
        Recipe(Channel("power", "sensor", update_s=1.0, quantum=step_w), (Part("power", "/StatusSNS/ENERGY/Power"),)),
        Recipe(
            Channel("energy", "counter", headline=False, update_s=1.0, quantum=step_j),
            (Part("energy", "/StatusSNS/ENERGY/Total", factor=_JOULES_PER_KWH),),
        ),
    )
    asker = JsonAsker(lambda: server.get(_STATUS), recipes)
    if asker.values(first)[0] is None:
        raise MeterError(f"the plug at {server.address} says nothing of power", "is it a Tasmota with a power meter?")
    finer = (
        () if step_w < 1 else ("it tells whole watts: the commands WattRes 2 and EnergyRes 5 make it tell finer ones",)
    )
    info = MeterInfo(
        source="tasmota",
        rule="tasmota-power/1",
        channels=tuple(recipe.channel for recipe in recipes),
        period_s=1.0,
        detail=f"Tasmota at {server.address}",
        notes=("measured at the socket, with the losses of the power supply", *finer),
    )
    return open_polled(asker, info)


def _decimals(server: JsonServer, command: str, default: int) -> int:
    """With how many decimals a quantity is told; a plug that does not say has the default."""
    try:
        value = pick(server.get(f"/cm?cmnd={command}"), f"/{command}")
    except MeterError:
        return default
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 5 else default


def probe() -> SourceState:
    """How it is used; nothing is contacted."""
    return SourceState("tasmota", "a plug with Tasmota and a power meter", readable=True, detail=_HOW, remedy=None)
