"""Fixtures that every test may use; nothing here touches the network or the user's own folders."""

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Caches and Flower's home belong to the session, never to the user."""
    os.environ["DEVPROF_CACHE"] = str(tmp_path_factory.mktemp("devprof-cache"))
    os.environ["FLWR_HOME"] = str(tmp_path_factory.mktemp("flwr-home"))
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
