"""Does ``devprof measure`` report the step time of a plain training loop? And what do its own parts cost?

Each pair runs one after the other in fresh processes, in random order: a plain loop (``plain_loop.py``), ``devprof measure``,
and ``torch.utils.benchmark.Timer`` with the same threads. What counts is the median over the pairs of the ratio, because the
machine's own speed moves between pairs. Needs a quiet machine. Prints JSON::

    python benchmarks/fidelity.py [--quick] [--pairs 7] [--min-time 6]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from devprof.device.identity import default_threads, identify
from devprof.measure.harness import MeasureOptions, measure_workload
from devprof.records import Workload

MODELS = ("seed:cnn", "mobilenetv3_small_100", "resnet18", "vit_tiny_patch16_224")
BATCH = 16
GOAL_RATIO = 0.02
GOAL_COST = 0.01
PLAIN = Path(__file__).with_name("plain_loop.py")
WARM_S = 3.0

TIMER_SCRIPT = """
import sys, torch
from torch.utils.benchmark import Timer
from devprof.measure.job import make_job
from devprof.records import Workload
threads = int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(0)
job = make_job(Workload(sys.argv[1], batch_size=int(sys.argv[2])), "cpu")
for _ in range(5):
    job.step()
timer = Timer("step()", globals={"step": job.step}, num_threads=threads)
print(timer.blocked_autorange(min_run_time=float(sys.argv[4])).median)
"""


def output_of(command: list[str], threads: int) -> list[float]:
    """The numbers that a process prints, started with its thread pools told as devprof tells them."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return [float(line) for line in done.stdout.split()]


def variants(model: str, threads: int, min_time_s: float) -> dict[str, Callable[[], float]]:
    """The ways to time a step, each in a fresh process."""
    device = identify(threads=threads)
    options = MeasureOptions(min_time_s=min_time_s, min_steps=5, phase_steps=3)

    def plain() -> float:
        command = [sys.executable, str(PLAIN), model, str(BATCH), str(threads), str(WARM_S), str(min_time_s)]
        return statistics.median(output_of(command, threads))

    def measured() -> float:
        run, _ = measure_workload(Workload(model, batch_size=BATCH), device, options)
        if run.step_s is None:
            raise SystemExit(f"{model}: {run.error}")
        return run.step_s

    def timer() -> float:
        command = [sys.executable, "-c", TIMER_SCRIPT, model, str(BATCH), str(threads), str(min_time_s)]
        return output_of(command, threads)[-1]

    return {"plain": plain, "devprof": measured, "torch_timer": timer}


def compare(model: str, pairs: int, threads: int, min_time_s: float, order: random.Random) -> dict[str, object]:
    """Ratios to the plain loop, pair by pair."""
    rows = []
    for _ in range(pairs):
        ways = list(variants(model, threads, min_time_s).items())
        order.shuffle(ways)
        rows.append({name: way() for name, way in ways})
        print(model, rows[-1], file=sys.stderr)
    ratios = {name: [row[name] / row["plain"] for row in rows] for name in ("devprof", "torch_timer")}
    return {
        "plain_step_s": statistics.median(row["plain"] for row in rows),
        **{
            f"{name}_ratio": {"median": statistics.median(ratio), "min": min(ratio), "max": max(ratio)}
            for name, ratio in ratios.items()
        },
        "within_goal": abs(statistics.median(ratios["devprof"]) - 1) <= GOAL_RATIO,
    }


def cost_between_steps(threads: int, min_time_s: float) -> float:
    """Share of the timed window that the stop rule spends between the steps of a fast network."""
    script = (
        "import sys, time, torch; torch.set_num_threads(int(sys.argv[1]));"
        "from devprof.measure.job import make_job; from devprof.measure.timing import Timer;"
        "from devprof.records import Workload;"
        "job = make_job(Workload('seed:cnn', batch_size=16), 'cpu');"
        "timer = Timer(lambda: None, min_time_s=float(sys.argv[2]), min_steps=5, stop_ns=1 << 62);"
        "timer.warm_up(job.step, []); begin = time.perf_counter_ns(); steps = timer.measure(job.step);"
        "print(1 - sum(steps) / (time.perf_counter_ns() - begin))"
    )
    return output_of([sys.executable, "-c", script, str(threads), str(min_time_s)], threads)[0]


def cost_of_the_parent(min_time_s: float) -> float:
    """CPU time of the parent, its state readings included, over the wall time of a run."""
    device = identify()
    options = MeasureOptions(min_time_s=min_time_s)
    cpu, wall = time.process_time(), time.perf_counter()
    measure_workload(Workload("seed:cnn", batch_size=BATCH), device, options)
    return (time.process_time() - cpu) / (time.perf_counter() - wall)


def main() -> None:
    """Compare all and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one fast model, three pairs, short windows")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--min-time", type=float, default=6.0, help="seconds of the timed window")
    parser.add_argument("--threads", type=int, default=default_threads())
    arguments = parser.parse_args()
    pairs, min_time_s = (3, 1.0) if arguments.quick else (arguments.pairs, arguments.min_time)
    order = random.Random(0)
    models = MODELS[:1] if arguments.quick else MODELS
    result: dict[str, object] = {
        "threads": arguments.threads,
        "batch_size": BATCH,
        "pairs": pairs,
        "goal_ratio": GOAL_RATIO,
        "models": {model: compare(model, pairs, arguments.threads, min_time_s, order) for model in models},
        "goal_cost": GOAL_COST,
        "cost_between_steps": cost_between_steps(arguments.threads, min_time_s),
        "cost_of_the_parent": cost_of_the_parent(min_time_s),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
