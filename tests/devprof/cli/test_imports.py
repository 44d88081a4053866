"""``devprof import`` as a user types it."""

import json

import pytest
from click.testing import CliRunner

from devprof.cli import main
from devprof.records import Measurement
from devprof.store.folder import read_records

TIMM = "model,train_samples_per_sec,train_step_time,train_batch_size,train_img_size,param_count\nresnet18,1000,100,100,224,1\n"
SETTING = ("--device", "rtx3090", "--processor", "cuda", "--precision", "amp", "--memory-format", "nhwc")


@pytest.fixture
def run(tmp_path):
    def invoke(file, *arguments, code=0):
        command = ["import", str(file), "-o", str(tmp_path / "out"), *arguments]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def timm_table(tmp_path):
    path = tmp_path / "benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv"
    path.write_text(TIMM)
    return path


@pytest.fixture
def pyperf_results(tmp_path):
    path = tmp_path / "results.json"
    metadata = {"hostname": "h", "boot_time": "today", "mem_max_rss": 1}
    benchmarks = [
        {"metadata": {"name": name}, "runs": [{"warmups": [[1, 0.2]]}, {"values": [0.1]}]} for name in ("step", "other")
    ]
    path.write_text(json.dumps({"version": "1.0", "metadata": metadata, "benchmarks": benchmarks}))
    return path


def test_a_table_of_timm_needs_what_it_does_not_say_and_its_name_only_suggests_it(run, timm_table, tmp_path):
    result = run(timm_table, "--processor", "cuda", code=2)
    assert "please give --device, --precision, --memory-format" in result.stderr
    assert "suggests: --precision amp --memory-format nhwc --device rtx3090" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_table_of_timm_is_found_out_and_imported(run, timm_table, tmp_path):
    result = run(timm_table, *SETTING)
    assert f"imported 1 runs from {timm_table} (timm)" in result.stdout
    assert "left out column param_count: rounded to 0.01 million" in result.stderr
    assert "note: the optimizer is not known" in result.stderr
    (row,) = read_records(tmp_path / "out", "runs", Measurement)
    assert (row.device, row.step_s) == ("rtx3090", 0.1)
    assert "imported 0 runs" in run(timm_table, *SETTING, "--format", "timm").stdout


def test_results_of_pyperf_are_imported_and_what_is_not_is_listed(run, pyperf_results, tmp_path):
    result = run(pyperf_results, "--processor", "cpu", "--map", "step=seed:cnn,head,4", "--optimizer", "adam")
    assert "imported 1 runs" in result.stdout
    assert "left out other: its name does not say what was run: give --map 'other=MODEL,MODE,BATCH'" in result.stderr
    assert "left out unknown columns: boot_time" in result.stderr
    assert "left out column mem_max_rss" in result.stderr
    assert "note: step: 1 calibration runs" in result.stderr
    (row,) = read_records(tmp_path / "out", "runs", Measurement)
    assert (row.device, row.model, row.mode, row.batch_size, row.optimizer) == ("h", "seed:cnn", "head", 4, "adam")


def test_json_has_the_whole_report(run, pyperf_results):
    report = json.loads(run(pyperf_results, "--processor", "cpu", "--map", "step=seed:cnn,head,4", "--json").stdout)
    assert (report["format"], report["imported"], report["already_there"]) == ("pyperf", 1, 0)
    assert [(row["line"], row["name"]) for row in report["rejected"]] == [(None, "other")]
    assert report["unknown_columns"] == ["boot_time"]
    assert list(report["unmapped"]) == ["mem_max_rss"]
    assert report["remarks"] == ["step: 1 calibration runs without values were skipped"]


@pytest.mark.parametrize("text", ["step", "step=m,full", "=m,full,1", "step=m,half,1", "step=m,full,x", "step=,full,1"])
def test_a_map_of_another_form_is_wrong_usage(run, pyperf_results, text):
    assert "NAME=MODEL,MODE,BATCH" in run(pyperf_results, "--map", text, code=2).stderr


def test_an_option_without_effect_is_wrong_usage(run, timm_table, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("device,processor,model,mode,batch_size,step_s\na,cpu,m,full,1,2\n")
    stderr = run(table, "--device", "b", "--memory-format", "nchw", code=2).stderr
    assert "--device, --memory-format cannot be used with the format devprof" in stderr
    assert (
        "--map cannot be used with the format timm" in run(timm_table, *SETTING, "--map", "a=m,full,1", code=2).stderr
    )


def test_a_format_said_by_the_user_is_not_second_guessed(run, timm_table):
    assert "lacks the columns device, processor" in run(timm_table, "--format", "devprof", code=1).stderr


def test_a_file_of_no_format_is_told_what_was_looked_for(run, tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    assert "none of the formats" in run(tmp_path / "x.csv", code=1).stderr
