"""What ``devprof report`` brings together from folders, and what it leaves unread."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from makers import make_run

from devprof.cli import main
from devprof.cli.report import _content
from devprof.records import StepTime
from devprof.store.folder import write_run


def steps_of(run_id):
    """Two steps of each kind; only those of the phases say how long a phase took."""
    phases = {"forward_ns": 3, "backward_ns": 5, "optimizer_ns": 2, "data_ns": 0}
    return [
        *(StepTime(run_id, index, kind, 10) for index, kind in enumerate(("warmup", "measured"))),
        *(StepTime(run_id, index, "phases", 10, **phases) for index in (2, 3)),
    ]


@pytest.fixture
def folder(tmp_path):
    """One model at three batch sizes with phases, and two more of known accuracy at one."""
    for batch in (1, 2, 4):
        run = make_run(f"b{batch}", batch_size=batch, forward_s=0.1, backward_s=0.2, rss_peak_bytes=1 << 28)
        write_run(tmp_path / "runs", run, steps_of(run.run_id))
    for model, step_s in (("resnet18", 0.5), ("resnet50", 1.5)):
        run = make_run(model, model=model, batch_size=16, image_size=224, step_s=step_s, forward_s=0.1)
        write_run(tmp_path / "runs", run, steps_of(model))
        run = make_run(f"{model}-2", model=model, batch_size=16, image_size=224, step_s=step_s, repeat=1)
        write_run(tmp_path / "runs", run)
    return tmp_path / "runs"


def test_only_the_steps_that_are_drawn_are_read(folder):
    content = _content([folder], None)
    assert {(step.run_id, step.kind) for step in content.steps} == {(f"b{batch}", "phases") for batch in (1, 2, 4)}
    assert len(content.steps) == 6


def test_a_folder_without_steps_is_reported_all_the_same(tmp_path):
    for batch in (1, 2, 4):
        write_run(tmp_path / "runs", make_run(f"b{batch}", batch_size=batch, forward_s=0.1))
    assert _content([tmp_path / "runs"], None).steps == ()


def test_accuracy_comes_from_the_model_table(folder, tmp_path):
    result = CliRunner().invoke(main, ["report", str(folder), "-o", str(tmp_path / "page"), "--json"])
    told = json.loads(result.stdout)
    assert set(told["figures"]) == {"accuracy_vs_step", "step_time", "memory", "phases_vs_batch", "memory_vs_batch"}
    page = Path(told["page"]).read_text()
    assert "7 processes of 5 configurations" in page
    assert "ImageNet top-1" in page
