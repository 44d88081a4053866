"""Kill a sweep 30 times: is every finished run kept, none twice, and does the same command complete it?

Starts ``devprof measure``, sends SIGKILL to the parent or to the measuring child at a random moment, and starts it again, until
all kills are spent; then lets it complete. After each kill the folder is read back. Prints JSON::

    python benchmarks/kills.py [--quick] [--kills 30]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from devprof.records import Measurement
from devprof.store.folder import read_records, read_table

DEVPROF = [sys.executable, "-m", "devprof"]
REPEATS = 2


def command(folder: Path, sizes: int) -> list[str]:
    """A sweep of short runs, in two passes."""
    listed = ",".join(str(size + 1) for size in range(sizes))
    sweep = [*DEVPROF, "measure", "seed:mlp", "--batch-size", listed, "--repeats", str(REPEATS)]
    return [*sweep, "--min-time", "50ms", "-o", str(folder)]


def child_of(pid: int) -> int | None:
    """Process id of a direct child, if there is one."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()[0])
    return None


def run_and_kill(sweep: list[str], after_s: float, *, parent: bool) -> bool:
    """Start the sweep and kill a process of it after some seconds; whether it was killed before it ended."""
    process = subprocess.Popen(sweep, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after_s)
    if not parent:
        child = child_of(process.pid)
        if child is None:
            parent = True
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            # A killed child is a row; the parent goes on, and is ended here to make room for the next kill.
            time.sleep(0.5)
    ended = process.poll() is not None
    process.kill()
    process.wait()
    return not ended


def state_of(folder: Path) -> dict[str, object]:
    """What is in the folder: rows, rows of one configuration that are there twice, files that cannot be read."""
    if not (folder / "runs").is_dir():
        return {"rows": 0, "twice": 0, "unreadable": 0}
    rows, skipped = read_table(folder, "runs")
    keys = Counter(zip(rows["configuration"].to_pylist(), rows["repeat"].to_pylist(), strict=True))
    return {"rows": rows.num_rows, "twice": sum(count > 1 for count in keys.values()), "unreadable": len(skipped)}


def main() -> None:
    """Kill, look, complete, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three kills, six runs")
    parser.add_argument("--kills", type=int, default=30)
    arguments = parser.parse_args()
    # A sweep with room for all kills: between two of them some one or two runs are finished.
    wanted, sizes = (3, 3) if arguments.quick else (arguments.kills, 20 + arguments.kills)
    order = random.Random(0)
    kills = Counter[str]()
    lost = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        states = [state_of(folder)]
        while sum(kills.values()) < wanted:
            parent = order.random() < 0.5
            if run_and_kill(command(folder, sizes), order.uniform(0.3, 9.0), parent=parent):
                kills["parent" if parent else "child"] += 1
            states.append(state_of(folder))
            lost += int(str(states[-1]["rows"])) < int(str(states[-2]["rows"]))
            print(states[-1], file=sys.stderr)
            if states[-1]["rows"] == REPEATS * sizes:
                break
        completed = subprocess.run(
            [*command(folder, sizes), "--retry-failed"], capture_output=True, check=False
        ).returncode
        runs = read_records(folder, "runs", Measurement)
        done = {(run.configuration, run.repeat) for run in runs if run.status == "ok"}
    result = {
        "kills": dict(kills),
        "kills_wanted": wanted,
        "times_a_finished_run_was_lost": lost,
        "runs_twice": max(int(str(state["twice"])) for state in states),
        "unreadable_files": max(int(str(state["unreadable"])) for state in states),
        "exit_code_of_the_resumed_sweep": completed,
        "configurations_completed": len(done),
        "configurations": REPEATS * sizes,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
