from __future__ import annotations

import json

from devprof.report.provenance import provenance

FACTS = json.dumps({"cpu": "ARMv8", "memory_bytes": str(8 << 30), "os": "Linux 6.6"})
VERSIONS = json.dumps({"torch": "2.13.0"})


def test_who_measured_what_with_what_and_when(new_run, new_published):
    runs = [
        new_run(
            repeat=index, suite="rpi5-vision", facts=FACTS, versions=VERSIONS, started_utc=f"2025-01-0{index + 2}T00"
        )
        for index in range(3)
    ]
    runs += [new_run(batch=32, status="oom"), new_published()]
    assert provenance(runs) == (
        ("pi-5 · cpu", "ARMv8, 4 threads, 8 GiB of memory, PyTorch 2.13.0, Linux 6.6"),
        ("Suites", "rpi5-vision"),
        ("Measured", "4 processes of 2 configurations, 120 timed steps; 1 failed"),
        ("Between", "2025-01-02 and 2025-01-04"),
        ("Published by someone/boards", "pi-4: 1 configuration, not measured here"),
    )


def test_what_is_not_known_is_left_out(new_run):
    known = dict(provenance([new_run(facts="of another tool", versions="[]", threads=None, steps=None)]))
    assert known == {"Measured": "1 process of 1 configuration", "Between": "2025-01-02"}


def test_many_devices_are_listed_without_their_facts(new_run):
    known = provenance([new_run(device=f"board {index}", facts=FACTS) for index in range(8)])
    assert known[6] == ("Further devices", "board 6 · cpu, board 7 · cpu")


def test_no_runs_have_no_provenance():
    assert provenance(()) == ()
