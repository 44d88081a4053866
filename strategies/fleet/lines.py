"""How the ServerApp tells the operator: lines of JSON in the run's log, which Flower streams to whoever started the run.

A log is the one way back that every deployment has: the SuperLink may run on another host, whose folders the operator does not
see. Each line begins with the run's token, so that nothing else in the log is taken for one. Where both see one folder, the
result lies there, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["event_line", "probe_file", "read_event", "result_file"]

_MARK = "devprof-fleet"


def event_line(token: str, event: dict[str, Any]) -> str:
    """An event as a line of ASCII, with its end."""
    return f"{_MARK} {token} {json.dumps(event, allow_nan=False)}\n"


def read_event(token: str, line: str) -> dict[str, Any] | None:
    """The event in a line of the log; ``None`` for any other line, also for one that was cut."""
    _, found, rest = line.partition(f"{_MARK} {token} ")
    if not found:
        return None
    try:
        event = json.loads(rest)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def probe_file(output: Path, token: str) -> Path:
    """What the operator leaves in the folder, so that the ServerApp sees whether both see the same one."""
    return output / f".fleet-{token}"


def result_file(output: Path, token: str) -> Path:
    """Where the result is kept beside the rows."""
    return output / "fleet" / f"{token}.json"
