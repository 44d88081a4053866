"""``devprof doctor``: what can be measured here, with which meter, and why not the others."""

from __future__ import annotations

import click

from devprof.cli.common import EXTRAS, echo_json, json_option, missing_modules, stdout_table


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Say what can be measured here, with which meter, and why not the others.

    Nothing is started or changed. Lines that say "no" also say what would make it a "yes".
    """
    from devprof.device.identity import identify
    from devprof.device.memory import peak_rss_bytes
    from devprof.device.state import governor, temperature_c
    from devprof.meters.probe import probe_sources

    device = identify()
    checks: list[tuple[str, str, bool, str]] = []
    for extra, (_, purpose) in EXTRAS.items():
        absent = missing_modules(extra)
        detail = f"missing {', '.join(absent)}: pip install 'devprof[{extra}]'" if absent else purpose
        checks.append(("install", extra, not absent, detail))
    peak = peak_rss_bytes() is not None
    checks.append(("measure", "step time", True, "monotonic clock, one fresh process per configuration"))
    checks.append(("measure", "memory peak", peak, "VmHWM of the process" if peak else "needs Linux with /proc"))
    heat = temperature_c()
    heat_detail = "no thermal zone under class/thermal" if heat is None else f"{heat:.1f} °C now"
    checks.append(("measure", "temperature", heat is not None, heat_detail))
    mode = governor()
    checks.append(
        ("measure", "frequency governor", mode is not None, mode or "frequency is not managed by this system")
    )
    checks += [("power", source.name, source.readable, source.detail) for source in probe_sources()]
    facts = {"device": device.name, "device_key": device.key, "threads": device.threads, **dict(device.facts)}
    if as_json:
        rows = [{"group": group, "name": name, "ok": ok, "detail": detail} for group, name, ok, detail in checks]
        echo_json({"device": facts, "checks": rows})
        return
    stdout_table(
        "This device", [("fact", False), ("value", False)], [(name, str(fact)) for name, fact in facts.items()]
    )
    lines = [(group, name, "yes" if ok else "no", detail) for group, name, ok, detail in checks]
    columns = [("", False), ("what", False), ("here", False), ("detail", False)]
    stdout_table("What works here", columns, lines)
    click.echo(
        "Power sources are looked for, but not yet read into measurements: rows say energy_source = none.", err=True
    )
