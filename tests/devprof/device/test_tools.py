import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.device import tools


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
