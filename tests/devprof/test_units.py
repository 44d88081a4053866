import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.units import format_bytes, format_joules, format_seconds, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("250ms", 0.25), ("2min", 120), ("2 m", 120), ("1.5", 1.5), ("1h", 3600), (".5s", 0.5)],
)
def test_durations_are_read(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "10 parsecs", "1e999s", "ten"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"10s|unit|finite"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "size"), [("2G", 2 << 30), ("2GB", 2 * 10**9), ("512MiB", 512 << 20), ("1024", 1024), ("1k", 1024)]
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "-1", "3 apples", "1e999G"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=r"quantity|unit|finite"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0 s"),
        (0.0012, "1.2 ms"),
        (3.456, "3.46 s"),
        (600, "10 min"),
        (0.9996, "1 s"),
        (0.0009997, "1 ms"),
        (7200, "2 h"),
        (3.6e6, "1000 h"),
        (-0.5, "-500 ms"),
        (2e-6, "2 µs"),
        (3e-9, "3 ns"),
    ],
)
def test_durations_are_shown_with_three_digits(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "–"),
        (12, "12 B"),
        (1536, "1.5 KiB"),
        (3 << 20, "3 MiB"),
        (5 << 30, "5 GiB"),
        (1010 << 20, "0.986 GiB"),
        (1023, "1023 B"),
        (5000 << 30, "5000 GiB"),
    ],
)
def test_sizes_are_shown_in_binary_units(size, text):
    assert format_bytes(size) == text


@given(st.text(max_size=20))
def test_parsers_raise_value_error_or_return_a_finite_quantity(text):
    for parse in (parse_seconds, parse_bytes):
        with contextlib.suppress(ValueError):
            assert 0 <= parse(text) < math.inf


@pytest.mark.parametrize(
    ("energy_j", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0 J"),
        (2.5e-7, "0.25 µJ"),
        (0.0202, "20.2 mJ"),
        (0.9996, "1 J"),
        (1.25, "1.25 J"),
        (4.2e6, "4.2 MJ"),
        (3e12, "3000 GJ"),
    ],
)
def test_energies_for_people(energy_j, text):
    assert format_joules(energy_j) == text
