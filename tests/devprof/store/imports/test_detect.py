import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devprof.errors import StoreError
from devprof.store.imports.canonical import import_canonical
from devprof.store.imports.detect import detect_format
from devprof.store.imports.pyperf import import_pyperf
from devprof.store.imports.timm import TimmSetting, import_timm

SETTING = TimmSetting("d", "cuda", "amp", "nhwc")
CANONICAL = "device,processor,model,mode,batch_size,step_s\n"
TIMM = "model,train_samples_per_sec,train_step_time,train_batch_size,train_img_size,param_count\n"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (CANONICAL, "devprof"),
        ("\ufeff" + CANONICAL, "devprof"),
        (TIMM, "timm"),
        ("model,infer_step_time\n", "timm"),
        (CANONICAL.strip() + ",train_step_time\n", "devprof"),
    ],
)
def test_a_table_is_known_by_its_header(write, header, expected):
    assert detect_format(write(header).path) == expected


def test_results_of_pyperf_are_known_plain_and_compressed(write, tmp_path, pyperf_document):
    assert detect_format(write(pyperf_document()).path) == "pyperf"
    (tmp_path / "packed").write_bytes(gzip.compress(json.dumps(pyperf_document()).encode()))
    assert detect_format(tmp_path / "packed") == "pyperf"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("model,top1\n", "the columns model, top1"),
        ("", "an empty file"),
        ('{"a": 1}', "JSON without these keys"),
        ("[]", "JSON without these keys"),
    ],
)
def test_a_file_of_no_format_is_told_what_was_looked_for_and_found(write, content, found):
    with pytest.raises(StoreError) as caught:
        detect_format(write(content).path)
    for expected in ("batch_size (devprof)", "train_step_time", '"benchmarks"', f"Found: {found}"):
        assert expected in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match="absent"):
        detect_format(tmp_path / "absent")


IMPORTERS = (
    import_canonical,
    lambda path, folder, version: import_timm(path, folder, setting=SETTING, version=version),
    lambda path, folder, version: import_pyperf(path, folder, given={"processor": "cpu"}, version=version),
)
CELLS = st.text(st.characters(codec="utf-8", exclude_characters=',"\r\n'), max_size=8) | st.sampled_from(
    ["m", "cpu", "full", "1", "100", "0", "1e400", "-1", "nan", "9" * 400]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)  # fmt: skip


def import_anyhow(tmp_path_factory, content):
    """Every importer takes the file or refuses it with the error that is meant for that."""
    folder = tmp_path_factory.mktemp("garbage")
    (folder / "file").write_bytes(content)
    results = []
    for function in (lambda path, *_, **__: detect_format(path), *IMPORTERS):
        try:
            results.append(function(folder / "file", folder / "out", version="1"))
        except StoreError:
            results.append(None)
    return results


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_worse(tmp_path_factory, content):
    assert import_anyhow(tmp_path_factory, content) == [None, None, None, None]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([CANONICAL, TIMM]), st.lists(st.lists(CELLS, max_size=8), max_size=3))
def test_any_row_of_a_table_is_imported_or_rejected(tmp_path_factory, header, rows):
    text = header + "".join(",".join(row) + "\n" for row in rows)
    found, canonical, timm, _ = import_anyhow(tmp_path_factory, text.encode())
    report = canonical if header == CANONICAL else timm
    assert found == report.format
    # The csv module takes an empty line for no row.
    assert report.imported + report.already_there + len(report.rejected) == sum(",".join(row) != "" for row in rows)


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(["m/full/1", "other"]) | SCALARS,
    extra=st.dictionaries(st.sampled_from(["unit", "loops", "inner_loops", "hostname", "duration", "devprof_model", "devprof_batch_size", "date"]), JSON),
    benchmark=JSON,
    run=st.dictionaries(st.sampled_from(["values", "warmups", "metadata"]), JSON | st.lists(SCALARS, max_size=3)),
)  # fmt: skip
def test_any_results_of_pyperf_are_imported_or_rejected(tmp_path_factory, name, extra, benchmark, run):
    document = {
        "version": "1.0",
        "metadata": {"hostname": "h", "name": name, **extra},
        "benchmarks": [{"runs": [run, {"values": [0.1]}]}, benchmark],
    }
    found, *_, report = import_anyhow(tmp_path_factory, json.dumps(document).encode())
    assert found == "pyperf" or report is None
    assert report is None or report.imported <= 2
