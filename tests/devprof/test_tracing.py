import json

import pytest

from devprof import tracing
from devprof.costmodel.features import Features
from devprof.errors import DevprofError, UnknownNameError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVPROF_CACHE", str(tmp_path))
    tracing.trace_model.cache_clear()
    yield tmp_path
    tracing.trace_model.cache_clear()


def test_a_seed_has_its_parameters_and_products(cache):
    features = tracing.trace_model("seed:mlp", "full")
    assert features.parameters == features.trainable_parameters == 1_707_274
    head = tracing.trace_model("seed:mlp", "head")
    assert (head.parameters, head.trainable_parameters) == (1_707_274, 2_570)


def test_a_trace_is_kept_and_read_again(cache, monkeypatch):
    first = tracing.trace_model("seed:cnn", "full", 28)
    (kept,) = (cache / "traces").iterdir()
    assert Features.from_dict(json.loads(kept.read_text())) == first
    tracing.trace_model.cache_clear()
    monkeypatch.setattr(tracing, "_trace", lambda _: pytest.fail("traced again"))
    assert tracing.trace_model("seed:cnn", "full", 28) == first


@pytest.mark.parametrize("damage", ["", "{}", "not json", '{"a": 1}'])
def test_a_damaged_entry_is_traced_again(cache, damage):
    first = tracing.trace_model("seed:cnn", "full")
    (kept,) = (cache / "traces").iterdir()
    kept.write_text(damage)
    tracing.trace_model.cache_clear()
    assert tracing.trace_model("seed:cnn", "full") == first
    assert Features.from_dict(json.loads(kept.read_text())) == first


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEVPROF_CACHE", str(tmp_path / "file"))
    tracing.trace_model.cache_clear()
    assert tracing.trace_model("seed:cnn", "full").parameters == 47_226


def test_the_users_own_model_is_not_kept(cache):
    assert tracing.trace_model("faulty_models:good", "full").parameters == 15
    assert not (cache / "traces").exists()


def test_unknown_names_and_modes_are_errors(cache):
    with pytest.raises(UnknownNameError, match="seed:cnn"):
        tracing.trace_model("seed:cn", "full")
    with pytest.raises(DevprofError, match="unknown mode 'half'"):
        tracing.trace_model("seed:cnn", "half")
