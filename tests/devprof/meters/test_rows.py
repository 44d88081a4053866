import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters.base import Channel, MeterError
from devprof.meters.quantities import QUANTITIES, Part, Recipe, unit_factor
from devprof.meters.rowclock import RowClock, parse_iso8601_ns
from devprof.meters.rows import RowError, RowFormat, RowParser

S = 10**9


def learned(header, **options):
    parser = RowParser(RowFormat(wants_time=True, **options))
    assert parser.offer(header)
    return parser


@pytest.mark.parametrize(
    ("header", "row", "kind", "value", "time"),
    [
        ("time,power", "1.5,3.25", "sensor", 3.25, "1.5"),
        ("Time (s),Power (mW),Energy (mWh)", "1,3250,7", "sensor", 3.25, "1"),
        (
            "timestamp sample_in_packet voltage_V current_A dp_V dn_V temp_C_ema energy_Ws capacity_As",
            "1767225600.25 3 5.00 0.500 0.1 0.2 21.5 12 3",
            "sensor",
            2.5,
            "1767225600.25",
        ),
        ("timestamp;voltage;current_ma", "x;5;500", "sensor", 2.5, "x"),
        ("Timestamp\tU[V]\tI[A]\tP[W]", "7\t5\t1\t4.5", "sensor", 4.5, "7"),
        ('"time","watts"', '"1","2"', "sensor", 2.0, "1"),
        ("W", "12.5", "sensor", 12.5, None),
        ("Power (mW)", "12.5", "sensor", 0.0125, None),
        ("3.5 W", "4.5 W", "sensor", 4.5, None),
        ("ms,kW", "10,0.5", "sensor", 500.0, "10"),
        ("# elapsed ms, total power uW", "10,5e6", "sensor", 5.0, "10"),
        ("\ufefftime,energy_wh", "1,2", "counter", 7200.0, "1"),
        ("energy", "3", "counter", 3.0, None),
        ("power, power_factor, ch2_power, vrms, ac_current", "3,0.9,8,1,1", "sensor", 3.0, None),
        ("time,power,", "1,2", "sensor", 2.0, "1"),
        ("time,power", "1,2,", "sensor", 2.0, "1"),
        ("date,time,power", "a,b,2", "sensor", 2.0, None),
    ],
)
def test_headers_say_which_column_is_which(header, row, kind, value, time):
    parser = learned(header)
    assert [recipe.channel.kind for recipe in parser.recipes] == [kind]
    parsed = parser.parse(row)
    assert parsed.values == (pytest.approx(value),)
    assert parsed.time == time


@pytest.mark.parametrize(
    "header",
    ["time,temperature", "voltage,time", "power_factor", "1,2,3", "apparent_power", "", "Watt-hours", "P/s", "VA"],
)
def test_what_is_not_known_is_not_guessed(header):
    assert not RowParser(RowFormat()).offer(header)


def test_two_columns_of_the_same_meaning_are_an_error():
    with pytest.raises(MeterError, match=r"several columns could be meant: power, total power.*toml:FILE"):
        RowParser(RowFormat()).offer("power,total power")


def test_rows_with_units_need_no_header():
    parser = RowParser(RowFormat())
    assert parser.offer("5.00V 500mA")
    assert parser.parse("5.10V 500mA").values == (pytest.approx(2.55),)
    assert parser.parse("5.10V 0.4A").values == (pytest.approx(2.04),)
    with pytest.raises(RowError, match="no current"):
        parser.parse("5.10V 0.4W")


def test_a_single_number_is_watts():
    parser = RowParser(RowFormat())
    assert parser.offer("4.75")
    assert parser.parse("4.50").values == (4.5,)


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "-inf", "OL", "--", "null", "9.91E37", "-9.9e+37", "1e999", "n/a"])
def test_a_meter_without_a_value_is_a_break_and_no_error(cell):
    assert learned("time,power").parse(f"1,{cell}").values == (None,)
    assert learned("voltage,current").parse(f"5,{cell}").values == (None,)


@pytest.mark.parametrize(
    "row", ["1", "1,2,3", "1,x", "1,0x10", "1,1_0", "1,٣", "1,2,3,4", "one,two", "1,1.2.3", "1,5 V"]
)
def test_malformed_rows_are_errors(row):
    with pytest.raises(RowError):
        learned("time,power").parse(row)


def test_blank_lines_comments_and_repeated_headers_are_left_out():
    parser = learned("time,power")
    for line in ("", "  ", "# resumed", "time,power", "Power,Time"):
        assert parser.parse(line) is None
    # The last header put the columns the other way round.
    assert parser.parse("3,1").values == (3.0,)


def test_a_header_of_other_columns_is_no_row():
    with pytest.raises(RowError):
        learned("time,power").parse("time,energy")


def test_columns_by_name_and_position_and_a_decimal_comma():
    channels = (
        Recipe(Channel("usb", "sensor"), (Part("voltage", "U"), Part("current", "I", factor=1e-3))),
        Recipe(Channel("mains", "counter"), (Part("energy", "", 4, 3600.0),)),
    )
    parser = RowParser(
        RowFormat(channels, Part("time", "when"), delimiter=";", decimal=",", columns=("when", "u", "i", ""))
    )
    assert parser.bound
    row = parser.parse("17,5;5,0;250;0,5")
    assert (row.time, row.values) == ("17.5", (1.25, 1800.0))


def test_columns_by_position_skip_the_header():
    parser = RowParser(RowFormat((Recipe(Channel("a", "sensor"), (Part("power", "", 2),)),)))
    assert parser.bound
    assert parser.parse("when watt") is None
    assert parser.parse("1 2.5 more").values == (2.5,)
    with pytest.raises(RowError, match="only 1 cells"):
        parser.parse("7")


def test_named_columns_that_are_not_there():
    form = RowFormat((Recipe(Channel("a", "sensor"), (Part("power", "P"),)),))
    parser = RowParser(form)
    assert not parser.offer("time,Q")
    assert not parser.bound
    with pytest.raises(RowError, match="no header"):
        parser.parse("1,2")
    with pytest.raises(MeterError, match="do not hold"):
        RowParser(RowFormat(form.recipes, columns=("a", "b")))


@given(
    st.text() | st.from_regex(r"([\d.eE+-]{0,9}[ ,;\t]?(W|mA|V|power|time|nan)?[ ,;\t]?){0,6}", fullmatch=True),
    st.booleans(),
)
def test_no_line_makes_the_parser_fail_otherwise(line, known):
    parser = learned("time,voltage,current") if known else RowParser(RowFormat())
    try:
        if not known and not parser.offer(line):
            return
        row = parser.parse(line)
    except (RowError, MeterError):
        return
    assert row is None or all(value is None or math.isfinite(value) for value in row.values)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5),
    st.sampled_from("\t;, "),
    st.data(),
)
def test_numbers_survive_in_every_place_delimiter_and_unit(values, delimiter, data):
    units = data.draw(st.lists(st.sampled_from(list(QUANTITIES["power"])), min_size=len(values), max_size=len(values)))
    recipes = tuple(
        Recipe(Channel(f"c{place}", "sensor"), (Part("power", f"c{place}", factor=QUANTITIES["power"][unit]),))
        for place, unit in enumerate(units)
    )
    parser = RowParser(RowFormat(recipes, columns=tuple(f"c{place}" for place in range(len(values)))))
    row = parser.parse(delimiter.join(repr(value) for value in values) if len(values) > 1 else repr(values[0]))
    assert row.values == tuple(value * QUANTITIES["power"][unit] for value, unit in zip(values, units, strict=True))


@pytest.mark.parametrize(
    ("quantity", "unit", "factor"),
    [
        ("power", "mW", 0.001),
        ("power", "w", 1.0),
        ("power", "MW", None),
        ("energy", "mWh", 3.6),
        ("energy", "KWH", 3600000.0),
        ("current", "µA", 1e-06),
        ("current", "W", None),
        ("energy", "Wmin", 60.0),
    ],
)
def test_units(quantity, unit, factor):
    assert unit_factor(quantity, unit) == factor


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01 00:00:01.5", 1_500_000_000),
        ("1970-01-01T01:00:00,000000001+01:00", 1),
        ("1970-01-01T00:30+0030", 0),
        ("1969-12-31T23:30:00-00:30", 0),
        ("2016-12-31T23:59:60Z", 1483228800 * S),
        ("2026-01-31T12:00:00.123456789Z", 1769860800 * S + 123456789),
        ("2026-02-30T12:00:00Z", None),
        ("2026-01-31T12:00:00+99:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("12:00:00", None),
        ("", None),
    ],
)
def test_iso_8601(text, ns):
    assert parse_iso8601_ns(text) == ns


def test_local_time(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "Etc/GMT-2")
    time.tzset()
    try:
        assert parse_iso8601_ns("1970-01-01T02:00:01", local=True) == S
        assert parse_iso8601_ns("1970-01-01T02:00:01Z", local=True) == 7201 * S
    finally:
        monkeypatch.undo()
        time.tzset()


class Clocks:
    """A monotonic clock and that of the day, both under control."""

    def __init__(self, monotonic_s=1000, utc_s=1_767_225_600):
        self.now_ns, self.utc_ns = monotonic_s * S, utc_s * S

    def row_clock(self, kind, unit_ns=S):
        return RowClock(kind, unit_ns, now=lambda: self.now_ns, utc=lambda: self.utc_ns)

    def pass_s(self, seconds):
        self.now_ns += round(seconds * S)
        self.utc_ns += round(seconds * S)


@pytest.mark.parametrize(
    ("text", "unit_ns"),
    [
        ("1767225600.125", S),
        ("1767225600125", 10**6),
        ("1767225600125000000", 1),
        ("2026-01-01T00:00:00.125Z", S),
        ("2026-01-01 01:00:00.125+0100", S),
    ],
)
def test_the_time_of_day_becomes_monotonic(text, unit_ns):
    clock = Clocks().row_clock("utc", unit_ns)
    assert clock.stamp(text, 1000 * S + 2 * S) == (1000 * S + 125_000_000, False)


@pytest.mark.parametrize(
    ("text", "kind", "t_ns"),
    [
        ("1767225600.125", "utc", 1000 * S + 125_000_000),
        ("1767225600125", "utc", 1000 * S + 125_000_000),
        ("1767225600125000", "utc", 1000 * S + 125_000_000),
        ("1767225600125000000", "utc", 1000 * S + 125_000_000),
        ("2026-01-01T00:00:00.125", "utc", 1000 * S + 125_000_000),
        ("1234.5", "relative", 1001 * S),
    ],
)
def test_the_clock_of_a_file_is_found_out(text, kind, t_ns):
    clock = Clocks().row_clock("auto")
    assert clock.stamp(text, 1001 * S) == (t_ns, False)
    assert clock.kind == kind


def test_a_clock_that_was_set_is_noticed_and_one_that_is_slewed_is_not():
    clocks = Clocks()
    clock = clocks.row_clock("utc")
    for _ in range(100):
        clocks.pass_s(1)
        clocks.utc_ns += 500_000
        assert not clock.stepped()
    assert clock.stamp("1767225700.05", clocks.now_ns) == (1100 * S, False)
    clocks.pass_s(0.05)
    clocks.utc_ns += 2 * S
    assert clock.stepped()
    assert not clock.stepped()
    assert clock.stamp("1767225702.10", clocks.now_ns) == (1100 * S + 50_000_000, False)


def test_a_wrong_zone_is_told():
    clock = Clocks().row_clock("utc")
    with pytest.raises(RowError, match="3600 s behind its arrival: another zone"):
        clock.stamp("2025-12-31T23:00:00", 1000 * S)
    with pytest.raises(RowError, match="7200 s ahead of its arrival"):
        clock.stamp("2026-01-01T02:00:00", 1000 * S)


def test_time_since_the_start_is_anchored_and_survives_a_restart():
    clock = Clocks().row_clock("relative", 10**6)
    assert clock.stamp("5000", 100 * S) == (100 * S, False)
    assert clock.stamp("5500", 101 * S) == (100 * S + S // 2, False)
    assert clock.stamp("5400", 101 * S) == (100 * S + 4 * S // 10, False)
    assert clock.stamp("100", 102 * S) == (102 * S, True)
    assert clock.stamp("1100", 103 * S) == (103 * S, False)
    # It jumped an hour ahead: this cannot be the same clock.
    assert clock.stamp("3601100", 104 * S) == (104 * S, True)


def test_the_monotonic_clock_and_arrival():
    clocks = Clocks()
    assert clocks.row_clock("monotonic").stamp("999.9", 1000 * S) == (999_900_000_000, False)
    assert clocks.row_clock("arrival").stamp("whatever", 7) == (7, False)
    assert clocks.row_clock("utc").stamp(None, 7) == (7, False)


@given(st.text() | st.from_regex(r"[+-]?\d{0,30}\.?\d{0,30}([eE][+-]?\d{1,3})?", fullmatch=True))
@pytest.mark.parametrize("kind", ["utc", "auto", "relative", "monotonic"])
def test_no_time_makes_the_clock_fail_otherwise(kind, text):
    clock = Clocks().row_clock(kind)
    try:
        t_ns, _ = clock.stamp(text, 1000 * S)
    except RowError:
        return
    assert isinstance(t_ns, int)
