"""Whole files of loggers, read after the fact."""

import pytest
from fake_meters_log import NS, UTC_NS, Logger, Power, write_log
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters.base import MeterError, Reading
from devprof.meters.clocks import OffsetEstimate, map_between
from devprof.meters.described import read_description
from devprof.meters.logfile import read_log


@pytest.fixture
def log_of(tmp_path):
    def read(text, description=None, **options):
        path = tmp_path / "log.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        if description is None:
            return read_log(path, **options)
        (tmp_path / "meter.toml").write_text('format = 1\nsource = "csv:x"\n' + description)
        return read_log(path, read_description(str(tmp_path / "meter.toml"))[1], **options)

    return read


def rows(first=0, count=20, step=1):
    return "".join(f"{first + number * step},{number}.5\n" for number in range(count))


def test_a_header_says_what_the_columns_are(log_of):
    log = log_of("time (ms),power (mW)\n" + rows(step=20))
    assert log.clock == "relative"
    assert log.t_ns[:3] == [0, 20_000_000, 40_000_000]
    assert log.values[1] == (0.0015,)
    assert (log.period_s, log.update_s, log.place) == (0.02, 0.0, "log.csv")
    assert (log.info.source, log.info.rule, log.info.period_s) == ("csv", "rows-sum/1", 0.05)


@pytest.mark.parametrize("style", ["iso", "relative"])
def test_dates_are_recognised(tmp_path, style):
    logger = Logger(Power([]), UTC_NS, period_s=0.25)
    log = read_log(write_log(tmp_path / "log.csv", logger, 10.0, style))
    assert log.clock == "utc"
    assert log.t_ns == [UTC_NS + number * NS // 4 for number in range(40)]


def test_rows_without_a_time_need_their_period(log_of):
    text = "Power (W)\n" + "5.0\nbad\n" * 10
    with pytest.raises(MeterError, match=r"have no time.*--period 10ms"):
        log_of(text)
    log = log_of(text, period_s=0.5)
    assert log.clock == "rows"
    # A row that cannot be read took its time as well.
    assert log.t_ns[:3] == [0, NS, 2 * NS]
    assert log.unreadable == 10
    assert "bad" in log.last_unreadable


def test_a_period_goes_before_a_time(log_of):
    assert log_of("time,power\n" + rows(first=70), period_s=0.1).t_ns[:2] == [0, NS // 10]


def test_a_file_without_a_header_is_described(log_of):
    log = log_of(
        rows().replace(",", ";"),
        'model = "FNB58"\nupdate_s = 0.04\ndelimiter = ";"\n[time]\nclock = "relative"\ncolumn = 1\n[[channels]]\npower = 2\n',
    )
    assert (log.detail, log.update_s, log.info.detail) == ("FNB58", 0.04, "FNB58, log.csv")
    assert log.values[3] == (3.5,)


def test_the_last_row_may_have_no_end_and_lines_may_end_as_on_windows(log_of):
    log = log_of(("time,power\n" + rows()).replace("\n", "\r\n").removesuffix("\r\n"))
    assert len(log.t_ns) == 20


def test_rows_whose_time_does_not_advance_are_left_out_and_counted(log_of):
    text = "time,power\n" + "".join(f"{number // 2},{number}\n" for number in range(30))
    log = log_of(text)
    assert (len(log.t_ns), log.left_out, log.restarts) == (15, 15, 0)


def test_a_logger_that_was_started_again_goes_on_later(log_of):
    log = log_of("time,power\n" + rows(count=15) + rows(count=15))
    assert log.restarts == 1
    assert log.t_ns[14:17] == [14 * NS, (14 + 3600) * NS, (15 + 3600) * NS]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0 rows that can be read: describe the columns"),
        ("time,power\n1,2\n", "has 1 rows that can be read"),
        ("time,power\n" + "x,y\n" * 20, "has 0 rows that can be read; the last one: "),
        ("a,b\n" * 2000, "does not say which column is the power: describe the columns"),
        ("time,power,power\n", "several columns could be meant"),
    ],
)
def test_a_file_that_says_too_little_is_refused(log_of, text, reason):
    with pytest.raises(MeterError, match=reason):
        log_of(text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(MeterError, match="cannot be read: No such file"):
        read_log(tmp_path / "none.csv")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_bytes(b"time,power\n" + b"".join(b"%d,1\n" % number for number in range(10)) + data)
    try:
        log = read_log(path)
    except MeterError:
        return
    assert list(log.t_ns) == sorted(set(log.t_ns))
    assert len(log.values) == len(log.t_ns) >= 10


TWO = """
[time]
column = "t"
[[channels]]
domain = "5v"
power = "a"
most_w = 100.0
[[channels]]
domain = "3v"
power = "b"
[[channels]]
domain = "part"
power = "c"
headline = false
"""


def test_the_total_is_the_sum_of_the_channels_that_belong_to_it_where_all_can_be_true(log_of):
    lines = [f"{number},2,{number},9" for number in range(12)]
    lines[3], lines[4], lines[5] = "3,nan,3,9", "4,500,4,9", "5,2,-3,9"
    t_ns, watts = log_of("t,a,b,c\n" + "\n".join(lines), TWO).total()
    assert [t // NS for t in t_ns] == [0, 1, 2, 6, 7, 8, 9, 10, 11]
    assert watts == [2.0 + t // NS for t in t_ns]


def test_the_power_of_a_counter_is_that_between_two_rows(log_of):
    joules = [0, 5, 10, 3, 8, 13, 18, 23, 28, 33, 38]
    t_ns, watts = log_of("time,energy (J)\n" + "".join(f"{at},{value}\n" for at, value in enumerate(joules))).total()
    assert watts == [5.0] * 9
    assert t_ns[:3] == [NS // 2, 3 * NS // 2, 7 * NS // 2]


def test_readings_are_on_the_local_clock_with_a_row_on_each_side(log_of):
    log = log_of("time,power\n" + rows(first=100))
    clock = map_between(OffsetEstimate(0, 90 * NS, 0))
    found = log.readings(clock, (12 * NS, 14 * NS))
    assert found == [Reading(t * NS, "device", power_w=t - 10 + 0.5) for t in range(11, 16)]
    assert [reading.t_ns for reading in log.readings(clock, (0, 9 * NS))] == [10 * NS]
