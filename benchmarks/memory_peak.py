"""Is the reported memory peak the true one? An independent poller reads the child's resident memory every millisecond.

The poller starts with the child and reads ``/proc/PID/statm``; the largest value it sees is compared with the row: its stages
(building, first step, later steps) together. A peak between two polls escapes the poller, and the kernel counts pages by CPU in
batches, so small differences both ways are in order.
Also: mode ``head`` must stay below ``full``, because activations are freed. Prints JSON::

    python benchmarks/memory_peak.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import mmap
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from devprof.records import Measurement
from devprof.store.folder import read_records

MODELS = ("seed:cnn", "seed:lstm", "mobilenetv3_small_100", "resnet18", "vit_tiny_patch16_224")
GOAL = 0.03
DEVPROF = [sys.executable, "-m", "devprof"]


def children_of(pid: int) -> list[int]:
    """Process ids of the direct children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def poll(model: str, mode: str, batch_size: int) -> tuple[Measurement, int, int]:
    """A run, the highest resident memory that polling saw in any child, and the number of polls."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*DEVPROF, "measure", model, "--mode", mode, "--batch-size", str(batch_size)]
        command += ["--min-time", "1s", "-o", folder, "--json"]
        parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        highest = polls = 0
        while parent.poll() is None:
            for child in children_of(parent.pid):
                try:
                    pages = int(Path(f"/proc/{child}/statm").read_text(encoding="ascii").split()[1])
                except (OSError, IndexError):
                    continue
                highest, polls = max(highest, pages * mmap.PAGESIZE), polls + 1
            time.sleep(0.001)
        (run,) = read_records(Path(folder), "runs", Measurement)
        return run, highest, polls


def row_of(model: str, mode: str, batch_size: int) -> dict[str, object]:
    """What devprof says, what the poller saw, and the difference."""
    run, highest, polls = poll(model, mode, batch_size)
    if run.rss_peak_bytes is None:
        raise SystemExit(f"{model} {mode}: {run.error}")
    said = max(run.rss_peak_bytes, run.rss_build_peak_bytes or 0)
    return {
        "model": model,
        "mode": mode,
        "rss_peak_bytes": run.rss_peak_bytes,
        "rss_build_peak_bytes": run.rss_build_peak_bytes,
        "polled_bytes": highest,
        "polls": polls,
        "difference": said / highest - 1,
    }


def main() -> None:
    """Compare on all models and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one model")
    models = MODELS[:1] if parser.parse_args().quick else MODELS
    rows = [row_of(model, mode, 16) for model in models for mode in ("full", "head")]
    pairs = zip(rows[::2], rows[1::2], strict=True)
    result = {
        "goal": GOAL,
        "runs": rows,
        "largest_difference": max(abs(float(str(row["difference"]))) for row in rows),
        "head_below_full": {str(full["model"]): _peak(head) < _peak(full) for full, head in pairs},
    }
    print(json.dumps(result, indent=2))


def _peak(row: dict[str, object]) -> int:
    return int(str(row["rss_peak_bytes"]))


if __name__ == "__main__":
    main()
