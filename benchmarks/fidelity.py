"""Does ``devprof measure`` report the step time of a plain training loop? And what do its own parts cost?

A plain loop (``plain_loop.py``), ``devprof measure`` and ``torch.utils.benchmark.Timer`` run in fresh processes with the same
threads, and take turns: one runs for some steps while the others are stopped (SIGSTOP), then the next. All three see the same
machine, whose own speed moves by more than what is to be shown. A step that is stopped in its middle is an outlier, which does
not move a median. The parent of the measurement, which reads the device's state, is stopped and runs together with its child.

What counts is the median over several such triples of the ratio to the plain loop, because processes differ, too. Needs a quiet
machine. Prints JSON::

    python benchmarks/fidelity.py [--quick] [--pairs 7] [--models seed:cnn,resnet18]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from devprof.device.identity import default_threads

MODELS = ("seed:cnn", "mobilenetv3_small_100", "resnet18", "vit_tiny_patch16_224")
BATCH = 16
GOAL_RATIO = 0.02
GOAL_COST = 0.01
PLAIN = Path(__file__).with_name("plain_loop.py")
DEVPROF = [sys.executable, "-c", "import sys; from devprof.cli import main; sys.exit(main())"]
# A turn and a window hold that many steps, and last so many seconds, at the least.
TURN = (8, 0.5)
WINDOW = (20, 4.0)

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
    """Thread pools are told before they load, as devprof does."""
    return os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def tree(pid: int) -> list[int]:
    """A process and its descendants, parents first."""
    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def send(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a process and its descendants; the parent first, so that it starts no more."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
        for pid in tree(process.pid)[1:]:
            os.kill(pid, number)


def take_turns(commands: dict[str, list[str]], turn_s: float, threads: int) -> dict[str, str]:
    """Run commands so that one runs at a time, and return what each printed."""
    processes = {
        name: subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(threads)
        )
        for name, command in commands.items()
    }
    try:
        for process in processes.values():
            send(process, signal.SIGSTOP)
        while running := [process for process in processes.values() if process.poll() is None]:
            for process in running:
                send(process, signal.SIGCONT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(turn_s)
                if process.poll() is None:
                    send(process, signal.SIGSTOP)
    finally:
        for process in processes.values():
            send(process, signal.SIGKILL)
    return {name: process.communicate()[0] for name, process in processes.items()}


def triple(model: str, step_s: float, threads: int, order: random.Random) -> dict[str, float]:
    """Median steps by plain loop, devprof and torch's Timer, taken in turns."""
    turn_s = max(TURN[0] * step_s, TURN[1])
    # Clocks go on while a process is stopped.
    window_s = 3 * max(WINDOW[0] * step_s, WINDOW[1])
    sizes = [model, str(BATCH), str(threads)]
    with tempfile.TemporaryDirectory() as folder:
        sweep = [*DEVPROF, "measure", model, "--batch-size", str(BATCH), "--threads", str(threads)]
        sweep += ["--min-time", f"{window_s}s", "--timeout", "3600s", "--phase-steps", "1", "-o", folder, "--json"]
        commands = {
            "plain": [sys.executable, str(PLAIN), *sizes, str(9.0), str(window_s)],
            "devprof": sweep,
            "torch_timer": [sys.executable, "-c", TIMER_SCRIPT, *sizes, str(window_s)],
        }
        names = order.sample(list(commands), len(commands))
        printed = take_turns({name: commands[name] for name in names}, turn_s, threads)
    (run,) = json.loads(printed["devprof"])["runs"]
    if run["step_s"] is None:
        raise SystemExit(f"{model}: {run['error']}")
    return {"plain": float(printed["plain"]), "devprof": run["step_s"], "torch_timer": float(printed["torch_timer"])}


def alone(command: list[str], threads: int) -> float:
    """The number that a command prints."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(threads))
    return float(done.stdout)


def compare(model: str, pairs: int, threads: int, order: random.Random) -> dict[str, object]:
    """Ratios to the plain loop, triple by triple."""
    step_s = alone([sys.executable, str(PLAIN), model, str(BATCH), str(threads), "1", "1"], threads)
    rows = []
    for _ in range(pairs):
        rows.append(triple(model, step_s, threads, order))
        print(model, rows[-1], file=sys.stderr, flush=True)
    ratios = {name: [row[name] / row["plain"] for row in rows] for name in ("devprof", "torch_timer")}
    return {
        "plain_step_s": statistics.median(row["plain"] for row in rows),
        **{f"{name}_ratio_median": statistics.median(ratio) for name, ratio in ratios.items()},
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
