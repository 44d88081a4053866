"""Does the interval that a short run reports cover the median of a long one?

In one fresh process with one thread, short runs (warm-up and timed steps as ``devprof measure`` takes them) alternate with
pieces of a long run, so that both see the same machine in the same minutes. What is left between them is what the interval
must allow for. ``pieces_spread_rel`` says how far the machine itself moved meanwhile: where it exceeds the half width, the
machine was not quiet, and no interval from within a short run could know. Needs a quiet machine. Prints JSON::

    python benchmarks/coverage.py [--quick] [--model seed:cnn] [--min-time 0.3] [--min-steps 30]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

from devprof.measure.statistics import StepStatistics, quantile, summarize

GOAL = (0.85, 0.99)
LONG_STEPS = 2000
_IN_CHILD = "--in-child"


def measure(
    model: str, batch: int, runs: int, min_time_s: float, min_steps: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Nanoseconds of the steps of each short run, and of each piece of the long one."""
    import torch

    from devprof.measure.job import make_job
    from devprof.measure.timing import Timer
    from devprof.records import Workload

    torch.set_num_threads(1)
    torch.manual_seed(0)
    job = make_job(Workload(model, batch_size=batch), "cpu")
    timer = Timer(lambda: None, min_time_s=min_time_s, min_steps=min_steps, stop_ns=1 << 62)
    gc.collect()
    gc.freeze()
    short: list[list[int]] = []
    pieces: list[list[int]] = []
    for index in range(runs):
        timer.warm_up(job.step, [])
        short.append(timer.measure(job.step))
        piece = LONG_STEPS * (index + 1) // runs - LONG_STEPS * index // runs
        pieces.append([timer.once(job.step) for _ in range(piece)])
    return short, pieces


def spread_rel(pieces: Sequence[Sequence[float]]) -> float:
    """Half the distance between 5th and 95th percentile of the pieces' medians, over their median."""
    medians = sorted(statistics.median(piece) for piece in pieces)
    return (quantile(medians, 0.95) - quantile(medians, 0.05)) / 2 / statistics.median(medians)


def describe(short: list[list[int]], pieces: list[list[int]]) -> dict[str, object]:
    """Coverage and what it cost in width."""
    found: list[StepStatistics] = [summarize(steps) for steps in short]
    truth = statistics.median(step for piece in pieces for step in piece)
    coverage = statistics.fmean(one.ci_low <= truth <= one.ci_high for one in found)
    return {
        "coverage": coverage,
        "coverage_goal": GOAL,
        "within_goal": GOAL[0] <= coverage <= GOAL[1],
        "runs": len(found),
        "methods": Counter(one.ci_method for one in found),
        "steps_median": statistics.median(len(steps) for steps in short),
        "half_width_rel_mean": statistics.fmean(one.ci_half_width_rel for one in found),
        "error_rel_median": statistics.median(abs(one.median / truth - 1) for one in found),
        "autocorrelation_mean": statistics.fmean(one.autocorrelation or 0.0 for one in found),
        "steady_share": statistics.fmean(one.steady is True for one in found),
        "long_steps": sum(map(len, pieces)),
        "long_median_s": truth / 1e9,
        "pieces_spread_rel": spread_rel(pieces),
    }


def main() -> None:
    """Measure in a fresh process and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 short runs instead of 100")
    parser.add_argument("--model", default="seed:cnn")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--min-time", type=float, default=0.3, help="seconds of the timed window of a short run")
    parser.add_argument("--min-steps", type=int, default=30)
    parser.add_argument(_IN_CHILD, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.in_child:
        # The libraries read their number of threads when they are loaded.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        sys.exit(subprocess.run([sys.executable, *sys.argv, _IN_CHILD], env=environment, check=False).returncode)
    runs = 20 if arguments.quick else 100
    short, pieces = measure(arguments.model, arguments.batch_size, runs, arguments.min_time, arguments.min_steps)
    result = {"model": arguments.model, "batch_size": arguments.batch_size, "threads": 1, **describe(short, pieces)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
