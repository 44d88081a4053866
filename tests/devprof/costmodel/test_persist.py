import os

import numpy as np
import pandas as pd
import pytest

from devprof.costmodel.model import CostModel
from devprof.costmodel.persist import SCHEMA_VERSION, read_state, write_state
from devprof.errors import CostModelError

skops_io = pytest.importorskip("skops.io")


@pytest.fixture
def model(make_rows, tracer):
    return CostModel.fit(make_rows(noise=0.05), tracer=tracer)


def test_a_loaded_model_predicts_the_same_to_the_last_bit(model, make_rows, tracer, tmp_path):
    model.save(tmp_path / "cost.skops")
    loaded = CostModel.load(tmp_path / "cost.skops", tracer=tracer)
    questions = make_rows(models=("plain1", "thin3", "thin7", "token9"), batch_sizes=(1, 3, 100))
    assert loaded.predict_frame(questions).equals(model.predict_frame(questions))
    assert loaded.report == model.report
    assert loaded.devices == model.devices


def test_what_was_learned_beside_the_fit_comes_back_to_the_last_bit(make_rows, tracer, tmp_path):
    rows = make_rows(noise=0.05).assign(data="memory")
    hot = rows.iloc[:1].assign(throttled="confirmed", step_s=1.37 * rows.step_s[0])
    loading = rows.iloc[:1].assign(data="jpeg", data_s=0.123)
    model = CostModel.fit(pd.concat([rows, hot, loading]), tracer=tracer)
    expected = model.predict("board", "plain2", "full", 8).step_s
    seen = [{"model": "plain2", "batch_size": 8, "step_s": factor * expected} for factor in (1.7, 1.713, -1, 9.0)]
    model.adapt("board", seen)
    model.save(tmp_path / "cost.skops")
    loaded = CostModel.load(tmp_path / "cost.skops", tracer=tracer)
    assert loaded.conditions("board") == model.conditions("board")
    assert (loaded.thermal_factor("board"), loaded.data_s_per_sample("board")) == (
        pytest.approx(1.37),
        pytest.approx(0.123 / 4),
    )
    assert loaded.adaptation("board") == model.adaptation("board")
    questions = make_rows(models=("plain2", "thin3", "token9"), batch_sizes=(1, 8))
    assert loaded.predict_frame(questions).equals(model.predict_frame(questions))
    more = [{"model": "plain2", "batch_size": 8, "step_s": 1.69 * expected}]
    assert loaded.adapt("board", more).adaptation("board") == model.adapt("board", more).adaptation("board")


def test_a_loaded_model_predicts_the_same_energy_to_the_last_bit(make_rows, with_meter, tracer, tmp_path):
    rows = with_meter(make_rows(noise=0.05)).assign(energy_error_rel=0.01)
    rows.loc[rows.model == "plain1", ["power_w", "energy_per_step_j"]] = None
    model = CostModel.fit(rows, tracer=tracer)
    model.save(tmp_path / "cost.skops")
    loaded = CostModel.load(tmp_path / "cost.skops", tracer=tracer)
    questions = make_rows(models=("plain1", "thin3", "thin7", "token9"), batch_sizes=(1, 3, 16, 100))
    answers = model.predict_frame(questions)
    assert answers.energy_per_step_j_hi.notna().all()
    assert loaded.predict_frame(questions).equals(answers)
    assert loaded.report == model.report


def test_fitted_models_need_no_tracer_after_loading(model, tmp_path):
    model.save(tmp_path / "cost.skops")

    def no_tracer(*_):
        raise AssertionError("features of fitted models are in the file")

    loaded = CostModel.load(tmp_path / "cost.skops", tracer=no_tracer)
    assert loaded.predict("board", "plain1", "full", 8).basis == "known-pair"


def test_saving_leaves_nothing_else_behind(model, tmp_path):
    for _ in range(2):
        model.save(tmp_path / "cost.skops")
    assert [path.name for path in tmp_path.iterdir()] == ["cost.skops"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "cost.skops"
    write_state(path, {"value": 1})

    def full_disk(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CostModelError, match="no space left"):
        write_state(path, {"value": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["cost.skops"]
    assert read_state(path)["value"] == 1


def test_saving_into_a_missing_folder_names_the_file(model, tmp_path):
    with pytest.raises(CostModelError, match=r"missing.cost\.skops"):
        model.save(tmp_path / "missing" / "cost.skops")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CostModelError, match=r"cannot read the cost model .*absent\.skops"):
        CostModel.load(tmp_path / "absent.skops")


@pytest.mark.parametrize("content", [b"", b"no cost model", b"PK\x03\x04 cut short"])
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "foreign.skops"
    path.write_bytes(content)
    with pytest.raises(CostModelError, match=r"foreign\.skops"):
        CostModel.load(path)


def test_a_truncated_file_is_refused(model, tmp_path):
    path = tmp_path / "cost.skops"
    model.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CostModelError, match=r"cost\.skops"):
        CostModel.load(path)


def test_somebody_elses_skops_file_is_refused(tmp_path):
    path = tmp_path / "other.skops"
    path.write_bytes(skops_io.dumps({"coefficients": np.ones(3)}))
    with pytest.raises(CostModelError, match="not a cost model of devprof"):
        CostModel.load(path)


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1, None])
def test_other_schemas_are_refused(tmp_path, version):
    path = tmp_path / "cost.skops"
    write_state(path, {"schema_version": version})
    with pytest.raises(CostModelError, match=r"cost\.skops has schema version"):
        read_state(path)


def run_code():
    raise AssertionError("loading must not run code")


def test_untrusted_types_are_refused_and_named(tmp_path):
    path = tmp_path / "crafted.skops"
    path.write_bytes(skops_io.dumps({"kind": "devprof-cost-model", "schema_version": SCHEMA_VERSION, "x": run_code}))
    with pytest.raises(CostModelError, match=r"crafted\.skops is refused: .*run_code"):
        read_state(path)


def test_missing_parts_are_damage(tmp_path):
    path = tmp_path / "cost.skops"
    write_state(path, {"devices": []})
    with pytest.raises(CostModelError, match="damaged"):
        CostModel.load(path)
