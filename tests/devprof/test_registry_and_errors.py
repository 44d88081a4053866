import importlib.metadata

import pytest

from devprof.errors import DevprofError, MissingExtraError, UnknownNameError, closest
from devprof.registry import resolve


def test_unknown_name_carries_the_closest_ones():
    error = UnknownNameError("model", "resnet81", ["resnet18", "vit_tiny", "resnet34"], "See the list.")
    assert error.closest[0] == "resnet18"
    assert "unknown model 'resnet81'; closest: resnet18" in str(error)
    assert str(error).endswith("See the list.")


def test_nothing_is_close_to_nonsense():
    assert closest("zzzzzz", ["resnet18"]) == ()


def test_missing_extra_names_the_pip_command():
    assert "pip install 'devprof[report]'" in str(MissingExtraError("report", "altair", "a page"))


def test_the_tracer_is_devprofs_own():
    assert resolve("tracer").__module__ == "devprof.tracing"


def test_an_unknown_extension_point_is_named():
    with pytest.raises(UnknownNameError, match="extension point 'trcer'; closest: tracer"):
        resolve("trcer")


def test_an_installed_extension_replaces_the_own_one(monkeypatch):
    entry = importlib.metadata.EntryPoint("tracer", "json:loads", "devprof.extensions")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [entry])
    assert resolve("tracer").__name__ == "loads"


def test_a_broken_extension_is_an_error_that_names_it(monkeypatch):
    entry = importlib.metadata.EntryPoint("tracer", "no_such_module:x", "devprof.extensions")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [entry])
    with pytest.raises(DevprofError, match="no_such_module:x"):
        resolve("tracer")
