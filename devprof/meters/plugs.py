"""Meters that answer HTTP requests with JSON, such as smart plugs: asking, picking values, and noticing that they stand still.

A plug's watts are new about once a second, its energy count only once a minute or in coarse steps; so watts make the total, and
the count is kept beside it. The chips in plugs count pulses: about one per second at 12 W, one in ten seconds at 1.2 W. So they
are for servers and workstations, in windows of minutes. They measure at the socket, losses of the power supply included.

Standard library only. Proxies are not used and redirections not followed: a plug is in the same network.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Sequence
from urllib.parse import SplitResult, urlsplit

from devprof.meters.base import MeterError, MeterInfo, MeterLostError, Reading, now_ns
from devprof.meters.polled import PolledMeter
from devprof.meters.quantities import Part, ReadingMaker, Recipe, finite

__all__ = ["TIMEOUT_S", "JsonAsker", "JsonServer", "open_polled", "pick"]

TIMEOUT_S = 2.0
"""Seconds that a plug may take to answer."""

_MOST_BYTES = 1 << 18
_MISSED = 5
_PATIENCE_S = 15.0


class JsonServer:
    """A small HTTP server whose answers are JSON.

    Args:
        url: Its address, such as ``http://192.0.2.7``; a path in it goes before all others.
        timeout_s: Seconds that it may take to answer.
        user: Name for basic authentication; empty for none.
        password: Password for it.

    Raises:
        MeterError: If the address is none.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, user: str = "", password: str = "") -> None:
        self._timeout_s = timeout_s
        try:
            self._parts: SplitResult = urlsplit(url)
            self.address = (
                f"{self._parts.hostname or ''}:{self._parts.port or (443 if self._parts.scheme == 'https' else 80)}"
            )
        except ValueError as error:
            raise MeterError(f"{url!r} is no address: {error}") from error
        if self._parts.scheme not in {"http", "https"} or not self._parts.hostname:
            raise MeterError(f"{url!r} is no address", "write it like http://192.0.2.7/path")
        self._headers = {"Accept": "application/json", "Connection": "close"}
        if user:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"

    def get(self, path: str = "") -> object:
        """The JSON at a path.

        Raises:
            MeterError: If there is no answer, or none that is JSON.
        """
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        query = f"?{self._parts.query}" if self._parts.query else ""
        target = path or f"{self._parts.path or '/'}{query}"
        try:
            connection = kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout_s)
            try:
                connection.request("GET", target, headers=self._headers)
                answer = connection.getresponse()
                body = answer.read(_MOST_BYTES + 1)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise MeterError(f"{self.address} does not answer {target}: {error}") from error
        if answer.status == http.client.UNAUTHORIZED:
            raise MeterError(
                f"{self.address} asks for a password", "describe it in a file with user and password: http:FILE"
            )
        if answer.status != http.client.OK:
            raise MeterError(f"{self.address} answers {target} with {answer.status} {answer.reason}")
        try:
            # RecursionError: brackets within brackets without end.
            parsed: object = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise MeterError(f"{self.address} answers {target} with what is not JSON: {body[:40]!r}") from error
        return parsed


def pick(document: object, pointer: str) -> object:
    """What a JSON pointer (RFC 6901) such as ``/emeters/0/power`` points at; ``None`` if there is nothing."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(key)
        elif isinstance(document, list) and key.isascii() and key.isdigit() and int(key[:6]) < len(document):
            document = document[int(key[:6])]
        else:
            return None
    return document


class JsonAsker:
    """Asks a server for one JSON document and makes readings of it.

    A document that does not change at all is an old one: where it has a stamp, after ``still_s`` seconds; else as soon as the
    watts that it repeats should have moved its energy count by three steps, ``still_s`` seconds included for a count that is
    updated seldom. What is old is a break.

    Args:
        fetch: Gives the document.
        recipes: The channels; the ``place`` of a part is a JSON pointer.
        stamp: JSON pointer to what changes while the meter lives; empty for none.
        still_s: Seconds after which it must have changed.
        valid: JSON pointer to a truth value that tells whether the values are good; empty for none.
        clock: The monotonic clock.
    """

    def __init__(
        self,
        fetch: Callable[[], object],
        recipes: Sequence[Recipe],
        *,
        stamp: str = "",
        still_s: float = 150.0,
        valid: str = "",
        clock: Callable[[], int] = now_ns,
    ) -> None:
        self.rejected = 0
        self._fetch = fetch
        self._recipes = recipes
        self._maker = ReadingMaker(recipe.channel for recipe in recipes)
        self._stamp, self._still_s, self._valid = stamp, still_s, valid
        self._now = clock
        self._missed = 0
        self._last: tuple[object, ...] = ()
        self._changed_ns = clock()

    def ask(self) -> list[Reading]:
        """Readings of the document now; none if there is no answer.

        Raises:
            MeterLostError: If there was none five times in a row.
        """
        before = self._now()
        try:
            document = self._fetch()
        except MeterError as error:
            self.rejected += 1
            self._missed += 1
            if self._missed >= _MISSED:
                raise MeterLostError(f"{error.reason}, {_MISSED} times in a row", error.remedy) from error
            return []
        self._missed = 0
        # Between asking and the answer: half the time of the way is the best guess.
        t_ns = (before + self._now()) // 2
        values = self.values(document)
        good = self._is_fresh(t_ns, values, document) and (not self._valid or pick(document, self._valid) is True)
        self.rejected += not good or None in values
        pairs = zip(self._recipes, values, strict=True)
        return [self._maker.make(recipe.channel, t_ns, value if good else None) for recipe, value in pairs]

    def values(self, document: object) -> tuple[float | None, ...]:
        """Watts or joules of each channel; ``None`` where the document does not have it."""

        def look(part: Part) -> float | None:
            found = pick(document, part.place)
            if isinstance(found, list):
                # One value per phase.
                numbers = [part.scale(one) for one in found]
                known = [number for number in numbers if number is not None]
                return finite(sum(known)) if known and len(known) == len(numbers) else None
            return part.parse_or_none(found) if isinstance(found, str) else part.scale(found)

        return tuple(recipe.value(look) for recipe in self._recipes)

    def _is_fresh(self, t_ns: int, values: tuple[float | None, ...], document: object) -> bool:
        stamp = pick(document, self._stamp) if self._stamp else None
        last, self._last = self._last, (stamp, *values)
        if self._last != last:
            self._changed_ns = t_ns
            return True
        since_s = (t_ns - self._changed_ns) / 1e9
        if stamp is not None:
            return since_s <= self._still_s
        return not self._count_stands_still(values, since_s - self._still_s)

    def _count_stands_still(self, values: tuple[float | None, ...], since_s: float) -> bool:
        kinds = [(recipe.channel, value or 0.0) for recipe, value in zip(self._recipes, values, strict=True)]
        steps_j = [channel.quantum for channel, _ in kinds if channel.kind == "counter" and channel.quantum > 0]
        power_w = sum(value for channel, value in kinds if channel.kind == "sensor" and channel.headline)
        return bool(steps_j) and power_w * since_s > 3 * max(steps_j)

    def release(self) -> None:
        """Nothing is held between questions."""


def open_polled(asker: JsonAsker, info: MeterInfo) -> PolledMeter:
    """A meter that is asked over HTTP.

    Args:
        asker: Asks it.
        info: What it is.
    """
    return PolledMeter(info, asker, patience_s=_PATIENCE_S)
