import math

import pytest
from fake_boards import FakeBoard
from hypothesis import given
from hypothesis import strategies as st

from devprof.device import tools


@pytest.fixture
def board(tmp_path, monkeypatch):
    return FakeBoard(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("text", "hz"),
    [
        ("frequency(48)=1500398464\n", 1500398464.0),
        ("frequency(0)=2400023808", 2400023808.0),
        ("frequency (48) = 600000000", 600e6),
        ("frequency(48)=0", None),
        ("frequency(48)=", None),
        ("frequency(48)=1500398464150039846415003984641500398464", None),
        ('error=2 error_msg="Invalid arguments"', None),
        ("", None),
    ],
)
def test_variants_of_the_clock(text, hz):
    assert tools.vcgencmd_frequency_hz(text) == hz


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("throttled=0x50005\n", 0x50005),
        ("throttled=0x0", 0),
        ("Throttled = 0X80008", 0x80008),
        ("throttled=50005", 0x50005),
        ("throttled=", None),
        ("throttled=0x123456789", None),
        ("VCHI initialization failed", None),
    ],
)
def test_variants_of_the_flags(text, flags):
    assert tools.vcgencmd_throttled(text) == flags


@given(st.text() | st.from_regex(r"(frequency\(\d*\)|throttled) ?= ?(0x)?\w*"))
def test_no_answer_makes_the_readers_raise(text):
    hz, flags = tools.vcgencmd_frequency_hz(text), tools.vcgencmd_throttled(text)
    assert hz is None or (hz > 0 and math.isfinite(hz))
    assert flags is None or 0 <= flags < 1 << 32


def test_a_tool_is_asked_with_its_arguments(board):
    board.tool("say", 'echo "$1-$2"')
    assert tools.ask("say", "a", "b") == "a-b\n"


def test_a_tool_that_is_absent_fails_or_cannot_be_started_says_nothing(board):
    assert tools.ask("absent") is None
    board.tool("failing", "echo something; exit 3")
    assert tools.ask("failing") is None
    board.write("bin/damaged", "no program")
    (board.folder / "bin" / "damaged").chmod(0o755)
    assert tools.ask("damaged") is None


def test_a_tool_that_hangs_is_ended(board, monkeypatch):
    monkeypatch.setattr(tools, "_TIMEOUT_S", 0.05)
    board.tool("hanging", "while :; do :; done")
    assert tools.ask("hanging") is None


def test_a_tool_that_speaks_no_unicode_is_read(board):
    board.tool("odd", r"printf '\377x'")
    assert tools.ask("odd") == "\ufffdx"
