"""Fixtures that every test may use; nothing here touches the network or the user's own folders."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from strategies.compat import flower_offline_environment

LONGEST = (
    "test_demo",
    "test_docs",
    "test_measure_meters",
    "test_real_federation",
    "test_processes",
    "test_measure_faults",
    "test_flwr_run",
    "test_commands",
    "test_secure_federation",
)


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Caches and Flower's home belong to the session, never to the user."""
    os.environ["DEVPROF_CACHE"] = str(tmp_path_factory.mktemp("devprof-cache"))
    os.environ["FLWR_HOME"] = str(tmp_path_factory.mktemp("flwr-home"))
    os.environ.update(flower_offline_environment())


@pytest.fixture
def flower_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment for ``flwr run``: offline, a home and a port of its own; what it leaves running is stopped by process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path / "flower"
    home.mkdir()
    own = {
        **flower_offline_environment(),
        "FLWR_HOME": str(home),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(port),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    yield os.environ | own
    marker = f"FLWR_HOME={home}".encode()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if marker in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0") and process.pid != os.getpid():
                process.kill()


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests with real processes wait for each other most of the time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no worker ends long after the others."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
