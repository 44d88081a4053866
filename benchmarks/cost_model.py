"""How wrong the cost model is on published measurements, beside simple rules, and what it costs.

Prints JSON::

    DEVPROF_DATA=folder python benchmarks/cost_model.py [--quick] [--only NAME...]

The folder holds ``measured/rpi4.csv``, ``rpi5.csv``, ``gpus.csv``, ``rtx3090.csv``, ``gpu_power.csv`` and ``flash/``. Every
error is on rows that the fit did not see: a family is left out on all devices, a new device keeps random probes, power between
limits is learned from other networks. Strengths of the model's priors were chosen with these tables in view. What a machine
itself shows is measured by ``calibration.py`` (one that was only calibrated) and ``fits.py`` (memory).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from devprof.costmodel.corrections import fit_correction
from devprof.costmodel.evaluate import error_reports
from devprof.costmodel.features import WORK
from devprof.costmodel.heldout import time_residuals
from devprof.costmodel.leaveout import LeaveOut
from devprof.costmodel.model import CostModel
from devprof.costmodel.pool import FittedPool, Pool, kin_groups
from devprof.costmodel.power_limits import LimitEstimate, LimitPoint, fit_power_limits
from devprof.costmodel.samples import Observation, collect_samples, time_observations
from devprof.tracing import trace_model

DATA = Path(os.environ.get("DEVPROF_DATA") or Path(__file__).parents[2] / "shared" / "data")
DRAWS, QUICK_DRAWS = 200, 10
Logs = Callable[[list[Observation], list[Observation]], np.ndarray]


def observations(*tables: str) -> list[Observation]:
    """The step times of published tables."""
    frames = [pd.read_csv(DATA / "measured" / f"{table}.csv") for table in tables]
    return time_observations(collect_samples(pd.concat(frames, ignore_index=True), trace_model).samples)


def errors_of(own: list[Observation], logs: np.ndarray) -> np.ndarray:
    """Relative errors of predicted log seconds."""
    return np.abs(np.exp(logs - np.log([one.value for one in own])) - 1)


def summary(errors: np.ndarray) -> dict[str, float]:
    """Mean, median and share within 20 %, as shares of one."""
    within = float((errors <= 0.2).mean())
    return {"mape": float(errors.mean()), "median": float(np.median(errors)), "within_20": within}


# --- rules to beat: each learns from some observations and predicts the logarithms of others


def _macs(one: Observation) -> float:
    work = one.features.work(np.array([one.batch_size]))[0]
    return float(sum(amount for name, amount in zip(WORK, work, strict=True) if name.endswith("_macs")))


def _one_number(number: Callable[[Observation], float]) -> Logs:
    def predict(known: list[Observation], asked: list[Observation]) -> np.ndarray:
        scale = statistics.median(one.value / number(one) for one in known)
        return np.log([scale * number(one) for one in asked])

    return predict


def _columns(rows: list[Observation]) -> np.ndarray:
    features = [one.features for one in rows]
    numbers = [
        [_macs(row), row.batch_size * one.saved_bytes[1] + 1, one.parameters, one.trainable_parameters, one.operators]
        for row, one in zip(rows, features, strict=True)
    ]
    return np.log(np.array(numbers))


def log_ridge(known: list[Observation], asked: list[Observation]) -> np.ndarray:
    """Ridge regression between logarithms: products, activations, parameters, operators."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), Ridge(1.0))
    model.fit(_columns(known), np.log([one.value for one in known]))
    return np.asarray(model.predict(_columns(asked)))


def _works(rows: list[Observation]) -> np.ndarray:
    works = np.vstack([one.features.work(np.array([one.batch_size])) for one in rows])
    return np.hstack([np.log1p(works), _columns(rows)])


def plain_trees(known: list[Observation], asked: list[Observation]) -> np.ndarray:
    """Extremely randomised trees on all kinds of work."""
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(100, min_samples_leaf=2, random_state=0)
    model.fit(_works(known), np.log([one.value for one in known]))
    return np.asarray(model.predict(_works(asked)))


RULES: dict[str, Logs] = {
    "products only": _one_number(_macs),
    "parameters only": _one_number(lambda one: one.features.parameters),
    "log-ridge": log_ridge,
    "plain trees": plain_trees,
}


def left_out(own: list[Observation], rule: Logs) -> np.ndarray:
    """Errors of a rule, each family predicted from the others."""
    errors = np.empty(len(own))
    for family in {one.family for one in own}:
        rows = [row for row, one in enumerate(own) if one.family == family]
        known = [one for one in own if one.family != family]
        errors[rows] = errors_of([own[row] for row in rows], rule(known, [own[row] for row in rows]))
    return errors


def trees_beside(pool: Pool, fitted: FittedPool) -> np.ndarray:
    """Errors of the base blended with trees that have seen its predictions, each family left out of both.

    The trees' weight is the one that would have served all other families best.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    left_out, rows_of = LeaveOut(fitted), pool.rows_of(lambda one: one.family)
    works, errors, gains = _works(list(pool.observations)), np.empty(len(pool.measured)), np.empty(len(pool.measured))
    for rows in rows_of.values():
        without = left_out.without(rows)
        base = without.base_logs(np.arange(len(works)))
        columns = np.hstack([works, base[:, None]])
        trees = ExtraTreesRegressor(50, min_samples_leaf=2, max_features=0.5, random_state=0)
        trees.fit(columns[without.rows], pool.measured[without.rows])
        errors[rows] = without.log_errors(rows)
        gains[rows] = np.clip(trees.predict(columns[rows]) - base[rows], -0.7, 0.7)
    blended = np.empty(len(errors))
    for rows in rows_of.values():
        others = np.setdiff1d(np.arange(len(errors)), rows)
        weight = np.clip(gains[others] @ errors[others] / (gains[others] @ gains[others]), 0, 1)
        blended[rows] = errors[rows] - weight * gains[rows]
    return np.abs(np.exp(-blended) - 1)


def three_times_inference(own: list[Observation], every: list[Observation]) -> dict[str, float] | None:
    """A full step as three times the step that trains the head only, which is little more than an inference."""
    heads = {(one.configuration.model, one.batch_size): one.value for one in every if one.configuration.mode == "head"}
    pairs = [(one, heads.get((one.configuration.model, one.batch_size))) for one in own]
    both = [(one, 3 * head) for one, head in pairs if head is not None]
    return summary(errors_of([one for one, _ in both], np.log([value for _, value in both]))) if both else None


# --- tests


def families(table: str, mode: str) -> dict[str, Any]:
    """Leave-one-family-out on one table, beside the rules."""
    every = observations(table)
    (pool,) = kin_groups(every)
    fitted = pool.fit()
    residuals = time_residuals(pool, fitted)[every[0].device, mode]
    report = error_reports(every[0].device, mode, residuals, 0)[0]
    own = [one for one in every if one.configuration.mode == mode]
    found = {"rows": report.rows, "families": report.groups, "mape": report.mape, "median": report.median}
    found |= {"within_20": report.within_20, "interval_covers": report.coverage_90, "kendall_tau": report.kendall_tau}
    found["rules"] = {name: summary(left_out(own, rule)) for name, rule in RULES.items()}
    of_mode = np.array([one.configuration.mode == mode for one in pool.observations])
    found["rules"]["base blended with trees"] = summary(trees_beside(pool, fitted)[of_mode])
    if mode == "full" and (inference := three_times_inference(own, every)):
        found["rules"]["3 x head"] = inference
    return found


def _probed(pool: Pool, near: FittedPool, target: str, count: int, draws: int, *, unseen: bool) -> Iterator[float]:
    random = np.random.default_rng(count)
    rows = pool.rows_of(lambda one: one.device)[target]
    for _ in range(draws):
        probes = random.choice(rows, count, replace=False)
        asked = np.setdiff1d(rows, probes)
        hidden = asked
        if unseen:
            family = pool.observations[random.choice(asked)].family
            hidden = np.array([row for row, one in enumerate(pool.observations) if one.family == family])
            asked = np.intersect1d(hidden, rows)
            others = np.setdiff1d(rows, hidden)
            probes = random.choice(others, count, replace=False)
        out = np.union1d(np.setdiff1d(rows, probes), hidden)
        logs = pool.without(out, near).log_errors(asked)
        yield from np.abs(np.exp(-logs) - 1)


def new_device(
    tables: tuple[str, ...], target: str, count: int, draws: int, *, unseen: bool = False
) -> dict[str, float]:
    """A device with random probes, the others known well."""
    pool = next(pool for pool in kin_groups(observations(*tables)) if target in pool.devices)
    near = pool.without(pool.rows_of(lambda one: one.device)[target], pool.fit())
    return summary(np.array(list(_probed(pool, near, target, count, draws, unseen=unseen))))


def gpus(draws: int, *, unseen: bool) -> dict[str, Any]:
    """Each GPU of four in turn with five probes."""
    names = sorted({one.device for one in observations("gpus")})
    found = {name: new_device(("gpus",), name, 5, max(1, draws // 4), unseen=unseen)["mape"] for name in names}
    return {"mape": statistics.fmean(found.values()), "by_device": found}


def flash(sizes: tuple[int, int] = (5, 50)) -> dict[str, Any]:
    """Layer times of three phones over the batch size, from two batch sizes; beside the line that has seen all of them."""
    frame = pd.read_csv(DATA / "flash" / "flash_ondevice_layer_train_time.csv.gz")
    found: dict[str, float] = {}
    seen: dict[str, float] = {}
    for (device, layer), own in frame.groupby(["device", "layer"]):
        errors, least = [], []
        for _, line in own.groupby(["in_norm", "out_norm", "seq_len"], dropna=False):
            times = line.groupby("batch")["y_seconds"].median()
            known = [size for size in sizes if size in times.index]
            rest = times.drop(known)
            if len(known) < 2 or rest.empty:
                continue
            errors.append(_off_line(times[known], rest))
            least.append(_off_line(times, times))
        found[f"{device} {layer}"], seen[f"{device} {layer}"] = statistics.median(errors), statistics.median(least)
    return {"median_mape": found, "worst": max(found.values()), "line through all sizes": seen}


def _off_line(known: pd.Series, asked: pd.Series) -> float:
    """Mean error of the line through some times over the batch size at others."""
    correction = fit_correction(1.0, 1.0 + known.index.to_numpy(dtype=float), known.to_numpy())
    predicted = correction.apply(1.0, 1.0 + asked.index.to_numpy(dtype=float))
    return float(np.mean(np.abs(predicted / asked.to_numpy() - 1)))


def limit_points() -> list[LimitPoint]:
    """The published power traces of two GPUs: a point for each network, batch size, optimizer and power limit."""
    frame = pd.read_csv(DATA / "measured" / "gpu_power.csv")
    return [
        LimitPoint(
            one.gpu,
            one.network,
            (one.dataset, one.batch_size, one.optimizer),
            one.power_limit_w,
            one.power_mean_w,
            one.epoch_s,
        )
        for one in frame.itertuples()
    ]


Between = Callable[[LimitPoint, LimitPoint, LimitPoint], tuple[float, float]]


def _straight(low: LimitPoint, high: LimitPoint, asked: LimitPoint) -> tuple[float, float]:
    """Power and time on straight lines between two limits."""
    share = (asked.power_limit_w - low.power_limit_w) / (high.power_limit_w - low.power_limit_w)
    return low.power_w + share * (high.power_w - low.power_w), low.time_s + share * (high.time_s - low.time_s)


def _hard(low: LimitPoint, high: LimitPoint, asked: LimitPoint) -> tuple[float, float]:
    """The smaller of the limit and what the highest limit lets it draw, and time by the fourth power of power."""
    power_w = min(high.power_w, asked.power_limit_w * low.power_w / low.power_limit_w)
    spread = (high.power_w / low.power_w) ** 4 - 1
    slope = (low.time_s / high.time_s - 1) / spread if abs(spread) > 1e-6 else 0.0
    return power_w, high.time_s * (1 + slope * ((high.power_w / power_w) ** 4 - 1))


def _limit_times_time(_low: LimitPoint, _high: LimitPoint, asked: LimitPoint) -> tuple[float, float]:
    """The limit as the power, and even the true time."""
    return asked.power_limit_w, asked.time_s


LIMIT_RULES: dict[str, Between] = {
    "limit x true time": _limit_times_time,
    "straight lines": _straight,
    "hard minimum, fourth power": _hard,
}


def power_limits(quantity: str) -> dict[str, Any]:
    """Each network left out: exponents from the others, the limits between its lowest and highest predicted from these."""
    points = limit_points()
    errors: dict[str, list[float]] = {"": [], **{rule: [] for rule in LIMIT_RULES}}
    by_network: dict[str, list[float]] = {}

    def error(power_w: float, time_s: float, truth: LimitPoint) -> float:
        wrong = {"power": power_w / truth.power_w, "time": time_s / truth.time_s}
        wrong["energy"] = wrong["power"] * wrong["time"]
        return abs(wrong[quantity] - 1)

    for network in sorted({one.model for one in points}):
        limits = fit_power_limits(one for one in points if one.model != network)
        for own in _workloads(one for one in points if one.model == network):
            for asked in own[1:-1]:
                found: LimitEstimate = limits.at_limit([own[0], own[-1]], asked.power_limit_w)
                errors[""].append(error(found.power_w, found.time_s, asked))
                by_network.setdefault(network, []).append(errors[""][-1])
                for rule, between in LIMIT_RULES.items():
                    errors[rule].append(error(*between(own[0], own[-1], asked), asked))
    described = {name: summary(np.array(values)) for name, values in errors.items()}
    networks = {name: statistics.fmean(values) for name, values in by_network.items()}
    return {"rows": len(errors[""]), **described.pop(""), "by_network": networks, "rules": described}


def unseen_power() -> dict[str, Any]:
    """Power of a network of which nothing is known: what other networks draw at the same limit."""
    points = limit_points()
    errors = []
    for asked in points:
        others = [
            math.log(one.power_w)
            for one in points
            if (one.device, one.power_limit_w) == (asked.device, asked.power_limit_w) and one.model != asked.model
        ]
        errors.append(abs(math.exp(statistics.fmean(others)) / asked.power_w - 1))
    return {"rows": len(errors), **summary(np.array(errors))}


def _workloads(points: Iterable[LimitPoint]) -> list[list[LimitPoint]]:
    groups: dict[Any, list[LimitPoint]] = {}
    for one in sorted(points, key=lambda one: one.power_limit_w):
        groups.setdefault((one.device, one.model, one.workload), []).append(one)
    return list(groups.values())


def speed(rows: int) -> dict[str, float]:
    """A fit to a thousand rows of several devices, and many queries."""
    frame = pd.concat([pd.read_csv(DATA / "measured" / f"{name}.csv") for name in ("rpi4", "rtx3090", "gpus")])
    more = frame.sample(1000 - len(frame), replace=True, random_state=0)
    noise = np.random.default_rng(0).normal(0, 0.05, len(more))
    twin = more.assign(device=more["device"] + "-twin", step_s=more["step_s"] * np.exp(noise))
    table = pd.concat([frame, twin], ignore_index=True)
    collect_samples(table, trace_model)
    begin = time.perf_counter()
    model = CostModel.fit(table)
    fit_s = time.perf_counter() - begin
    random = np.random.default_rng(1)
    known = frame[frame.device == "rpi4"]["model"].unique()
    queries = pd.DataFrame({"model": random.choice(known, rows), "batch_size": random.integers(1, 257, rows)})
    queries = queries.assign(device="rpi4", mode=random.choice(["full", "head"], rows))
    begin = time.perf_counter()
    answers = model.predict_frame(queries)
    predict_s = time.perf_counter() - begin
    assert answers["error"].isna().all()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "cost.skops")
        size = (Path(folder) / "cost.skops").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "rows": len(table),
        "fit_s": fit_s,
        "queries": rows,
        "predict_s": predict_s,
        "peak_bytes": peak,
        "file_bytes": size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few draws and queries")
    parser.add_argument("--only", nargs="*", help="names of tests")
    arguments = parser.parse_args()
    draws = QUICK_DRAWS if arguments.quick else DRAWS
    pis = ("rpi4", "rpi5")
    tests: dict[str, tuple[str, Callable[[], Any]]] = {
        "rpi4 full": ("mape <= 0.12, within_20 >= 0.8", lambda: families("rpi4", "full")),
        "rpi4 head": ("mape <= 0.12, within_20 >= 0.8", lambda: families("rpi4", "head")),
        "rtx3090": ("mape <= 0.12, median <= 0.09", lambda: families("rtx3090", "full")),
        "rpi4 to rpi5, k = 1": ("mape <= 0.09", lambda: new_device(pis, "rpi5", 1, draws)),
        "rpi4 to rpi5, k = 3": ("mape <= 0.075", lambda: new_device(pis, "rpi5", 3, draws)),
        "rpi4 to rpi5, k = 5": ("mape <= 0.065", lambda: new_device(pis, "rpi5", 5, draws)),
        "gpus, k = 5": ("mape <= 0.09", lambda: gpus(draws, unseen=False)),
        "gpus, k = 5, family unseen": ("mape <= 0.16", lambda: gpus(draws, unseen=True)),
        "flash": ("each <= 0.08", flash),
        "gpu_power, power": ("mape <= 0.08", lambda: power_limits("power")),
        "gpu_power, energy": ("mape <= 0.10", lambda: power_limits("energy")),
        "gpu_power, power of an unseen network": ("none: no probe, for information", unseen_power),
        "speed": (
            "fit_s <= 15, predict_s <= 10, peak_bytes <= 1e9",
            lambda: speed(10_000 if arguments.quick else 1_000_000),
        ),
    }
    for name, (goal, test) in tests.items():
        if arguments.only is None or name in arguments.only:
            print(json.dumps({"test": name, "goal": goal} | {"found": test()}), flush=True)


if __name__ == "__main__":
    main()
