"""What reading a meter costs the process that is measured: steps with and without a sampler beside them, in pairs.

Blocks of steps alternate between the two, so that a machine that slows down slows both; the order within each pair is drawn. As
in a run, steps, sampler and the parent that hears it are three processes.
The sampler reads counters of a tree in a temporary folder ten times a second (and, with ``--rate 20``, as often as it ever
does), through the whole way: process, driver, sieve, pipe, parent. JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from devprof.meters.sampling import Sampling

ZONES = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "dram", "intel-rapl:1": "psys"}


def make_tree(root: Path) -> None:
    """Three counters; they need not move, reading them costs the same."""
    for folder, name in ZONES.items():
        zone = root / "class" / "powercap" / folder
        zone.mkdir(parents=True)
        (zone / "name").write_text(f"{name}\n")
        (zone / "energy_uj").write_text("1000000\n")
        (zone / "max_energy_range_uj").write_text("262143328850\n")


def make_step(threads: int) -> Any:
    """One training step of a small convolutional network."""
    import torch

    from devprof.measure.job import make_job
    from devprof.records import Workload

    torch.set_num_threads(threads)
    return make_job(Workload("seed:net", batch_size=32), "cpu").step


def block(step: Any, seconds: float) -> float:
    """Median seconds of the steps of a block."""
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def trained(seconds: Connection, medians: Connection, threads: int) -> None:
    """The measured process: a block of steps for each number of seconds that it is told."""
    step = make_step(threads)
    while (length := seconds.recv()) is not None:
        medians.send(block(step, length))


def overhead(pairs: int, seconds: float, threads: int, rate_hz: float) -> dict[str, Any]:
    """Ratio of the medians of a pair, over all pairs."""
    with tempfile.TemporaryDirectory() as folder:
        make_tree(Path(folder))
        os.environ["DEVPROF_SYSFS"] = folder
        context = multiprocessing.get_context("spawn")
        (heard, told), (answered, answering) = context.Pipe(duplex=False), context.Pipe(duplex=False)
        child = context.Process(target=trained, args=(heard, answering, threads), daemon=True)
        child.start()

        def run() -> float:
            told.send(seconds)
            return float(answered.recv())

        run()
        draw = random.Random(0)
        ratios, cpu_s = [], []
        for _ in range(pairs):
            order = draw.sample([False, True], 2)
            medians = {}
            for sampled in order:
                if not sampled:
                    medians[sampled] = run()
                    continue
                with Sampling("rapl", rate_hz=rate_hz) as sampling:
                    # Opening the meter is no part of a window.
                    time.sleep(0.2)
                    sampling.now()
                    before = sampling.report()
                    medians[sampled] = run()
                    sampling.now()
                    used = sampling.report().since(before)
                cpu_s.append((used.cpu_s or 0.0, used.reads))
            ratios.append(medians[True] / medians[False])
        told.send(None)
        child.join()
    reads = sum(count for _, count in cpu_s)
    ordered = sorted(ratios)
    return {
        "threads": threads,
        "rate_hz": rate_hz,
        "pairs": pairs,
        "seconds_per_block": seconds,
        "median_ratio": statistics.median(ratios),
        "ratio_interval_90": [ordered[int(0.05 * (pairs - 1))], ordered[int(0.95 * (pairs - 1) + 0.999)]],
        "standard_error_of_the_mean": statistics.stdev(ratios) / pairs**0.5,
        "mean_ratio": statistics.mean(ratios),
        "readings": reads,
        "sampler_cpu_share": sum(used for used, _ in cpu_s) / (pairs * seconds),
    }


def main() -> None:
    """Print the overhead as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a block")
    parser.add_argument("--rate", type=float, default=10.0, help="readings per second")
    parser.add_argument("--quick", action="store_true", help="few short pairs, to see that it works")
    options = parser.parse_args()
    pairs, seconds = (4, 0.3) if options.quick else (options.pairs, options.seconds)
    threads = [1, os.cpu_count() or 1]
    print(json.dumps([overhead(pairs, seconds, count, options.rate) for count in dict.fromkeys(threads)], indent=2))


if __name__ == "__main__":
    main()
