"""What a folder of 100,000 runs costs: merging its files, opening and summarising it, and what a sweep reads of it.

Each step is a process of its own, whose time includes the start of Python and whose memory is the kernel's high-water mark.
The rows are written with the store's own writer, as a sweep would: a file per run and table, only without waiting for the disk
after each, which says nothing of reading. Prints JSON::

    python benchmarks/folder.py [--quick]

The full form writes 300,000 small files and takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from devprof.records import Measurement, PowerSample, StepTime
from devprof.store.folder import write_run

GOAL_SUMMARY_S = 5.0
GOAL_PARENT_BYTES = 150e6
_STEPS, _SAMPLES, _REPEATS = 30, 100, 3
_TASKS = {
    "compact": "from devprof.store.compact import compact; compact(folder)",
    "open_and_summarize": "from devprof.store.summary import summarize_folders; summarize_folders([folder])",
    # What the parent of a sweep does around its children: here the kept keys and the writer (which loads pandas) add up.
    "parent_of_a_sweep": """
from folder import write_runs
from devprof.store.compact import compact_if_many
from devprof.store.folder import read_finished
compact_if_many(folder)
finished = read_finished(folder)
write_runs(folder, 10**6, 10**6 + 1)
""",
}
_SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
folder = Path({folder!r})
{task}
print([line for line in open("/proc/self/status") if line.startswith("VmHWM:")][0].split()[1])
"""


def write_runs(folder: Path, first: int, end: int) -> None:
    """Write runs ``first`` to ``end``: three processes of each configuration, on two devices."""
    os.fsync = lambda _descriptor: None
    generator = random.Random(first)
    for number in range(first, end):
        configuration = number // _REPEATS
        step_s = 0.05 * generator.lognormvariate(0, 0.02)
        run = Measurement(
            run_id=f"20260101T000000-{number:08x}",
            started_utc="2026-01-01T00:00:00+00:00",
            devprof_version="0",
            device=f"board-{configuration % 2}",
            device_key=f"{configuration % 2:012x}",
            processor="cpu",
            model=f"model_{configuration // 100}",
            task="train",
            mode="full",
            status="ok" if number % 50 else "oom",
            batch_size=1 + configuration % 100,
            configuration=f"{configuration:012x}",
            repeat=number % _REPEATS,
            steps=_STEPS,
            step_s=step_s if number % 50 else None,
            step_s_mad=step_s / 100,
            step_s_ci_low=step_s * 0.99,
            step_s_ci_high=step_s * 1.01,
            latency_valid=True,
            rss_peak_bytes=500_000_000 + number,
            power_w=5.0,
            versions=json.dumps({"torch": "2.4.0", "python": "3.11.2", "kernel": "6.6.0", "numpy": "1.26"}),
            warnings='["few-steps"]' if number % 7 == 0 else None,
        )
        steps = [
            StepTime(run.run_id, index, "measured", int(5e7 * generator.lognormvariate(0, 0.02)))
            for index in range(_STEPS)
        ]
        power = [
            PowerSample(
                run.run_id, number * 10**10 + index * 10**8, "ina3221", "VDD_IN", power_w=generator.gauss(5, 0.2)
            )
            for index in range(_SAMPLES)
        ]
        write_run(folder, run, steps, power)


def in_a_fresh_process(task: str, folder: Path) -> dict[str, float]:
    """Wall seconds and peak memory of a task."""
    begin = time.perf_counter()
    script = _SCRIPT.format(here=str(Path(__file__).parent), folder=str(folder), task=_TASKS[task])
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return {"seconds": time.perf_counter() - begin, "peak_bytes": int(done.stdout.split()[-1]) * 1024}


def size_of(folder: Path) -> dict[str, dict[str, int]]:
    """Files and bytes of each table."""
    return {
        table.name: {
            "files": len(files := list(table.glob("*.parquet"))),
            "bytes": sum(file.stat().st_size for file in files),
        }
        for table in sorted(path for path in folder.iterdir() if path.is_dir())
    }


def main() -> None:
    """Write, merge, read; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 runs")
    runs = 2_000 if parser.parse_args().quick else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = time.perf_counter()
        edges = range(0, runs, 500)
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            pool.starmap(write_runs, [(folder, first, min(first + 500, runs)) for first in edges])
        result: dict[str, object] = {
            "runs": runs,
            "steps": runs * _STEPS,
            "power_samples": runs * _SAMPLES,
            "write": {"seconds": time.perf_counter() - begin, "processes": 2},
            "size_before": size_of(folder),
        }
        for task in _TASKS:
            result[task] = in_a_fresh_process(task, folder)
        result["size_after"] = size_of(folder)
    result["goals"] = {"open_and_summarize_s": GOAL_SUMMARY_S, "peak_bytes_of_a_sweeps_parent": GOAL_PARENT_BYTES}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
