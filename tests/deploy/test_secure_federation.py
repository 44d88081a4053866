"""Keys from ``deploy/make-keys``, a SuperLink that asks for them, and who gets in."""

import os
import subprocess
from pathlib import Path

import pytest

from devprof.errors import DevprofError
from strategies.processes import LocalFederation, NodeSpec, TlsFiles

ROOT = Path(__file__).parents[2]
NAMES = ("pi-1", "pi-2", "stranger", "early")
# An app that asks every node who it is.
PROJECT = """
[project]
name = "roll-call"
version = "1.0.0"
description = "Who is there?"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "tests"

[tool.flwr.app.components]
serverapp = "roll_call:server"
clientapp = "roll_call:client"

[tool.flwr.app.config]
"""
APP = """
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

server = ServerApp()
client = ClientApp()


@client.query()
def answer(message, context):
    return Message(RecordDict({"who": ConfigRecord(context.node_config)}), reply_to=message)


@server.main()
def ask(grid, context):
    names = {node.node_id: node.name for node in grid.get_nodes()}
    asked = [Message(RecordDict(), node, MessageType.QUERY) for node in names]
    for reply in grid.send_and_receive(asked):
        print("registered", names[reply.metadata.src_node_id], "device", reply.content["who"]["device"], flush=True)
"""
# The process's clock runs ahead, as that of a board that never asked for the time.
AHEAD = """
import datetime

class Ahead(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds={seconds})

datetime.datetime = Ahead
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    subprocess.run([ROOT / "deploy" / "make-keys", "--folder", folder, "--host", "localhost", *NAMES], check=True)
    return folder


@pytest.fixture(scope="module")
def node(folder):
    def make(name, **options):
        return NodeSpec(name, {"device": name}, private_key=folder / "nodes" / name, **options)

    return make


@pytest.fixture(scope="module")
def federation(folder, node, tmp_path_factory):
    nodes = [node("pi-1"), node("pi-2")]
    with LocalFederation(tmp_path_factory.mktemp("federation"), nodes, tls=TlsFiles.in_folder(folder)) as running:
        yield running


def test_registered_nodes_take_part_in_a_run_under_their_names(federation, tmp_path):
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "roll_call.py").write_text(APP)
    ended = federation.run(tmp_path, {}, timeout_s=240)
    assert ended.ok, ended.log
    for name in ("pi-1", "pi-2"):
        assert f"registered {name} device {name}" in ended.log


def test_an_unknown_key_is_refused(federation, node):
    with pytest.raises(DevprofError, match=r"(?s)stranger ended with exit code 1 .*Failed to activate SuperNode"):
        federation.start_node(node("stranger"), register=False)
    assert len(federation.online()) == 2
    assert "No SuperNode found with the given public key" in federation.logs("superlink").read_text()


@pytest.mark.parametrize(("seconds", "gets_in"), [(3, True), (20, False)])
def test_a_clock_that_is_ahead_is_forgiven_a_little_only(federation, node, tmp_path, seconds, gets_in):
    (tmp_path / "sitecustomize.py").write_text(AHEAD.format(seconds=seconds))
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    early = node("early", environment=environment)
    if gets_in:
        federation.start_node(early)
        federation.stop_node("early")
    else:
        # It says nothing of the reason, and ends as if it had been asked to: services must restart it always.
        with pytest.raises(DevprofError, match=r"(?s)early ended with exit code 0 .*terminated gracefully"):
            federation.start_node(early)
        assert '"POST /v1/fleet/activate-node HTTP/1.1" 401' in federation.logs("superlink").read_text()
