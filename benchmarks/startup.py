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
import time
from pathlib import Path

GOAL_HELP_S = 0.150
GOAL_PARENT_BYTES = 150e6
_DEVPROF = [sys.executable, "-m", "devprof"]


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


PARENT_SCRIPT = """
import sys, tempfile
from pathlib import Path
from devprof.cli.sweeping import measure_all
from devprof.device.identity import identify
from devprof.device.memory import peak_rss_bytes
from devprof.measure.harness import MeasureOptions
from devprof.measure.sweep import Configuration
from devprof.records import Workload
configurations = [Configuration(Workload("seed:mlp", batch_size=size + 1)) for size in range(int(sys.argv[1]))]
options = MeasureOptions(worker=(sys.executable, sys.argv[2]))
with tempfile.TemporaryDirectory() as folder:
    rows, _ = measure_all(configurations, identify(), options, Path(folder))
assert all(row.status == "ok" for row in rows) and len(rows) == len(configurations)
print(peak_rss_bytes())
"""


def parent_peak_bytes(configurations: int) -> int:
    """Largest resident memory of the parent of a sweep whose children deliver 2,000 steps each without training."""
    stub = Path(__file__).with_name("stub_worker.py")
    command = [sys.executable, "-c", PARENT_SCRIPT, str(configurations), str(stub)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return int(done.stdout)


def main() -> None:
    """Measure both and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    quick = parser.parse_args().quick
    result: dict[str, object] = dict(help_time(5 if quick else 21))
    result["help_goal_s"] = GOAL_HELP_S
    result["parent_peak_bytes"] = parent_peak_bytes(20 if quick else 500)
    result["parent_goal_bytes"] = GOAL_PARENT_BYTES
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
