"""Is ``fits`` right? Models of families that were not measured run under a real memory limit, beside what was predicted.

A cost model is fitted to runs without limit of 25 models of 16 families (full and head, batch 16; four of them at 4 and 32,
too). Then 15 models of other families run inside ``devprof emulate --memory 2G``: ``ok`` or ``oom`` is the truth.

The rule of the cases, which knows nothing of memory: small models (up to 3 billion multiply-accumulates per sample, with a
linear classifier) of families outside the training table, one each, in alphabetical order; the modes' pairs of batch sizes
take turns from model to model, from sizes that are small for any of them to sizes that are large for any of them. Prints JSON::

    python benchmarks/fits.py [--quick] [--training DIR] [--cases DIR]

Folders that hold some of the runs already are completed; without them everything is measured anew, which takes half an hour.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from devprof.costmodel.model import CostModel
from devprof.records import Measurement
from devprof.store.folder import load_runs, read_records
from devprof.units import format_bytes

LIMIT_BYTES = 2 << 30
DEVICE = "this-machine"
GOAL_RIGHT, GOAL_LEFT_OUT = 0.95, 0.08
TRAINING = (
    "resnet18",
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "vit_tiny_patch16_224",
    "efficientnet_b0",
    "efficientvit_b0",
    "mobilevitv2_050",
    "fastvit_t8",
    "convnext_atto",
    "edgenext_xx_small",
    "mixer_s16_224",
    "vgg11",
    "mnasnet_050",
    "ghostnetv2_100",
    "efficientformer_l1",
    "swin_tiny_patch4_window7_224",
    "resnet50",
    "mobilenetv2_050",
    "mobilenetv3_large_100",
    "vit_small_patch16_224",
    "efficientvit_b1",
    "mobilevitv2_100",
    "convnext_pico",
    "edgenext_x_small",
    "mnasnet_100",
)
# At further batch sizes, too.
SEVERAL = ("resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224", "edgenext_xx_small")
SEVERAL_SIZES = (4, 32)
CASES = (
    "torchvision:alexnet",
    "coat_lite_tiny",
    "torchvision:densenet121",
    "dla46_c",
    "gmlp_ti16_224",
    "lcnet_100",
    "levit_128",
    "pit_ti_224",
    "poolformer_s12",
    "pvt_v2_b0",
    "regnety_004",
    "repvgg_a0",
    "torchvision:shufflenet_v2_x1_0",
    "visformer_tiny",
    "xcit_nano_12_p16_224",
)
TURNS: dict[str, tuple[tuple[int, int], ...]] = {
    "full": ((4, 64), (16, 128), (32, 256)),
    "head": ((16, 128), (32, 256), (64, 128)),
}
QUICK_TRAINING, QUICK_CASES = 4, 2
RIGHT = ((True, "ok"), (False, "oom"))
DEVPROF = (sys.executable, "-m", "devprof")
# Four steps: where memory is after them, a longer run is within some percent (the heap goes on to fragment).
SHORT = (
    "--min-time",
    "10ms",
    "--min-steps",
    "1",
    "--phase-steps",
    "1",
    "--timeout",
    "300s",
    "--threads",
    "1",
    "--device",
    DEVICE,
)


def measure(folder: Path, models: tuple[str, ...], modes: str, sizes: tuple[int, ...], *prefix: str) -> None:
    """Complete the runs of some models in a folder."""
    batch_sizes = ",".join(map(str, sizes))
    line = [
        *prefix,
        *DEVPROF,
        "measure",
        *models,
        "--mode",
        modes,
        "--batch-size",
        batch_sizes,
        *SHORT,
        "-o",
        str(folder),
    ]
    subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def measure_training(folder: Path, *, quick: bool) -> None:
    """The runs that the cost model is fitted to."""
    measure(folder, TRAINING[:QUICK_TRAINING] if quick else TRAINING, "full,head", (16,))
    measure(folder, SEVERAL[:1] if quick else SEVERAL, "full,head", SEVERAL_SIZES)


def measure_cases(folder: Path, *, quick: bool) -> None:
    """The runs inside the limit, in a control group for each model and mode."""
    emulate = (*DEVPROF, "emulate", "--memory", format_bytes(LIMIT_BYTES).replace(" ", ""), "--")
    for place, model in enumerate(CASES[:QUICK_CASES] if quick else CASES):
        for mode, turns in TURNS.items():
            measure(folder, (model,), mode, turns[place % len(turns)], *emulate)


def verdict(model: CostModel, run: Measurement) -> dict[str, Any]:
    """What was predicted of a case beside what became of it."""
    estimate = model.predict(DEVICE, run.model, run.mode, run.batch_size, memory_limit_bytes=LIMIT_BYTES)
    assert estimate.memory_bytes is not None
    ran = run.rss_peak_bytes is not None
    return {
        "model": run.model,
        "mode": run.mode,
        "batch_size": run.batch_size,
        "status": run.status,
        "fits": estimate.fits,
        "largest_batch": model.largest_batch(DEVICE, run.model, run.mode, LIMIT_BYTES),
        "memory_bytes": round(estimate.memory_bytes),
        "memory_hi_bytes": round(estimate.memory_hi_bytes or 0),
        "rss_peak_bytes": run.rss_peak_bytes,
        "peak_error": estimate.memory_bytes / run.rss_peak_bytes - 1 if ran and run.rss_peak_bytes else None,
        "error": run.error,
    }


def summary(verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    """How often the verdict was right, and how far off the peak where it ran. Other ends than ok and oom count as no case."""
    judged = [one for one in verdicts if one["status"] in ("ok", "oom")]
    counts = Counter((bool(one["fits"]), str(one["status"])) for one in judged)
    centre = Counter((one["memory_bytes"] <= LIMIT_BYTES, str(one["status"])) for one in judged)
    errors = sorted(abs(one["peak_error"]) for one in judged if one["peak_error"] is not None)
    return {
        "cases": len(judged),
        "right": sum(counts[pair] for pair in RIGHT) / max(1, len(judged)),
        # What deciding by the centre of the interval would have given: less careful, and wrong on the other side, too.
        "by_centre": {"right": sum(centre[pair] for pair in RIGHT) / max(1, len(judged)), "bold": centre[True, "oom"]},
        "confusion": {
            f"{'fits' if fits else 'no'}/{status}": counts[fits, status]
            for fits in (True, False)
            for status in ("ok", "oom")
        },
        "wrong": [one for one in judged if bool(one["fits"]) != (one["status"] == "ok")],
        "no_verdict": [one for one in verdicts if one["status"] not in ("ok", "oom")],
        "peak_error": {"mean": statistics.fmean(errors), "median": statistics.median(errors), "largest": errors[-1]}
        if errors
        else None,
    }


def main() -> None:
    """Measure, fit, judge; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four models to learn from and eight cases")
    parser.add_argument("--training", type=Path, help="folder of the runs to learn from; completed if it lacks some")
    parser.add_argument("--cases", type=Path, help="folder of the runs inside the limit; completed if it lacks some")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        training = arguments.training or Path(scratch) / "training"
        cases = arguments.cases or Path(scratch) / "cases"
        measure_training(training, quick=arguments.quick)
        measure_cases(cases, quick=arguments.quick)
        model = CostModel.fit(load_runs(training))
        runs = [run for run in read_records(cases, "runs", Measurement) if run.model in CASES]
        verdicts = [verdict(model, run) for run in runs]
    result = {
        "limit_bytes": LIMIT_BYTES,
        "goals": {"right": GOAL_RIGHT, "left_out_families_mape": GOAL_LEFT_OUT},
        "left_out": [dataclasses.asdict(report) for report in model.report.memory_errors],
        **summary(verdicts),
        "verdicts": verdicts,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
