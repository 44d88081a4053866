import pytest
from fake_boards import FakeBoard

from devprof import machine


@pytest.fixture
def board(tmp_path, monkeypatch):
    return FakeBoard(tmp_path, monkeypatch)


def test_the_device_tree_is_read_below_the_root_of_sysfs(board, tmp_path, monkeypatch):
    base = tmp_path / "sys" / "firmware" / "devicetree" / "base"
    base.mkdir(parents=True)
    (base / "compatible").write_bytes(b"nvidia,p3767-0000\0nvidia,tegra234\0")
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path / "sys"))
    assert machine.compatible() == ("nvidia,p3767-0000", "nvidia,tegra234")
    assert machine.is_tegra()
    assert not machine.is_raspberry_pi()


def test_a_tool_is_asked_with_its_arguments(board):
    board.tool("say", 'echo "$1-$2"')
    assert machine.ask("say", "a", "b") == "a-b\n"


def test_a_tool_that_is_absent_fails_or_cannot_be_started_says_nothing(board):
    assert machine.ask("absent") is None
    board.tool("failing", "echo something; exit 3")
    assert machine.ask("failing") is None
    board.write("bin/damaged", "no program")
    (board.folder / "bin" / "damaged").chmod(0o755)
    assert machine.ask("damaged") is None


def test_a_tool_that_hangs_is_ended(board, monkeypatch):
    monkeypatch.setattr(machine, "_TIMEOUT_S", 0.05)
    board.tool("hanging", "while :; do :; done")
    assert machine.ask("hanging") is None


def test_a_tool_that_speaks_no_unicode_is_read(board):
    board.tool("odd", r"printf '\377x'")
    assert machine.ask("odd") == "\ufffdx"
