"""Wait until a device is cool enough to begin, so that a run does not start with the heat of the one before."""

from __future__ import annotations

import time
from collections.abc import Callable

from devprof.device.state import temperature_c

__all__ = ["wait_until_cool"]

_LOOK_EVERY_S = 2.0


def wait_until_cool(
    limit_c: float,
    timeout_s: float,
    *,
    temperature: Callable[[], float | None] = temperature_c,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[float, bool]:
    """Wait until the hottest zone is at ``limit_c`` or below, but no longer than ``timeout_s``.

    Args:
        limit_c: Degrees Celsius.
        timeout_s: Seconds after which waiting ends.
        temperature: Reads the hottest zone; ``None`` where there is none.
        clock: Monotonic seconds.
        sleep: Waits for seconds.

    Returns:
        Seconds waited, and whether the device is cool. A device without a thermal zone is not known to be cool.
    """
    begin = clock()
    while True:
        now = temperature()
        if now is None or now <= limit_c:
            return clock() - begin, now is not None
        if clock() - begin >= timeout_s:
            return clock() - begin, False
        sleep(_LOOK_EVERY_S)
