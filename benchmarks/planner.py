"""Planning a round for a large fleet: seconds on one core, peak memory, and what the sketch of the fleet costs.

Each case runs in a fresh process with one thread: a fleet of 200 kinds of devices and four batch sizes with spreads as they
are met (a factor of a hundred in speed, of ten in data and links), some with limits of memory or energy, some waiting for their
turn. ``cpu_s`` is the processor time of :func:`devprof.plan.fleetplan.plan_fleet`, the least of the repeats; ``wall_s`` beside
it shows how busy the machine was. ``rate_lost`` is what the deadline that was found on a sketch gives away against the best of
200 on all clients. Prints JSON::

    python benchmarks/planner.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from devprof.device.memory import peak_rss_bytes
from devprof.plan.columns import FleetArrays, StepCosts
from devprof.plan.deadline import choose_deadline, effective_work, least_deadline
from devprof.plan.fleet import Fleet
from devprof.plan.fleetplan import plan_fleet
from devprof.plan.settings import PlannerSettings

GOALS = {10_000: {"cpu_s": 0.030}, 1_000_000: {"cpu_s": 2.0, "peak_rss_bytes": 1e9}}
DEVICES = 200
SIZES = (8, 16, 32, 64)
PAYLOAD_BYTES = 4e7
_CASE = "--case"


class Made(NamedTuple):
    """A fleet that was drawn by a seed."""

    clients: FleetArrays
    costs: StepCosts
    settings: PlannerSettings


def make_fleet(count: int, *, budget: bool, seed: int = 0) -> Made:
    """A fleet of so many clients; with ``budget`` all share half of the joules that they would use."""
    random = np.random.default_rng(seed)
    sizes = np.array(SIZES)
    step_s = random.lognormal(-3, 1, (DEVICES, 1)) + random.lognormal(-5, 1, (DEVICES, 1)) * sizes
    memory = 1e8 + 1e6 * np.broadcast_to(sizes, step_s.shape)
    costs = StepCosts(
        sizes, step_s, 1.2 * step_s, memory, 5 * step_s, 6 * step_s, np.full(step_s.shape, fill_value=True)
    )
    clients = FleetArrays(
        samples=random.integers(50, 1000, count),
        device=random.integers(0, DEVICES, count),
        up_mbps=random.lognormal(2, 1, count),
        down_mbps=random.lognormal(3, 1, count),
        latency_s=random.uniform(0, 0.2, count),
        startup_s=random.uniform(0, 5, count),
        overhead_s=random.uniform(0, 5, count),
        fixed_sd_s=random.uniform(0, 1, count),
        memory_limit_bytes=random.choice([np.nan, 1.2e8, 1e9], count),
        energy_budget_j=random.choice([np.nan, 200.0], count),
        rounds_left_out=random.integers(0, 7, count),
    )
    settings = PlannerSettings(local_epochs=3, batch_sizes=SIZES, energy_budget_j=60.0 * count if budget else None)
    return Made(clients, costs, settings)


def time_plan(count: int, repeats: int, *, budget: bool) -> dict[str, object]:
    """Seconds and memory of planning for one fleet, in this process."""
    made = make_fleet(count, budget=budget)
    before = peak_rss_bytes()
    cpu, wall = [], []
    for _ in range(repeats):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        plan = plan_fleet(*made, payload_bytes=PAYLOAD_BYTES)
        cpu.append(time.process_time() - begin_cpu)
        wall.append(time.perf_counter() - begin)
    return {
        "clients": count,
        "fleet_budget": budget,
        "cpu_s": min(cpu),
        "wall_s": min(wall),
        "peak_rss_bytes": peak_rss_bytes(),
        "inputs_peak_rss_bytes": before,
        "deadline_s": plan.deadline_s,
        "participating": float(plan.participates.mean()),
    }


def rate_lost(count: int, *, budget: bool, seed: int) -> float:
    """The share of the best rate of effective work that the sketch loses."""
    made = make_fleet(count, budget=budget, seed=seed)
    settings = replace(made.settings, turn_after_rounds=None)
    fleet = Fleet.build(
        made.clients.checked(DEVICES), np.arange(count), made.costs, settings, payload_bytes=PAYLOAD_BYTES
    )
    fleet = fleet.select(fleet.barrier == 0)
    floor_s = least_deadline(fleet)
    moments = [*np.geomspace(floor_s, 100 * floor_s, 200), choose_deadline(fleet).deadline_s]
    rates = [effective_work(fleet, np.array([moment]))[0] / moment for moment in moments]
    return float(max(0.0, 1 - rates[-1] / max(rates)))


def run_case(case: dict[str, object]) -> dict[str, object]:
    """A case in a fresh process with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, _CASE, json.dumps(case)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, object] = json.loads(done.stdout)
    return result


def main() -> None:
    """Run all cases and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ten thousand clients only")
    parser.add_argument(_CASE, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(time_plan(**json.loads(arguments.case))))
        return
    counts = (10_000,) if arguments.quick else (10_000, 100_000, 1_000_000)
    cases = [
        {"count": n, "repeats": 20 if n < 1e5 else 3, "budget": budget} for n in counts for budget in (False, True)
    ]
    rows = [run_case(case) for case in cases]
    for row in rows:
        goals = GOALS.get(int(str(row["clients"])), {})
        row["goals"] = goals
        row["within_goals"] = all(float(str(row[name])) <= goal for name, goal in goals.items())
    seeds = range(1 if arguments.quick else 5)
    lost = {str(budget): max(rate_lost(10_000, budget=budget, seed=seed) for seed in seeds) for budget in (False, True)}
    print(json.dumps({"threads": 1, "plans": rows, "rate_lost_by_fleet_budget": lost}, indent=2))


if __name__ == "__main__":
    main()
