import json

import pytest

from devprof.errors import StoreError
from devprof.measure.checks import Warn
from devprof.records import Measurement
from devprof.store.folder import read_records
from devprof.store.imports.timm import TimmSetting, hints_from_name, import_timm

SETTING = TimmSetting("rtx3090", "cuda", "amp", "nhwc", optimizer="sgd", framework="torch-1.12")
TRAIN = "model,train_samples_per_sec,train_step_time,train_batch_size,train_img_size,param_count\n"
BOTH = (
    "model,infer_samples_per_sec,infer_step_time,infer_batch_size,infer_img_size,infer_gmacs,infer_macts,"
    "train_samples_per_sec,train_step_time,train_batch_size,train_img_size,param_count\n"
)
BOTH_ROW = "resnet50,2560,100.0,256,224,4.11,11.11,640,200.0,128,176,25.56\n"


@pytest.fixture
def run_import(write):
    def run(text, setting=SETTING):
        file = write(text, "table.csv")
        report = import_timm(file.path, file.folder, setting=setting, version="1.2")
        return report, read_records(file.folder, "runs", Measurement) if file.folder.is_dir() else []

    return run


def test_milliseconds_become_seconds_and_a_mean_is_marked_as_one(run_import):
    report, (run,) = run_import(TRAIN + "mobilenetv3_small_050,7486.25,68.392,512,224,1.59\n")
    assert (report.format, report.imported, report.rejected) == ("timm", 1, ())
    assert (run.step_s, run.step_s_mean, run.step_s_ci_low) == (0.068392, 0.068392, None)
    assert json.loads(run.warnings) == ["mean-for-median"] == [Warn.MEAN_FOR_MEDIAN.code]
    assert (run.model, run.task, run.mode, run.batch_size) == ("mobilenetv3_small_050", "train", "full", 512)
    assert (run.image_size, run.data, run.status, run.steps) == (224, "memory", "ok", None)
    assert (run.device, run.processor, run.precision, run.memory_format) == ("rtx3090", "cuda", "amp", "nhwc")
    assert (run.optimizer, run.versions) == ("sgd", '{"framework": "torch-1.12"}')


def test_a_row_with_both_figures_is_two_runs(run_import):
    report, runs = run_import(BOTH + BOTH_ROW)
    by_task = {run.task: run for run in runs}
    assert report.imported == len(runs) == 2
    assert (by_task["infer"].step_s, by_task["infer"].batch_size, by_task["infer"].image_size) == (0.1, 256, 224)
    assert (by_task["train"].step_s, by_task["train"].batch_size, by_task["train"].image_size) == (0.2, 128, 176)
    assert (by_task["infer"].optimizer, by_task["train"].optimizer) == (None, "sgd")


def test_importing_twice_adds_nothing(run_import):
    run_import(BOTH + BOTH_ROW)
    report, runs = run_import(BOTH + BOTH_ROW)
    assert (report.imported, report.already_there, len(runs)) == (0, 2, 2)


def test_the_same_figures_of_another_device_are_other_runs(run_import):
    run_import(TRAIN + "m,1000,100,100,224,1\n")
    report, runs = run_import(TRAIN + "m,1000,100,100,224,1\n", TimmSetting("v100", "cuda", "amp", "nhwc"))
    assert report.imported == 1
    assert len({run.device_key for run in runs}) == 2


def test_figures_without_an_honest_place_are_listed_with_the_reason(run_import):
    report, (run, _) = run_import(BOTH.replace("param_count", "param_count,colour") + BOTH_ROW.strip() + ",red\n")
    assert set(report.unmapped) == {"infer_gmacs", "infer_macts", "param_count"}
    assert report.unmapped["param_count"] == "rounded to 0.01 million"
    assert report.unknown_columns == ("colour",)
    assert run.parameters is None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("m,1000,100,110,224,1\n", "1000 samples per second in steps of 100 ms are 100 samples a step, not the batch size 110"),
        ("m,1000,0.1,100,224,1\n", "not the batch size 100"),
        ("m,,,,,\n", "train_step_time is missing"),
        ("m,,100,100,224,1\n", "train_samples_per_sec is missing"),
        ("m,1000,100,,224,1\n", "train_batch_size is missing"),
        ("m,1000,0,100,224,1\n", "train_step_time is 0"),
        ("m,1000,fast,100,224,1\n", "train_step_time is 'fast', not a number"),
        (",1000,100,100,224,1\n", "model is missing"),
        ("m,1000,100,100,224,1,2,3\n", "more fields than the header"),
    ],
)  # fmt: skip
def test_a_row_that_makes_no_sense_is_named_and_the_others_are_taken(run_import, row, reason):
    report, runs = run_import(TRAIN + row + "good,1040,100,100,224,1\n")
    (rejected,) = report.rejected
    assert reason in rejected.reason
    assert (rejected.line, rejected.name) == (2, f"{row.split(',')[0] or 'no model'} (train)")
    assert [run.model for run in runs] == ["good"]


def test_a_model_that_failed_in_training_keeps_its_inference(run_import):
    report, (run,) = run_import(BOTH + "m,1000,100,100,224,1,1,,,,,1\n")
    assert run.task == "infer"
    assert [(row.name, row.reason) for row in report.rejected] == [("m (train)", "train_step_time is missing")]


def test_what_timm_says_of_a_failure_is_passed_on(run_import):
    report, runs = run_import(TRAIN.strip() + ",error\nm,,,,,,CUDA out of memory\n")
    assert runs == []
    assert report.rejected[0].reason == "timm could not run it: CUDA out of memory"


def test_an_optimizer_that_is_not_known_stays_empty_and_is_said(run_import):
    report, (run,) = run_import(TRAIN + "m,1000,100,100,224,1\n", TimmSetting("d", "cpu", "fp32", "nchw"))
    assert run.optimizer is None
    assert any("--optimizer" in remark for remark in report.remarks)


def test_a_table_of_something_else_is_refused(run_import):
    with pytest.raises(StoreError, match="train_step_time or infer_step_time"):
        run_import("model,top1\nresnet18,69.8\n")


@pytest.mark.parametrize(
    ("name", "hints"),
    [
        (
            "benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv",
            {"precision": "amp", "memory_format": "nhwc", "processor": "cuda", "device": "rtx3090"},
        ),
        (
            "benchmark-infer-fp32-nchw-pt221-cpu-i9_10940x-dynamo.csv",
            {"precision": "fp32", "memory_format": "nchw", "processor": "cpu", "device": "i9_10940x"},
        ),
        ("results.csv", {}),
    ],
)
def test_a_published_name_gives_hints(tmp_path, name, hints):
    assert hints_from_name(tmp_path / name) == hints
