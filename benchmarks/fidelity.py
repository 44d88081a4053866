"""Does ``devprof measure`` report the step time of a plain training loop? And what do its own parts cost?

A plain loop (``plain_loop.py``), ``devprof measure`` and ``torch.utils.benchmark.Timer`` run one after the other in fresh
processes, in random order, with the same threads bound to the same cores: unbound, two processes of a small network differ by
15 % and more, because their threads share a core for a while. What counts is the median over several such triples of the ratio
to the plain loop; ``*_standard_error`` says how well that is known. Needs a quiet machine. Prints JSON::

    python benchmarks/fidelity.py [--quick] [--pairs 7] [--models seed:cnn,resnet18]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from devprof.device.identity import default_threads

MODELS = ("seed:cnn", "mobilenetv3_small_100", "resnet18", "vit_tiny_patch16_224")
BATCH = 16
GOAL_RATIO = 0.02
GOAL_COST = 0.01
PLAIN = Path(__file__).with_name("plain_loop.py")
DEVPROF = [sys.executable, "-m", "devprof"]
WARM_S = 3.0
WINDOW_S = 5.0

TIMER_SCRIPT = """
import sys, torch
from torch.utils.benchmark import Timer
from devprof.measure.job import make_job
from devprof.records import Workload
threads = int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(0)
job = make_job(Workload(sys.argv[1], batch_size=int(sys.argv[2])), "cpu")
for _ in range(10):
    job.step()
timer = Timer("step()", globals={"step": job.step}, num_threads=threads)
print(timer.blocked_autorange(min_run_time=float(sys.argv[4])).median)
"""

COST_SCRIPT = """
import sys, time, torch
from devprof.measure.job import make_job
from devprof.measure.timing import Timer
from devprof.records import Workload
torch.set_num_threads(int(sys.argv[1]))
job = make_job(Workload("seed:cnn", batch_size=16), "cpu")
timer = Timer(lambda: None, min_time_s=float(sys.argv[2]), min_steps=5, stop_ns=1 << 62)
timer.warm_up(job.step, [])
begin = time.perf_counter_ns()
steps = timer.measure(job.step)
print(1 - sum(steps) / (time.perf_counter_ns() - begin))
"""


def environment(threads: int) -> dict[str, str]:
    """Thread pools are told before they load, as devprof does, and bound to cores."""
    pools = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return os.environ | pools | {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}


def triple(model: str, threads: int, order: random.Random) -> dict[str, float]:
    """Median steps by plain loop, devprof and torch's Timer, one after the other."""
    ways = {"plain": plain, "devprof": measured, "torch_timer": timer}
    return {name: ways[name](model, threads) for name in order.sample(list(ways), len(ways))}


def plain(model: str, threads: int) -> float:
    """Median step of the plain loop."""
    return alone([sys.executable, str(PLAIN), model, str(BATCH), str(threads), str(WARM_S), str(WINDOW_S)], threads)


def measured(model: str, threads: int) -> float:
    """Median step as the command line reports it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*DEVPROF, "measure", model, "--batch-size", str(BATCH), "--threads", str(threads)]
        command += ["--min-time", f"{WINDOW_S}s", "--phase-steps", "1", "-o", folder, "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(threads))
    (run,) = json.loads(done.stdout)["runs"]
    if run["step_s"] is None:
        raise SystemExit(f"{model}: {run['error']}")
    return float(run["step_s"])


def timer(model: str, threads: int) -> float:
    """Median block of torch's own benchmark timer."""
    return alone([sys.executable, "-c", TIMER_SCRIPT, model, str(BATCH), str(threads), str(WINDOW_S)], threads)


def alone(command: list[str], threads: int) -> float:
    """The number that a command prints."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(threads))
    return float(done.stdout)


def standard_error(ratios: list[float]) -> float:
    """Of the mean logarithm, which is about that of the median ratio."""
    return statistics.stdev(math.log(ratio) for ratio in ratios) / math.sqrt(len(ratios))


def compare(model: str, pairs: int, threads: int, order: random.Random) -> dict[str, object]:
    """Ratios to the plain loop, triple by triple."""
    rows = []
    for _ in range(pairs):
        rows.append(triple(model, threads, order))
        print(model, rows[-1], file=sys.stderr, flush=True)
    ratios = {name: [row[name] / row["plain"] for row in rows] for name in ("devprof", "torch_timer")}
    return {
        "plain_step_s": statistics.median(row["plain"] for row in rows),
        **{f"{name}_ratio_median": statistics.median(ratio) for name, ratio in ratios.items()},
        **{f"{name}_standard_error": standard_error(ratio) for name, ratio in ratios.items()},
        **{f"{name}_ratios": [round(value, 4) for value in ratio] for name, ratio in ratios.items()},
        "within_goal": abs(statistics.median(ratios["devprof"]) - 1) <= GOAL_RATIO,
    }


def cost_of_the_parent(threads: int) -> float:
    """CPU time of the parent, its readings of the device's state included, over the wall time of a run of ten seconds."""
    script = (
        "import time; from devprof.device.identity import identify;"
        "from devprof.measure.harness import MeasureOptions, measure_workload; from devprof.records import Workload;"
        f"device = identify(threads={threads}); cpu, wall = time.process_time(), time.perf_counter();"
        "measure_workload(Workload('seed:cnn', batch_size=16), device, MeasureOptions());"
        "print((time.process_time() - cpu) / (time.perf_counter() - wall))"
    )
    return alone([sys.executable, "-c", script], threads)


def main() -> None:
    """Compare all and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one fast model, three triples")
    parser.add_argument("--pairs", type=int, default=7, help="how often each model is compared")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--threads", type=int, default=default_threads())
    arguments = parser.parse_args()
    models, pairs = arguments.models.split(","), arguments.pairs
    if arguments.quick:
        models, pairs = models[:1], 3
    order = random.Random(0)
    threads = arguments.threads
    result: dict[str, object] = {
        "threads": threads,
        "batch_size": BATCH,
        "pairs": pairs,
        "goal_ratio": GOAL_RATIO,
        "models": {model: compare(model, pairs, threads, order) for model in models},
        "goal_cost": GOAL_COST,
        "cost_between_steps": alone([sys.executable, "-c", COST_SCRIPT, str(threads), "10"], threads),
        "cost_of_the_parent": cost_of_the_parent(threads),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
