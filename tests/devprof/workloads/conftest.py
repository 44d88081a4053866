"""Factories as a user writes them, without a file on disk."""

import sys
import types

import pytest


@pytest.fixture
def factory(monkeypatch):
    """Names a callable so that the catalogue can import it."""

    def name_it(make):
        module = types.ModuleType("own_models")
        module.make = make
        monkeypatch.setitem(sys.modules, "own_models", module)
        return "own_models:make"

    return name_it
