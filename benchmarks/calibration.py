"""How well a device is predicted that was only calibrated: models of families that it never ran, beside their measured steps.

Each model runs twice, before and after the calibration and in opposite order, so that a machine that drifts does so for both;
the truth is the geometric mean of both. No family is among the calibration's own models, nor among the probes that it is
predicted from. Takes half an hour on an otherwise idle machine and prints JSON::

    python benchmarks/calibration.py [-o FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from devprof.costmodel.families import model_family
from devprof.costmodel.model import CostModel
from devprof.measure.calibrate import REFERENCE_MODELS
from devprof.store.folder import load_operators, load_runs

GOALS = {"calibrate_s": 300.0, "k = 0": 0.15, "k = 3": 0.10}
MODELS = [
    "poolformer_s12",
    "ghostnet_100",
    "edgenext_xx_small",
    "pvt_v2_b0",
    "xcit_nano_12_p16_224",
    "pit_ti_224",
    "levit_128s",
    "repvgg_a0",
    "repvit_m0_9",
    "hrnet_w18_small",
    "fbnetc_100",
    "lcnet_100",
    "dla46_c",
    "hardcorenas_a",
    "visformer_tiny",
    "coat_lite_tiny",
    "ese_vovnet19b_dw",
    "selecsls42b",
    "mobileone_s0",
    "rexnet_100",
    "gernet_s",
]
QUICK_MODELS = 3
PROBES, DRAWS = 3, 20
DEVPROF = [sys.executable, "-m", "devprof"]


def measure(models: list[str], folder: Path, time_s: float) -> pd.Series:
    """Seconds per step by model and mode, each in a fresh process."""
    command = [*DEVPROF, "measure", *models, "--mode", "full,head", "--min-time", f"{time_s}s", "-o", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    runs = load_runs(folder)
    steps: pd.Series = runs[runs.status == "ok"].set_index(["model", "mode"])["step_s"]
    return steps


def calibrate(folder: Path) -> float:
    """Calibrates and says how long it took."""
    begin = time.monotonic()
    subprocess.run([*DEVPROF, "calibrate", "-o", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


def compare(model: CostModel, device: str, truth: pd.Series) -> pd.DataFrame:
    """Predicted beside measured."""
    rows = []
    for (name, mode), seconds in truth.items():
        estimate = model.predict(device, name, mode, 16)
        inside = estimate.step_s_lo <= seconds <= estimate.step_s_hi
        rows.append((name, mode, seconds, estimate.step_s / seconds - 1, inside))
    return pd.DataFrame(rows, columns=["model", "mode", "step_s", "error", "inside"])


def summary(found: pd.DataFrame) -> dict[str, Any]:
    """Mean and median error, and how often the interval held."""
    error = found["error"].abs()
    within = float((error <= 0.2).mean())
    covers = float(found["inside"].mean())
    by_mode = {mode: float(own.abs().mean()) for mode, own in found.groupby("mode")["error"]}
    return {"mape": float(error.mean()), "median": float(error.median()), "within_20": within} | {
        "interval_covers": covers,
        "by_mode": by_mode,
    }


def probed(runs: pd.DataFrame, operators: pd.DataFrame, device: str, truth: pd.Series, draws: int) -> dict[str, Any]:
    """A few random runs added to the calibration; their families are not asked for."""
    random, found = np.random.default_rng(0), []
    for _ in range(draws):
        probes = runs.iloc[random.choice(len(runs), PROBES, replace=False)]
        families = {model_family(name) for name in probes["model"]}
        asked = truth[[model_family(name) not in families for name in truth.index.get_level_values("model")]]
        found.append(compare(CostModel.fit(probes, operators=operators), device, asked))
    every = summary(pd.concat(found))
    return every | {"worst_draw": max(float(one["error"].abs().mean()) for one in found)}


def main() -> None:
    """Measure, calibrate, measure again, compare and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, help="folder to keep, or to go on with")
    parser.add_argument("--quick", action="store_true", help="few models and draws")
    arguments = parser.parse_args()
    models = MODELS[:QUICK_MODELS] if arguments.quick else MODELS
    known = {model_family(name) for name in REFERENCE_MODELS}
    assert not known & {model_family(name) for name in models}, "a family is among the calibration's own"
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or Path(temporary)
        time_s = 2.0 if arguments.quick else 5.0
        before = measure(models, folder / "before", time_s)
        calibrate_s = calibrate(folder / "calibration")
        after = measure(models[::-1], folder / "after", time_s)
        operators, runs = load_operators(folder / "calibration"), load_runs(folder / "before")
        drift = np.log(after / before)
        truth = before * np.exp(drift / 2)
        truth = truth.dropna()
        device = str(operators["device"].iloc[0])
        cold = compare(CostModel.fit(runs.iloc[:0], operators=operators), device, truth)
        print(cold.to_string(), file=sys.stderr)
        result = {
            "goals": GOALS,
            "models": len(models),
            "families": len({model_family(name) for name in models}),
            "steps": len(truth),
            "calibrate_s": calibrate_s,
            "drift": {"mean": float(drift.mean()), "mean_absolute": float(drift.abs().mean())},
            "k = 0": summary(cold),
            "k = 3": probed(runs[runs.status == "ok"], operators, device, truth, 2 if arguments.quick else DRAWS),
            "median_step_s": statistics.median(truth),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
