"""A realistic report: 5 models x 2 modes x 2 batch sizes on one board, one of them at 5 batch sizes, two published for another
board, and 4 strategies over 10 clients of 3 device classes."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from devprof.records import Evaluation, Measurement, Prediction, RoundLog, StepTime
from devprof.report import Column, HeadlineTable, ReportContent

MODELS = {
    "mobilenetv3_small_100": (0.012, 2_542_856, 90),
    "resnet18": (0.055, 11_689_512, 230),
    "efficientnet_b0": (0.080, 5_288_548, 310),
    "convnext_tiny": (0.31, 28_589_128, 640),
    "vit_small_patch16_224": (0.27, 22_050_664, 520),
}
CLASSES = {"1x": 1.0, "2.5x": 2.5, "5x": 5.0}
STRATEGIES = ("wait for all", "drop at deadline", "one tau per processor", "planned")
ROUNDS = 12
MIB = 1 << 20


def make_run(model="resnet18", mode="full", batch=8, status="ok", **changes) -> Measurement:
    """One run; a failed one has no numbers."""
    base_s, parameters, activation = MODELS.get(model, (0.05, 10_000_000, 200))
    values = {
        "run_id": f"{model}-{mode}-{batch}-{changes.get('repeat', 0)}-{changes.get('device', 'pi-5')}",
        "started_utc": "2025-01-02T03:04:05Z",
        "devprof_version": "0.1.0",
        "device": "pi-5",
        "device_key": "abc",
        "processor": "cpu",
        "model": model,
        "task": "train",
        "mode": mode,
        "status": status,
        "batch_size": batch,
        "image_size": 224,
        "threads": 4,
        "parameters": parameters,
        "trainable_parameters": parameters if mode == "full" else 10_250,
    }
    if status == "ok":
        step_s = base_s * batch * (1.0 if mode == "full" else 0.36)
        values |= {
            "step_s": step_s,
            "step_s_p05": step_s * 0.96,
            "step_s_p95": step_s * 1.13,
            "step_s_ci_low": step_s * 0.99,
            "step_s_ci_high": step_s * 1.01,
            "steps": 40,
            "steady": True,
            "rss_baseline_bytes": 310 * MIB,
            "rss_peak_bytes": (330 + activation * batch // (8 if mode == "full" else 24)) * MIB + 4 * parameters,
            "startup_s": 2.5,
            "energy_per_step_j": step_s * 7.1,
        }
    else:
        values |= {"error": "the kernel ended the process: out of memory"}
    return Measurement(**(values | changes))


@dataclass(frozen=True)
class Entry:
    """What a table of models says of one."""

    parameters: int | None = None
    top1: float | None = None
    top1_source: str | None = None
    top1_image_size: int | None = None


TABLE = {
    "mobilenetv3_small_100": Entry(2_542_856, 67.7, "paper A", 224),
    "resnet18": Entry(11_689_512, 69.8, "paper B", 224),
    "efficientnet_b0": Entry(5_288_548, 77.7, "paper C", 240),
    "convnext_tiny": Entry(28_589_128, 82.5, "paper D", 224),
    "vit_small_patch16_224": Entry(22_050_664),
}


def make_published(model="resnet18", mode="full", **changes) -> Measurement:
    """One row of a table that somebody else published: five times slower, without memory."""
    run = make_run(model, mode)
    values = {
        "run_id": f"import-{model}-{mode}",
        "device": "pi-4",
        "device_key": "import-1",
        "source": "someone/boards",
    }
    values |= {"rss_peak_bytes": None, "rss_baseline_bytes": None, "energy_per_step_j": None, "threads": None}
    values |= {"step_s": 5 * run.step_s, "step_s_p05": None, "step_s_p95": None}
    return make_run(model, mode, **(values | changes))


def make_phase_runs(batches=(1, 2, 4)) -> tuple[Measurement, ...]:
    """Full training of resnet18 with its phases: forward takes a third, backward two thirds less the optimizer's 1 ms."""
    runs = [make_run(batch=batch) for batch in batches]
    return tuple(
        make_run(
            batch=run.batch_size,
            forward_s=run.step_s / 3,
            backward_s=run.step_s * 2 / 3 - 1e-3,
            optimizer_s=1e-3,
            data_s=1e-6,
        )
        for run in runs
    )


def make_phase_steps(runs) -> tuple[StepTime, ...]:
    """21 raw steps per run whose forward time rises evenly from 90 % to 110 % of the median."""
    return tuple(
        StepTime(
            run.run_id,
            index,
            "phases",
            step_ns=round(run.step_s * 1e9),
            forward_ns=round(run.forward_s * (0.9 + 0.01 * index) * 1e9),
            backward_ns=round(run.backward_s * 1e9),
            optimizer_ns=round(run.optimizer_s * 1e9),
            data_ns=round(run.data_s * 1e9),
        )
        for run in runs
        for index in range(21)
    )


def make_runs() -> tuple[Measurement, ...]:
    """Two configurations fail."""
    failed = {("convnext_tiny", "full", 32): "oom", ("vit_small_patch16_224", "full", 32): "timeout"}
    return tuple(
        make_run(model, mode, batch, failed.get((model, mode, batch), "ok"))
        for model in MODELS
        for mode in ("full", "head")
        for batch in (8, 32)
    )


def make_predictions(runs=None) -> tuple[Prediction, ...]:
    """A prediction per run, off by up to 30 %."""
    rng = random.Random(7)
    bases = ("known-pair", "known-family", "new-family")
    out = []
    for index, run in enumerate(runs or make_runs()):
        basis = bases[index % 3]
        wide = {"known-pair": 0.08, "known-family": 0.2, "new-family": 0.45}[basis]
        true_s = run.step_s or 1.0
        step_s = true_s * (1 + rng.gauss(0, wide / 2))
        out.append(
            Prediction(
                run.device,
                run.model,
                run.mode,
                run.batch_size,
                step_s,
                step_s * (1 - wide),
                step_s * (1 + wide),
                basis,
                run.step_s,
            )
        )
    return tuple(out)


def make_round_logs() -> tuple[RoundLog, ...]:
    """Four ways to treat the slow devices, with what each would do to them."""
    rng = random.Random(3)
    clients = [(f"client {i}", list(CLASSES)[0 if i < 5 else 1 if i < 8 else 2]) for i in range(10)]
    logs: list[RoundLog] = []
    for strategy in STRATEGIES:
        clock, free = 0.0, dict.fromkeys((name for name, _ in clients), 0.0)
        for number in range(1, ROUNDS + 1):
            logs_of_round, deadline = [], {"wait for all": None, "drop at deadline": 34.0}.get(strategy, 30.0)
            for name, device in clients:
                if strategy == "drop at deadline" and free[name] > clock:
                    continue
                start = max(clock, free[name])
                step_s = 0.35 * CLASSES[device] * rng.uniform(0.95, 1.08)
                cutoff = 24.0 if strategy == "one tau per processor" else None
                steps = 40
                if strategy == "planned":
                    steps = min(40, int(24 / (0.35 * CLASSES[device] * 1.1)))
                done = steps if cutoff is None else min(steps, int((cutoff - 1.5) / step_s))
                download, upload = 1.2 * rng.uniform(0.8, 1.4), 2.3 * rng.uniform(0.8, 1.4)
                finished = start + download + 1.5 + done * step_s + upload
                late = deadline is not None and finished - clock > deadline
                logs_of_round.append(
                    RoundLog(
                        strategy,
                        number,
                        name,
                        device,
                        "cpu",
                        "late" if late else "partial" if done < steps else "used",
                        "after the deadline" if late else None,
                        clock,
                        finished,
                        0.0,
                        download,
                        1.5,
                        done * step_s,
                        upload,
                        steps,
                        done,
                        done * 16,
                        16,
                        cutoff,
                        deadline,
                        30.0,
                    )
                )
                free[name] = finished
            on_time = [log.finished_s for log in logs_of_round if log.outcome != "late"]
            end = max(on_time) if len(on_time) == len(logs_of_round) else clock + deadline
            logs += [_ended(log, end) for log in logs_of_round]
            clock = end
    return tuple(logs)


def _ended(log: RoundLog, end: float) -> RoundLog:
    values = {name: getattr(log, name) for name in RoundLog.__dataclass_fields__}
    return RoundLog(**(values | {"round_end_s": end}))


def make_evaluations(logs=None) -> tuple[Evaluation, ...]:
    """Accuracy that saturates; the strategy that loses the slow clients' data ends lower."""
    tops = {"wait for all": 0.902, "drop at deadline": 0.81, "one tau per processor": 0.884, "planned": 0.897}
    ends: dict[tuple[str, int], float] = {}
    for log in logs or make_round_logs():
        ends[log.strategy, log.server_round] = log.round_end_s
    first = [Evaluation(name, 0, 0.0, 0.11, 2.3) for name in STRATEGIES]
    later = [
        Evaluation(name, number, at, tops[name] - (tops[name] - 0.11) * 0.72**number, 2.3 * 0.8**number)
        for (name, number), at in ends.items()
    ]
    return tuple(first + later)


def make_content(**changes) -> ReportContent:
    """The whole report, with what a test wants to change."""
    logs = make_round_logs()
    phases = make_phase_runs()
    published = [make_published(model, mode) for model in ("resnet18", "convnext_tiny") for mode in ("full", "head")]
    values = {
        "title": "Federated training on ten emulated devices",
        "lead": "Five models measured on one board, a cost model fitted to them, and four strategies run for twelve rounds in virtual time on the measured step times.",
        "facts": (
            ("devprof", "0.1.0"),
            ("Device", "pi-5, 4 threads, 8 GiB"),
            ("PyTorch", "2.13.0 (CPU)"),
            ("Data set", "CIFAR-10, split by Dirichlet(0.5) over 10 clients"),
        ),
        "runs": (*make_runs(), *phases, *published),
        "steps": make_phase_steps(phases),
        "models": TABLE,
        "predictions": make_predictions(),
        "evaluations": make_evaluations(logs),
        "round_logs": logs,
        "headline": HeadlineTable(
            (Column("Strategy"), Column("Final accuracy", True), Column("Time to 80 %", True), Column("Wasted", True)),
            (
                ("wait for all", "88.7 %", "8.2 min", "0 %"),
                ("drop at deadline", "79.4 %", "–", "31 %"),
                ("one tau per processor", "86.9 %", "3.1 min", "0 %"),
                ("planned", "88.2 %", "2.9 min", "0 %"),
            ),
        ),
        "notes": (
            "Times are virtual: they replay measured step times.",
            "Accuracy is that of the global model on the test set.",
        ),
        "target_accuracy": 0.8,
    }
    return ReportContent(**(values | changes))


@pytest.fixture(scope="session")
def content() -> ReportContent:
    return make_content()


@pytest.fixture(scope="session")
def new_run():
    """The maker of one run."""
    return make_run


@pytest.fixture(scope="session")
def new_content():
    """The maker of a report with changes."""
    return make_content


@pytest.fixture(scope="session")
def new_published():
    """The maker of one published row."""
    return make_published


@pytest.fixture(scope="session")
def phase_runs():
    """Runs at three batch sizes with their phases."""
    return make_phase_runs()


@pytest.fixture(scope="session")
def phase_steps(phase_runs):
    """The raw steps of those runs."""
    return make_phase_steps(phase_runs)


@pytest.fixture(scope="session")
def new_entry():
    """The maker of a model table's entry."""
    return Entry


@pytest.fixture(scope="session")
def table():
    """A table of the models."""
    return TABLE
