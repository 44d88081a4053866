"""What devprof itself costs: start of the command line, and memory of the parent of a sweep.

Times are ratios to a bare interpreter, interleaved in one run, because machines are noisy. Prints JSON::

    python benchmarks/startup.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL_HELP_S = 0.150
GOAL_PARENT_BYTES = 150e6
_DEVPROF = [sys.executable, "-c", "import sys; from devprof.cli import main; sys.exit(main())"]


def seconds_of(command: list[str]) -> float:
    """Wall seconds of a command from start to end."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def help_time(pairs: int) -> dict[str, float]:
    """Start of ``devprof --help`` beside ``python -c pass``, medians of interleaved pairs."""
    bare, shown = [], []
    for _ in range(pairs):
        bare.append(seconds_of([sys.executable, "-c", "pass"]))
        shown.append(seconds_of([*_DEVPROF, "--help"]))
    return {
        "bare_python_s": statistics.median(bare),
        "help_s": statistics.median(shown),
        "ratio": statistics.median(one / other for one, other in zip(shown, bare, strict=True)),
    }


def parent_peak_bytes(configurations: int) -> int:
    """Largest resident memory of the parent of a sweep, read from the kernel as long as it runs (its children are apart)."""
    sizes = ",".join(str(size) for size in range(1, configurations + 1))
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *_DEVPROF,
            "measure",
            "seed:mlp",
            "--batch-size",
            sizes,
            "--min-time",
            "50ms",
            "-o",
            folder,
            "--json",
        ]
        parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peak = 0
        while parent.poll() is None:
            try:
                status = Path(f"/proc/{parent.pid}/status").read_text(encoding="utf-8")
            except OSError:
                break
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    peak = max(peak, int(line.split()[1]) * 1024)
            time.sleep(0.02)
        if parent.wait() != 0:
            raise SystemExit("the sweep failed")
        return peak


def main() -> None:
    """Measure both and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    quick = parser.parse_args().quick
    result: dict[str, object] = dict(help_time(5 if quick else 21))
    result["help_goal_s"] = GOAL_HELP_S
    result["parent_peak_bytes"] = parent_peak_bytes(2 if quick else 10)
    result["parent_goal_bytes"] = GOAL_PARENT_BYTES
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
