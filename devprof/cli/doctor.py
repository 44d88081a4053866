"""``devprof doctor``: what can be measured here, with which meter, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from devprof.cli.common import EXTRAS, echo_json, json_option, missing_modules, stdout_table
from devprof.units import format_bytes

if TYPE_CHECKING:
    from devprof.device.state import State
    from devprof.meters.base import SourceState

# A list of names can be long, and --json has it whole.
_LONGEST = 100


class _Check(NamedTuple):
    """A line of the second table: whether something works here, and what was found or what to do."""

    group: str
    name: str
    ok: bool
    detail: str


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Say what can be measured here, with which meter, and why not the others.

    Nothing is started or changed. Lines that say "no" also say what would make it a "yes".
    """
    from devprof.device.identity import device_facts, identify
    from devprof.device.state import read_state
    from devprof.meters.catalogue import choose, probe_sources

    device, groups = identify(), device_facts()
    state = read_state()
    checks = [*_installed(), *_measurable(), *_state_checks(state)]
    if "gpu" in groups["processor"]:
        checks.append(_throttling(read_state("cuda")))
    own, outside = probe_sources()
    checks += [_meter("power", source) for source in own] + [_meter("meter outside", source) for source in outside]
    summary = {"device": device.name, "device_key": device.key, "threads": device.threads}
    if as_json:
        echo_json(
            {"device": summary | dict(device.facts), "state": state, "checks": [check._asdict() for check in checks]}
        )
        return
    rows = [("device", name, str(value)) for name, value in summary.items()]
    rows += [(group, name, _shown(name, fact)) for group, facts in groups.items() for name, fact in facts.items()]
    stdout_table("This device", [("", False), ("fact", False), ("value", False)], _without_repeats(rows))
    lines = [(check.group, check.name, "yes" if check.ok else "no", check.detail) for check in checks]
    columns = [("", False), ("what", False), ("here", False), ("detail", False)]
    stdout_table("What works here", columns, _without_repeats(lines))
    chosen = choose("cpu")
    click.echo(
        f"devprof measure reads {chosen[0]}; --meter NAME chooses another."
        if chosen
        else "devprof measure finds no meter here: rows have no energy unless --meter names one.",
        err=True,
    )


def _meter(group: str, source: SourceState) -> _Check:
    parts = (source.title, source.detail, source.remedy)
    return _Check(group, source.name, source.readable, ": ".join(part for part in parts if part))


def _installed() -> list[_Check]:
    checks = []
    for extra, (_, purpose) in EXTRAS.items():
        absent = missing_modules(extra)
        detail = f"missing {', '.join(absent)}: pip install 'devprof[{extra}]'" if absent else purpose
        checks.append(_Check("install", extra, not absent, detail))
    return checks


def _measurable() -> list[_Check]:
    from devprof.device.load import read_cpu_times
    from devprof.device.memory import available_memory_bytes, peak_rss_bytes, total_swap_bytes

    peak, load = peak_rss_bytes() is not None, read_cpu_times() is not None
    free, swap = available_memory_bytes(), total_swap_bytes()
    needs_proc = "needs Linux with /proc"
    return [
        _Check("measure", "step time", True, "monotonic clock, one fresh process per configuration"),
        _Check("measure", "memory peak", peak, "VmHWM of the process" if peak else needs_proc),
        _Check("measure", "free memory", free is not None, needs_proc if free is None else format_bytes(free)),
        _Check(
            "measure",
            "swapping",
            swap is not None,
            needs_proc
            if swap is None
            else f"{format_bytes(swap)} of swap"
            if swap
            else "no swap space, so none happens",
        ),
        _Check("measure", "other programs", load, "CPU time of the machine in /proc/stat" if load else needs_proc),
    ]


def _state_checks(state: State) -> list[_Check]:
    zones = ", ".join(f"{name} {heat:.1f} °C" for name, heat in state.zones)
    heat = "no thermal zone under class/thermal" if state.temperature_c is None else f"{state.temperature_c:.1f} °C now"
    return [
        _Check(
            "measure", "temperature", state.temperature_c is not None, _shortened(f"{heat}: {zones}" if zones else heat)
        ),
        _Check("measure", "frequency", state.frequency_hz is not None, _frequency(state)),
        _Check(
            "measure",
            "frequency governor",
            state.governor is not None,
            state.governor or "frequency is not managed by this system",
        ),
        _throttling(state),
    ]


def _frequency(state: State) -> str:
    if state.frequency_hz is None:
        if state.clusters:
            return "the firmware manages it, and vcgencmd does not answer: install it, and join the group video"
        return "no cpufreq here, as in most virtual machines; /proc/cpuinfo has a nominal figure only"
    cap = "" if state.max_frequency_hz is None else f", at most {state.max_frequency_hz / 1e6:.0f} MHz"
    return f"{state.frequency_hz / 1e6:.0f} MHz now{cap}"


def _throttling(state: State) -> _Check:
    from devprof.device.throttle import evidence, judge

    name = f"throttling ({state.processor})"
    sources = evidence(state)
    if not sources:
        if state.processor == "cuda":
            return _Check("measure", name, False, "NVML does not answer: pip install nvidia-ml-py")
        return _Check("measure", name, False, "no frequency, no counters, no firmware that could tell: rows say null")
    now = judge([state])
    found = f"; now {now.verdict}: {', '.join(now.reasons)}" if now.reasons else ""
    return _Check("measure", name, True, f"by {', '.join(sources)}{found}")


def _shown(name: str, fact: str) -> str:
    return format_bytes(int(fact)) if name.endswith("_bytes") else _shortened(fact)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _without_repeats(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """A group is named in its first row only."""
    groups = ["", *(row[0] for row in rows)]
    return [("" if row[0] == before else row[0], *row[1:]) for before, row in zip(groups, rows, strict=False)]
