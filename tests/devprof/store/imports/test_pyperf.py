import gzip
import json

import pytest

from devprof.errors import StoreError
from devprof.records import Measurement, StepTime
from devprof.store.folder import read_records
from devprof.store.imports.pyperf import import_pyperf


@pytest.fixture
def run_import(write):
    def run(document, **arguments):
        file = write(document, "results.json")
        report = import_pyperf(file.path, file.folder, version="1.2", **arguments)
        if not file.folder.is_dir():
            return report, [], []
        runs = read_records(file.folder, "runs", Measurement)
        return report, sorted(runs, key=lambda run: run.repeat), read_records(file.folder, "steps", StepTime)

    return run


def test_a_process_of_pyperf_is_a_run_with_its_raw_steps(run_import, pyperf_document):
    report, (first, second), steps = run_import(pyperf_document())
    assert (report.format, report.imported, report.rejected) == ("pyperf", 2, ())
    assert (first.model, first.mode, first.batch_size, first.task) == ("resnet18", "full", 16, "train")
    assert (first.device, first.processor, first.source) == ("bench-host", "cpu", "pyperf")
    assert (first.repeat, first.steps, first.warmup_steps, second.repeat) == (0, 3, 1, 1)
    assert [(step.index, step.kind, step.step_ns) for step in steps if step.run_id == first.run_id] == [
        (0, "warmup", 500_000_000),
        (1, "measured", 250_000_000),
        (2, "measured", 270_000_000),
        (3, "measured", 260_000_000),
    ]


def test_figures_come_from_the_values(run_import, pyperf_document):
    _, (first, second), _ = run_import(pyperf_document())
    assert (first.step_s, first.step_s_min, first.warnings) == (0.26, 0.25, None)
    assert first.step_s_mean == pytest.approx(0.26)
    assert (first.step_s_p25, first.step_s_p75) == (pytest.approx(0.255), pytest.approx(0.265))
    assert first.step_s_mad == pytest.approx(0.01)
    assert (second.step_s, second.step_s_p05, second.step_s_mad) == (0.3, None, None)


def test_metadata_has_its_places(run_import, pyperf_document):
    report, (first, _), _ = run_import(pyperf_document())
    assert json.loads(first.facts) == {
        "cpu": "Cortex-A76",
        "os": "Linux-6.6-aarch64",
        "hostname": "bench-host",
        "date": "2024-05-01 10:00:00.5",
        "load_avg_1min": "0.25",
    }
    assert json.loads(first.versions) == {"python": "3.11.2 (64-bit)", "pyperf": "2.7.0"}
    assert first.duration_s == 3.5
    assert report.unknown_columns == ("cpu_config",)
    assert set(report.unmapped) == {"mem_max_rss"}
    assert first.rss_peak_bytes is None


def test_calibrations_are_skipped_and_counted(run_import, pyperf_document):
    report, _, _ = run_import(pyperf_document())
    assert report.remarks == ("resnet18/full/16: 1 calibration runs without values were skipped",)


def test_importing_twice_adds_nothing_and_new_runs_are_added(run_import, pyperf_document):
    document = pyperf_document()
    run_import(document)
    document["benchmarks"][0]["runs"].append({"values": [0.4]})
    report, runs, steps = run_import(document)
    assert (report.imported, report.already_there, len(runs)) == (1, 2, 3)
    assert len(steps) == 6


def test_equal_values_of_two_processes_are_two_runs(run_import, pyperf_document):
    document = pyperf_document()
    document["benchmarks"][0]["runs"] = [{"values": [0.25]}, {"values": [0.25]}]
    assert run_import(document)[0].imported == 2


def test_means_over_loops_are_marked_as_means(run_import, pyperf_document):
    report, (first, _), steps = run_import(pyperf_document(loops=4, inner_loops=2))
    assert json.loads(first.warnings) == ["mean-for-median"]
    assert (first.step_s, first.step_s_p05, first.step_s_mad) == (0.26, None, None)
    assert steps[1].step_ns == 250_000_000
    assert any("mean of up to 8 steps" in remark for remark in report.remarks)


def test_a_name_that_says_nothing_is_left_out_with_what_to_do(run_import, pyperf_document):
    report, runs, _ = run_import(pyperf_document("json_dumps"))
    (rejected,) = report.rejected
    assert (runs, rejected.name, rejected.line) == ([], "json_dumps", None)
    assert "--map 'json_dumps=MODEL,MODE,BATCH'" in rejected.reason


@pytest.mark.parametrize("name", ["a/half/16", "a/full/x", "/full/16", "full/16"])
def test_only_a_name_of_the_right_form_says_what_was_run(run_import, pyperf_document, name):
    assert run_import(pyperf_document(name))[0].imported == 0


def test_a_model_may_have_slashes_in_its_name(run_import, pyperf_document):
    _, (first, _), _ = run_import(pyperf_document("hf-hub:timm/resnet18/head/4"))
    assert (first.model, first.mode, first.batch_size) == ("hf-hub:timm/resnet18", "head", 4)


def test_metadata_says_what_was_run(run_import, pyperf_document):
    said = {
        "model": "seed:cnn",
        "mode": "head",
        "batch_size": 8,
        "task": "infer",
        "image_size": 32,
        "precision": "bf16",
    }
    _, (first, _), _ = run_import(pyperf_document("step", **{f"devprof_{column}": said[column] for column in said}))
    assert {column: getattr(first, column) for column in said} == said


def test_the_caller_wins_over_metadata_and_name(run_import, pyperf_document):
    _, (first, _), _ = run_import(
        pyperf_document(devprof_model="seed:mlp"),
        given={"device": "rpi5", "processor": "cpu", "framework": "torch-2.4"},
        names={"resnet18/full/16": {"model": "vgg11", "mode": "head", "batch_size": "2"}},
    )
    assert (first.model, first.mode, first.batch_size, first.device) == ("vgg11", "head", 2, "rpi5")
    assert json.loads(first.versions)["framework"] == "torch-2.4"
    assert json.loads(first.facts)["hostname"] == "bench-host"


def test_a_map_for_no_benchmark_is_said(run_import, pyperf_document):
    names = {"resnet": {"model": "resnet18", "mode": "full", "batch_size": "1"}}
    assert any("'resnet'" in remark for remark in run_import(pyperf_document(), names=names)[0].remarks)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unit": "byte"}, "its unit is 'byte', not second"),
        ({"devprof_processor": ""}, "the processor is not known: give --processor"),
        ({"hostname": ""}, "the device is not known: give --device"),
    ],
)
def test_a_benchmark_that_cannot_be_placed_is_left_out_once(run_import, pyperf_document, change, reason):
    (rejected,) = run_import(pyperf_document(**change))[0].rejected
    assert reason in rejected.reason


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ({"values": [0.1, -0.1]}, "the value -0.1 is no duration"),
        ({"values": [1e-12]}, "the value 1e-12 is no duration"),
        ({"values": [float("nan")]}, "the value nan is no duration"),
        ({"values": ["0.1"]}, "the value '0.1' is no duration"),
        ({"values": 3}, "lists of values and warmups"),
        ({"values": [0.1], "warmups": 3}, "lists of values and warmups"),
        ({"values": [0.1], "warmups": [0.1]}, "not pairs"),
        ({"values": [0.1], "metadata": {"loops": 0}}, "its loops are 0"),
        ({"values": [0.1], "metadata": {"duration": -1}}, "duration_s is -1"),
        ("run", "lists of values and warmups"),
    ],
)
def test_a_run_that_makes_no_sense_is_named_and_the_others_are_taken(run_import, pyperf_document, run, reason):
    document = pyperf_document()
    document["benchmarks"][0]["runs"].append(run)
    report, runs, _ = run_import(document)
    (rejected,) = report.rejected
    assert rejected.name == "resnet18/full/16, run 2"
    assert reason in rejected.reason
    assert len(runs) == 2


def test_benchmarks_of_a_suite_have_their_own_metadata(run_import, pyperf_document):
    document = pyperf_document()
    del document["metadata"]["name"]
    document["benchmarks"] = [
        {"metadata": {"name": "seed:cnn/full/1"}, "runs": [{"values": [0.1]}]},
        # A benchmark with a single run may keep all of its metadata there.
        {"runs": [{"metadata": {"name": "seed:mlp/full/2"}, "values": [0.2]}]},
        {"metadata": {"name": "broken"}},
        "nonsense",
    ]
    report, runs, _ = run_import(document)
    assert {(run.model, run.batch_size) for run in runs} == {("seed:cnn", 1), ("seed:mlp", 2)}
    assert [(row.name, row.reason) for row in report.rejected] == [
        ("broken", "it has no list of runs"),
        ("number 4", "it has no list of runs"),
    ]


def test_compressed_results_are_the_same_results(run_import, pyperf_document, tmp_path):
    document = pyperf_document()
    run_import(document)
    packed = tmp_path / "results.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(document).encode()))
    report = import_pyperf(packed, tmp_path / "out", version="1.2")
    assert (report.imported, report.already_there) == (0, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"benchmarks": [], "version": 7}, "format 7, but only '1.0'"),
        ({"benchmarks": {}}, 'needs the keys "benchmarks" and "version"'),
        ([1], 'needs the keys "benchmarks" and "version"'),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        (r'{"version": "1.0", "benchmarks": [], "metadata": {"name": "\ud800"}}', "cannot be read as JSON"),
    ],
)
def test_a_file_of_something_else_is_refused_by_name(run_import, content, message):
    with pytest.raises(StoreError, match=r"results\.json") as caught:
        run_import(content)
    assert message in str(caught.value)
