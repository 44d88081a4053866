"""What travels between ``devprof meter serve`` and ``--meter tcp``: lines of JSON, checked on arrival, and nothing that is run.

Format 1, one object per line, UTF-8:

- both sides first say ``{"devprof-meter": 1}``; the server's greeting also has ``"info"``, what the meter is;
- client: ``{"ping": n}``; server: ``{"pong": n, "t1": ns, "t2": ns}``, when it was received and answered;
- server: ``{"readings": [[ns, domain, "w" | "j" | null, number | null], ...]}``, in order of time; null is a break;
- server: ``{"error": text}`` before it hangs up.

All stamps are of the server's monotonic clock.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from devprof.meters.base import Channel, MeterInfo, Reading

__all__ = [
    "DEFAULT_PORT",
    "FORMAT",
    "GREETING",
    "LONGEST_QUESTION",
    "LONGEST_REPLY",
    "Lines",
    "WireError",
    "decode_line",
    "encode",
    "encode_readings",
    "greeting_of",
    "info_of",
    "readings_of",
    "stamp_of",
]

FORMAT = 1
"""Version of the format. History: 1, the first."""

GREETING = "devprof-meter"
"""The key of both greetings, whose value is the version."""

DEFAULT_PORT = 7316
"""Where ``devprof meter serve`` listens unless told otherwise."""

LONGEST_QUESTION = 256
"""Bytes of the longest line that a client may send."""

LONGEST_REPLY = 1 << 20
"""Bytes of the longest line that a server may send."""

_PER_LINE = 200
_STAMP_END = 1 << 63


class WireError(ValueError):
    """What arrived is no line of this format."""


class Lines:
    """Lines out of pieces of a stream.

    Args:
        longest: Bytes of the longest line.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest = bytearray()

    def add(self, piece: bytes) -> list[bytes]:
        """The lines that a piece completes.

        Raises:
            WireError: If a line is too long.
        """
        self._rest += piece
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        if max(map(len, (*lines, rest))) > self._longest:
            raise WireError(f"a line of more than {self._longest} bytes")
        return lines


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as a line."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode_line(line: bytes) -> dict[str, Any]:
    """The message in a line.

    Raises:
        WireError: If it is no object of JSON.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError("a line that is no JSON") from error
    if not isinstance(message, dict):
        raise WireError("a line that is no JSON object")
    return message


def greeting_of(info: MeterInfo | None = None) -> bytes:
    """The first line of a side; of the server with what its meter is."""
    return encode({GREETING: FORMAT} if info is None else {GREETING: FORMAT, "info": asdict(info)})


def encode_readings(readings: Sequence[Reading]) -> Iterator[bytes]:
    """Readings as lines of a bounded length; values that are no finite number are breaks."""
    for start in range(0, len(readings), _PER_LINE):
        yield encode({"readings": [_row(reading) for reading in readings[start : start + _PER_LINE]]})


def _row(reading: Reading) -> list[Any]:
    for unit, value in (("w", reading.power_w), ("j", reading.energy_j)):
        if value is not None and math.isfinite(value):
            return [reading.t_ns, reading.domain, unit, value]
    return [reading.t_ns, reading.domain, None, None]


def readings_of(rows: object) -> list[Reading]:
    """The readings of a message.

    Raises:
        WireError: If they are not what they should be.
    """
    return [_reading(row) for row in _list(rows)]


def _reading(row: object) -> Reading:
    match row:
        case [t_ns, str() as domain, None, None]:
            return Reading(stamp_of(t_ns), domain)
        case [t_ns, str() as domain, "w", int() | float() as value]:
            return Reading(stamp_of(t_ns), domain, power_w=_finite(value))
        case [t_ns, str() as domain, "j", int() | float() as value]:
            return Reading(stamp_of(t_ns), domain, energy_j=_finite(value))
    raise WireError("a reading that is none")


def stamp_of(value: object) -> int:
    """A stamp in nanoseconds.

    Raises:
        WireError: If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not -_STAMP_END < value < _STAMP_END:
        raise WireError("a stamp that is none")
    return value


def info_of(value: object) -> MeterInfo:
    """What a meter is.

    Raises:
        WireError: If something is missing or wrong.
    """
    match value:
        case {
            "source": str() as source,
            "rule": str() as rule,
            "channels": [_, *_] as channels,
            "period_s": int() | float() as period_s,
            "detail": str() as detail,
            "notes": list() as notes,
        } if all(isinstance(note, str) for note in notes):
            try:
                return MeterInfo(
                    source, rule, tuple(_channels(channels)), max(0.0, _finite(period_s)), detail, tuple(notes)
                )
            except ValueError as error:
                raise WireError(f"a meter that is none: {error}") from error
    raise WireError("a meter that is none")


def _channels(rows: Iterable[object]) -> Iterator[Channel]:
    for row in rows:
        match row:
            case {
                "domain": str() as domain,
                "kind": "counter" | "sensor" as kind,
                "headline": bool() as headline,
                "update_s": int() | float() as update_s,
                "quantum": int() | float() as quantum,
                "gain_rel": None | int() | float() as gain_rel,
                "offset_w": int() | float() as offset_w,
                "most_w": int() | float() as most_w,
            }:
                yield Channel(
                    domain,
                    kind,
                    headline,
                    _finite(update_s),
                    _finite(quantum),
                    None if gain_rel is None else _finite(gain_rel),
                    _finite(offset_w),
                    _finite(most_w),
                )
            case _:
                raise WireError("a channel that is none")


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise WireError("a list that is none")
    return value


def _finite(value: float) -> float:
    """A number without infinities; whole numbers may be longer than a float can be."""
    try:
        number = float(value)
    except OverflowError as error:
        raise WireError("a number that is none") from error
    if isinstance(value, bool) or not math.isfinite(number):
        raise WireError("a number that is none")
    return number
