"""Does the interval that a short run reports cover the median of a long one?

In one fresh process with one thread, ten short runs (warm-up and timed steps as ``devprof measure`` takes them) alternate with
ten pieces of a long run of 2,000 steps, so that both see the same machine at the same time; that is done ten times, each time
with a long run of its own. The network stays in the cache of a core, because the memory behind it is shared with whoever else
uses the machine: ``--model seed:cnn`` shows what that does. ``pieces_spread_rel`` says how far the machine itself moved within
a long run: where it exceeds the half width, the loop was not quiet, and no interval from within a short run could know. A
window of 3 s is what a quick suite takes; ``--min-time 0.3`` shows that shorter ones see too little of what moves a machine.
Needs a quiet machine, for a quarter of an hour. Prints JSON::

    python benchmarks/coverage.py [--quick] [--model quiet_network:small] [--min-time 3] [--min-steps 30]
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
RUNS_PER_BLOCK = 10
SETTLING_STEPS = 10
_IN_CHILD = "--in-child"

# Nanoseconds of the steps of each short run, and of each piece of the long run beside them.
Block = tuple[list[list[int]], list[list[int]]]


def measure(model: str, batch: int, blocks: int, min_time_s: float, min_steps: int) -> list[Block]:
    """Short runs and long ones in turn."""
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
    measured = []
    for _ in range(blocks):
        short: list[list[int]] = []
        pieces: list[list[int]] = []
        for _ in range(RUNS_PER_BLOCK):
            timer.warm_up(job.step, [])
            short.append(timer.measure(job.step))
            # What decides when to stop has emptied the caches.
            for _ in range(SETTLING_STEPS):
                job.step()
            pieces.append([timer.once(job.step) for _ in range(LONG_STEPS // RUNS_PER_BLOCK)])
        measured.append((short, pieces))
    return measured


def spread_rel(pieces: Sequence[Sequence[float]]) -> float:
    """Half the distance between 5th and 95th percentile of the pieces' medians, over their median."""
    medians = sorted(statistics.median(piece) for piece in pieces)
    return (quantile(medians, 0.95) - quantile(medians, 0.05)) / 2 / statistics.median(medians)


def describe(blocks: Sequence[Block]) -> dict[str, object]:
    """Coverage and what it cost in width."""
    truths = [statistics.median(step for piece in pieces for step in piece) for _, pieces in blocks]
    found: list[tuple[StepStatistics, float]] = [
        (summarize(steps), truth) for (short, _), truth in zip(blocks, truths, strict=True) for steps in short
    ]
    coverage = statistics.fmean(one.ci_low <= truth <= one.ci_high for one, truth in found)
    return {
        "coverage": coverage,
        "coverage_goal": GOAL,
        "within_goal": GOAL[0] <= coverage <= GOAL[1],
        "runs": len(found),
        "methods": Counter(one.ci_method for one, _ in found),
        "steps_median": statistics.median(len(steps) for short, _ in blocks for steps in short),
        "half_width_rel_mean": statistics.fmean(one.ci_half_width_rel for one, _ in found),
        "error_rel_median": statistics.median(abs(one.median / truth - 1) for one, truth in found),
        "autocorrelation_mean": statistics.fmean(one.autocorrelation or 0.0 for one, _ in found),
        "steady_share": statistics.fmean(one.steady is True for one, _ in found),
        "long_runs": len(blocks),
        "long_steps": LONG_STEPS,
        "long_median_s": statistics.median(truths) / 1e9,
        "pieces_spread_rel": statistics.median(spread_rel(pieces) for _, pieces in blocks),
    }


def main() -> None:
    """Measure in a fresh process and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 short runs instead of 100")
    parser.add_argument("--model", default="quiet_network:small")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--min-time", type=float, default=3.0, help="seconds of the timed window of a short run")
    parser.add_argument("--min-steps", type=int, default=30)
    parser.add_argument(_IN_CHILD, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.in_child:
        # The libraries read their number of threads when they are loaded.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        sys.exit(subprocess.run([sys.executable, *sys.argv, _IN_CHILD], env=environment, check=False).returncode)
    blocks = measure(
        arguments.model, arguments.batch_size, 2 if arguments.quick else 10, arguments.min_time, arguments.min_steps
    )
    result = {"model": arguments.model, "batch_size": arguments.batch_size, "threads": 1, **describe(blocks)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
