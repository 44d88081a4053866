from pathlib import Path

import pytest
import tomllib
from hypothesis import given
from hypothesis import strategies as st

from strategies.commandlines import (
    NodeSpec,
    TlsFiles,
    connection_file,
    superlink_line,
    supernode_line,
    toml_lines,
)

TLS = TlsFiles.in_folder(Path("/keys"))
# TOML, like UTF-8, has no lone surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT


@given(st.dictionaries(TEXT, SCALARS))
def test_every_value_comes_back_from_its_toml_line(values):
    read = tomllib.loads(toml_lines(values))
    assert read == values
    assert {key: type(value) for key, value in read.items()} == {key: type(value) for key, value in values.items()}


def test_what_flower_does_not_take_is_refused_by_name():
    with pytest.raises(TypeError, match="tags is a list"):
        toml_lines({"tags": ["a"]})


@pytest.mark.parametrize("name", ["", "a b", "../a", "superlink", "run-1", "-a", "a/b"])
def test_a_name_that_cannot_be_a_file_or_is_taken_is_refused(name):
    with pytest.raises(ValueError, match="no name for a node"):
        NodeSpec(name)


def line(spec, tls=None, node_config=None):
    return supernode_line(spec, tls, superlink="127.0.0.1:1", port=2, node_config=node_config)


def test_without_tls_both_sides_say_that_they_are_insecure():
    assert "--insecure" in superlink_line(1, None)
    assert "--insecure" in line(NodeSpec("a"))
    assert tomllib.loads(connection_file("here", "127.0.0.1:1", None))["superlink"] == {
        "default": "here",
        "here": {"address": "127.0.0.1:1", "insecure": True},
    }


def test_with_tls_nothing_is_insecure_and_nodes_authenticate():
    superlink, supernode = superlink_line(1, TLS), line(NodeSpec("a", private_key=Path("/keys/nodes/a")), TLS)
    assert "--insecure" not in superlink + supernode
    assert "--enable-supernode-auth" in superlink
    assert supernode[supernode.index("--auth-supernode-private-key") + 1] == "/keys/nodes/a"
    assert supernode[supernode.index("--root-certificates") + 1] == "/keys/ca.crt"
    assert tomllib.loads(connection_file("a", "h:1", TLS))["superlink"]["a"]["root-certificates"] == "/keys/ca.crt"


def test_with_tls_a_node_needs_a_key():
    with pytest.raises(ValueError, match="deploy/make-keys"):
        line(NodeSpec("a"), TLS)


def test_limits_are_held_by_the_emulation():
    words = line(NodeSpec("a", cpus=0.5, memory_bytes=1 << 30))
    assert words[1:9] == ["-m", "devprof", "emulate", "--cpus", "0.5", "--memory", "1073741824", "--"]
    assert words[9] == "flower-supernode"
    assert line(NodeSpec("a"))[0] == "flower-supernode"
