"""Meters that print rows: from a file, a named pipe, a socket and a serial line, short and described in a file."""

import itertools
import threading

import pytest
from fake_meters_external import CSV_HEADER, FifoLogger, FileLogger, Profile, SerialLogger, TcpLogger, row_csv, until
from hypothesis import given
from hypothesis import strategies as st

from devprof.errors import MissingExtraError
from devprof.meters import csvfile, described, lines, pipe, serialline
from devprof.meters.base import MeterError, MeterLostError, Reading, now_ns
from devprof.meters.rowmeter import Description, LineBuffer, open_rows
from devprof.meters.rows import RowFormat

S = 10**9
TWO_STEPS = Profile((0.5, 4.0), (0.5, 8.0))


def collect(meter, enough):
    """Read until ``enough`` readings came."""
    found = []

    def look():
        found.extend(meter.read())
        return len(found) >= enough

    until(look)
    return found


class Clock:
    """A monotonic clock under control; sleeping makes it go on."""

    def __init__(self):
        self.t_ns = 100 * S

    def __call__(self):
        return self.t_ns

    def sleep(self, seconds):
        self.t_ns += round(seconds * S)


class Source:
    """Lines that a test puts in."""

    name = "lines"
    place = "here"
    midway = False
    silence_s = 30.0

    def __init__(self, *later):
        self.later = list(later)
        self.closed = False

    def head(self):
        return []

    def lines(self):
        return self.later.pop(0) if self.later else []

    def close(self):
        self.closed = True


def opened(source, clock, **options):
    return open_rows(source, Description(**options), clock=clock, sleep=clock.sleep)


def test_rows_that_come_together_are_spread_over_the_time_since_the_last_look():
    clock, source = Clock(), Source(["power", "1"])
    meter = opened(source, clock)
    assert clock.t_ns == 100 * S
    clock.sleep(1)
    source.later = [["2", "3", "4"]]
    assert meter.read() == [
        Reading(100 * S + number * S // 4, "device", power_w=watts)
        for number, watts in enumerate((1.0, 2.0, 3.0, 4.0), 1)
    ]
    clock.sleep(1)
    assert meter.read() == []
    clock.sleep(0.5)
    source.later = [["5"]]
    assert meter.read() == [Reading(102 * S + S // 2, "device", power_w=5.0)]


def test_a_counter_begins_at_zero_and_a_reset_is_a_break():
    clock = Clock()
    source = Source(["energy_wh", "10", "10.5", "nan", "11", "11.25", "0.5", "0.75"])
    meter = opened(source, clock)
    clock.sleep(7)
    found = meter.read()
    assert [reading.energy_j for reading in found] == pytest.approx([0, 1800, None, 1800, 2700, None, 3600])
    assert all(reading.power_w is None for reading in found)
    assert meter.info.channels[0].kind == "counter"


def test_malformed_rows_are_counted_and_skipped():
    clock = Clock()
    meter = opened(Source(["time,power", "1,2", "1,x", "garbage", "2,3"]), clock)
    clock.sleep(1)
    assert [reading.power_w for reading in meter.read()] == [2.0, 3.0]
    assert meter.rejected == 2
    assert "garbage" in meter.last_rejected


def test_rows_that_are_never_right_are_an_error_that_says_why():
    clock = Clock()
    source = Source(["power"], *[["x1"]] * 20)
    meter = opened(source, clock)
    for _ in range(19):
        assert meter.read() == []
    with pytest.raises(MeterLostError, match=r"20 rows in a row could not be read.*'x1' is no power.*toml:FILE"):
        meter.read()


def test_silence_is_noticed():
    clock = Clock()
    meter = opened(Source(["power"]), clock)
    clock.sleep(30)
    assert meter.read() == []
    clock.sleep(1)
    with pytest.raises(MeterLostError, match="here has been silent for 30 s"):
        meter.read()


def test_waiting_for_a_header_ends():
    clock, source = Clock(), Source()
    with pytest.raises(MeterError, match="nothing came from here in 5 s: start its logger first"):
        opened(source, clock)
    assert clock.t_ns == pytest.approx(105 * S, abs=S // 10)
    assert source.closed
    with pytest.raises(MeterError, match=r"does not say which column is the power: '1,2'.*toml:FILE"):
        opened(Source(["1,2"]), Clock())
    with pytest.raises(MeterError, match="several columns"):
        opened(Source(["power,watts"]), Clock())


def test_the_first_line_may_be_the_end_of_one():
    clock, source = Clock(), Source(["5.5", "12.5", "12.75"])
    source.midway = True
    meter = opened(source, clock)
    clock.sleep(1)
    assert [reading.power_w for reading in meter.read()] == [12.5, 12.75]
    source = Source(["2.5,1", "2,3"])
    source.midway = True
    meter = opened(source, clock, form=RowFormat(columns=("power", "x")))
    assert [reading.power_w for reading in meter.read()] == [2.0]


def test_a_clock_that_is_set_makes_a_break():
    clock, utc_ns = Clock(), [2_000_000_000 * S]
    source = Source(["time,power"])
    description = Description(RowFormat(wants_time=True), clock="utc")
    meter = open_rows(source, description, clock=clock, utc=lambda: utc_ns[0])
    clock.sleep(1)
    utc_ns[0] += S
    source.later = [["2000000000.5,3"]]
    assert meter.read() == [Reading(100 * S + S // 2, "device", power_w=3.0)]
    clock.sleep(1)
    utc_ns[0] += 11 * S
    source.later = [["2000000001.5,4"]]
    assert meter.read() == [Reading(102 * S, "device")]
    assert meter.rejected == 1
    source.later = [["2000000012.0,5"]]
    assert meter.read() == [Reading(102 * S, "device", power_w=5.0)]


def test_a_logger_that_begins_anew_makes_a_break():
    clock = Clock()
    source = Source(["elapsed ms,power"], ["5000,1", "6000,2", "0,3", "1000,4"])
    meter = open_rows(source, Description(RowFormat(wants_time=True), clock="relative"), clock=clock)
    clock.sleep(4)
    t_ns = [(reading.t_ns, reading.power_w) for reading in meter.read()]
    assert t_ns == [(101 * S, 1.0), (102 * S, 2.0), (103 * S, None), (103 * S, 3.0), (104 * S, 4.0)]


@given(st.lists(st.binary(max_size=40)), st.binary(max_size=200))
def test_lines_do_not_depend_on_how_bytes_come(pieces, more):
    data = b"".join(pieces) + more
    together, one_by_one = LineBuffer(), LineBuffer()
    whole = together.add(data)
    assert [line for piece in (*pieces, more) for line in one_by_one.add(piece)] == whole
    assert all(line.strip() for line in whole)


def test_a_line_without_an_end_does_not_fill_memory():
    buffer = LineBuffer()
    found = [line for _ in range(50) for line in buffer.add(b"x" * 10_000)]
    assert found == ["x" * 80 + "..."]
    assert buffer.add(b"\n1,2\n3") == ["1,2"]


# Files


@pytest.fixture
def log(tmp_path):
    logger = FileLogger(tmp_path / "log.csv", TWO_STEPS)
    logger.begin()
    return logger


def test_a_file_is_followed_from_its_end_in_the_loggers_time(log):
    log.start_utc_s -= 1.0
    log.advance(0.2)
    before_ns = now_ns() - 1_000_000_000
    meter = csvfile.open_meter(str(log.path))
    assert meter.read() == []
    log.advance(0.99)
    found = meter.read()
    assert len(found) == 79
    assert [reading.power_w for reading in found] == pytest.approx([4.0] * 29 + [8.0] * 50)
    steps = {second.t_ns - first.t_ns for first, second in itertools.pairwise(found)}
    assert all(abs(step - 10_000_000) < 2000 for step in steps)
    assert abs(found[0].t_ns - (before_ns + 210_000_000)) < 500_000_000
    energy_j = sum(reading.power_w for reading in found) * 0.01
    assert energy_j == pytest.approx(log.profile.energy_j(1.0) - log.profile.energy_j(0.21))
    meter.close()
    meter.close()
    with pytest.raises(MeterLostError, match="is closed"):
        meter.read()


def test_what_a_meter_of_a_file_is(log):
    meter = csvfile.open_meter(str(log.path))
    assert meter.info.source == "csv"
    assert str(log.path) in meter.info.detail
    assert meter.info.notes[0] == "columns: device = voltage_V * current_A"
    assert meter.info.period_s == 0.05
    meter.close()


def test_rows_that_are_written_in_parts_are_read_whole(log):
    log.send("1767225600 0 5.0 0.")
    meter = csvfile.open_meter(str(log.path))
    log.start_utc_s, now = 0.0, log.start_utc_s
    assert meter.read() == []
    log.send(f"1 0 0 0 0 0\n{now:.3f} 0 5.0 0.5 0 0 0 0")
    assert meter.read() == []
    log.send(" 0\n")
    assert [reading.power_w for reading in meter.read()] == [2.5]
    # The first one was whole, but of another year.
    assert meter.rejected == 1
    meter.close()


def test_a_log_that_is_rotated_or_emptied_loses_no_row(log):
    meter = csvfile.open_meter(str(log.path))
    log.advance(0.05)
    log.send("12345")
    log.rotate()
    log.advance(0.10)
    assert len(meter.read()) == 11
    log.advance(0.12)
    assert len(meter.read()) == 2
    log.truncate()
    log.advance(0.13)
    assert len(meter.read()) == 1
    log.path.unlink()
    assert meter.read() == []
    log.path.write_text(log.header + "\n")
    log.advance(0.15)
    assert len(meter.read()) == 2
    assert meter.rejected == 0
    meter.close()


def test_an_energy_column_of_a_file(tmp_path):
    log = FileLogger(tmp_path / "log.csv", TWO_STEPS, row=row_csv, header="Time (s),Current,Energy (mWh)")
    log.begin()
    meter = csvfile.open_meter(str(log.path))
    log.advance(1.0)
    found = meter.read()
    assert found[0].energy_j == 0.0
    assert found[-1].energy_j == pytest.approx(6.0, abs=1e-5)
    assert found[-1].t_ns - found[0].t_ns == S
    meter.close()


def test_files_that_cannot_be_followed(tmp_path, log):
    with pytest.raises(MeterError, match=r"No such file.*start the logger first"):
        csvfile.open_meter(str(tmp_path / "absent.csv"))
    with pytest.raises(MeterError, match="needs a file"):
        csvfile.open_meter("")
    with pytest.raises(MeterError, match="is not a file"):
        csvfile.open_meter(str(tmp_path))
    fifo = FifoLogger(tmp_path / "fifo", TWO_STEPS)
    with pytest.raises(MeterError, match=f"pipe:{fifo.path}"):
        csvfile.open_meter(str(fifo.path))
    log.path.write_text("a,b\n1,2\n")
    with pytest.raises(MeterError, match="does not say which column"):
        csvfile.open_meter(str(log.path))


# Pipes


def test_a_pipe(tmp_path):
    logger = FifoLogger(tmp_path / "fifo", TWO_STEPS)
    opener = threading.Thread(target=lambda: (logger.open(), logger.begin(), logger.advance(0)))
    opener.start()
    meter = pipe.open_meter(str(logger.path))
    opener.join()
    assert [reading.power_w for reading in collect(meter, 1)] == [4.0]
    logger.advance(0.6)
    found = collect(meter, 60)
    assert [reading.power_w for reading in found] == pytest.approx([4.0] * 49 + [8.0] * 11)
    assert all(reading.t_ns <= now_ns() for reading in found)
    logger.send("1 2")
    logger.close()
    with pytest.raises(MeterLostError, match="has closed it"):
        until(meter.read)
    meter.close()
    with pytest.raises(MeterLostError, match="is closed"):
        meter.read()


def test_a_pipe_may_be_opened_before_its_writer_and_opened_again(tmp_path):
    logger = FifoLogger(tmp_path / "fifo", TWO_STEPS)
    description = tmp_path / "meter.toml"
    description.write_text(f'format = 1\nsource = "pipe:{logger.path}"\n[[channels]]\nvoltage = 3\ncurrent = 4\n')
    for _ in range(2):
        meter = described.open_meter(str(description))
        assert meter.read() == []
        logger.open()
        logger.rows = 0
        # The first row may be the end of one.
        logger.advance(0.02)
        assert [reading.power_w for reading in meter.read()] == [4.0, 4.0]
        logger.close()
        with pytest.raises(MeterLostError):
            meter.read()
        meter.close()


def test_pipes_that_are_none(tmp_path, log):
    with pytest.raises(MeterError, match="mkfifo"):
        pipe.open_meter(str(tmp_path / "absent"))
    with pytest.raises(MeterError, match=f"csv:{log.path}"):
        pipe.open_meter(str(log.path))
    with pytest.raises(MeterError, match="needs a path"):
        pipe.open_meter("")


# TCP


@pytest.fixture
def server():
    logger = TcpLogger(TWO_STEPS, greets=True)
    yield logger
    logger.close()


def test_rows_over_tcp(server):
    meter = lines.open_meter(server.address)
    until(lambda: server.clients)
    server.advance(0.6)
    found = collect(meter, 61)
    assert [reading.power_w for reading in found] == pytest.approx([4.0] * 50 + [8.0] * 11)
    assert meter.info.source == "lines"
    server.send("1 2 3")
    server.hang_up()
    with pytest.raises(MeterLostError, match="closed the connection"):
        until(meter.read)
    meter.close()
    meter.close()
    again = lines.open_meter(server.address)
    server.advance(0.7)
    assert len(collect(again, 10)) == 10
    again.close()


def test_addresses(server):
    for argument in ("", "host", ":5000", "host:0", "host:65536", "host:5x", "host:99999999999"):
        with pytest.raises(MeterError, match="lines:HOST:PORT"):
            lines.open_meter(argument)
    address = server.address
    server.close()
    with pytest.raises(MeterError, match=f"{address} cannot be reached"):
        lines.open_meter(address)


# Serial lines


@pytest.fixture
def line():
    logger = SerialLogger(
        Profile((1.0, 2.5)), header="V,A", row=lambda t_s, start, profile: f"5.0,{profile.power_w(t_s) / 5}"
    )
    yield logger
    logger.close()


def test_a_serial_line(line):
    meter = None
    opened = threading.Event()

    def write():
        # As boards do that restart when their port is opened: the header comes a moment later.
        while not opened.wait(0.02):
            line.begin()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        meter = serialline.open_meter(f"{line.port}@9600")
    finally:
        opened.set()
        writer.join()
    line.advance(0.2)
    assert {reading.power_w for reading in collect(meter, 21)} == {2.5}
    assert meter.rejected == 0
    assert meter.info.detail == f"{line.port} at 9600 baud"
    line.close()
    with pytest.raises(MeterLostError, match="is gone"):
        until(meter.read)
    meter.close()
    meter.close()


def test_serial_ports_that_cannot_be_opened(monkeypatch):
    with pytest.raises(MeterError, match="cannot be opened"):
        serialline.open_meter("/dev/ttyAbsent9")
    for argument in ("", "/dev/ttyUSB0@fast", "@9600"):
        with pytest.raises(MeterError, match="needs a port"):
            serialline.open_meter(argument)
    monkeypatch.setitem(__import__("sys").modules, "serial", None)
    with pytest.raises(MissingExtraError, match=r"devprof\[meter\]"):
        serialline.open_meter("/dev/ttyUSB0")


# Descriptions


def write(tmp_path, text, source):
    path = tmp_path / "meter.toml"
    path.write_text(f'format = 1\nsource = "{source}"\n{text}')
    return str(path)


def test_a_described_meter(tmp_path):
    log = FileLogger(tmp_path / "log.csv", TWO_STEPS, row=row_csv, header=CSV_HEADER)
    log.begin()
    path = write(
        tmp_path,
        """
        model = "Tester 5"
        serial = "0815"
        update_s = 0.04
        [time]
        clock = "relative"
        column = "Time (s)"
        [[channels]]
        domain = "usb"
        power = { column = 2, unit = "mW" }
        gain_rel = 0.005
        offset_w = 0.01
        quantum = 0.001
        [[channels]]
        domain = "count"
        headline = false
        update_s = 1
        energy = { column = "energy (mwh)", unit = "mWh" }
        """,
        f"csv:{log.path}",
    )
    meter = described.open_meter(path)
    usb, count = meter.info.channels
    assert (usb.kind, usb.update_s, usb.gain_rel, usb.offset_w, usb.quantum) == ("sensor", 0.04, 0.005, 0.01, 0.001)
    assert (count.kind, count.update_s, count.headline, count.gain_rel) == ("counter", 1.0, False, None)
    assert meter.info.detail == f"Tester 5 0815, {log.path}"
    log.advance(1.0)
    found = meter.read()
    assert {(reading.domain, reading.power_w) for reading in found if reading.domain == "usb"} == {
        ("usb", 4.0),
        ("usb", 8.0),
    }
    assert found[-1].energy_j == pytest.approx(6.0, abs=1e-5)
    meter.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chanels = 1", "unknown key 'chanels': did you mean 'channels'"),
        ("update_s = -1", "update_s must be a number of at least 0, got -1"),
        ("update_s = 1e999", "update_s must be a number"),
        ("channels = []", "has no channels"),
        ("[[channels]]\npower = 0", "power must be a whole number from 1"),
        ("[[channels]]\npower = ''", "power must be the name of a column"),
        ("[[channels]]\npower = true", "power must be a whole number"),
        ("[[channels]]\nvoltage = 1", "has voltage: give either"),
        ("[[channels]]\npower = 1\nenergy = 2", "has power and energy: give either"),
        ("[[channels]]\npower = {column = 1, unit = 'A'}", "unit must be a unit of power: W, mW"),
        ("[[channels]]\npower = 1\n[[channels]]\nenergy = 2", "same domain"),
        ("[[channels]]\npower = 1\nheadline = false", "no channel is a part of the total"),
        ("[time]\nclock = 'sun'", "clock must be one of arrival, utc"),
        ("[time]\nunit = 'ms'", "which column is the time is missing"),
        ("[time]\nclock = 'utc'\n[[channels]]\npower = 1", "which column is the time is missing"),
        ("delimiter = '::'", "delimiter must be one character"),
        ("decimal = ','\ndelimiter = ','", "delimiter must be one character"),
        ("decimal = ';'", "decimal must be one of"),
        ("columns = [1]", "columns must be a list of texts"),
        ("time = 3", r"\[time\] must be a table"),
        ("x", "cannot be read as TOML"),
    ],
)
def test_descriptions_that_make_no_sense(tmp_path, text, message):
    with pytest.raises(MeterError, match=message):
        described.open_meter(write(tmp_path, text, "csv:log"))


def test_descriptions_that_are_not_there_or_of_another_version(tmp_path):
    with pytest.raises(MeterError, match="cannot be read"):
        described.open_meter(str(tmp_path / "absent.toml"))
    with pytest.raises(MeterError, match="needs a file"):
        described.open_meter("")
    path = tmp_path / "meter.toml"
    path.write_text("format = 2")
    with pytest.raises(MeterError, match="format must be 1, got 2: add format = 1 on top"):
        described.open_meter(str(path))
    with pytest.raises(MeterError, match="source must begin with one of csv, pipe, lines, serial"):
        described.open_meter(write(tmp_path, "", "udp:1"))


def test_a_header_without_the_time_that_is_asked_for(tmp_path):
    log = FileLogger(tmp_path / "log.csv", TWO_STEPS, header="power")
    log.begin()
    with pytest.raises(MeterError, match="no column that is the time"):
        described.open_meter(write(tmp_path, "[time]\nclock = 'utc'", f"csv:{log.path}"))


@pytest.mark.parametrize("module", [csvfile, pipe, lines, serialline, described])
def test_what_is_said_of_them_without_contacting_anything(module):
    state = module.probe()
    assert state.readable
    assert f"--meter {state.name}:" in state.detail


def test_a_serial_line_without_pyserial(monkeypatch):
    monkeypatch.setattr(serialline.importlib.util, "find_spec", lambda name: None)
    state = serialline.probe()
    assert (state.readable, state.remedy) == (False, "pip install 'devprof[meter]'")
