"""The whole way with real processes: the command line, a SuperLink, two SuperNodes, of which one refuses."""

import json
import os
import subprocess
import sys

import pytest

from devprof.records import Measurement, StepTime
from devprof.store.folder import read_records
from strategies.processes import LocalFederation, NodeSpec

pytestmark = pytest.mark.slow


def test_a_fleet_is_measured_through_the_command_line(tmp_path):
    nodes = [
        NodeSpec("one", {"device-id": "pi-1", "device": "board"}),
        NodeSpec("two", {"device-id": "pi-2", "devprof-fleet": "no"}),
    ]
    with LocalFederation(tmp_path / "federation", nodes) as federation:
        words = [
            "seed:net",
            "--image-size",
            "8",
            "--batch-size",
            "4",
            "--min-time",
            "0.1s",
            "--deadline",
            "200s",
            "--min-nodes",
            "2",
        ]
        command = [sys.executable, "-m", "devprof", "fleet", "measure", *words, "-o", str(tmp_path / "runs"), "--json"]
        environment = os.environ | {"FLWR_HOME": str(federation.home)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert result["shared"]
    first, second = result["nodes"]
    assert (first["node"], first["device"], first["delivered"], first["rows_ok"]) == ("pi-1", "board", True, 1), (
        done.stderr
    )
    assert (second["node"], second["delivered"], second["rows_failed"]) == ("pi-2", False, 1)
    assert "devprof-fleet" in second["message"]
    ok, failed = sorted(read_records(tmp_path / "runs", "runs", Measurement), key=lambda run: run.status == "error")
    assert (ok.status, ok.device, ok.device_key) == ("ok", "board", first["device_key"])
    assert (failed.status, failed.device_key, failed.configuration) == ("error", second["device_key"], ok.configuration)
    assert {step.run_id for step in read_records(tmp_path / "runs", "steps", StepTime)} == {ok.run_id}
