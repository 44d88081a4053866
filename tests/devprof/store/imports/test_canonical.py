import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.errors import StoreError
from devprof.records import Measurement
from devprof.store.folder import read_records
from devprof.store.imports.canonical import import_canonical

PUBLISHED = Path(os.environ.get("DEVPROF_DATA") or Path(__file__).parents[5] / "shared" / "data") / "measured"
HEADER = "device,processor,framework,model,mode,image_size,batch_size,status,step_s,source\n"
GOOD = "rpi4,cpu,torch,resnet18,full,224,16,ok,10.9,somebody\n"


def run_import(tmp_path, text):
    table = tmp_path / "table.csv"
    table.write_text(text)
    report = import_canonical(table, tmp_path / "out", version="1.2")
    runs = read_records(tmp_path / "out", "runs", Measurement) if (tmp_path / "out").is_dir() else []
    return report, runs


def test_a_row_becomes_a_run(tmp_path):
    report, (run,) = run_import(tmp_path, HEADER + GOOD)
    assert (report.imported, report.already_there, report.rejected, report.unknown_columns) == (1, 0, (), ())
    assert (run.device, run.model, run.mode, run.batch_size, run.step_s) == ("rpi4", "resnet18", "full", 16, 10.9)
    assert (run.task, run.source, run.versions) == ("train", "somebody", '{"framework": "torch"}')
    assert run.rss_peak_bytes is None


def test_importing_twice_adds_nothing(tmp_path):
    run_import(tmp_path, HEADER + GOOD)
    report, runs = run_import(tmp_path, HEADER + GOOD + GOOD)
    assert (report.imported, report.already_there, len(runs)) == (0, 2, 1)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("rpi4,cpu,torch,,full,224,16,ok,10.9,x\n", "model is missing"),
        ("rpi4,cpu,torch,resnet18,half,224,16,ok,10.9,x\n", "mode is 'half', not one of full, head"),
        ("rpi4,cpu,torch,resnet18,full,224,16,ok,,x\n", "step_s is missing"),
        ("rpi4,cpu,torch,resnet18,full,224,16,ok,-3,x\n", "step_s is -3, which cannot be"),
        ("rpi4,cpu,torch,resnet18,full,224,16,ok,inf,x\n", "step_s is inf, which cannot be"),
        ("rpi4,cpu,torch,resnet18,full,224,16,ok,fast,x\n", "step_s is 'fast', not a number"),
        ("rpi4,cpu,torch,resnet18,full,224,16,ok,0,x\n", "step_s is 0, which cannot be"),
        ("rpi4,cpu,torch,resnet18,full,224,1.5,ok,3,x\n", "batch_size is 1.5, not a whole number"),
        ("rpi4,cpu,torch,resnet18,full,224,16,fine,3,x\n", "status is 'fine'"),
        ("rpi4,cpu,torch,resnet18,full,224,1e30,ok,3,x\n", "batch_size is 1e30, which is too large"),
        ("rpi4,cpu,torch,resnet18,full,224,16,ok,3,x,y,z\n", "more fields than the header"),
    ],
)
def test_a_row_that_makes_no_sense_is_named_by_line_and_the_others_are_taken(tmp_path, bad, reason):
    report, runs = run_import(tmp_path, HEADER + bad + GOOD)
    assert len(runs) == report.imported == 1
    assert report.rejected[0].line == 2
    assert reason in report.rejected[0].reason


def test_the_runs_of_one_name_build_and_processor_are_one_device(tmp_path):
    other_build, other_model = GOOD.replace("torch", "tflite"), GOOD.replace("resnet18", "resnet34")
    _, (first, second, third) = run_import(tmp_path, HEADER + GOOD + other_model + other_build)
    assert first.device_key == second.device_key != third.device_key


def test_a_failed_run_needs_no_time(tmp_path):
    _, (run,) = run_import(tmp_path, HEADER + "rpi4,cpu,torch,vit,full,224,16,oom,,x\n")
    assert (run.status, run.step_s) == ("oom", None)


def test_unknown_columns_are_reported(tmp_path):
    report, _ = run_import(tmp_path, HEADER.replace("source", "colour") + GOOD)
    assert report.unknown_columns == ("colour",)


def test_a_table_without_the_needed_columns_is_refused(tmp_path):
    with pytest.raises(StoreError, match="lacks the columns processor, mode"):
        run_import(tmp_path, "device,model,batch_size,step_s\na,b,1,1\n")


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x80" * 10)
    with pytest.raises(StoreError, match=r"x\.csv"):
        import_canonical(tmp_path / "x.csv", tmp_path / "out", version="1")


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters='",\n\r\x00'), max_size=12), min_size=10, max_size=10
    )
)
def test_any_row_is_imported_or_rejected_with_a_reason(tmp_path_factory, fields):
    tmp_path = tmp_path_factory.mktemp("import")
    report, runs = run_import(tmp_path, HEADER + ",".join(fields) + "\n")
    assert report.imported + len(report.rejected) <= 1
    assert len(runs) == report.imported


@pytest.mark.parametrize(("name", "rows"), [("rpi4.csv", 56), ("rpi5.csv", 32), ("gpus.csv", 94), ("rtx3090.csv", 494)])
def test_published_tables_are_imported_whole(tmp_path, name, rows):
    if not (PUBLISHED / name).is_file():
        pytest.skip("the published tables are not here")
    report = import_canonical(PUBLISHED / name, tmp_path / "out", version="1")
    assert (report.imported, report.already_there, report.rejected, report.unknown_columns) == (rows, 0, (), ())
