"""What a sweep survives: a full disk, being killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devprof.records import Measurement
from devprof.store.folder import read_records

ROOT = Path(__file__).parents[3]
DEVPROF = [sys.executable, "-c", "import sys; from devprof.cli import main; sys.exit(main())"]

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def measure(output, *options):
    command = [*DEVPROF, "measure", "seed:net", "--batch-size", "1,2", "--min-time", "50ms", "-o", str(output)]
    return subprocess.run([*command, *options], capture_output=True, text=True)


def test_a_full_disk_ends_the_sweep_with_a_reason_and_it_goes_on_when_there_is_room(small_disk):
    output = small_disk / "runs"
    output.mkdir()
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        while True:
            try:
                os.write(file.fileno(), b"x" * 4096)
            except OSError:
                break
        os.ftruncate(file.fileno(), filler.stat().st_size - 4096)
    full = measure(output)
    assert full.returncode == 1
    assert "No space left" in full.stderr
    assert not list(output.rglob(".*"))
    filler.unlink()
    again = measure(output, "--json")
    assert again.returncode == 0, again.stderr
    assert len(read_records(output, "runs", Measurement)) == 2
    assert json.loads(again.stdout)["configurations"] == 2


def test_a_sweep_that_is_killed_again_and_again_loses_nothing():
    script = ROOT / "benchmarks" / "kills.py"
    done = subprocess.run([sys.executable, str(script), "--quick"], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["times_a_finished_run_was_lost"] == 0
    assert result["runs_twice"] == 0
    assert result["unreadable_files"] == 0
    assert result["exit_code_of_the_resumed_sweep"] == 0
    assert result["configurations_completed"] == result["configurations"] == 6
