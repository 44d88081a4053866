"""Where the figures of a report come from: what measured them, with what, when and how often. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from devprof.records import Measurement
from devprof.report.configurations import Configuration, configurations
from devprof.report.figure import counted
from devprof.units import format_bytes

__all__ = ["provenance"]

_MOST_DEVICES = 6


def provenance(runs: Sequence[Measurement]) -> tuple[tuple[str, str], ...]:
    """Devices, suites, dates, numbers of processes and steps, and published sources, as (name, value) pairs.

    What the runs do not say is left out.
    """
    found = configurations(runs)
    own = [one for one in found if not one.published]
    facts: list[tuple[str, str]] = []
    devices: dict[str, list[Configuration]] = {}
    for one in own:
        devices.setdefault(one.device, []).append(one)
    facts += [(name, _device(of)) for name, of in list(devices.items())[:_MOST_DEVICES]]
    if len(devices) > _MOST_DEVICES:
        facts.append(("Further devices", ", ".join(list(devices)[_MOST_DEVICES:])))
    mine = [run for one in own for run in one.runs]
    facts.append(("Suites", ", ".join(dict.fromkeys(run.suite for run in mine if run.suite))))
    facts.append(("Measured", _amount(own) if own else ""))
    facts.append(("Between", " and ".join(dict.fromkeys(_days(mine)))))
    sources: dict[str, list[Configuration]] = {}
    for one in found:
        if one.published:
            sources.setdefault(one.published, []).append(one)
    facts += [(f"Published by {source}", _published(of)) for source, of in sources.items()]
    return tuple((name, value) for name, value in facts if value)


def _device(found: Sequence[Configuration]) -> str:
    run = max((run for one in found for run in one.runs), key=lambda run: run.started_utc)
    known, versions = _mapping(run.facts), _mapping(run.versions)
    memory = known.get("memory_bytes", "")
    parts = [
        known.get("cpu"),
        counted(run.threads, "thread") if run.threads else None,
        f"{format_bytes(int(memory))} of memory" if str(memory).isdecimal() else None,
        f"PyTorch {versions['torch']}" if "torch" in versions else None,
        known.get("os"),
    ]
    return ", ".join(str(part) for part in parts if part)


def _mapping(column: str | None) -> dict[str, Any]:
    """The columns ``facts`` and ``versions`` hold JSON objects where devprof wrote them, and anything where imported."""
    try:
        parsed = json.loads(column or "{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _amount(found: Sequence[Configuration]) -> str:
    processes = sum(len(one.runs) for one in found)
    steps = round(sum(sum(one.known("steps")) for one in found))
    failed = sum(len(one.failed) for one in found)
    text = f"{counted(processes, 'process', 'processes')} of {counted(len(found), 'configuration')}"
    text += f", {steps:,} timed steps" if steps else ""
    return text + (f"; {failed} failed" if failed else "")


def _days(runs: Sequence[Measurement]) -> list[str]:
    """The first and the last day."""
    days = sorted(run.started_utc[:10] for run in runs if run.started_utc)
    return [days[0], days[-1]] if days else []


def _published(found: Sequence[Configuration]) -> str:
    devices = ", ".join(dict.fromkeys(one.first.device for one in found))
    return f"{devices}: {counted(len(found), 'configuration')}, not measured here"
