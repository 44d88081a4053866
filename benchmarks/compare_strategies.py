"""Four ways to treat slow clients, over seeds, in virtual time: what the demo shows for one seed.

The step times are those of a demo's measurements (``devprof demo -o DIR``), replayed; the planner is told their medians. Every
seed draws split, initial model and step times anew, the same for all four. Prints JSON::

    python benchmarks/compare_strategies.py DIR [--quick]
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from pathlib import Path

import torch

from devprof.cli.demo_parts import CLASSES, LEARNING_RATE, SETTINGS, repeats_of_federated, virtual_fleet
from devprof.records import Measurement, StepTime
from devprof.store.folder import read_records
from strategies.app.experiment import digits_experiment
from strategies.baselines import WAIT, contenders
from strategies.compare import Comparison, compare
from strategies.estimators import MeasuredEstimator

ROUNDS = 8


def compare_once(folder: Path, seed: int) -> Comparison:
    """One seed's comparison."""
    runs = repeats_of_federated(read_records(folder, "runs", Measurement))
    fleet = virtual_fleet(runs, read_records(folder, "steps", StepTime))
    medians = {run.batch_size: run.step_s for run in runs if run.step_s is not None}
    estimator = MeasuredEstimator(
        {one.name: {size: step * one.factor for size, step in medians.items()} for one in CLASSES}
    )
    return compare(
        digits_experiment(fleet, estimator, SETTINGS, rounds=ROUNDS, alpha=0.3, learning_rate=LEARNING_RATE, seed=seed),
        contenders(),
    )


def main() -> None:
    """Compare over seeds and print medians and the figures of each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of a demo")
    parser.add_argument("--quick", action="store_true", help="two seeds instead of five")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    comparisons = {seed: compare_once(arguments.folder, seed) for seed in range(1, 3 if arguments.quick else 6)}
    result = {}
    for contender in contenders():
        outcomes = {seed: one.outcome(contender.name) for seed, one in comparisons.items()}
        waits = {seed: one.outcome(WAIT).time_to_target_s for seed, one in comparisons.items()}
        speed_ups = [
            None if outcome.time_to_target_s is None or waits[seed] is None else waits[seed] / outcome.time_to_target_s
            for seed, outcome in outcomes.items()
        ]
        reached = [one for one in speed_ups if one is not None]
        result[contender.name] = {
            "accuracy_mean": statistics.fmean(outcome.accuracy for outcome in outcomes.values()),
            "accuracy_worst": min(outcome.accuracy for outcome in outcomes.values()),
            "target_reached": len(reached),
            "speed_up_median": statistics.median(reached) if reached else None,
            "wasted_mean": statistics.fmean(outcome.wasted for outcome in outcomes.values()),
            "by_seed": [
                {"seed": seed, "accuracy": outcome.accuracy, "time_to_target_s": outcome.time_to_target_s}
                for seed, outcome in outcomes.items()
            ],
        }
    print(json.dumps({"seeds": list(comparisons), "strategies": result}, indent=2))


if __name__ == "__main__":
    main()
