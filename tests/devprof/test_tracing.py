import gzip
import json

import pytest

from devprof import tracing
from devprof.costmodel.features import Features
from devprof.errors import DevprofError, UnknownNameError
from devprof.workloads.names import CHAINS


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
    assert Features.from_dict(json.loads(gzip.decompress(kept.read_bytes()))) == first
    tracing.trace_model.cache_clear()
    monkeypatch.setattr(tracing, "_trace", lambda _: pytest.fail("traced again"))
    assert tracing.trace_model("seed:cnn", "full", 28) == first


@pytest.mark.parametrize(
    "damage",
    [b"", b"no archive", gzip.compress(b"not json"), gzip.compress(b"{}"), gzip.compress(b"[]")[:-4]],
    ids=["empty", "no-archive", "no-json", "no-trace", "cut"],
)
def test_a_damaged_entry_is_traced_again(cache, damage):
    first = tracing.trace_model("seed:cnn", "full")
    (kept,) = (cache / "traces").iterdir()
    kept.write_bytes(damage)
    tracing.trace_model.cache_clear()
    assert tracing.trace_model("seed:cnn", "full") == first
    assert Features.from_dict(json.loads(gzip.decompress(kept.read_bytes()))) == first


def test_the_operators_of_a_step_are_kept_too(cache, monkeypatch):
    tracing.trace_operators.cache_clear()
    first = tracing.trace_operators("seed:cnn", "full", None, None, 4)
    assert first.batch_size == 4
    assert first.operators.total() > 15
    tracing.trace_operators.cache_clear()
    monkeypatch.setattr(tracing, "_trace_step", lambda _: pytest.fail("traced again"))
    assert tracing.trace_operators("seed:cnn", "full", None, None, 4) == first


def test_the_chains_of_a_calibration_are_kept_like_published_models(cache):
    for chain in CHAINS:
        assert tracing.trace_model(chain, "head").trainable_parameters < tracing.trace_model(chain, "full").parameters
    assert len(list((cache / "traces").iterdir())) == 2 * len(CHAINS)


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
