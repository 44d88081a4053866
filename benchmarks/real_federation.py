"""Planned rounds against waiting for all, with real Flower processes on devices of real different speed.

A SuperLink and four SuperNodes run on this machine, the SuperNodes in control groups of 1.0, 0.5, 0.25 and 0.25 CPUs (root or
systemd needed). The whole way is real: the training step is measured on each speed by ``devprof measure``, a cost model is
fitted, the app's planned strategy uses it, and the same app runs plain FedAvg with the same passes for all. Nothing is timed
but by the round log. Prints JSON::

    python benchmarks/real_federation.py OUT [--data-dir DIR] [--rounds 6] [--epochs 2] [--quick]

Without ``--data-dir`` (a folder with the Fashion-MNIST files) the bundled digits are used: too small for a figure, enough to
see it work. Nothing else may compute meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from devprof.records import Evaluation, RoundLog
from devprof.store.folder import read_records
from strategies.processes import LocalFederation, NodeSpec

ROOT = Path(__file__).parents[1]
SPEEDS = (1.0, 0.5, 0.25, 0.25)
SIZES = (16, 32, 64)
# Predictions are judged from here on: the first rounds teach what a cost model cannot know, start-up and scheduling.
FIRST_JUDGED = 3


def device_name(cpus: float) -> str:
    """What the benchmark calls a device of so many CPUs."""
    return f"emulated-{cpus:g}-cpu"


def devprof(*arguments: str, cpus: float | None = None) -> None:
    """Run the command line, on an emulated device where ``cpus`` says so."""
    line = [sys.executable, "-m", "devprof"]
    emulated = [] if cpus is None else [*line, "emulate", "--cpus", str(cpus), "--"]
    subprocess.run([*emulated, *line, *arguments], check=True, cwd=ROOT, stdout=sys.stderr)


def measure(folder: Path, image_size: int, *, quick: bool) -> Path:
    """Measure the app's network on each speed and fit the cost model."""
    sizes = SIZES[1:2] if quick else SIZES
    for cpus in sorted(set(SPEEDS), reverse=True):
        devprof(
            *("measure", "seed:net", "--image-size", str(image_size), "--classes", "10"),
            *("--batch-size", ",".join(map(str, sizes)), "--device", device_name(cpus)),
            *("--threads", "1", "--repeats", "1" if quick else "2", "--min-time", "1s" if quick else "5s"),
            *("-o", str(folder / "runs")),
            cpus=cpus,
        )
    devprof("fit", str(folder / "runs"), "-o", str(folder / "cost.skops"))
    return folder / "cost.skops"


def nodes() -> list[NodeSpec]:
    """Four boards: each knows its name, its kind and its part of the data."""
    return [
        NodeSpec(
            f"board-{index}",
            {"device-id": f"board-{index}", "device": device_name(cpus), "processor": f"cpu@{cpus:g}", "threads": 1}
            | {"partition-id": index, "num-partitions": len(SPEEDS)},
            cpus=cpus,
        )
        for index, cpus in enumerate(SPEEDS)
    ]


def judge(rows: Sequence[RoundLog]) -> dict[str, object]:
    """How well predictions and deadlines were kept."""
    judged = [row for row in rows if row.server_round >= FIRST_JUDGED and row.predicted_s is not None]
    answered = [(row, row.finished_s - row.sent_s) for row in judged if row.finished_s is not None]
    errors = [abs(row.predicted_s - took_s) / took_s for row, took_s in answered if row.predicted_s is not None]
    in_time = [row.deadline_s is not None and took_s <= row.deadline_s for row, took_s in answered]
    complete = [row.outcome == "used" for row in judged]
    return {
        "clients_judged": len(judged),
        "error_median": round(statistics.median(errors), 4) if errors else None,
        "error_worst": round(max(errors), 4) if errors else None,
        "inside_deadline": round(sum(in_time) / len(judged), 4) if judged else None,
        "did_all_planned_steps": round(sum(complete) / len(judged), 4) if judged else None,
    }


def summary(folder: Path) -> dict[str, object]:
    """Round times, accuracy and work of one run."""
    rows = read_records(folder, "rounds", RoundLog)
    evaluations = sorted(read_records(folder, "evaluations", Evaluation), key=lambda one: one.server_round)
    rounds_s = {row.server_round: row.round_end_s - row.sent_s for row in rows}
    done = [row.steps_done for row in rows if row.steps_done is not None]
    return {
        "rounds": len(rounds_s),
        "round_s_mean": round(statistics.fmean(rounds_s.values()), 2),
        "round_s": [round(seconds, 1) for _, seconds in sorted(rounds_s.items())],
        "accuracy": round(evaluations[-1].accuracy, 4),
        "accuracy_by_time": [(round(one.time_s, 1), round(one.accuracy, 4)) for one in evaluations],
        "steps": sum(done),
        "outcomes": {name: sum(row.outcome == name for row in rows) for name in sorted({row.outcome for row in rows})},
        **judge(rows),
    }


def federate(folder: Path, cost_model: Path, arguments: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Both strategies on one federation of real processes."""
    quick = arguments.quick
    config: dict[str, bool | float | int | str] = {
        "num-server-rounds": 3 if quick else arguments.rounds,
        "local-epochs": arguments.epochs,
        "batch-size": SIZES[1],
        "learning-rate": 0.05,
        "split": "iid",
        "partitions": len(SPEEDS),
    }
    if arguments.data_dir:
        config |= {"data": "fashion-mnist", "data-dir": str(arguments.data_dir.resolve())}
    result = {}
    # What the machine's own libraries do with threads is part of the measured device, so it is the same here.
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    # Flower's default. Ten looks a second would take a quarter of what the slowest boards have.
    environment["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = "1.0"
    with LocalFederation(folder / "federation", nodes(), environment=environment) as federation:
        for name in ("planned", "fedavg"):
            output = folder / name
            own = {"strategy": name, "output": str(output.resolve())}
            if name == "planned":
                own |= {"cost-model": str(cost_model.resolve()), "batch-sizes": ",".join(map(str, SIZES))}
            ended = federation.run(ROOT, config | own, timeout_s=arguments.limit)
            if not ended.ok:
                raise SystemExit(f"{name}: {ended.status}\n{ended.log[-4000:]}")
            result[name] = summary(output)
    return result


def main() -> None:
    """Measure, fit, federate twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="a new folder")
    parser.add_argument("--data-dir", type=Path, help="folder with the Fashion-MNIST files")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--cost-model", type=Path, help="of an earlier run of this script: nothing is measured")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds for one run")
    parser.add_argument("--quick", action="store_true", help="three rounds, one batch size measured")
    arguments = parser.parse_args()
    folder: Path = arguments.output.resolve()
    folder.mkdir(parents=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "passive"
    cost_model = arguments.cost_model or measure(folder, 28 if arguments.data_dir else 8, quick=arguments.quick)
    result = federate(folder, cost_model, arguments)
    planned, waiting = result["planned"], result["fedavg"]
    ratio = float(str(waiting["round_s_mean"])) / float(str(planned["round_s_mean"]))
    loss = float(str(waiting["accuracy"])) - float(str(planned["accuracy"]))
    print(json.dumps({"speed_up_of_rounds": round(ratio, 2), "accuracy_lost": round(loss, 4), **result}, indent=2))


if __name__ == "__main__":
    main()
